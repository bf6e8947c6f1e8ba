//! The runner's process, started as a scheduler starts it.

use crate::{
    plugins,
    server::{Server, TOKEN},
};
use protocol::control::Binding;
use std::{
    fs,
    io::Write as _,
    os::{
        fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Instant,
};

/// A session's folder, its server and its runner.
pub(crate) struct Running {
    folder: tempfile::TempDir,
    pub(crate) server: Server,
    runner: Child,
    exec: Child,
}

impl Running {
    pub(crate) fn start(prompt: &str, files: &[(&str, &str)], adapt: impl FnOnce(&mut Binding)) -> Self {
        Self::start_timed(prompt, files, adapt).0
    }

    /// Also says when its processes were started.
    pub(crate) fn start_timed(
        prompt: &str,
        files: &[(&str, &str)],
        adapt: impl FnOnce(&mut Binding),
    ) -> (Self, Instant) {
        let folder = tempfile::tempdir().unwrap();
        for sub in ["workspace", "baseline", "journal", "tmp", "home"] {
            fs::create_dir(folder.path().join(sub)).unwrap();
        }
        for (path, content) in files {
            for tree in ["workspace", "baseline"] {
                fs::write(folder.path().join(tree).join(path), content).unwrap();
            }
        }
        let server = Server::listen(&folder.path().join("socket"), prompt, adapt);
        let started = Instant::now();
        let (runner, exec) = spawn(folder.path());
        (Self { folder, server, runner, exec }, started)
    }

    /// `kill -9`, and the next runner.
    pub(crate) fn kill_and_restart(&mut self) {
        self.kill();
        self.server.lose_runner();
        (self.runner, self.exec) = spawn(self.folder.path());
    }

    fn kill(&mut self) {
        for child in [&mut self.runner, &mut self.exec] {
            let _ = child.kill();
            child.wait().unwrap();
        }
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("workspace").join(path)
    }

    pub(crate) fn file(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.runner.id()
    }

    /// Whether the runner ended well.
    pub(crate) async fn ended(&mut self) -> bool {
        end_of(&mut self.runner).await
    }
}

/// Whether it ended well.
pub(crate) async fn end_of(child: &mut Child) -> bool {
    let pid = rustix::process::Pid::from_child(child);
    let fd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    let over = move || {
        let mut fds = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
        let limit = rustix::event::Timespec { tv_sec: 30, tv_nsec: 0 };
        rustix::event::poll(&mut fds, Some(&limit)).unwrap()
    };
    assert_eq!(tokio::task::spawn_blocking(over).await.unwrap(), 1, "the runner did not end");
    child.wait().unwrap().success()
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(folder: &Path) -> (Child, Child) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (token, mut writer) = std::io::pipe().unwrap();
    writer.write_all(TOKEN.as_bytes()).unwrap();
    drop(writer);
    let (ours, theirs, token) = (OwnedFd::from(ours), OwnedFd::from(theirs), OwnedFd::from(token));
    let mut exec = Command::new(launcher());
    exec.arg("--socket-fd").arg(theirs.as_raw_fd().to_string());
    for name in ["workspace", "home", "tmp"] {
        exec.arg(format!("--{name}")).arg(folder.join(name));
    }
    let mut runner = Command::new(runner());
    runner.arg("--connect").arg(format!("unix:{}", folder.join("socket").display()));
    runner.arg("--token-fd").arg(token.as_raw_fd().to_string());
    runner.arg("--exec-fd").arg(ours.as_raw_fd().to_string());
    runner.arg("--session-dir").arg(folder).arg("--orphan-timeout").arg("20").arg("--dial-at-once");
    (start(runner, &[ours, token]), start(exec, &[theirs]))
}

pub(crate) fn runner() -> PathBuf {
    staged("vteam-runner").unwrap_or_else(|| env!("CARGO_BIN_EXE_vteam-runner").into())
}

/// As it is shipped, where `cargo xtask` staged it: what cargo builds beside tests links their dependencies' features.
fn staged(program: &str) -> Option<PathBuf> {
    Some(PathBuf::from(std::env::var_os("VTEAM_BIN_DIR")?).join(program))
}

/// `vteam-exec`, built.
pub(crate) fn launcher() -> &'static Path {
    static LAUNCHER: OnceLock<PathBuf> = OnceLock::new();
    LAUNCHER.get_or_init(|| {
        if let Some(staged) = staged("vteam-exec") {
            return staged;
        }
        plugins::cargo(&["build", "--quiet", "-p", "confine"]);
        plugins::programs().join("vteam-exec")
    })
}

fn start(mut command: Command, given: &[OwnedFd]) -> Child {
    let numbers: Vec<RawFd> = given.iter().map(|fd| fd.as_raw_fd()).collect();
    command.env_clear().stdin(Stdio::null()).process_group(0);
    let keep = move || {
        for number in &numbers {
            // SAFETY: open in the parent until after the spawn.
            #[expect(unsafe_code, reason = "a descriptor is passed to a child by its number")]
            let fd = unsafe { BorrowedFd::borrow_raw(*number) };
            rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec it only makes fcntl calls.
    #[expect(unsafe_code, reason = "descriptors are made inheritable in the child alone")]
    unsafe {
        command.pre_exec(keep);
    }
    command.spawn().unwrap()
}
