//! The table of this host.

use crate::Mask;
use protocol::exec::{Confinement, FromExec};
use protocol::frame;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// More than the launcher itself gives its canaries.
const PATIENCE: Duration = Duration::from_secs(75);

#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    #[error("{path} could not be started")]
    Start {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("the launcher ended without an answer")]
    Silent(#[source] io::Error),
}

/// Starts the launcher `vteam-exec` (at `exec`) on throw-away folders below `scratch`, lets its canaries run and gives
/// its answer: exactly what a session on this host would get.
///
/// # Errors
/// When the launcher cannot be started or does not answer within 75 seconds.
pub fn doctor(exec: &Path, scratch: &Path, masks: &[Mask]) -> Result<Confinement, DoctorError> {
    let failed = |source| DoctorError::Start { path: exec.display().to_string(), source };
    let base = scratch.join(format!("vteam-doctor-{}", std::process::id()));
    let answer =
        make_folders(&base).and_then(|()| start(exec, &base, masks)).map_err(failed).and_then(answer);
    let _ = std::fs::remove_dir_all(&base);
    answer
}

const FOLDERS: [&str; 3] = ["workspace", "home", "tmp"];

fn make_folders(base: &Path) -> io::Result<()> {
    FOLDERS.iter().try_for_each(|name| std::fs::create_dir_all(base.join(name)))
}

fn start(exec: &Path, base: &Path, masks: &[Mask]) -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    let theirs: OwnedFd = theirs.into();
    let mut command = Command::new(exec);
    command.arg("--socket-fd").arg(theirs.as_raw_fd().to_string());
    for name in FOLDERS {
        command.arg(format!("--{name}")).arg(base.join(name));
    }
    for mask in masks {
        command.arg("--mask").arg(mask.to_string());
    }
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
    crate::sys::inherit(&mut command, theirs.as_raw_fd());
    let mut child = command.spawn()?;
    drop(theirs);
    // It ends when our end of the socket closes; nobody needs to wait for it but the kernel's bookkeeping.
    std::thread::spawn(move || child.wait());
    Ok(ours)
}

fn answer(mut socket: UnixStream) -> Result<Confinement, DoctorError> {
    socket.set_read_timeout(Some(PATIENCE)).map_err(DoctorError::Silent)?;
    loop {
        match frame::read(&mut socket).map_err(DoctorError::Silent)? {
            Some(FromExec::Ready { confinement, .. }) => return Ok(confinement),
            Some(_) => {}
            None => return Err(DoctorError::Silent(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}
