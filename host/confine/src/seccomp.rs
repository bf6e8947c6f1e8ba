//! System call filters.
//!
//! Runner and compiler get a list of what they may call. Programs get two layers: the launcher installs the list of
//! everything known once ([`allow_only`] with [`Profile::Known`], the rest is `ENOSYS`), and each program a second
//! filter of what is refused to it ([`refuse_to_programs`], `EPERM`). The complement is spelled out for sockets, so that
//! it is a list of what is allowed: every other family, type and protocol is refused.

mod calls;

use calls::{Calls, old};
use protocol::exec::Network;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use std::collections::BTreeMap;

#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    #[error("a filter could not be built")]
    Build(#[source] seccompiler::BackendError),
    #[error("a filter could not be installed")]
    Install(#[source] seccompiler::Error),
}

impl From<seccompiler::BackendError> for FilterError {
    fn from(error: seccompiler::BackendError) -> Self {
        Self::Build(error)
    }
}

/// For whom a list is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Every call that has a name here: the launcher's own, and the outer layer of programs.
    Known,
    Runner {
        tcp: bool,
    },
    Compiler,
}

/// How a program is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProgramProfile {
    pub(crate) network: Network,
    /// In namespaces of its own. Without them, what Landlock cannot see is refused as well: message passing between
    /// processes of this user, and changes of mode and attributes by path.
    pub(crate) namespaces: bool,
    /// As the owner of the system's files: without namespaces, to have one of them open for reading is enough to change
    /// its mode.
    pub(crate) root: bool,
}

pub(crate) fn install(filter: &BpfProgram) -> Result<(), FilterError> {
    seccompiler::apply_filter(filter).map_err(FilterError::Install)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The calls of this profile; every other one answers `ENOSYS`, conditions included.
pub(crate) fn allow_only(profile: Profile) -> Result<BpfProgram, FilterError> {
    let lists: &[Calls] = match profile {
        Profile::Known => &[
            calls::BASE,
            calls::FILES,
            calls::METADATA,
            calls::MODES,
            old::MODES,
            calls::PROCESSES,
            calls::IPC,
            calls::CONNECTED,
            calls::DIAL,
            calls::SERVE,
            calls::REFUSED,
            old::BASE,
            old::FILES,
            old::METADATA,
            old::PROCESSES,
            old::REFUSED,
        ],
        Profile::Runner { .. } => {
            &[calls::BASE, calls::FILES, calls::OPENAT2, calls::CONNECTED, calls::DIAL, old::BASE, old::FILES]
        }
        Profile::Compiler => &[calls::BASE, old::BASE],
    };
    let mut rules: Rules =
        lists.iter().flat_map(|list| list.iter()).map(|call| (*call, Vec::new())).collect();
    if profile != Profile::Known {
        own_threads_only(&mut rules)?;
    }
    if let Profile::Runner { tcp } = profile {
        dialling_only(&mut rules, tcp)?;
    }
    build(rules, SeccompAction::Errno(libc::ENOSYS as u32), SeccompAction::Allow)
}

/// What is refused to a program, on top of [`Profile::Known`].
pub(crate) fn refuse_to_programs(profile: ProgramProfile) -> Result<BpfProgram, FilterError> {
    let mut lists = vec![calls::REFUSED, old::REFUSED];
    if !profile.namespaces {
        lists.extend([calls::IPC, calls::METADATA, old::METADATA]);
        if profile.root {
            lists.extend([calls::OPEN_METADATA, calls::MODES, old::MODES]);
        }
    }
    if profile.network == Network::None {
        lists.extend([calls::DIAL, calls::SERVE]);
    }
    let mut rules: Rules = lists.into_iter().flatten().map(|call| (*call, Vec::new())).collect();
    if !profile.namespaces && !profile.root {
        // Times by descriptor (no path) stay: whoever has one was let open it.
        let path = SeccompCondition::new(1, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)?;
        rules.insert(libc::SYS_utimensat, vec![SeccompRule::new(vec![path])?]);
        refuse_sharing_modes(&mut rules)?;
    }
    refuse_namespaces(&mut rules)?;
    refuse_set_uid_files(&mut rules)?;
    refuse_odd_sockets(&mut rules, profile.network)?;
    let terminals_and_flags = IOCTLS.map(|request| rule(&[equal(1, request)]));
    rules.insert(libc::SYS_ioctl, terminals_and_flags.into_iter().collect::<Result<_, _>>()?);
    let usual = [0, 0x8, 0x2_0000, 0x4_0000, 0xffff_ffff_u64];
    let unusual: Vec<_> = usual.into_iter().map(|persona| differs(0, persona)).collect();
    rules.insert(libc::SYS_personality, vec![rule(&unusual)?]);
    build(rules, SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32))
}

/// Typing for others on a terminal (`TIOCSTI`, `TIOCLINUX`), and flags of files, which need no right to write:
/// `FS_IOC_SETFLAGS` in both sizes and `FS_IOC_FSSETXATTR`.
const IOCTLS: [u64; 5] = [0x5412, 0x541c, 0x4008_6602, 0x4004_6602, 0x401c_5820];

/// `clone` makes threads and nothing else; signals go to this process only.
fn own_threads_only(rules: &mut Rules) -> Result<(), FilterError> {
    let thread = (libc::CLONE_THREAD | libc::CLONE_VM).unsigned_abs().into();
    rules.insert(libc::SYS_clone, vec![rule(&[masked(0, thread, thread)])?]);
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![rule(&[equal(0, own)])?]);
    Ok(())
}

fn dialling_only(rules: &mut Rules, tcp: bool) -> Result<(), FilterError> {
    let stream = || masked(1, TYPE_MASK, STREAM);
    let mut dial = vec![rule(&[equal(0, libc::AF_UNIX as u64), stream(), equal(2, 0u64)])?];
    if tcp {
        for family in [libc::AF_INET, libc::AF_INET6] {
            dial.push(rule(&[equal(0, family as u64), stream(), equal(2, 0u64)])?);
            dial.push(rule(&[equal(0, family as u64), stream(), equal(2, libc::IPPROTO_TCP as u64)])?);
        }
        // What is sent with this flag dials on the way, past Landlock's look at ports.
        let fast_open = libc::MSG_FASTOPEN.unsigned_abs().into();
        for (call, flags) in [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)] {
            rules.insert(call, vec![rule(&[masked(flags, fast_open, 0)])?]);
        }
    }
    rules.insert(libc::SYS_socket, dial);
    rules.insert(libc::SYS_socketpair, vec![rule(&[equal(0, libc::AF_UNIX as u64), stream()])?]);
    Ok(())
}

/// No namespace of one's own: it would come with capabilities and with parts of the kernel that few have looked at.
fn refuse_namespaces(rules: &mut Rules) -> Result<(), FilterError> {
    let flags = [
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWNS,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWUTS,
    ];
    let refused =
        flags.map(|flag| rule(&[masked(0, flag.unsigned_abs().into(), flag.unsigned_abs().into())]));
    rules.insert(libc::SYS_clone, refused.into_iter().collect::<Result<_, _>>()?);
    Ok(())
}

/// The path of a change of mode is out of sight, so what is left is a mode that gives nobody else anything and takes
/// nothing from the owner. Programs need it to make a file executable; their umask agrees.
fn refuse_sharing_modes(rules: &mut Rules) -> Result<(), FilterError> {
    let others = [0o1, 0o2, 0o4, 0o10, 0o20, 0o40].map(|bit| (bit, bit));
    let owner = [0, 0o200, 0o400].map(|less| (0o600, less));
    for call in calls::MODES.iter().chain(old::MODES) {
        let mode = if old::MODES.contains(call) { 1 } else { 2 };
        let refused = others.iter().chain(&owner).map(|(mask, value)| rule(&[masked(mode, *mask, *value)]));
        rules.insert(*call, refused.collect::<Result<_, _>>()?);
    }
    Ok(())
}

/// A set-uid file in a workspace would work outside of the sandbox, for whoever can reach it there.
fn refuse_set_uid_files(rules: &mut Rules) -> Result<(), FilterError> {
    let set_id = [u64::from(libc::S_ISUID), u64::from(libc::S_ISGID)];
    let mut refuse = |call: i64, argument: u8, creating: Option<(u8, u64)>| -> Result<(), FilterError> {
        for bit in set_id {
            let mut conditions = vec![masked(argument, bit, bit)];
            conditions.extend(creating.map(|(flags, create)| masked(flags, create, create)));
            let refused = rule(&conditions)?;
            // An entry without rules refuses the call whatever its arguments are.
            match rules.get_mut(&call) {
                Some(all) if all.is_empty() => {}
                Some(some) => some.push(refused),
                None => drop(rules.insert(call, vec![refused])),
            }
        }
        Ok(())
    };
    const FCHMODAT2: i64 = 452;
    let (create, temporary) = (libc::O_CREAT as u64, (libc::O_TMPFILE & !libc::O_DIRECTORY) as u64);
    refuse(libc::SYS_fchmod, 1, None)?;
    refuse(libc::SYS_fchmodat, 2, None)?;
    refuse(FCHMODAT2, 2, None)?;
    refuse(libc::SYS_mknodat, 2, None)?;
    for flag in [create, temporary] {
        refuse(libc::SYS_openat, 3, Some((2, flag)))?;
    }
    #[cfg(target_arch = "x86_64")]
    {
        refuse(libc::SYS_chmod, 1, None)?;
        refuse(libc::SYS_creat, 1, None)?;
        refuse(libc::SYS_mknod, 1, None)?;
        for flag in [create, temporary] {
            refuse(libc::SYS_open, 2, Some((1, flag)))?;
        }
    }
    Ok(())
}

const TYPE_MASK: u64 = 0xf;
const STREAM: u64 = libc::SOCK_STREAM as u64;
const DGRAM: u64 = libc::SOCK_DGRAM as u64;
const SEQPACKET: u64 = libc::SOCK_SEQPACKET as u64;

/// Allowed are pairs of connected Unix sockets (not datagrams: those can be connected anew, to a path), and with
/// loopback TCP and UDP over IPv4 and IPv6.
fn refuse_odd_sockets(rules: &mut Rules, network: Network) -> Result<(), FilterError> {
    let unix_only = rule(&[differs(0, libc::AF_UNIX as u64)])?;
    let mut pair = vec![unix_only, rule(&[differs(2, 0u64)])?];
    pair.extend(other_types(&[STREAM, SEQPACKET])?);
    rules.insert(libc::SYS_socketpair, pair);
    if network == Network::Loopback {
        let mut socket = vec![rule(&[differs(0, libc::AF_INET as u64), differs(0, libc::AF_INET6 as u64)])?];
        socket.extend(other_types(&[STREAM, DGRAM])?);
        let protocols = [0, libc::IPPROTO_TCP as u64, libc::IPPROTO_UDP as u64];
        socket.push(rule(&protocols.map(|protocol| differs(2, protocol)))?);
        rules.insert(libc::SYS_socket, socket);
    }
    Ok(())
}

fn other_types(allowed: &[u64]) -> Result<Vec<SeccompRule>, FilterError> {
    (0..=TYPE_MASK)
        .filter(|kind| !allowed.contains(kind))
        .map(|kind| rule(&[masked(1, TYPE_MASK, kind)]))
        .collect()
}

/// One condition: which argument, how it is compared, with what.
struct Compared(u8, SeccompCmpOp, u64);

fn equal(argument: u8, value: impl Into<u64>) -> Compared {
    Compared(argument, SeccompCmpOp::Eq, value.into())
}

fn differs(argument: u8, value: impl Into<u64>) -> Compared {
    Compared(argument, SeccompCmpOp::Ne, value.into())
}

fn masked(argument: u8, mask: u64, value: u64) -> Compared {
    Compared(argument, SeccompCmpOp::MaskedEq(mask), value)
}

/// All conditions together. The kernel looks at 32 bits of each of these arguments, and so does the filter.
fn rule(conditions: &[Compared]) -> Result<SeccompRule, FilterError> {
    let conditions = conditions.iter().map(|Compared(argument, operator, value)| {
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, operator.clone(), *value)
    });
    Ok(SeccompRule::new(conditions.collect::<Result<_, _>>()?)?)
}

fn build(rules: Rules, otherwise: SeccompAction, matched: SeccompAction) -> Result<BpfProgram, FilterError> {
    let architecture = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(rules, otherwise, matched, architecture)?.try_into()?)
}
