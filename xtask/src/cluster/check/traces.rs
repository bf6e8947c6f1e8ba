//! What a cluster could leave on a machine.

use crate::{
    cluster::{
        cgroup,
        layout::{Layout, read},
    },
    run::Run,
};
use anyhow::bail;
use std::{collections::BTreeSet, fs, path::Path};

/// Folders that Kubernetes' programs write into when nobody stops them.
const FOLDERS: &[&str] = &[
    "/run",
    "/run/netns",
    "/run/containerd",
    "/var/lib",
    "/var/lib/cni",
    "/var/log",
    "/etc",
    "/etc/cni",
    "/opt",
    "/opt/cni",
    "/usr/libexec",
    "/dev/shm",
];

/// Settings of the kernel that they change.
const SETTINGS: &[&str] = &[
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/route_localnet",
    "net/netfilter/nf_conntrack_max",
];

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Traces(BTreeSet<String>);

impl Traces {
    pub(super) fn now(layout: &Layout, binaries: &Path) -> Self {
        let mut found = BTreeSet::new();
        let mut add = |kind: &str, what: String| found.insert(format!("{kind} {what}"));
        for pid in names("/proc").into_iter().filter(|name| name.parse::<u32>().is_ok()) {
            let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            let line = read(format!("/proc/{pid}/cmdline")).replace('\0', " ");
            let ours = line.contains("cluster node --binaries") || line.contains("cluster init --binaries");
            if ours || program.starts_with(binaries) || program.ends_with("runc") {
                add("process", format!("{pid} {}", program.display()));
            }
        }
        for cgroup in cgroup::left() {
            add("cgroup", cgroup.display().to_string());
        }
        for line in read("/proc/self/mountinfo").lines() {
            add("mount", line.to_owned());
        }
        let routes = Run::new("ip").args(["route", "show", "table", "all"]).text().unwrap_or_default();
        for line in routes.lines() {
            add("route", line.to_owned());
        }
        for line in read("/proc/net/dev").lines().skip(2) {
            add("link", line.split(':').next().unwrap_or_default().trim().to_owned());
        }
        let home = std::env::var("HOME").unwrap_or_default();
        let folders = FOLDERS.iter().map(|folder| (*folder).to_owned());
        for folder in folders.chain([format!("{home}/.kube"), format!("{home}/.kube/cache/discovery")]) {
            for name in names(&folder) {
                add("file", format!("{folder}/{name}"));
            }
        }
        for setting in SETTINGS {
            add("setting", format!("{setting}={}", read(format!("/proc/sys/{setting}")).trim()));
        }
        if layout.state.exists() {
            add("file", layout.state.display().to_string());
        }
        Self(found)
    }

    /// # Errors
    /// Names what is more or less than it was.
    pub(super) fn same(&self, after: &Self) -> anyhow::Result<()> {
        let more: Vec<_> = after.0.difference(&self.0).map(|trace| format!("left behind: {trace}")).collect();
        let less: Vec<_> = self.0.difference(&after.0).map(|trace| format!("taken away: {trace}")).collect();
        if !(more.is_empty() && less.is_empty()) {
            bail!("{}", [more, less].concat().join("\n"));
        }
        Ok(())
    }
}

fn names(folder: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named() {
        let traces = |words: &[&str]| Traces(words.iter().map(|word| (*word).to_owned()).collect());
        let check = |before: &[&str], after: &[&str], expected: Option<&str>| {
            let said = traces(before).same(&traces(after)).err().map(|error| error.to_string());
            assert_eq!(said.as_deref(), expected);
        };
        check(&["link lo"], &["link lo"], None);
        check(&["link lo"], &["link lo", "link a"], Some("left behind: link a"));
        check(&["link lo"], &[], Some("taken away: link lo"));
    }
}
