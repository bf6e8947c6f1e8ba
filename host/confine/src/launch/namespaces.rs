//! User, mount, PID, network, IPC and UTS namespaces of the session, where the host allows them.

use super::door::Door;
use super::root;
use super::sandbox::{Folders, Place};
use crate::{Features, privileges, sys};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, WaitIdOptions, pidfd_send_signal, set_parent_process_death_signal};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS;

/// Goes on in namespaces of its own when they can be made; then the process that was started stays behind, holds
/// nothing, and ends with the launcher. Otherwise this process goes on where it is.
///
/// # Errors
/// When not even a pipe can be made.
pub(super) fn enter(folders: &Folders, features: Features, door: &Door) -> io::Result<Place> {
    if !features.user_namespaces {
        return Ok(Place::Host { why: "user namespaces are masked".to_owned() });
    }
    let (verdict, mut report) = pipe_with(PipeFlags::CLOEXEC).map(|(r, w)| (File::from(r), File::from(w)))?;
    // Root's supplementary groups would be kept for good once `setgroups` is denied.
    let _ = rustix::thread::set_thread_groups(&[]);
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    match sys::fork_into(NAMESPACES) {
        Err(error) => Ok(Place::Host { why: format!("user namespaces are not to be had: {error}") }),
        Ok(Some(child)) => {
            drop(report);
            stay_behind(child, verdict, door)
        }
        Ok(None) => {
            drop(verdict);
            let made = die_with_parent().and_then(|()| set_up(folders, uid, gid).map_err(|e| e.to_string()));
            let text = made.as_ref().err().map_or("", String::as_str);
            let told = report.write_all(format!("{}{text}", if made.is_ok() { '+' } else { '-' }).as_bytes());
            if made.is_err() || told.is_err() {
                sys::exit_now(1);
            }
            Ok(Place::Namespaces)
        }
    }
}

fn die_with_parent() -> Result<(), String> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|e| format!("a death signal cannot be set: {e}"))
}

#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub(super) struct SetupError {
    pub(super) step: String,
    pub(super) source: io::Error,
}

/// Names the step that failed.
pub(super) fn step<E: Into<io::Error>>(name: &str) -> impl FnOnce(E) -> SetupError {
    let step = name.to_owned();
    |source| SetupError { step, source: source.into() }
}

fn set_up(folders: &Folders, uid: u32, gid: u32) -> Result<(), SetupError> {
    privileges::stay_who_you_are(uid, gid).map_err(step("map user and group"))?;
    sys::loopback_up().map_err(step("bring up loopback"))?;
    rustix::system::sethostname(b"vteam").map_err(step("name the host"))?;
    root::build(folders, uid, gid)
}

/// The process outside: waits until the launcher ends and ends alike.
fn stay_behind(child: sys::Child, mut verdict: File, door: &Door) -> io::Result<Place> {
    let mut text = String::new();
    verdict.read_to_string(&mut text)?;
    if let Some(why) = text.strip_prefix('-').or_else(|| text.is_empty().then_some("the set-up ended early"))
    {
        reap(&child, None)?;
        return Ok(Place::Host { why: why.to_owned() });
    }
    // The other end must see the launcher's end, not ours.
    let null = File::open("/dev/null")?;
    sys::replace(door.socket().as_fd(), null.as_fd())?;
    privileges::give_up()?;
    privileges::hide()?;
    let ended = reap(&child, door.signals())?;
    sys::exit_now(ended)
}

/// Waits for the child's end. Being asked to end is passed on to it, where `signals` say so.
fn reap(child: &sys::Child, signals: Option<&OwnedFd>) -> io::Result<i32> {
    loop {
        let mut fds = vec![PollFd::new(&child.pidfd, PollFlags::IN)];
        fds.extend(signals.map(|signals| PollFd::new(signals, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ended = fds.first().is_some_and(|fd| !fd.revents().is_empty());
        drop(fds);
        while let Some(signal) = signals.map(sys::read_signal).transpose()?.flatten() {
            if signal == libc::SIGTERM {
                let _ = pidfd_send_signal(&child.pidfd, Signal::TERM);
            }
        }
        if ended {
            break;
        }
    }
    let status =
        rustix::process::waitid(rustix::process::WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED)?;
    Ok(status.and_then(|status| status.exit_status()).unwrap_or(1))
}
