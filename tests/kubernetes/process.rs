//! Processes of containers, as the node sees them. The node is this machine: a process cannot kill the first one of its own
//! namespace, nor look into a container without a shell, so nothing inside of a pod could.

use crate::world::kubectl;
use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use std::path::PathBuf;

/// Of a container, the first one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(i32);

impl Process {
    pub(crate) fn of(namespace: &str, pod: &str, container: &str) -> anyhow::Result<Self> {
        let pod: Value =
            serde_json::from_str(&kubectl(&["-n", namespace, "get", "pod", pod, "-o", "json"])?)?;
        let statuses = pod["status"]["containerStatuses"].as_array().context("no containers")?;
        let status =
            statuses.iter().find(|status| status["name"] == container).context("no such container")?;
        let id = status["containerID"].as_str().and_then(|id| id.rsplit('/').next());
        let id = id.context("it does not run")?;
        ensure!(!id.is_empty(), "it does not run");
        for entry in std::fs::read_dir("/proc")? {
            let process = entry?.path();
            let read = |file: &str| std::fs::read_to_string(process.join(file)).unwrap_or_default();
            let first =
                read("status").lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"));
            if first && read("cgroup").contains(id) {
                let pid = process.file_name().and_then(|name| name.to_str()).context("no number")?;
                return Ok(Self(pid.parse()?));
            }
        }
        bail!("no process of {id} is seen: this is for a cluster on this machine")
    }

    /// As a crash or the kernel would.
    pub(crate) fn kill(self) -> anyhow::Result<()> {
        let pid = Pid::from_raw(self.0).context("no number")?;
        Ok(rustix::process::kill_process(pid, Signal::KILL)?)
    }

    /// Where its files in `/proc` are; its `root` has what the container sees.
    pub(crate) fn folder(self) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.0))
    }
}
