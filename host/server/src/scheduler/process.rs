//! The two processes of a session: started with nothing but what they are given, on record, watched, ended.

use super::LocalSettings;
use crate::sessions::Exited;
use model::id::Epoch;
use rustix::process::{Pid, PidfdFlags, Signal};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    path::Path,
    process::Stdio,
    time::Duration,
};
use tokio::{io::unix::AsyncFd, time::timeout};

/// A log is cut when it has more bytes.
const LOG_BYTES: u64 = 8 << 20;
/// How often logs are looked at.
const LOG_CHECK: Duration = Duration::from_secs(30);
/// How long `vteam-exec` may take to end its programs when its runner is gone.
const LAST_BREATH: Duration = Duration::from_secs(3);
const RECORD: &str = "processes.json";

/// A process of ours, and of nobody who got its number later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pid: i32,
    /// Clock ticks after boot.
    started: u64,
}

/// A session's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pair {
    pub(super) epoch: Epoch,
    pub(super) runner: Process,
    exec: Process,
}

pub(super) struct Programs<'a> {
    pub(super) settings: &'a LocalSettings,
    pub(super) folder: &'a Path,
    /// The person's folder that is worked on itself.
    pub(super) in_place: Option<&'a Path>,
    /// The runner does not wait for the launcher's canaries.
    pub(super) dial_at_once: bool,
}

impl Programs<'_> {
    pub(super) fn start(&self, epoch: Epoch, token: &SecretString) -> io::Result<Pair> {
        let (of_exec, of_runner) = UnixStream::pair()?;
        let exec = self.exec(OwnedFd::from(of_exec))?;
        let runner =
            self.runner(OwnedFd::from(of_runner), token).inspect_err(|_| exec.signal(Signal::KILL))?;
        let pair = Pair { epoch, runner, exec };
        let written = serde_json::to_vec(&pair).map_err(io::Error::other);
        let written = written.and_then(|record| std::fs::write(self.folder.join(RECORD), record));
        written.inspect_err(|_| [runner, exec].iter().for_each(|process| process.signal(Signal::KILL)))?;
        Ok(pair)
    }

    /// Has a runner decide what of git's is covered in a person's folder, before anything of the session works there. The
    /// answer says why it cannot be worked on.
    pub(super) async fn take_stock(&self) -> io::Result<Option<String>> {
        let Some(folder) = self.in_place else { return Ok(None) };
        let mut command = self.command("vteam-runner")?;
        command.arg("--take-stock").arg("--in-place").arg(folder).arg("--session-dir").arg(self.folder);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let said = tokio::process::Command::from(command).kill_on_drop(true).output().await?;
        if said.status.success() {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&said.stderr);
        let text = text.trim().trim_start_matches("vteam-runner: ");
        Ok(Some(if text.is_empty() {
            format!("the runner ended ({})", said.status)
        } else {
            text.to_owned()
        }))
    }

    fn exec(&self, socket: OwnedFd) -> io::Result<Process> {
        let mut command = self.command("vteam-exec")?;
        command.arg("--socket-fd").arg(socket.as_raw_fd().to_string());
        match self.in_place {
            Some(folder) => {
                // As the runner keeps them.
                command.arg("--in-place").arg(folder).arg("--covers").arg(self.folder.join("journal/covers"))
            }
            None => command.arg("--workspace").arg(self.folder.join("workspace")),
        };
        for folder in ["home", "tmp"] {
            command.arg(format!("--{folder}")).arg(self.folder.join(folder));
        }
        spawn(command, &[socket])
    }

    fn runner(&self, socket: OwnedFd, token: &SecretString) -> io::Result<Process> {
        // A token fits a pipe's buffer; the end of the pipe is the end of the token.
        let (reader, mut writer) = io::pipe()?;
        writer.write_all(token.expose_secret().as_bytes())?;
        drop(writer);
        let reader = OwnedFd::from(reader);
        let mut command = self.command("vteam-runner")?;
        command
            .arg("--connect")
            .arg(format!("unix:{}", self.settings.socket.display()))
            .arg("--token-fd")
            .arg(reader.as_raw_fd().to_string())
            .arg("--exec-fd")
            .arg(socket.as_raw_fd().to_string())
            .arg("--session-dir")
            .arg(self.folder)
            .arg("--log")
            .arg(&self.settings.log);
        if let Some(folder) = self.in_place {
            command.arg("--in-place").arg(folder);
        }
        if self.dial_at_once {
            command.arg("--dial-at-once");
        }
        spawn(command, &[reader, socket])
    }

    /// Nothing inherited: no variable, no terminal, no descriptor, a process group of its own.
    fn command(&self, program: &str) -> io::Result<std::process::Command> {
        let path = self.settings.programs.join(program);
        if !path.is_file() {
            let message = format!("{} is not there: build or install vteam's programs", path.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        let log = self.folder.join("logs").join(format!("{program}.log"));
        let log = File::options().create(true).append(true).open(log)?;
        let mut command = std::process::Command::new(path);
        command
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(command)
    }
}

/// Starts it with these descriptors, under the numbers that they have here.
fn spawn(mut command: std::process::Command, given: &[OwnedFd]) -> io::Result<Process> {
    let numbers: Vec<RawFd> = given.iter().map(AsRawFd::as_raw_fd).collect();
    let keep = move || {
        for number in &numbers {
            // SAFETY: open in the parent until after the spawn, and so in this child, whose only thread this is.
            #[expect(unsafe_code, reason = "a descriptor is passed to a child by its number")]
            let fd = unsafe { BorrowedFd::borrow_raw(*number) };
            rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec it only makes fcntl calls; it allocates nothing and takes no lock.
    #[expect(
        unsafe_code,
        reason = "descriptors are made inheritable in the child alone, so that no other child gets them"
    )]
    unsafe {
        command.pre_exec(keep);
    }
    let child = tokio::process::Command::from(command).spawn()?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).ok_or(io::ErrorKind::NotFound)?;
    let process = Process { pid, started: started(pid)? };
    tokio::spawn(reap(child));
    Ok(process)
}

async fn reap(mut child: tokio::process::Child) {
    // How it ended is told by whoever watches the pair.
    let _ = child.wait().await;
}

/// Field 22 of `/proc/<pid>/stat` (proc_pid_stat(5)); the name before it may hold anything but ends with the last `)`.
fn started(pid: i32) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').map(|(_, rest)| rest);
    let field = after_name.and_then(|rest| rest.split_whitespace().nth(19));
    field.and_then(|field| field.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

impl Process {
    /// A handle that stays this process's.
    fn open(self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(self.pid)?;
        let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Only now: the handle is of whoever had the number when it was opened.
        (started(self.pid).ok()? == self.started).then_some(handle)
    }

    pub(super) fn is_alive(self) -> bool {
        self.open().is_some_and(|handle| !is_over(&handle))
    }

    /// To its whole group.
    fn signal(self, signal: Signal) {
        if let Some(handle) = self.open() {
            if let Some(group) = Pid::from_raw(self.pid) {
                let _ = rustix::process::kill_process_group(group, signal);
            }
            let _ = rustix::process::pidfd_send_signal(handle, signal);
        }
    }

    /// Returns when it has ended.
    async fn gone(self) {
        let Some(handle) = self.open() else { return };
        // SAFETY: an owned descriptor stays the same and open for as long as it is registered.
        #[expect(unsafe_code, reason = "tokio cannot see that a descriptor does not change under it")]
        let handle = unsafe { AsyncFd::register(handle) };
        match handle {
            // Readable when the process ends.
            Ok(handle) => drop(handle.readable().await),
            Err(error) => tracing::error!(%error, pid = self.pid, "a process cannot be watched"),
        }
    }
}

fn is_over(handle: &OwnedFd) -> bool {
    let mut poll = [rustix::event::PollFd::new(handle, rustix::event::PollFlags::IN)];
    let none = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut poll, Some(&none)).is_ok_and(|ready| ready > 0)
}

impl Pair {
    /// What was started last.
    pub(super) fn recorded(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(folder.join(RECORD)).ok()?).ok()
    }

    /// Ends both and waits for it. The runner first: its end is `vteam-exec`'s cue to end every program.
    pub(super) async fn kill(self) {
        self.runner.signal(Signal::KILL);
        self.runner.gone().await;
        if timeout(LAST_BREATH, self.exec.gone()).await.is_err() {
            self.exec.signal(Signal::KILL);
            self.exec.gone().await;
        }
    }

    /// Until the runner ends; then ends the rest and says so.
    pub(super) async fn watch(self, folder: impl AsRef<Path>, exited: Exited) {
        let mut look = tokio::time::interval(LOG_CHECK);
        let gone = self.runner.gone();
        tokio::pin!(gone);
        loop {
            tokio::select! {
                () = &mut gone => break,
                _ = look.tick() => cap_logs(folder.as_ref()),
            }
        }
        self.kill().await;
        cap_logs(folder.as_ref());
        exited("the runner's process ended".to_owned());
    }
}

/// Whoever writes appends, so that a cut log goes on at its new end.
fn cap_logs(folder: &Path) {
    for program in ["vteam-runner", "vteam-exec"] {
        let path = folder.join("logs").join(format!("{program}.log"));
        let Ok(mut log) = File::options().append(true).open(path) else { continue };
        if log.metadata().is_ok_and(|data| data.len() > LOG_BYTES) {
            let _ = log.set_len(0).and_then(|()| log.write_all(b"[what was here before was cut]\n"));
        }
    }
}
