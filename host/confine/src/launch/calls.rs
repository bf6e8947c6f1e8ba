//! All programs under way.

use super::call::{Call, Ready};
use super::sandbox::Sandbox;
use super::usage::{Breach, Watch};
use protocol::exec::{Exit, FromExec, Program, Refusal, Stream};
use rustix::event::{PollFd, PollFlags};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often usage is looked at while programs run.
const WATCH_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Calls {
    pub(super) sandbox: Sandbox,
    running: BTreeMap<u64, Call>,
    watch: Watch,
    watch_at: Instant,
    /// What is to be said, in order.
    pub(super) say: Vec<FromExec>,
    /// Calls that left something behind.
    pub(super) survivors: Vec<u64>,
}

impl Calls {
    pub(super) fn new(sandbox: Sandbox) -> Self {
        Self {
            watch: Watch::new(&sandbox),
            sandbox,
            running: BTreeMap::new(),
            watch_at: Instant::now(),
            say: Vec::new(),
            survivors: Vec::new(),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    pub(super) fn start(&mut self, id: u64, program: Program) {
        if let Err(refusal) = self.try_start(id, program) {
            self.say.push(FromExec::Refused { id, refusal });
        }
    }

    fn try_start(&mut self, id: u64, program: Program) -> Result<(), Refusal> {
        if self.running.contains_key(&id) {
            return Err(Refusal::Invalid { message: format!("{id} is under way") });
        }
        let most = self.sandbox.limits.programs;
        if self.running.len() >= most {
            return Err(Refusal::Failed {
                message: format!("{most} programs are under way, which is the limit"),
            });
        }
        self.running.insert(id, Call::start(&self.sandbox, id, program)?);
        Ok(())
    }

    pub(super) fn kill(&mut self, id: u64) {
        if let Some(call) = self.running.get_mut(&id) {
            let _ = call.end(&self.sandbox, Exit::Killed);
        }
    }

    pub(super) fn kill_all(&mut self) {
        for call in self.running.values_mut() {
            let _ = call.end(&self.sandbox, Exit::Killed);
        }
    }

    /// What to wait for; outputs only when somebody takes them.
    pub(super) fn awaited(&self, outputs: bool) -> (Vec<PollFd<'_>>, Vec<(u64, Ready)>) {
        let each = self.running.iter().flat_map(|(id, call)| {
            call.awaited(outputs).map(move |(fd, ready)| (PollFd::new(fd, PollFlags::IN), (*id, ready)))
        });
        each.unzip()
    }

    pub(super) fn on_ready(&mut self, id: u64, ready: Ready) {
        if let Some(call) = self.running.get_mut(&id) {
            call.on_ready(&self.sandbox, ready, &mut self.say);
        }
    }

    /// How long to wait at most.
    pub(super) fn patience(&self, now: Instant) -> Option<Duration> {
        let times = self.running.values().filter_map(Call::next_time);
        let watch = (!self.is_idle()).then_some(self.watch_at);
        times.chain(watch).min().map(|at| at.saturating_duration_since(now))
    }

    /// What is due, and what has come to an end.
    pub(super) fn on_time(&mut self, now: Instant, outputs: bool) {
        if !self.is_idle() && now >= self.watch_at {
            self.watch_at = now + WATCH_EVERY;
            self.look_at_usage();
        }
        for call in self.running.values_mut() {
            call.on_time(&self.sandbox, now);
            if outputs {
                call.drain(&mut self.say);
            }
        }
        let ended: Vec<(u64, FromExec)> = self
            .running
            .iter_mut()
            .filter_map(|(id, call)| Some((*id, call.conclusion(&self.sandbox)?)))
            .collect();
        for (id, message) in ended {
            let call = self.running.remove(&id);
            if call.is_some_and(|call| call.survivors) {
                self.survivors.push(id);
            }
            self.say.push(message);
        }
    }

    fn look_at_usage(&mut self) {
        let firsts = self.running.iter().map(|(id, call)| (*id, call.child.pid.as_raw_pid())).collect();
        for (id, breach) in self.watch.look(&self.sandbox, &firsts) {
            self.end_for(id, breach);
        }
    }

    fn end_for(&mut self, id: u64, breach: Breach) {
        if let Some(call) = self.running.get_mut(&id) {
            if !call.end(&self.sandbox, Exit::Killed) {
                return;
            }
            let bytes = format!("\n[ended: {breach}]\n").into_bytes();
            self.say.push(FromExec::Output { id, stream: Stream::Stderr, bytes });
        }
    }
}
