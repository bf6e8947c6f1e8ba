//! Landlock domains. Landlock is used for files, signals and abstract sockets; it is *not* a network boundary: MPTCP,
//! UDP, TCP fast open and pathname sockets pass it, which is why [`crate::seccomp`] decides about sockets.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope, path_beneath_rules,
};
use std::path::PathBuf;

/// What stays reachable. Paths that do not exist are left out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Domain {
    pub(crate) read: Vec<PathBuf>,
    pub(crate) execute: Vec<PathBuf>,
    /// Everything but devices, sockets and execution.
    pub(crate) write: Vec<PathBuf>,
    /// Device files.
    pub(crate) devices: Vec<PathBuf>,
    pub(crate) tcp_connect: Vec<u16>,
    /// Whether TCP is left to whoever made the network namespace.
    pub(crate) tcp_unrestricted: bool,
}

impl Domain {
    /// Confines the calling thread, and what it starts, as far as this version of Landlock goes.
    pub(crate) fn enter(&self, version: u32) -> Result<(), RulesetError> {
        let Some(abi) = abi(version) else { return Ok(()) };
        let write = AccessFs::from_all(abi)
            & !(AccessFs::Execute
                | AccessFs::MakeChar
                | AccessFs::MakeBlock
                | AccessFs::MakeSock
                | AccessFs::IoctlDev);
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(abi))?;
        if version >= 4 && !self.tcp_unrestricted {
            ruleset = ruleset.handle_access(AccessNet::from_all(abi))?;
        }
        if version >= 6 {
            ruleset = ruleset.scope(Scope::from_all(abi))?;
        }
        let mut created = ruleset
            .create()?
            .add_rules(path_beneath_rules(&self.read, AccessFs::ReadFile | AccessFs::ReadDir))?
            .add_rules(path_beneath_rules(&self.execute, AccessFs::from_read(abi)))?
            .add_rules(path_beneath_rules(&self.write, write))?
            .add_rules(path_beneath_rules(&self.devices, AccessFs::ReadFile | AccessFs::WriteFile))?;
        if version >= 4 && !self.tcp_unrestricted {
            let ports = self.tcp_connect.iter().map(|port| Ok(NetPort::new(*port, AccessNet::ConnectTcp)));
            created = created.add_rules(ports.collect::<Vec<Result<_, RulesetError>>>())?;
        }
        created.restrict_self().map(drop)
    }
}

/// A domain that only keeps signals in. What is started in it and enters a domain of its own can be signalled from
/// here and cannot signal back: that is how the end of a call reaches everything it left behind without a PID namespace.
pub(crate) fn keep_signals_in(version: u32) -> Result<(), RulesetError> {
    match abi(version) {
        Some(_) if version >= 6 => Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .scope(Scope::Signal)?
            .create()?
            .restrict_self()
            .map(drop),
        _ => Ok(()),
    }
}

/// The rules are those of version 7 at most: a newer one is used when somebody has decided what its rights mean here.
fn abi(version: u32) -> Option<ABI> {
    match version {
        0 => None,
        1 => Some(ABI::V1),
        2 => Some(ABI::V2),
        3 => Some(ABI::V3),
        4 => Some(ABI::V4),
        5 => Some(ABI::V5),
        6 => Some(ABI::V6),
        _ => Some(ABI::V7),
    }
}
