//! Where the runner comes in: by a socket that both were started with, on one machine; by a path that both see, in a pod,
//! where this process is the first of its container and neither is started by the other.

use super::args::Meeting;
use crate::sys;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// One runner is served, a next one replaces it: nobody else has a use for the queue.
const QUEUE: i32 = 4;
/// The first process of a container is asked to end by the one and has to bury by the other.
const SIGNALS: [libc::c_int; 2] = [libc::SIGTERM, libc::SIGCHLD];

#[derive(Debug)]
pub(super) enum Door {
    /// One runner; when it is gone, so is the launcher.
    Given(OwnedFd),
    Listening(Listening),
}

/// Runners one after the other, until a signal says that it is enough.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) socket: OwnedFd,
    pub(super) signals: OwnedFd,
}

impl Door {
    /// Everything else that was inherited is closed, but for the standard streams.
    ///
    /// Invariant: called first, before this process has opened anything.
    pub(super) fn open(meeting: &Meeting) -> io::Result<Self> {
        match meeting {
            Meeting::Inherited(number) => sys::keep_only(*number).map(Self::Given),
            Meeting::Listen(path) => {
                sys::close_from(3)?;
                let signals = sys::signals(&SIGNALS)?;
                Ok(Self::Listening(Listening { socket: listen_at(path)?, signals }))
            }
        }
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        match self {
            Self::Given(socket) | Self::Listening(Listening { socket, .. }) => socket,
        }
    }

    pub(super) fn signals(&self) -> Option<&OwnedFd> {
        match self {
            Self::Given(_) => None,
            Self::Listening(Listening { signals, .. }) => Some(signals),
        }
    }
}

/// What the launcher before left there goes; the folder outlives both.
fn listen_at(path: &Path) -> io::Result<OwnedFd> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let before = rustix::process::umask(Mode::XUSR | Mode::RWXG | Mode::RWXO);
    let bound = bind(&socket, &SocketAddrUnix::new(path)?);
    rustix::process::umask(before);
    bound?;
    listen(&socket, QUEUE)?;
    Ok(socket)
}

impl Listening {
    /// The runner that has dialled, if one has.
    pub(super) fn accept(&self) -> io::Result<Option<OwnedFd>> {
        match accept_with(&self.socket, SocketFlags::CLOEXEC) {
            Ok(runner) => Ok(Some(runner)),
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Buries whoever has ended, and says whether this process was asked to end.
    pub(super) fn heed(&self) -> io::Result<bool> {
        let mut told = false;
        while let Some(signal) = sys::read_signal(&self.signals)? {
            told |= signal == libc::SIGTERM;
        }
        // A call's first process is known by its descriptor, which says that it has ended whoever buried it.
        while let Ok(Some(_)) = sys::wait_any() {}
        Ok(told)
    }
}
