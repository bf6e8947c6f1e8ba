//! `kubectl` of the cluster, under one of its identities.

use super::layout::{Layout, NODE_NAME};
use anyhow::{Context, bail};
use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

/// Says "True" when pods can be scheduled.
pub(super) const NODE_READY: &[&str] =
    &["get", "node", NODE_NAME, "-o=jsonpath={.status.conditions[?(@.type=='Ready')].status}"];

pub(super) struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    pub(super) fn admin(layout: &Layout, binaries: &Path) -> Self {
        Self::with(binaries, layout.kubeconfig())
    }

    pub(super) fn with(binaries: &Path, kubeconfig: PathBuf) -> Self {
        Self { program: binaries.join("kubectl"), kubeconfig }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        // An API server that hangs is no reason to; a caller's own flag comes later and counts.
        command
            .arg("--request-timeout=30s")
            .args(args)
            .env("KUBECONFIG", &self.kubeconfig)
            // Not in somebody's home, where it would outlive the cluster.
            .env("KUBECACHEDIR", self.kubeconfig.with_extension("cache"))
            .stdin(Stdio::null());
        command
    }

    pub(super) fn output(&self, args: &[&str]) -> anyhow::Result<Output> {
        self.command(args).output().with_context(|| format!("cannot start {}", self.program.display()))
    }

    /// What it wrote to stdout.
    pub(super) fn text(&self, args: &[&str]) -> anyhow::Result<String> {
        done(args, &self.output(args)?)
    }

    pub(super) fn apply(&self, manifest: &str) -> anyhow::Result<String> {
        let args = ["apply", "--server-side", "--validate=false", "--filename=-"];
        let mut command = self.command(&args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        child.stdin.take().context("kubectl has no input")?.write_all(manifest.as_bytes())?;
        done(&args, &child.wait_with_output()?)
    }

    /// Asks until it succeeds and says something that pleases.
    pub(super) fn until(
        &self,
        args: &[&str],
        within: Duration,
        pleases: impl Fn(&str) -> bool,
    ) -> anyhow::Result<String> {
        let deadline = Instant::now() + within;
        loop {
            let tried = self.text(args);
            match tried {
                Ok(text) if pleases(&text) => return Ok(text),
                Ok(text) if Instant::now() > deadline => {
                    bail!("kubectl {} still says: {}", args.join(" "), text.trim())
                }
                Err(error) if Instant::now() > deadline => return Err(error),
                _ => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }
}

fn done(args: &[&str], output: &Output) -> anyhow::Result<String> {
    if !output.status.success() {
        bail!("kubectl {} failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
