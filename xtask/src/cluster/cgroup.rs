//! The cluster's cgroup: by what is in it, everything that belongs to the cluster is found and ended.
//!
//! On cgroup v1 there is one in each hierarchy. Kubelet makes its pods' cgroups below the same one.

use super::layout::{CGROUP, read};
use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::BTreeSet,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// What kubelet needs; v1 names CPU accounting apart.
const CONTROLLERS: &[&str] = &["cpu", "cpuset", "memory", "pids"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    root: PathBuf,
    unified: bool,
}

impl Hierarchy {
    fn ours(&self) -> PathBuf {
        self.root.join(CGROUP)
    }

    /// For what is no pod: on v2, only leaves have processes.
    fn node(&self) -> PathBuf {
        self.ours().join("node")
    }
}

pub(super) fn hierarchies() -> Vec<Hierarchy> {
    parse(&read("/proc/self/mountinfo"))
}

/// Lines of `/proc/self/mountinfo`, proc_pid_mountinfo(5).
fn parse(mountinfo: &str) -> Vec<Hierarchy> {
    let parsed = mountinfo.lines().filter_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let unified = match filesystem.split(' ').next()? {
            "cgroup" => false,
            "cgroup2" => true,
            _ => return None,
        };
        Some(Hierarchy { root: mount.split(' ').nth(4)?.into(), unified })
    });
    parsed.collect()
}

/// Controllers that kubelet would not find here.
pub(super) fn missing() -> Vec<&'static str> {
    let mut there: BTreeSet<String> = BTreeSet::new();
    for hierarchy in hierarchies() {
        let controllers = read(hierarchy.root.join("cgroup.controllers"));
        there.extend(controllers.split_whitespace().map(str::to_owned));
        let v1 = hierarchy.root.file_name().map(|name| name.to_string_lossy().into_owned());
        there.extend(v1.iter().flat_map(|name| name.split(',').map(str::to_owned)));
    }
    CONTROLLERS.iter().copied().filter(|name| !there.contains(*name)).collect()
}

pub(super) fn prepare() -> anyhow::Result<()> {
    for hierarchy in hierarchies() {
        if hierarchy.unified {
            delegate(&hierarchy.root)?;
        }
        for folder in [hierarchy.ours(), hierarchy.node()] {
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
            if !hierarchy.unified {
                inherit_cpuset(&folder)?;
            }
        }
        if hierarchy.unified {
            delegate(&hierarchy.ours())?;
        }
    }
    Ok(())
}

/// Lets children of a v2 cgroup have its controllers.
fn delegate(folder: &Path) -> anyhow::Result<()> {
    for controller in read(folder.join("cgroup.controllers")).split_whitespace() {
        let enabled = fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}"));
        let needed = CONTROLLERS.contains(&controller);
        if let (true, Err(error)) = (needed, enabled) {
            let hint = "in a container, its processes must first move into a child of that cgroup";
            bail!("cannot enable {controller} below {}: {error} ({hint})", folder.display());
        }
    }
    Ok(())
}

/// A new v1 cpuset is empty, and nothing may join it.
fn inherit_cpuset(folder: &Path) -> anyhow::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let (own, above) = (folder.join(file), folder.join("..").join(file));
        if own.exists() && read(&own).trim().is_empty() {
            fs::write(&own, read(above))?;
        }
    }
    Ok(())
}

/// Moves this process into the cluster; what it starts is then part of it.
pub(super) fn join() -> anyhow::Result<()> {
    for hierarchy in hierarchies() {
        let file = hierarchy.node().join("cgroup.procs");
        // 0 is whoever writes.
        fs::write(&file, "0").with_context(|| format!("cannot join {}", file.display()))?;
    }
    Ok(())
}

/// All processes of the cluster. One that a nested PID namespace hides from us is 0.
pub(super) fn processes() -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for hierarchy in hierarchies() {
        for folder in below(&hierarchy.ours()) {
            found.extend(read(folder.join("cgroup.procs")).lines().filter_map(|l| l.parse::<u32>().ok()));
        }
    }
    found
}

/// Kills until nothing is left.
pub(super) fn kill(within: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + within;
    loop {
        for hierarchy in hierarchies().iter().filter(|h| h.unified) {
            // Also reaches other PID namespaces; not there before Linux 5.14.
            let _ = fs::write(hierarchy.ours().join("cgroup.kill"), "1");
        }
        let left = processes();
        if left.is_empty() {
            return Ok(());
        }
        for pid in left.iter().filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?)) {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::KILL);
        }
        if Instant::now() > deadline {
            bail!("these processes do not end (0: of another PID namespace): {left:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Removes the cgroups, which must be empty.
pub(super) fn remove(within: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + within;
    for hierarchy in hierarchies() {
        for folder in below(&hierarchy.ours()).into_iter().rev() {
            // The kernel takes a moment to see that the last process is gone.
            while let Err(error) = fs::remove_dir(&folder) {
                if error.kind() == ErrorKind::NotFound {
                    break;
                }
                if Instant::now() > deadline {
                    return Err(error).with_context(|| format!("cannot remove {}", folder.display()));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
    Ok(())
}

/// Cgroups that are there.
pub(super) fn left() -> Vec<PathBuf> {
    hierarchies().iter().flat_map(|hierarchy| below(&hierarchy.ours())).collect()
}

/// A folder and all folders in it, parents first; none where there is none.
fn below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = vec![folder.to_owned()];
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        found.extend(below(&entry.path()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_read_from_mountinfo() {
        let check = |line: &str, expected: Option<(&str, bool)>| {
            let expected = expected.map(|(root, unified)| Hierarchy { root: root.into(), unified });
            assert_eq!(parse(line), expected.into_iter().collect::<Vec<_>>(), "{line}");
        };
        check(
            "30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw",
            Some(("/sys/fs/cgroup", true)),
        );
        check(
            "33 32 0:29 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory",
            Some(("/sys/fs/cgroup/memory", false)),
        );
        check("32 25 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755", None);
        check("no line", None);
    }
}
