//! A launcher on throw-away folders.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test or measurement ends where it fails")]

use protocol::exec::{Exit, FromExec, Network, Program, Property, Refusal, Stream, ToExec};
use protocol::frame;
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub(crate) struct Launcher {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) process: Child,
    pub(crate) properties: Vec<Property>,
    pub(crate) programs: BTreeMap<String, String>,
    socket: Option<UnixStream>,
    next: u64,
}

/// What became of a program.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) dropped_bytes: u64,
    pub(crate) cwd: Option<String>,
    pub(crate) exit: Option<Exit>,
}

pub(crate) fn program(argv: &[&str]) -> Program {
    Program {
        argv: argv.iter().map(|&text| text.to_owned()).collect(),
        cwd: "/workspace".to_owned(),
        env: BTreeMap::new(),
        stdin: None,
        network: Network::None,
        timeout_ms: 60_000,
        output_bytes: 1 << 20,
        report_cwd: false,
    }
}

pub(crate) fn bash(script: &str) -> Program {
    program(&["bash", "-c", script])
}

impl Launcher {
    pub(crate) fn start(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::command(folder, Command::new(env!("CARGO_BIN_EXE_vteam-exec")), flags)
    }

    /// As another user, whose folders they are then; the binary goes where that user can reach it.
    pub(crate) fn start_as(uid: u32, flags: &[&str]) -> Self {
        use std::os::unix::fs::{PermissionsExt, chown};
        use std::os::unix::process::CommandExt;
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let binary = folder.path().join("vteam-exec");
        std::fs::copy(env!("CARGO_BIN_EXE_vteam-exec"), &binary).unwrap();
        make_folders(folder.path());
        for name in ["", "workspace", "home", "tmp"] {
            chown(folder.path().join(name), Some(uid), Some(uid)).unwrap();
        }
        let mut command = Command::new(binary);
        command.uid(uid).gid(uid);
        Self::command(folder, command, flags)
    }

    /// Where whoever leads its session has no number, as a service manager's or container's child may find itself.
    pub(crate) fn start_in_a_pid_namespace(flags: &[&str]) -> Self {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command.args(["--pid", "--fork", "--mount-proc", env!("CARGO_BIN_EXE_vteam-exec")]);
        Self::command(tempfile::tempdir().unwrap(), command, flags)
    }

    fn command(folder: tempfile::TempDir, mut command: Command, flags: &[&str]) -> Self {
        make_folders(folder.path());
        let (ours, theirs) = UnixStream::pair().unwrap();
        let theirs: OwnedFd = theirs.into();
        command.arg("--socket-fd").arg(theirs.as_raw_fd().to_string());
        for name in ["workspace", "home", "tmp"] {
            command.arg(format!("--{name}")).arg(folder.path().join(name));
        }
        command.args(flags).stdin(Stdio::null());
        confine::inherit(&mut command, theirs.as_raw_fd());
        let process = command.spawn().unwrap();
        drop(theirs);
        ours.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let mut launcher = Self {
            folder,
            process,
            properties: Vec::new(),
            programs: BTreeMap::new(),
            socket: Some(ours),
            next: 1,
        };
        match launcher.hear() {
            Some(FromExec::Ready { confinement, programs }) => {
                launcher.properties = confinement.properties;
                launcher.programs = programs;
            }
            other => panic!("not ready: {other:?}"),
        }
        launcher
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.folder.path().join("workspace")
    }

    pub(crate) fn hear(&mut self) -> Option<FromExec> {
        frame::read(self.socket.as_mut().unwrap()).unwrap()
    }

    pub(crate) fn say(&mut self, message: &ToExec) {
        frame::write(self.socket.as_mut().unwrap(), message).unwrap();
    }

    /// Starts and says under which number.
    pub(crate) fn begin(&mut self, program: Program) -> u64 {
        let id = self.next;
        self.next += 1;
        self.say(&ToExec::Start { id, program });
        id
    }

    pub(crate) fn try_run(&mut self, program: Program) -> Result<Ended, Refusal> {
        let asked = self.begin(program);
        let mut ended = Ended::default();
        loop {
            match self.hear().unwrap() {
                FromExec::Output { id, stream, bytes } if id == asked => {
                    let text = String::from_utf8_lossy(&bytes);
                    match stream {
                        Stream::Stdout => ended.stdout.push_str(&text),
                        Stream::Stderr => ended.stderr.push_str(&text),
                    }
                }
                FromExec::Refused { refusal, .. } => return Err(refusal),
                FromExec::Exited { exit, dropped_bytes, cwd, .. } => {
                    return Ok(Ended { exit: Some(exit), dropped_bytes, cwd, ..ended });
                }
                FromExec::Started { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) fn run(&mut self, program: Program) -> Ended {
        let said = format!("{:?}", program.argv);
        self.try_run(program).unwrap_or_else(|refusal| panic!("{said}: {refusal}"))
    }

    /// The runner goes away.
    pub(crate) fn hang_up(&mut self) -> std::process::ExitStatus {
        self.socket = None;
        self.process.wait().unwrap()
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        self.socket = None;
        let _ = self.process.wait();
    }
}

fn make_folders(base: &Path) {
    for name in ["workspace", "home", "tmp"] {
        std::fs::create_dir_all(base.join(name)).unwrap();
    }
}

impl Ended {
    pub(crate) fn code(&self) -> i32 {
        match self.exit {
            Some(Exit::Code { code }) => code,
            _ => panic!("{self:?}"),
        }
    }
}
