//! Looks at what programs use where no limit of the kernel's adds it up: processes and memory of a call, bytes below
//! the session's folders.

use super::sandbox::Sandbox;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What was too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Breach {
    Processes(u64),
    Memory(u64),
    Disk(u64),
}

impl std::fmt::Display for Breach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Processes(most) => write!(f, "more than {most} processes"),
            Self::Memory(most) => {
                write!(f, "the session's programs used more than {} MiB of memory", most >> 20)
            }
            Self::Disk(most) => write!(f, "the session's folders hold more than {} MiB", most >> 20),
        }
    }
}

/// From Linux 6.14 on the highest process identifier is a setting of each PID namespace; before, of the whole machine.
pub(super) fn pid_limit_is_per_namespace() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (6, 14)
}

/// Bytes that the file system may lose before the folders are added up again.
const DISK_STEP_BYTES: u64 = 64 << 20;

#[derive(Debug)]
pub(super) struct Watch {
    page_bytes: u64,
    /// Free bytes of the workspace's file system when the folders were last added up.
    free_then: u64,
    step_bytes: u64,
}

impl Watch {
    pub(super) fn new(sandbox: &Sandbox) -> Self {
        Self {
            page_bytes: crate::sys::page_bytes(),
            free_then: free_bytes(sandbox),
            step_bytes: DISK_STEP_BYTES.min(sandbox.limits.disk_bytes / 16),
        }
    }

    /// Calls (by their first process) that are to be ended.
    pub(super) fn look(&mut self, sandbox: &Sandbox, calls: &BTreeMap<u64, i32>) -> Vec<(u64, Breach)> {
        let limits = &sandbox.limits;
        let processes = processes();
        let used: BTreeMap<u64, (u64, u64)> =
            calls.iter().map(|(id, first)| (*id, self.tree(&processes, *first))).collect();
        let memory: u64 = used.values().map(|(_, bytes)| bytes).sum();
        let mut ended: Vec<(u64, Breach)> = used
            .iter()
            .filter(|(_, (count, _))| *count > limits.processes)
            .map(|(id, _)| (*id, Breach::Processes(limits.processes)))
            .collect();
        if memory > limits.memory_bytes {
            let largest = used.iter().max_by_key(|(_, (_, bytes))| *bytes);
            ended.extend(largest.map(|(id, _)| (*id, Breach::Memory(limits.memory_bytes))));
        }
        if self.disk_is_full(sandbox) {
            ended.extend(calls.keys().map(|id| (*id, Breach::Disk(limits.disk_bytes))));
        }
        ended
    }

    /// How many threads and how many resident bytes the tree below this process has.
    fn tree(&self, processes: &BTreeMap<i32, Process>, first: i32) -> (u64, u64) {
        let below = |pid: i32| {
            let mut pid = pid;
            // The parents of a process are older than it; a loop would need a kernel's bug, a bound costs nothing.
            for _ in 0..processes.len() {
                if pid == first {
                    return true;
                }
                match processes.get(&pid) {
                    Some(process) => pid = process.parent,
                    None => return false,
                }
            }
            false
        };
        let members = processes.iter().filter(|(pid, _)| below(**pid)).map(|(_, process)| process);
        members.fold((0, 0), |(threads, bytes), p| {
            (threads + p.threads, bytes + p.resident_pages * self.page_bytes)
        })
    }

    fn disk_is_full(&mut self, sandbox: &Sandbox) -> bool {
        let free = free_bytes(sandbox);
        if self.free_then.saturating_sub(free) < self.step_bytes {
            return false;
        }
        self.free_then = free;
        let folders = [&sandbox.seen.workspace, &sandbox.seen.home, &sandbox.seen.tmp];
        folders.into_iter().map(|folder| bytes_below(folder)).sum::<u64>() > sandbox.limits.disk_bytes
    }
}

fn free_bytes(sandbox: &Sandbox) -> u64 {
    rustix::fs::statvfs(&sandbox.seen.workspace).map_or(0, |fs| fs.f_bfree.saturating_mul(fs.f_frsize))
}

/// Blocks in use. Links are not followed and not counted twice on purpose: a link costs nothing.
pub(super) fn bytes_below(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut bytes: u64 = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let Ok(kind) = entry.metadata() else { continue };
            bytes = bytes.saturating_add(kind.blocks().saturating_mul(512) / kind.nlink().max(1));
            if kind.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    bytes
}

#[derive(Debug)]
struct Process {
    parent: i32,
    /// 0 where whoever leads it is outside this PID namespace, which rustix's `getsid` takes for impossible.
    session: i32,
    threads: u64,
    resident_pages: u64,
}

/// Everything in `/proc`: the session's processes in a PID namespace, everybody's otherwise.
fn processes() -> BTreeMap<i32, Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| Some((pid, parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?)))
        .collect()
}

/// See proc_pid_stat(5). The name is in parentheses and may hold anything.
fn parse(stat: &str) -> Option<Process> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3);
    Some(Process {
        parent: field(4)?.parse().ok()?,
        session: field(6)?.parse().ok()?,
        threads: field(20)?.parse().ok()?,
        resident_pages: field(24)?.parse().ok()?,
    })
}

/// Without a PID namespace, processes of a call whose first process was ended from elsewhere come to the launcher:
/// whoever is its child and not the first process of a call goes. First processes do not have a session of their own.
pub(super) fn end_orphans() {
    let me = rustix::process::getpid().as_raw_pid();
    loop {
        let all = processes();
        let own_session = all.get(&me).map(|own| own.session);
        let orphans: Vec<Pid> = all
            .iter()
            .filter(|(_, process)| process.parent == me && Some(process.session) != own_session)
            .filter_map(|(pid, _)| Pid::from_raw(*pid))
            .collect();
        if orphans.is_empty() {
            return;
        }
        // Their children come to us in turn.
        for pid in orphans {
            let _ = kill_process(pid, Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines_with_any_name() {
        let line =
            "7 (a) b ( c)) S 3 7 6 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 5 0 100 1000 42 18446744073709551615";
        let process = parse(line).unwrap();
        assert_eq!((process.parent, process.session, process.threads, process.resident_pages), (3, 6, 5, 42));
        assert!(parse("7 (short").is_none());
    }
}
