//! The first process of a call: sets up what is the call's own, starts the program, reaps, and at the end of the program
//! ends everything that it left behind. In namespaces it is process 1 of the call and the kernel does that; otherwise
//! it sends the end to the Landlock domain that everything of the call is in.

use super::root;
use super::sandbox::Sandbox;
use crate::privileges;
use crate::sys::{self, Image};
use protocol::exec::Network;
use protocol::frame;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{DumpableBehavior, Pid, Resource, Signal};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// What the launcher hears of a call, as frames.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Report {
    Started,
    NotStarted {
        step: String,
        error: String,
    },
    /// The wait status of the program, and where it stood at its end.
    Ended {
        status: i32,
        cwd: Option<PathBuf>,
    },
}

/// A program, ready to be started.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) image: Image,
    pub(super) cwd: PathBuf,
    pub(super) network: Network,
    pub(super) cpu_seconds: u64,
    pub(super) report_cwd: bool,
}

/// Standard streams of the program, and where to report.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) report: OwnedFd,
}

const REPORT: i32 = 3;
const FIRST_FREE: i32 = 4;
/// What child and parent say to each other before the program starts.
const READY: [u8; 1] = *b"+";
/// The one step that whoever asked can get wrong.
pub(super) const ENTER: &str = "enter the working directory";
const AWAITED: [libc::c_int; 2] = [libc::SIGCHLD, libc::SIGTERM];

/// Namespaces of each call.
pub(super) const NAMESPACES: libc::c_int = libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC;

/// The life of this process, which was just forked from the launcher.
pub(super) fn run(sandbox: &Sandbox, prepared: &Prepared, ends: Ends) -> ! {
    let mut report = match only_these(ends) {
        Ok(report) => report,
        Err(_) => sys::exit_now(1),
    };
    let last = match start(sandbox, prepared) {
        Ok(mut child) => {
            tell(&mut report, &Report::Started);
            let (status, cwd) = child.until_the_end();
            child.end_the_rest();
            Report::Ended { status, cwd }
        }
        Err(Failure { step, error }) => Report::NotStarted { step, error },
    };
    tell(&mut report, &last);
    sys::exit_now(0)
}

fn tell(report: &mut File, what: &Report) {
    // A launcher that is gone takes us with it.
    let _ = frame::write(report, what);
}

/// Everything of the launcher is closed, its connection to the runner first of all.
fn only_these(ends: Ends) -> io::Result<File> {
    let Ends { stdin, stdout, stderr, report } = ends;
    for (number, end) in [&stdin, &stdout, &stderr, &report].into_iter().enumerate() {
        sys::duplicate_to(end.as_fd(), i32::try_from(number).unwrap_or(i32::MAX))?;
    }
    std::mem::forget((stdin, stdout, stderr, report));
    sys::close_from(FIRST_FREE)?;
    sys::take_inherited(REPORT).map(File::from)
}

struct Failure {
    step: String,
    error: String,
}

fn at<E: std::fmt::Display>(step: &'static str) -> impl FnOnce(E) -> Failure {
    move |error| Failure { step: step.to_owned(), error: error.to_string() }
}

/// The program, its first process in fact.
struct Running {
    pid: Pid,
    in_namespaces: bool,
    /// Signals to everybody reach this call only.
    signals_kept_in: bool,
}

fn start(sandbox: &Sandbox, prepared: &Prepared) -> Result<Running, Failure> {
    sys::block_signals(&AWAITED);
    let signals_kept_in = if sandbox.in_namespaces() {
        die_with(Signal::KILL)?;
        own_namespaces(sandbox)?;
        true
    } else {
        die_with(Signal::TERM)?;
        own_domain(sandbox)?
    };
    let pipes = || pipe_with(PipeFlags::CLOEXEC).map(|(r, w)| (File::from(r), File::from(w)));
    let (mut why_not, mut failed) = pipes().map_err(at("make a pipe"))?;
    let (mut gate, mut open_gate) = pipes().map_err(at("make a pipe"))?;
    let Some(child) = sys::fork_into(0).map_err(at("start a process"))? else {
        drop((why_not, open_gate));
        let Failure { step, error } = become_program(sandbox, prepared, &mut gate, &mut failed);
        let _ = failed.write_all(format!("{step}\n{error}").as_bytes());
        sys::exit_now(127)
    };
    drop((failed, gate));
    let mut heard = [0];
    let ready = matches!(why_not.read(&mut heard), Ok(1)) && heard == READY;
    if ready && prepared.report_cwd {
        // Without it the call only lacks its last working directory.
        let _ = sys::watch_end(child.pid.as_raw_pid());
    }
    privileges::give_up().map_err(at("give up capabilities"))?;
    let mut text = String::new();
    if ready {
        open_gate.write_all(&READY).map_err(at("let the program start"))?;
    } else {
        text.push(char::from(heard[0]));
    }
    why_not.read_to_string(&mut text).map_err(at("hear of the program"))?;
    match text.split_once('\n') {
        None if ready => {
            Ok(Running { pid: child.pid, in_namespaces: sandbox.in_namespaces(), signals_kept_in })
        }
        None => Err(at("start the program")("it ended early")),
        Some((step, error)) => Err(Failure { step: step.to_owned(), error: error.to_owned() }),
    }
}

fn die_with(signal: Signal) -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(signal)).map_err(at("set a death signal"))
}

fn own_namespaces(sandbox: &Sandbox) -> Result<(), Failure> {
    root::mount_proc().map_err(at("see its own processes"))?;
    if super::usage::pid_limit_is_per_namespace() {
        // Counts also for uid 0, which RLIMIT_NPROC does not bind. Identifiers up to 300 are not given out again.
        let most = sandbox.limits.processes + 300;
        std::fs::write("/proc/sys/kernel/pid_max", most.to_string()).map_err(at("limit processes"))?;
    }
    root::seal_proc().map_err(at("seal /proc"))?;
    root::shared_memory().map_err(at("have shared memory"))
}

/// Says whether signals of this process now reach this call only, by trying.
fn own_domain(sandbox: &Sandbox) -> Result<bool, Failure> {
    let launcher =
        rustix::process::getppid().ok_or("the launcher is gone").map_err(at("find the launcher"))?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(at("become a reaper"))?;
    let reachable_before = rustix::process::test_kill_process(launcher).is_ok();
    privileges::give_up().map_err(at("give up capabilities"))?;
    crate::domain::keep_signals_in(sandbox.features.landlock_abi).map_err(at("keep signals in"))?;
    let reachable_now = rustix::process::test_kill_process(launcher) != Err(Errno::PERM);
    Ok(reachable_before && !reachable_now)
}

/// Returns only when it could not.
fn become_program(sandbox: &Sandbox, prepared: &Prepared, gate: &mut File, ready: &mut File) -> Failure {
    match confine(sandbox, prepared).and_then(|()| wait_for_go(gate, ready)) {
        Ok(()) => at("execute")(prepared.image.execute()),
        Err(failure) => failure,
    }
}

fn wait_for_go(gate: &mut File, ready: &mut File) -> Result<(), Failure> {
    ready.write_all(&READY).and_then(|()| gate.read_exact(&mut [0])).map_err(at("be let go"))
}

fn confine(sandbox: &Sandbox, prepared: &Prepared) -> Result<(), Failure> {
    sys::close_on_exec_from(REPORT).map_err(at("close what is not for programs"))?;
    rustix::process::setsid().map_err(at("have a session of its own"))?;
    rustix::process::chdir(&prepared.cwd).map_err(at(ENTER))?;
    set_limits(sandbox, prepared)?;
    if !sandbox.in_namespaces() {
        // Modes that give others something are refused by the filter, so files start without.
        rustix::process::umask(Mode::RWXG | Mode::RWXO);
    }
    privileges::give_up().map_err(at("give up capabilities"))?;
    sandbox.confine(prepared.network).map_err(at("be confined"))?;
    sys::reset_signals();
    if prepared.report_cwd {
        // So that our parent may watch; it is a copy of the launcher without its secrets, about to be replaced.
        rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(at("be watched"))?;
    }
    Ok(())
}

fn set_limits(sandbox: &Sandbox, prepared: &Prepared) -> Result<(), Failure> {
    let limits = &sandbox.limits;
    // Per user: in a namespace of users it counts the session's processes, otherwise everybody's of this user, where
    // a bound would hit programs that have nothing to do with the session.
    let processes = sandbox.in_namespaces().then_some((Resource::Nproc, limits.processes));
    let all = [
        (Resource::Core, 0),
        (Resource::Fsize, limits.file_bytes),
        (Resource::Nofile, limits.open_files),
        (Resource::Data, limits.memory_bytes),
        (Resource::Cpu, prepared.cpu_seconds),
        (Resource::Memlock, 64 << 20),
    ];
    all.into_iter()
        .chain(processes)
        .try_for_each(|(resource, most)| privileges::limit(resource, most))
        .map_err(at("be limited"))
}

impl Running {
    /// The wait status of the program, and where it stood.
    fn until_the_end(&mut self) -> (i32, Option<PathBuf>) {
        let (mut cwd, mut programs): (Option<PathBuf>, u32) = (None, 0);
        loop {
            if sys::next_signal(&AWAITED) == libc::SIGTERM {
                return (libc::SIGKILL, None);
            }
            while let Ok(Some((pid, status))) = sys::wait_any() {
                if pid != self.pid.as_raw_pid() {
                    continue;
                }
                if !libc::WIFSTOPPED(status) {
                    return (status, cwd.filter(|cwd| cwd.exists()));
                }
                let stood = stopped(pid, status, &mut programs);
                cwd = cwd.or(stood);
            }
        }
    }

    /// Nothing that the program started is left when this returns, in namespaces: when this process ends.
    fn end_the_rest(&self) {
        if self.in_namespaces {
            return;
        }
        loop {
            if self.signals_kept_in {
                // The kernel walks all processes at once, so none can be born behind its back.
                let _ = sys::signal_everybody(libc::SIGKILL);
            } else {
                let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
            }
            match sys::wait_any() {
                // A watched program stops once more on its way out.
                Ok(Some((pid, status))) if libc::WIFSTOPPED(status) => sys::let_go_on(pid, 0, false),
                Ok(Some(_)) => {}
                Ok(None) if self.signals_kept_in => drop(sys::next_signal(&[libc::SIGCHLD])),
                Ok(None) | Err(_) => return,
            }
        }
    }
}

/// A watched program stopped. It goes on; at its end we learn where it stands. A shell becomes its last command, which may
/// go where it likes (`mkdir -p` does): then where the shell stood is what counts. `programs` counts what it became.
fn stopped(pid: libc::pid_t, status: i32, programs: &mut u32) -> Option<PathBuf> {
    let (event, signal) = (status >> 16, libc::WSTOPSIG(status));
    match event {
        libc::PTRACE_EVENT_EXIT | libc::PTRACE_EVENT_EXEC => {
            *programs += u32::from(event == libc::PTRACE_EVENT_EXEC);
            let counts = event == libc::PTRACE_EVENT_EXIT || *programs > 1;
            let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).ok().filter(|_| counts);
            sys::let_go_on(pid, 0, false);
            return cwd;
        }
        libc::PTRACE_EVENT_STOP if signal != libc::SIGTRAP => sys::let_go_on(pid, 0, true),
        libc::PTRACE_EVENT_STOP => sys::let_go_on(pid, 0, false),
        _ => sys::let_go_on(pid, signal, false),
    }
    None
}
