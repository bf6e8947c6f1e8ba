//! Processes of containers, as their node sees them: a process cannot kill the first one of its own namespace, nor look into
//! a container without a shell, so nothing inside of a session's pod could. A privileged pod on each node can.

use crate::world::{apply, kubectl, kubectl_with};
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use std::sync::OnceLock;

/// Without the product's name: what is left of that is looked for.
const NODES: &str = "test-nodes";

/// Of a container, the first one.
#[derive(Debug)]
pub(crate) struct Process {
    /// The pod that sees it.
    node: String,
    pid: u32,
}

impl Process {
    pub(crate) fn of(namespace: &str, pod: &str, container: &str) -> anyhow::Result<Self> {
        let pod: Value =
            serde_json::from_str(&kubectl(&["-n", namespace, "get", "pod", pod, "-o", "json"])?)?;
        let statuses = pod["status"]["containerStatuses"].as_array().context("no containers")?;
        let status =
            statuses.iter().find(|status| status["name"] == container).context("no such container")?;
        let id = status["containerID"].as_str().and_then(|id| id.rsplit('/').next()).unwrap_or_default();
        ensure!(!id.is_empty() && status["state"]["running"].is_object(), "it does not run");
        let node = on(pod["spec"]["nodeName"].as_str().context("it is on no node")?)?;
        let pid = ask(&node, "first", id, &[])?.trim().parse()?;
        Ok(Self { node, pid })
    }

    /// As a crash or the kernel would.
    pub(crate) fn kill(&self) -> anyhow::Result<()> {
        ask(&self.node, "kill", &self.pid.to_string(), &[]).map(drop)
    }

    /// It is there and does nothing, whatever it is told.
    pub(crate) fn pause(&self) -> anyhow::Result<()> {
        ask(&self.node, "pause", &self.pid.to_string(), &[]).map(drop)
    }

    /// A file of its folder in `/proc`; `root` there is what the container sees.
    pub(crate) fn read(&self, file: &str) -> anyhow::Result<String> {
        ask(&self.node, "read", &self.place(file), &[])
    }

    /// Each file at or below a place in its folder that has one of `planted` in it.
    pub(crate) fn having(&self, place: &str, planted: &[&str]) -> anyhow::Result<Vec<String>> {
        let found = ask(&self.node, "having", &self.place(place), planted)?;
        Ok(found.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }

    /// Whether a TCP connection is made within two seconds from where it is.
    pub(crate) fn connects(&self, address: &str, port: u16) -> anyhow::Result<bool> {
        let said = ask(&self.node, "connects", &self.pid.to_string(), &[address, &port.to_string()])?;
        Ok(said.trim() == "open")
    }

    fn place(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.pid)
    }
}

fn ask(node: &str, question: &str, subject: &str, planted: &[&str]) -> anyhow::Result<String> {
    let script = include_str!("process.py");
    let line = ["-n", NODES, "exec", "-i", node, "--", "python3", "-c", script, question, subject];
    kubectl_with(&line, &json!(planted).to_string())
}

/// Our pod on a node.
fn on(node: &str) -> anyhow::Result<String> {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| make().expect("a pod on each node"));
    let field = format!("spec.nodeName={node}");
    let path = "jsonpath={.items[0].metadata.name}";
    kubectl(&["-n", NODES, "get", "pods", "--field-selector", &field, "-o", path])
}

fn make() -> anyhow::Result<()> {
    apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NODES, "labels": {
        "pod-security.kubernetes.io/enforce": "privileged"}}}))?;
    let labels = json!({"app": "node"});
    apply(
        &json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "node", "namespace": NODES},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {
            "hostPID": true, "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "node", "image": "localhost/vteam/tools:0.1.0", "command": ["sleep", "infinity"],
                "securityContext": {"privileged": true, "runAsUser": 0}}]}}}}),
    )?;
    kubectl(&["-n", NODES, "rollout", "status", "daemonset/node", "--timeout=180s"]).map(drop)
}
