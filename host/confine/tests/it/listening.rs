//! The launcher of a pod: it listens, runners come and go, and it is the first process of its container.

use crate::launcher::{Ended, bash, program};
use protocol::exec::{Exit, FromExec, Program, PropertyName, Refusal, Stream, ToExec};
use protocol::frame;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// As the container `tools` has it, where nothing but the folders is shared with anybody.
struct Container {
    folder: tempfile::TempDir,
    process: Child,
}

struct Runner {
    socket: UnixStream,
    next: u64,
}

/// A shell that waits for the launcher and becomes it, in a PID namespace, and leaves a child to it.
const SHELL: &str = "(sleep 0.5 &); until [ -x \"$0\" ]; do sleep 0.05; done; exec \"$0\" \"$@\"";

impl Container {
    fn start(masks: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["workspace", "home", "tmp", "run"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let launcher = folder.path().join("run/vteam-exec");
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command.args(["--pid", "--fork", "--mount-proc", "/bin/sh", "-c", SHELL]);
        command.arg(&launcher).arg("--listen").arg(folder.path().join("run/exec.sock"));
        for name in ["workspace", "home", "tmp"] {
            command.arg(format!("--{name}")).arg(folder.path().join(name));
        }
        for mask in masks {
            command.args(["--mask", mask]);
        }
        let process = command.stdin(Stdio::null()).spawn().unwrap();
        std::fs::copy(env!("CARGO_BIN_EXE_vteam-exec"), folder.path().join("run/new")).unwrap();
        std::fs::rename(folder.path().join("run/new"), launcher).unwrap();
        Self { folder, process }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("run/exec.sock")
    }

    /// A runner, which has heard what holds.
    fn runner(&self) -> (Runner, Vec<PropertyName>) {
        let until = Instant::now() + Duration::from_secs(30);
        let socket = loop {
            match UnixStream::connect(self.socket()) {
                Ok(socket) => break socket,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut runner = Runner { socket, next: 1 };
        let Some(FromExec::Ready { confinement, .. }) = runner.hear() else { panic!("not ready") };
        let broken = confinement.properties.into_iter().filter(|property| !property.holds);
        (runner, broken.map(|property| property.name).collect())
    }

    /// The launcher, by its number on the host: the only child of `unshare`.
    fn pid(&self) -> rustix::process::Pid {
        let of = self.process.id();
        let children = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap();
        rustix::process::Pid::from_raw(children.trim().parse().unwrap()).unwrap()
    }

    fn terminate(&mut self) -> i32 {
        rustix::process::kill_process(self.pid(), rustix::process::Signal::TERM).unwrap();
        self.process.wait().unwrap().code().unwrap()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            let _ = rustix::process::kill_process(self.pid(), rustix::process::Signal::KILL);
        }
        let _ = self.process.wait();
    }
}

impl Runner {
    fn hear(&mut self) -> Option<FromExec> {
        frame::read(&mut self.socket).unwrap()
    }

    fn begin(&mut self, program: Program) -> u64 {
        let id = self.next;
        self.next += 1;
        frame::write(&mut self.socket, &ToExec::Start { id, program }).unwrap();
        id
    }

    fn run(&mut self, program: Program) -> Ended {
        let asked = self.begin(program);
        let mut ended = Ended::default();
        loop {
            match self.hear().unwrap() {
                FromExec::Output { id, stream: Stream::Stdout, bytes } if id == asked => {
                    ended.stdout.push_str(&String::from_utf8_lossy(&bytes));
                }
                FromExec::Exited { exit, .. } => return Ended { exit: Some(exit), ..ended },
                FromExec::Refused { refusal, .. } => panic!("{refusal}"),
                _ => {}
            }
        }
    }

    /// Begins what lasts, and gives the end of a pipe that closes with it.
    fn begin_lasting(&mut self, container: &Container, name: &str) -> std::fs::File {
        let script = format!("mkfifo {name}; echo made; exec sleep 900 > {name}");
        let id = self.begin(bash(&script));
        while !matches!(self.hear(), Some(FromExec::Output { id: of, .. }) if of == id) {}
        std::fs::File::open(container.folder.path().join("workspace").join(name)).unwrap()
    }
}

fn is_over(alive: &mut std::fs::File) {
    assert_eq!(std::io::Read::read(alive, &mut [0]).unwrap(), 0);
}

fn both(check: impl Fn(Container)) {
    check(Container::start(&[]));
    check(Container::start(&["no-userns"]));
}

#[test]
fn runners_come_and_go_and_their_programs_with_them() {
    both(|mut container| {
        let (mut first, broken) = container.runner();
        assert_eq!(broken, []);
        assert_eq!(first.run(bash("echo one > file; cat file")).stdout, "one\n");
        let mut alive = first.begin_lasting(&container, "a");
        drop(first);
        is_over(&mut alive);
        let (mut second, _) = container.runner();
        assert_eq!(second.run(program(&["cat", "file"])).stdout, "one\n");
        let mut alive = second.begin_lasting(&container, "b");
        // It says nothing to the one before, which finds out.
        let (mut third, _) = container.runner();
        is_over(&mut alive);
        while let Ok(Some(_)) = frame::read::<FromExec>(&mut second.socket) {}
        assert_eq!(third.run(program(&["echo", "well"])).exit, Some(Exit::Code { code: 0 }));
        // Half a frame, and what is none.
        std::io::Write::write_all(&mut third.socket, b"\0\0\0\x05nonsense").unwrap();
        assert_eq!(frame::read::<FromExec>(&mut third.socket).ok().flatten(), None);
        let (mut fourth, _) = container.runner();
        let mut alive = fourth.begin_lasting(&container, "c");
        assert_eq!(container.terminate(), 0);
        is_over(&mut alive);
    });
}

#[test]
fn what_joins_launcher_and_runner_is_out_of_reach_of_programs() {
    both(|container| {
        let (mut runner, broken) = container.runner();
        assert_eq!(broken, []);
        assert_eq!(std::fs::metadata(container.socket()).unwrap().permissions().mode() & 0o777, 0o600);
        let run = container.folder.path().join("run");
        let run = run.display();
        for script in [
            format!("ls {run} && echo escaped"),
            format!("touch {run}/x && echo escaped"),
            format!("rm -f {run}/exec.sock && [ ! -e {run}/exec.sock ] && [ -e {run} ] && echo escaped"),
            format!("mv {run}/vteam-exec . && echo escaped; cp /bin/true {run}/vteam-exec && echo escaped"),
            format!(
                "perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0) and connect(S, sockaddr_un(\"{run}/exec.sock\")) and print \"escaped\"'"
            ),
        ] {
            let ended = runner.run(bash(&script));
            assert!(!ended.stdout.contains("escaped"), "{script}: {ended:?}");
        }
        assert!(container.socket().exists());
        let left: Vec<_> = std::fs::read_dir(container.folder.path().join("run")).unwrap().collect();
        assert_eq!(left.len(), 2, "{left:?}");
    });
}

#[test]
fn it_buries_whoever_comes_to_the_first_process() {
    let mut container = Container::start(&["no-userns"]);
    let (mut runner, _) = container.runner();
    assert_eq!(runner.run(bash("(setsid sleep 900 &); (sleep 900 &); echo done")).stdout, "done\n");
    // The shell's, too.
    let pid = container.pid().as_raw_pid();
    let until = Instant::now() + Duration::from_secs(10);
    while !std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap().trim().is_empty() {
        assert!(Instant::now() < until, "somebody is left");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(container.terminate(), 0);
}

#[test]
fn what_does_not_hold_is_refused_to_every_runner() {
    let container = Container::start(&["no-userns", "no-seccomp"]);
    for _ in 0..2 {
        let (mut runner, broken) = container.runner();
        assert!(broken.contains(&PropertyName::Sockets), "{broken:?}");
        runner.begin(program(&["true"]));
        let refused = runner.hear();
        assert!(
            matches!(refused, Some(FromExec::Refused { refusal: Refusal::NotConfined { .. }, .. })),
            "{refused:?}"
        );
    }
}
