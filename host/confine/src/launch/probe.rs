//! What a canary tries, inside the sandbox: `vteam-exec canary PROPERTY`. Every line that it writes is something that
//! it could do and should not; it ends with 1 then, with 0 when there is none.
//!
//! Unconfined, each finds something: the tests hold that.

mod files;
mod processes;
mod resources;
mod sockets;

use protocol::exec::PropertyName;
use std::io::Write;
use std::process::ExitCode;

/// First argument of the launcher's binary when it is to be a canary.
pub(super) const VERB: &str = "canary";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    Files,
    Sockets,
    Loopback,
    Processes,
    Privileges,
    Survival,
    Inheritance,
    Resources,
}

impl Probe {
    pub(super) const ALL: [Self; 8] = [
        Self::Files,
        Self::Sockets,
        Self::Loopback,
        Self::Processes,
        Self::Privileges,
        Self::Survival,
        Self::Inheritance,
        Self::Resources,
    ];

    pub(super) fn property(self) -> PropertyName {
        match self {
            Self::Files => PropertyName::Files,
            Self::Sockets | Self::Loopback => PropertyName::Sockets,
            Self::Processes => PropertyName::Processes,
            Self::Privileges => PropertyName::Privileges,
            Self::Survival => PropertyName::Survival,
            Self::Inheritance => PropertyName::Inheritance,
            Self::Resources => PropertyName::Resources,
        }
    }

    /// In words, for the table.
    pub(super) fn tried(property: PropertyName) -> &'static str {
        match property {
            PropertyName::Files => {
                "to read, write, replace, link, remove and share a file outside, to read accounts and keys, \
                 to write in system folders"
            }
            PropertyName::Sockets => {
                "TCP, MPTCP, UDP, raw, Unix, netlink, packet, vsock and crypto sockets, datagram pairs, io_uring; with \
                 loopback, the way out"
            }
            PropertyName::Processes => "to see, signal, trace and read others, and to take their descriptors",
            PropertyName::Privileges => {
                "capabilities, namespaces, mounts, chroot, devices, set-uid files, another user"
            }
            PropertyName::Survival => "a daemon in a session of its own that ignores signals",
            PropertyName::Inheritance => "descriptors, variables, a terminal",
            PropertyName::Resources => "too many threads and files, too much memory, too large a file",
        }
    }
}

impl std::fmt::Display for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Loopback => f.write_str("loopback"),
            other => other.property().fmt(f),
        }
    }
}

/// What could be done.
#[derive(Debug, Default)]
struct Found(Vec<String>);

impl Found {
    fn when(&mut self, could: bool, what: &str) {
        if could {
            self.0.push(what.to_owned());
        }
    }
}

pub(super) fn main(arguments: &[String]) -> ExitCode {
    let Some((name, rest)) = arguments.split_first() else { return ExitCode::from(2) };
    let Some(probe) = Probe::ALL.into_iter().find(|probe| probe.to_string() == *name) else {
        return ExitCode::from(2);
    };
    let mut found = Found::default();
    match probe {
        Probe::Files => files::files(&mut found, rest),
        Probe::Sockets => sockets::none(&mut found),
        Probe::Loopback => sockets::loopback(&mut found),
        Probe::Processes => processes::others(&mut found),
        Probe::Privileges => processes::privileges(&mut found),
        Probe::Survival => processes::leave_a_daemon(&mut found),
        Probe::Inheritance => processes::inherited(&mut found),
        Probe::Resources => resources::resources(&mut found, rest),
    }
    let text: String = found.0.iter().map(|line| format!("{line}\n")).collect();
    let told = std::io::stdout().write_all(text.as_bytes());
    if found.0.is_empty() && told.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
