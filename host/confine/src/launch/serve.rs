//! The conversation with the runner.

use super::calls::Calls;
use super::canary::{self, Sentinel};
use super::door::{Door, Listening};
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

/// Runs the canaries, says what holds, and serves until the runner is gone, or, where runners come and go, until this
/// process is asked to end; then everything is ended.
///
/// # Errors
/// When the runner says what it cannot say, or the socket breaks.
pub(super) fn serve(door: Door, sandbox: Sandbox, sentinel: Sentinel) -> io::Result<()> {
    let mut calls = Calls::new(sandbox);
    let properties = canary::run(&mut calls, &sentinel)?;
    drop(sentinel);
    match door {
        Door::Given(socket) => {
            let served = Server::meet(socket, &calls, &properties).and_then(|mut s| s.run(&mut calls, None));
            end_all(&mut calls)?;
            served.map(drop)
        }
        Door::Listening(door) => serve_all(&door, &mut calls, &properties),
    }
}

/// One runner at a time: the next one takes the place of the one before, whose programs end.
fn serve_all(door: &Listening, calls: &mut Calls, properties: &[Property]) -> io::Result<()> {
    let mut runner = None;
    loop {
        let news = match runner.take() {
            None => wait_for_news(door, calls)?,
            Some(socket) => {
                let served =
                    Server::meet(socket, calls, properties).and_then(|mut s| s.run(calls, Some(door)));
                end_all(calls)?;
                served.unwrap_or_else(|error| {
                    super::complain(&error);
                    News::Gone
                })
            }
        };
        match news {
            News::Gone => {}
            News::Runner(socket) => runner = Some(socket),
            News::Enough => return Ok(()),
        }
    }
}

/// Why a runner is not served any longer.
enum News {
    /// It is gone.
    Gone,
    /// Another one is there.
    Runner(OwnedFd),
    /// This process was asked to end.
    Enough,
}

fn wait_for_news(door: &Listening, calls: &mut Calls) -> io::Result<News> {
    loop {
        let happened = wait(calls, &door.awaited(), true)?;
        if let Some(news) = door.news(&happened)? {
            return Ok(news);
        }
    }
}

impl Listening {
    fn awaited(&self) -> [(&OwnedFd, PollFlags); 2] {
        [(&self.signals, PollFlags::IN), (&self.socket, PollFlags::IN)]
    }

    /// From what became of those awaited.
    fn news(&self, happened: &[PollFlags]) -> io::Result<Option<News>> {
        let [signals, socket] = [0, 1].map(|at| happened.get(at).is_some_and(|what| !what.is_empty()));
        if signals && self.heed()? {
            return Ok(Some(News::Enough));
        }
        let dialled = if socket { self.accept()? } else { None };
        Ok(dialled.map(News::Runner))
    }
}

fn end_all(calls: &mut Calls) -> io::Result<()> {
    calls.kill_all();
    while !calls.is_idle() {
        turn(calls, true)?;
        calls.say.clear();
    }
    calls.say.clear();
    Ok(())
}

struct Server {
    socket: OwnedFd,
    inbox: Inbox,
    outbox: Vec<u8>,
    properties: Vec<Property>,
}

/// Waits for programs once, without a runner.
pub(super) fn turn(calls: &mut Calls, outputs: bool) -> io::Result<()> {
    wait(calls, &[], outputs).map(drop)
}

/// What became of what is waited for beside programs, in the order in which it was given.
fn wait(calls: &mut Calls, others: &[(&OwnedFd, PollFlags)], outputs: bool) -> io::Result<Vec<PollFlags>> {
    let patience = calls.patience(Instant::now());
    let (mut fds, who) = calls.awaited(outputs);
    fds.extend(others.iter().map(|(fd, wanted)| PollFd::new(*fd, *wanted)));
    match poll(&mut fds, patience.map(timespec).as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut happened: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
    drop(fds);
    for (what, (id, ready)) in happened.iter().zip(&who) {
        if !what.is_empty() {
            calls.on_ready(*id, *ready);
        }
    }
    calls.on_time(Instant::now(), outputs);
    Ok(happened.split_off(who.len()))
}

/// Rounded up, so that what is due is due after the wait.
fn timespec(wait: Duration) -> Timespec {
    let wait = wait + Duration::from_micros(100);
    Timespec { tv_sec: wait.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: wait.subsec_nanos().into() }
}

impl Server {
    /// Says what holds, first of all.
    fn meet(socket: OwnedFd, calls: &Calls, properties: &[Property]) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        let properties = properties.to_vec();
        let confinement = Confinement {
            properties: properties.clone(),
            without_namespaces: match &calls.sandbox.place {
                Place::Namespaces => None,
                Place::Host { why } => Some(why.clone()),
            },
        };
        let mut server = Self { socket, inbox: Inbox::default(), outbox: Vec::new(), properties };
        server.say(&FromExec::Ready { confinement, programs: calls.sandbox.programs.clone() })?;
        Ok(server)
    }

    fn run(&mut self, calls: &mut Calls, door: Option<&Listening>) -> io::Result<News> {
        loop {
            for message in std::mem::take(&mut calls.say) {
                self.say(&message)?;
            }
            if !self.flush()? {
                return Ok(News::Gone);
            }
            let outputs = self.outbox.len() < WAITING_BYTES;
            let write = if self.outbox.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            // A runner that does not listen is not heard either.
            let read = if outputs { PollFlags::IN } else { PollFlags::empty() };
            let others = door.into_iter().flat_map(Listening::awaited).chain([(&self.socket, read | write)]);
            let mut happened = wait(calls, &others.collect::<Vec<_>>(), outputs)?;
            let of_socket = happened.pop().unwrap_or(PollFlags::empty());
            if let Some(news) = door.map(|door| door.news(&happened)).transpose()?.flatten() {
                return Ok(news);
            }
            if of_socket.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) && !self.listen(calls)? {
                return Ok(News::Gone);
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
