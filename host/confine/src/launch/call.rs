//! One program under way, as the launcher sees it.

use super::inbox::Inbox;
use super::init::{self, Ends, Prepared, Report};
use super::sandbox::Sandbox;
use crate::sys::{self, Child, Image};
use protocol::exec::{Exit, FromExec, Network, Program, PropertyName, Refusal, Stream};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How much of an output goes into one message.
const CHUNK_BYTES: usize = 48 << 10;
/// How long the first process of a call may take to end the others before it is ended itself.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Call {
    id: u64,
    pub(super) child: Child,
    report: Option<OwnedFd>,
    reports: Inbox,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    started: Instant,
    deadline: Instant,
    output_left: u64,
    dropped_bytes: u64,
    state: State,
    /// Why we ended it, and when we asked.
    ending: Option<(Exit, Instant)>,
    /// The first process is gone, and with it, all others.
    gone: bool,
    /// Somebody still had an output open when all should have been gone.
    pub(super) survivors: bool,
}

#[derive(Debug)]
enum State {
    Starting,
    Running,
    NotStarted(Refusal),
    Ended { status: i32, cwd: Option<PathBuf> },
}

/// What of a call became ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ready {
    Report,
    Output(Stream),
    Gone,
}

impl Call {
    pub(super) fn start(sandbox: &Sandbox, id: u64, program: Program) -> Result<Self, Refusal> {
        let prepared = prepare(sandbox, &program)?;
        let failed = |e: io::Error| Refusal::Failed { message: format!("no process can be started: {e}") };
        let stdin = standard_input(program.stdin.as_deref()).map_err(failed)?;
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|e| failed(e.into()));
        let ((stdout, out), (stderr, err), (report, end)) = (pipe()?, pipe()?, pipe()?);
        let ends = Ends { stdin, stdout: out, stderr: err, report: end };
        let flags = if sandbox.in_namespaces() { init::NAMESPACES } else { 0 };
        let Some(child) = sys::fork_into(flags).map_err(failed)? else { init::run(sandbox, &prepared, ends) };
        for end in [&stdout, &stderr, &report] {
            rustix::io::ioctl_fionbio(end, true).map_err(|e| failed(e.into()))?;
        }
        let now = Instant::now();
        Ok(Self {
            id,
            child,
            report: Some(report),
            reports: Inbox::default(),
            stdout: Some(stdout),
            stderr: Some(stderr),
            started: now,
            deadline: now + Duration::from_millis(program.timeout_ms.min(MAX_TIMEOUT_MS)),
            output_left: program.output_bytes,
            dropped_bytes: 0,
            state: State::Starting,
            ending: None,
            gone: false,
            survivors: false,
        })
    }

    /// What to wait for; outputs only when somebody takes them.
    pub(super) fn awaited(&self, outputs: bool) -> impl Iterator<Item = (&OwnedFd, Ready)> {
        let stdout = self.stdout.as_ref().filter(|_| outputs).map(|fd| (fd, Ready::Output(Stream::Stdout)));
        let stderr = self.stderr.as_ref().filter(|_| outputs).map(|fd| (fd, Ready::Output(Stream::Stderr)));
        let report = self.report.as_ref().map(|fd| (fd, Ready::Report));
        let gone = (!self.gone).then_some((&self.child.pidfd, Ready::Gone));
        [stdout, stderr, report, gone].into_iter().flatten()
    }

    pub(super) fn on_ready(&mut self, sandbox: &Sandbox, ready: Ready, say: &mut Vec<FromExec>) {
        match ready {
            Ready::Report => self.read_reports(say),
            Ready::Output(stream) => self.read_output(stream, say),
            Ready::Gone => {
                self.read_reports(say);
                self.report = None;
                let _ = waitid(WaitId::PidFd(self.child.pidfd.as_fd()), WaitIdOptions::EXITED);
                self.gone = true;
                if !sandbox.in_namespaces() {
                    super::usage::end_orphans();
                }
            }
        }
    }

    /// The last message, when there is nothing left to wait for.
    pub(super) fn conclusion(&mut self, sandbox: &Sandbox) -> Option<FromExec> {
        if !self.gone || self.stdout.is_some() || self.stderr.is_some() {
            return None;
        }
        let (status, cwd) = match &self.state {
            State::NotStarted(refusal) => {
                return Some(FromExec::Refused { id: self.id, refusal: refusal.clone() });
            }
            State::Starting => {
                let message = "it was ended before it started".to_owned();
                return Some(FromExec::Refused { id: self.id, refusal: Refusal::Failed { message } });
            }
            State::Running => (libc::SIGKILL, None),
            State::Ended { status, cwd } => (*status, cwd.as_deref().map(|cwd| sandbox.path_said(cwd))),
        };
        let exit = self.ending.take().map_or_else(|| exit_of(status), |(exit, _)| exit);
        let duration_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Some(FromExec::Exited { id: self.id, exit, dropped_bytes: self.dropped_bytes, cwd, duration_ms })
    }

    /// When [`Call::on_time`] has something to do, at the latest.
    pub(super) fn next_time(&self) -> Option<Instant> {
        match &self.ending {
            _ if self.gone => None,
            None => Some(self.deadline),
            Some((_, asked)) => Some(*asked + PATIENCE),
        }
    }

    pub(super) fn on_time(&mut self, sandbox: &Sandbox, now: Instant) {
        match &self.ending {
            None if now >= self.deadline => drop(self.end(sandbox, Exit::TimedOut)),
            Some((_, asked)) if now >= *asked + PATIENCE => {
                let _ = pidfd_send_signal(&self.child.pidfd, Signal::KILL);
            }
            _ => {}
        }
    }

    /// Ends the whole tree, for the first reason given. Says whether this is it.
    pub(super) fn end(&mut self, sandbox: &Sandbox, why: Exit) -> bool {
        if self.gone || self.ending.is_some() {
            return false;
        }
        self.ending = Some((why, Instant::now()));
        // Without a PID namespace the first process has to end the others.
        let signal = if sandbox.in_namespaces() { Signal::KILL } else { Signal::TERM };
        let _ = pidfd_send_signal(&self.child.pidfd, signal);
        true
    }

    fn read_reports(&mut self, say: &mut Vec<FromExec>) {
        let Some(report) = &self.report else { return };
        let open = self.reports.fill(report).unwrap_or(false);
        while let Ok(Some(report)) = self.reports.next() {
            self.state = match report {
                Report::Started => {
                    say.push(FromExec::Started { id: self.id });
                    State::Running
                }
                Report::NotStarted { step, error } => State::NotStarted(not_started(&step, &error)),
                Report::Ended { status, cwd } => State::Ended { status, cwd },
            };
        }
        if !open {
            self.report = None;
        }
    }

    fn read_output(&mut self, stream: Stream, say: &mut Vec<FromExec>) {
        let end = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let Some(from) = end else { return };
        let mut bytes = vec![0; CHUNK_BYTES];
        match rustix::io::read(&*from, &mut bytes) {
            Ok(0) => *end = None,
            Ok(read) => {
                let passed = usize::try_from(self.output_left).unwrap_or(usize::MAX).min(read);
                self.output_left -= passed as u64;
                self.dropped_bytes += (read - passed) as u64;
                bytes.truncate(passed);
                if passed > 0 {
                    say.push(FromExec::Output { id: self.id, stream, bytes });
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if !self.gone => {}
            Err(error) => {
                self.survivors |= error == Errno::AGAIN;
                *end = None;
            }
        }
    }

    /// Once all are gone, nobody can write: what can be read now is the rest.
    pub(super) fn drain(&mut self, say: &mut Vec<FromExec>) {
        if self.gone {
            for stream in [Stream::Stdout, Stream::Stderr] {
                self.read_output(stream, say);
            }
        }
    }
}

/// A day: background programs end with their session anyway.
const MAX_TIMEOUT_MS: u64 = 24 * 60 * 60 * 1000;

fn prepare(sandbox: &Sandbox, program: &Program) -> Result<Prepared, Refusal> {
    let invalid = |message: String| Refusal::Invalid { message };
    let asked = program.argv.first().ok_or_else(|| invalid("argv is empty".to_owned()))?;
    let path = if *asked == sandbox.seen.this_binary.to_string_lossy() {
        asked.as_str()
    } else {
        super::programs::resolve(&sandbox.programs, asked)
            .ok_or_else(|| Refusal::NotFound { program: asked.clone() })?
    };
    if program.network == Network::Loopback && !sandbox.in_namespaces() {
        let detail =
            "loopback needs a network namespace of its own, which this host does not allow".to_owned();
        return Err(Refusal::NotConfined { property: PropertyName::Sockets, detail });
    }
    let outside = || invalid(format!("{:?} is not a folder of the workspace", program.cwd));
    let cwd = sandbox.path_seen(&program.cwd).ok_or_else(outside)?;
    let mut variables = sandbox.variables();
    for (name, value) in &program.env {
        if name.is_empty() || name.contains('=') {
            return Err(invalid(format!("{name:?} is not the name of a variable")));
        }
        variables.insert(name.clone(), value.clone());
    }
    let variables: Vec<String> =
        variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let image = Image::new(path, &program.argv, &variables)
        .map_err(|_| invalid("arguments and variables cannot hold zero bytes".to_owned()))?;
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let cpu_seconds = program.timeout_ms.min(MAX_TIMEOUT_MS).div_ceil(1000) * processors + 1;
    Ok(Prepared { image, cwd, network: program.network, cpu_seconds, report_cwd: program.report_cwd })
}

/// Given whole, so no pipe has to be fed while the program runs.
fn standard_input(text: Option<&str>) -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, Mode, OFlags, SeekFrom, memfd_create, open, seek};
    let Some(text) = text else {
        return Ok(open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?);
    };
    let file = memfd_create("stdin", MemfdFlags::CLOEXEC)?;
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    seek(&file, SeekFrom::Start(0))?;
    Ok(file)
}

fn not_started(step: &str, error: &str) -> Refusal {
    if step == init::ENTER {
        Refusal::Invalid { message: format!("the working directory cannot be entered: {error}") }
    } else {
        Refusal::Failed { message: format!("the program could not {step}: {error}") }
    }
}

fn exit_of(status: i32) -> Exit {
    if libc::WIFSIGNALED(status) {
        Exit::Signal { signal: signal_name(libc::WTERMSIG(status)) }
    } else {
        Exit::Code { code: libc::WEXITSTATUS(status) }
    }
}

fn signal_name(signal: i32) -> String {
    const NAMES: [(i32, &str); 31] = [
        (libc::SIGHUP, "HUP"),
        (libc::SIGINT, "INT"),
        (libc::SIGQUIT, "QUIT"),
        (libc::SIGILL, "ILL"),
        (libc::SIGTRAP, "TRAP"),
        (libc::SIGABRT, "ABRT"),
        (libc::SIGBUS, "BUS"),
        (libc::SIGFPE, "FPE"),
        (libc::SIGKILL, "KILL"),
        (libc::SIGUSR1, "USR1"),
        (libc::SIGSEGV, "SEGV"),
        (libc::SIGUSR2, "USR2"),
        (libc::SIGPIPE, "PIPE"),
        (libc::SIGALRM, "ALRM"),
        (libc::SIGTERM, "TERM"),
        (libc::SIGSTKFLT, "STKFLT"),
        (libc::SIGCHLD, "CHLD"),
        (libc::SIGCONT, "CONT"),
        (libc::SIGSTOP, "STOP"),
        (libc::SIGTSTP, "TSTP"),
        (libc::SIGTTIN, "TTIN"),
        (libc::SIGTTOU, "TTOU"),
        (libc::SIGURG, "URG"),
        (libc::SIGXCPU, "XCPU"),
        (libc::SIGXFSZ, "XFSZ"),
        (libc::SIGVTALRM, "VTALRM"),
        (libc::SIGPROF, "PROF"),
        (libc::SIGWINCH, "WINCH"),
        (libc::SIGIO, "IO"),
        (libc::SIGPWR, "PWR"),
        (libc::SIGSYS, "SYS"),
    ];
    let name = NAMES.iter().find(|(number, _)| *number == signal).map(|(_, name)| *name);
    name.map_or_else(|| format!("SIG{signal}"), |name| format!("SIG{name}"))
}
