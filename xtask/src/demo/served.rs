//! A `vteam up` of our own, for as long as it is needed.

use crate::run::Run;
use anyhow::{Context, bail};
use serde_json::Value;
use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

pub(crate) struct Served {
    child: Child,
    pub(crate) url: String,
    pub(crate) token_file: PathBuf,
}

impl Served {
    /// On a free loopback port; returns when it listens. Its log goes to a file.
    pub(crate) fn start(vteam: Run, script: Option<&Path>, log: &Path) -> anyhow::Result<Self> {
        let mut vteam = vteam.args(["up", "--json", "--listen", "127.0.0.1:0"]);
        if let Some(script) = script {
            vteam = vteam.arg("--script").arg(script);
        }
        let mut command = vteam.into_command();
        let written = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(written).spawn()?;
        let stdout = child.stdout.take().context("the server has no output")?;
        let mut first = String::new();
        BufReader::new(stdout).read_line(&mut first)?;
        let Ok(up) = serde_json::from_str::<Value>(&first) else {
            child.wait()?;
            bail!("the server did not start:\n{}", std::fs::read_to_string(log).unwrap_or_default());
        };
        let text = |key: &str| up.get(key).and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            child,
            url: text("url").context("the server does not say where it listens")?,
            token_file: text("tokenFile").context("the server does not say where its token is")?.into(),
        })
    }

    /// Asks it to end in order and waits.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.terminate();
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the server ended badly ({status})");
        }
        Ok(())
    }

    fn terminate(&self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            // It may have ended by itself.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }
}

impl Drop for Served {
    /// Also when something else failed; not waited for then.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.terminate();
            let _ = self.child.wait();
        }
    }
}
