//! The conversation with the runner.

use super::calls::Calls;
use super::canary::{self, Sentinel};
use super::inbox::Inbox;
use super::sandbox::{Place, Sandbox};
use protocol::exec::{Confinement, FromExec, Property, Refusal, ToExec};
use protocol::frame;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Messages waiting above this stop the reading of outputs: programs wait then, and memory does not grow.
const WAITING_BYTES: usize = 4 << 20;

/// Runs the canaries, says what holds, and serves until the runner is gone; then everything is ended.
///
/// # Errors
/// When the runner says what it cannot say, or the socket breaks.
pub(super) fn serve(socket: OwnedFd, sandbox: Sandbox, sentinel: Sentinel) -> io::Result<()> {
    rustix::io::ioctl_fionbio(&socket, true)?;
    let mut calls = Calls::new(sandbox);
    let properties = canary::run(&mut calls, &sentinel)?;
    drop(sentinel);
    let programs = calls.sandbox.programs.clone();
    let mut server =
        Server { socket, inbox: Inbox::default(), outbox: Vec::new(), properties: properties.clone() };
    let without_namespaces = match &calls.sandbox.place {
        Place::Namespaces => None,
        Place::Host { why } => Some(why.clone()),
    };
    let confinement = Confinement { properties, without_namespaces };
    server.say(&FromExec::Ready { confinement, programs })?;
    let served = server.run(&mut calls);
    calls.kill_all();
    while !calls.is_idle() {
        turn(&mut calls, true)?;
        calls.say.clear();
    }
    served
}

struct Server {
    socket: OwnedFd,
    inbox: Inbox,
    outbox: Vec<u8>,
    properties: Vec<Property>,
}

/// Waits for programs once, without a runner.
pub(super) fn turn(calls: &mut Calls, outputs: bool) -> io::Result<()> {
    wait(calls, None, outputs).map(drop)
}

/// What became of the socket.
type Happened = PollFlags;

fn wait(calls: &mut Calls, socket: Option<(&OwnedFd, PollFlags)>, outputs: bool) -> io::Result<Happened> {
    let patience = calls.patience(Instant::now());
    let (mut fds, who) = calls.awaited(outputs);
    fds.extend(socket.map(|(socket, wanted)| PollFd::new(socket, wanted)));
    match poll(&mut fds, patience.map(timespec).as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let happened: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
    drop(fds);
    for (what, (id, ready)) in happened.iter().zip(&who) {
        if !what.is_empty() {
            calls.on_ready(*id, *ready);
        }
    }
    calls.on_time(Instant::now(), outputs);
    let of_socket = happened.get(who.len()).copied();
    Ok(of_socket.unwrap_or(PollFlags::empty()))
}

/// Rounded up, so that what is due is due after the wait.
fn timespec(wait: Duration) -> Timespec {
    let wait = wait + Duration::from_micros(100);
    Timespec { tv_sec: wait.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: wait.subsec_nanos().into() }
}

impl Server {
    fn run(&mut self, calls: &mut Calls) -> io::Result<()> {
        loop {
            for message in std::mem::take(&mut calls.say) {
                self.say(&message)?;
            }
            if !self.flush()? {
                return Ok(());
            }
            let outputs = self.outbox.len() < WAITING_BYTES;
            let write = if self.outbox.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            // A runner that does not listen is not heard either.
            let read = if outputs { PollFlags::IN } else { PollFlags::empty() };
            let happened = wait(calls, Some((&self.socket, read | write)), outputs)?;
            if happened.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) && !self.listen(calls)? {
                return Ok(());
            }
        }
    }

    fn say(&mut self, message: &FromExec) -> io::Result<()> {
        self.outbox.extend(frame::encode(message)?);
        Ok(())
    }

    /// Sends what the socket takes. `false` when nobody is there.
    fn flush(&mut self) -> io::Result<bool> {
        while !self.outbox.is_empty() {
            match rustix::net::send(&self.socket, &self.outbox, rustix::net::SendFlags::NOSIGNAL) {
                Ok(sent) => drop(self.outbox.drain(..sent)),
                Err(Errno::AGAIN) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// `false` when nobody is there.
    fn listen(&mut self, calls: &mut Calls) -> io::Result<bool> {
        let open = match self.inbox.fill(&self.socket) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => false,
            open => open?,
        };
        while let Some(message) = self.inbox.next()? {
            match message {
                ToExec::Kill { id } => calls.kill(id),
                ToExec::Start { id, program } => match self.broken() {
                    Some(refusal) => calls.say.push(FromExec::Refused { id, refusal }),
                    None => calls.start(id, program),
                },
            }
        }
        Ok(open)
    }

    /// The first property that does not hold.
    fn broken(&self) -> Option<Refusal> {
        let broken = self.properties.iter().find(|property| !property.holds)?;
        Some(Refusal::NotConfined { property: broken.name, detail: broken.detail.clone() })
    }
}
