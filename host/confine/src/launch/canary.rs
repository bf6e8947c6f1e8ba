//! Tries to break every property, by programs that run exactly like a session's, and makes the table. What counts is
//! what they could do.

use super::args::Meeting;
use super::calls::Calls;
use super::probe::{self, Probe};
use super::sandbox::{Folders, Place, Sandbox, WORKSPACE};
use super::serve;
use protocol::exec::{Exit, FromExec, Network, Program, Property, PropertyName, Stream};
use rustix::fs::{AtFlags, Mode, OFlags};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Far more than one takes, also on a machine that has much else to do.
const TIMEOUT_MS: u64 = 60_000;

/// A file outside the session's folders that the launcher itself can read and write: the canary must not.
#[derive(Debug)]
pub(super) struct Sentinel {
    folder: OwnedFd,
    name: String,
    pub(super) path: PathBuf,
}

impl Sentinel {
    /// Put where the launcher can write, before it leaves the host's file system behind: beside the socket at which it
    /// listens, which is to be out of reach above all, or beside its folders.
    pub(super) fn place(folders: &Folders, meeting: &Meeting) -> io::Result<Self> {
        if let Meeting::Listen(socket) = meeting
            && let Some(folder) = socket.parent()
        {
            // The folder outlives a launcher that was killed, and so does what it left there.
            let _ = std::fs::remove_file(folder.join(name()));
            return Self::place_in(folder);
        }
        let own = [&folders.workspace, &folders.home, &folders.tmp];
        // Not beside a person's folder: that is theirs, and may be a path that means something else to programs.
        let ours = if folders.in_place { own.get(1..).unwrap_or_default() } else { &own[..] };
        let beside = ours.iter().filter_map(|folder| folder.parent());
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for folder in beside.chain(["/var/tmp", "/tmp", "/dev/shm"].map(Path::new)) {
            if own.iter().any(|own| folder.starts_with(own)) {
                continue;
            }
            match Self::place_in(folder) {
                Ok(sentinel) => return Ok(sentinel),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn place_in(folder: &Path) -> io::Result<Self> {
        let name = name();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let sentinel =
            Self { folder: rustix::fs::open(folder, flags, Mode::empty())?, path: folder.join(&name), name };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&sentinel.folder, &sentinel.name, flags, Mode::RUSR | Mode::WUSR)?;
        rustix::io::write(&file, b"outside")?;
        Ok(sentinel)
    }
}

fn name() -> String {
    format!(".vteam-canary-{}", std::process::id())
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = rustix::fs::unlinkat(&self.folder, &self.name, AtFlags::empty());
    }
}

/// What one canary brought back.
#[derive(Debug, Default)]
struct Outcome {
    text: String,
    end: Option<FromExec>,
}

/// The table of this sandbox.
///
/// # Errors
/// When waiting fails; a canary that could not run is a property that does not hold.
pub(super) fn run(calls: &mut Calls, sentinel: &Sentinel) -> io::Result<Vec<Property>> {
    let probes = probes(&calls.sandbox, sentinel);
    let mut outcomes: BTreeMap<u64, Outcome> = BTreeMap::new();
    // The one that takes all there is comes last, alone.
    for greedy in [false, true] {
        let round = (0..).zip(&probes).filter(|(_, (probe, _))| (*probe == Probe::Resources) == greedy);
        for (id, (_, program)) in round {
            calls.start(id, program.clone());
        }
        until_idle(calls, &mut outcomes)?;
    }
    let mut broken: BTreeMap<PropertyName, Vec<String>> = BTreeMap::new();
    for (id, (probe, _)) in (0..).zip(&probes) {
        let mut failures = judge(outcomes.remove(&id).unwrap_or_default());
        if calls.survivors.contains(&id) {
            failures.push("a process outlived its call".to_owned());
        }
        broken.entry(probe.property()).or_default().extend(failures);
    }
    calls.survivors.clear();
    if calls.sandbox.git_is_open() {
        let open = "read and write git's own files, which nothing covers without a mount namespace";
        broken.entry(PropertyName::Files).or_default().push(open.to_owned());
    }
    Ok(PropertyName::ALL.into_iter().map(|name| row(&calls.sandbox, name, broken.remove(&name))).collect())
}

fn until_idle(calls: &mut Calls, outcomes: &mut BTreeMap<u64, Outcome>) -> io::Result<()> {
    loop {
        for message in std::mem::take(&mut calls.say) {
            record(outcomes, message);
        }
        if calls.is_idle() {
            return Ok(());
        }
        serve::turn(calls, true)?;
    }
}

fn probes(sandbox: &Sandbox, sentinel: &Sentinel) -> Vec<(Probe, Program)> {
    let all = Probe::ALL.into_iter().filter(|probe| *probe != Probe::Loopback || sandbox.in_namespaces());
    all.map(|probe| (probe, program(sandbox, probe, sentinel))).collect()
}

fn program(sandbox: &Sandbox, probe: Probe, sentinel: &Sentinel) -> Program {
    let limits = &sandbox.limits;
    let arguments = match probe {
        Probe::Files => vec![sentinel.path.to_string_lossy().into_owned()],
        Probe::Resources => [limits.processes, limits.memory_bytes, limits.file_bytes, limits.open_files]
            .map(|n| n.to_string())
            .into(),
        _ => Vec::new(),
    };
    let this = sandbox.seen.this_binary.to_string_lossy().into_owned();
    let argv = [this, probe::VERB.to_owned(), probe.to_string()].into_iter().chain(arguments).collect();
    Program {
        argv,
        cwd: WORKSPACE.to_owned(),
        env: BTreeMap::new(),
        stdin: None,
        network: if probe == Probe::Loopback { Network::Loopback } else { Network::None },
        timeout_ms: TIMEOUT_MS,
        output_bytes: 16 << 10,
        report_cwd: false,
    }
}

fn record(outcomes: &mut BTreeMap<u64, Outcome>, message: FromExec) {
    match message {
        FromExec::Output { id, stream: Stream::Stdout, bytes } => {
            outcomes.entry(id).or_default().text.push_str(&String::from_utf8_lossy(&bytes));
        }
        FromExec::Exited { id, .. } | FromExec::Refused { id, .. } => {
            outcomes.entry(id).or_default().end = Some(message);
        }
        _ => {}
    }
}

/// What it could do; nothing when it ended well and had nothing to tell.
fn judge(outcome: Outcome) -> Vec<String> {
    let mut broken: Vec<String> = outcome.text.lines().map(str::to_owned).collect();
    match outcome.end {
        Some(FromExec::Exited { exit: Exit::Code { code: 0 }, .. }) => {}
        // Being ended for too much is what a bound looks like.
        Some(FromExec::Exited { exit: Exit::Killed, .. }) => {}
        Some(FromExec::Exited { exit: Exit::Code { code: 1 }, .. }) if !broken.is_empty() => {}
        Some(FromExec::Exited { exit, .. }) => broken.push(format!("the canary ended oddly: {exit:?}")),
        Some(FromExec::Refused { refusal, .. }) => {
            broken.push(format!("the canary could not run: {refusal}"))
        }
        _ => broken.push("the canary did not run".to_owned()),
    }
    broken
}

fn row(sandbox: &Sandbox, name: PropertyName, broken: Option<Vec<String>>) -> Property {
    let broken = broken.unwrap_or_else(|| vec!["no canary ran".to_owned()]);
    let mut detail = if broken.is_empty() {
        format!("refused: {}", Probe::tried(name))
    } else {
        format!("the canary could: {}. {}", shortened(&broken), advice(sandbox))
    };
    if let (Place::Host { why }, true) = (&sandbox.place, broken.is_empty()) {
        detail.push_str(&format!(" (without namespaces: {why})"));
        if name == PropertyName::Files {
            detail.push_str(if rustix::process::geteuid().is_root() {
                "; as root, programs can change no modes: compilers need an ordinary user"
            } else {
                "; what it can: take other users' access from files of this user by changing their mode"
            });
        }
    }
    Property { name, mechanism: mechanism(sandbox, name), holds: broken.is_empty(), detail }
}

/// The first few tell enough.
fn shortened(broken: &[String]) -> String {
    const SHOWN: usize = 6;
    let mut all: Vec<&str> = Vec::new();
    for text in broken {
        if !all.contains(&text.as_str()) {
            all.push(text);
        }
    }
    let more = all.len().saturating_sub(SHOWN);
    all.truncate(SHOWN);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("{}{more}", all.join("; "))
}

fn mechanism(sandbox: &Sandbox, name: PropertyName) -> String {
    let landlock = match sandbox.features.landlock_abi {
        0 => "no Landlock".to_owned(),
        abi => format!("Landlock ABI {abi}"),
    };
    let seccomp = if sandbox.features.seccomp { "seccomp" } else { "no seccomp" };
    match (name, sandbox.in_namespaces()) {
        (PropertyName::Files, true) => format!("mount namespace and {landlock}"),
        (PropertyName::Files, false) => format!("{landlock} and {seccomp}"),
        (PropertyName::Sockets, true) => format!("{seccomp} and network namespace"),
        (PropertyName::Sockets, false) => format!("{seccomp}; loopback cannot be granted"),
        (PropertyName::Processes, true) => "PID namespace with a fresh /proc".to_owned(),
        (PropertyName::Processes, false) => format!("{landlock} scope, {seccomp}, no /proc"),
        (PropertyName::Privileges, _) => format!("no-new-privileges, no capabilities, {seccomp}"),
        (PropertyName::Survival, true) => "PID namespace of each call".to_owned(),
        (PropertyName::Survival, false) => format!("reaper and {landlock} signal scope of each call"),
        (PropertyName::Inheritance, _) => "close_range, own environment and session".to_owned(),
        (PropertyName::Resources, true) => {
            "resource limits, process limit of the namespace, usage watcher".to_owned()
        }
        (PropertyName::Resources, false) => "resource limits and usage watcher".to_owned(),
    }
}

fn advice(sandbox: &Sandbox) -> String {
    match &sandbox.place {
        Place::Namespaces => {
            "This kernel does not keep a rule that it offers: use another one, and report it".to_owned()
        }
        Place::Host { why } => format!(
            "Allow unprivileged user namespaces ({why}; see kernel.unprivileged_userns_clone, \
             kernel.apparmor_restrict_unprivileged_userns and user.max_user_namespaces), or run Linux 6.12 or newer \
             with Landlock and seccomp (here: Landlock ABI {})",
            sandbox.features.landlock_abi
        ),
    }
}
