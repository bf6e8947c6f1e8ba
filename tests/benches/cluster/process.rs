//! Processes of pods: the node is this machine.

use anyhow::{Context as _, bail};

/// The process of the only pod with this name of `app.kubernetes.io/name: vteam-*`.
pub(crate) fn of(namespace: &str, part: &str, program: &str) -> anyhow::Result<i32> {
    let selector = format!("app.kubernetes.io/name=vteam-{part}");
    let path = "jsonpath={.items[0].status.containerStatuses[0].containerID}";
    let id = crate::world::kubectl(&["-n", namespace, "get", "pods", "-l", &selector, "-o", path])?;
    let id = id.rsplit('/').next().unwrap_or_default().to_owned();
    for entry in std::fs::read_dir("/proc")? {
        let process = entry?.path();
        let read = |file: &str| std::fs::read_to_string(process.join(file)).unwrap_or_default();
        if read("comm").trim() == program && read("cgroup").contains(&id) {
            let pid = process.file_name().and_then(|name| name.to_str()).context("no number")?;
            return Ok(pid.parse()?);
        }
    }
    bail!("no {program} of {id} is seen: this is for a cluster on this machine")
}

/// Bytes, as the kernel counts them.
pub(crate) fn resident(pid: i32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kibibytes: u64 = line.split_whitespace().next().context("no number")?.parse()?;
    Ok(kibibytes << 10)
}

pub(crate) fn kill(pid: i32) -> anyhow::Result<()> {
    let pid = rustix::process::Pid::from_raw(pid).context("no number")?;
    Ok(rustix::process::kill_process(pid, rustix::process::Signal::KILL)?)
}
