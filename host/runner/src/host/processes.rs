//! Native programs, run by the launcher at the other end of one socket, or of one after the other where it restarts.
//!
//! One task reads the socket and sorts what it says by program; output waits, bounded by what the launcher may send,
//! until the component takes it. A detached program is found again by the plugin that started it, and by no other.

mod launcher;

pub use launcher::Launcher;

use engine::{Child, Next, Processes, ProgramRequest, async_trait};
use launcher::{Running, Sort};
use model::id::PluginId;
use protocol::exec::{Exit, Network, Program, Refusal};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Of both streams of one program; the launcher drops and counts the rest.
const OUTPUT_BYTES: u64 = 8 << 20;
const DEFAULT_TIMEOUT_MS: u64 = 120_000;

/// The programs of one plugin.
pub struct OfPlugin {
    /// `None` where the runner was given no launcher.
    pub launcher: Option<Launcher>,
    pub plugin: PluginId,
    pub network: Network,
    pub env: BTreeMap<String, String>,
    /// The longest that a program may run.
    pub longest_ms: u64,
}

impl OfPlugin {
    fn launcher(&self) -> Result<&Launcher, Refusal> {
        let missing =
            || Refusal::Failed { message: "this runner has no launcher for native programs".to_owned() };
        self.launcher.as_ref().ok_or_else(missing)
    }
}

#[async_trait]
impl Processes for OfPlugin {
    fn network(&self) -> Network {
        self.network
    }

    async fn find(&self, program: &str) -> Result<(), Refusal> {
        match &self.launcher {
            Some(launcher) => launcher.find_program(program).await,
            None => Ok(()),
        }
    }

    async fn start(&self, request: ProgramRequest) -> Result<Box<dyn Child>, Refusal> {
        let ProgramRequest { argv, cwd, env, stdin, timeout_ms, report_cwd } = request;
        let mut variables = self.env.clone();
        variables.extend(env);
        let program = Program {
            argv,
            cwd,
            env: variables,
            stdin,
            network: self.network,
            timeout_ms: timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS).min(self.longest_ms),
            output_bytes: OUTPUT_BYTES,
            report_cwd,
        };
        let launcher = self.launcher()?;
        let running = launcher.start(&self.plugin, program).await?;
        let mut child = Handle { launcher: launcher.clone(), running, kept: false };
        child.started().await?;
        Ok(Box::new(child))
    }

    async fn attach(&self, id: &str) -> Result<Box<dyn Child>, Refusal> {
        let launcher = self.launcher()?;
        let running = id.parse().ok().and_then(|id| launcher.find(&self.plugin, id));
        let running = running.ok_or_else(|| Refusal::NotFound { program: id.to_owned() })?;
        Ok(Box::new(Handle { launcher: launcher.clone(), running, kept: true }))
    }
}

struct Handle {
    launcher: Launcher,
    running: Arc<Running>,
    /// It outlives this handle.
    kept: bool,
}

impl Handle {
    async fn started(&mut self) -> Result<(), Refusal> {
        self.running
            .wait(|state| match &state.sort {
                Sort::Starting => None,
                Sort::Refused(refusal) => Some(Err(refusal.clone())),
                Sort::Started | Sort::Ended(_) => Some(Ok(())),
            })
            .await
    }
}

#[async_trait]
impl Child for Handle {
    fn id(&self) -> String {
        self.running.id.to_string()
    }

    async fn next(&mut self, wait: Option<Duration>) -> Next {
        let next = self.running.wait(|state| match state.output.pop_front() {
            Some((stream, bytes)) => Some(Next::Output { stream, bytes }),
            None => matches!(state.sort, Sort::Ended(_) | Sort::Refused(_)).then_some(Next::End),
        });
        match wait {
            Some(wait) => tokio::time::timeout(wait, next).await.unwrap_or(Next::Quiet),
            None => next.await,
        }
    }

    async fn exit(&mut self) -> Option<Exit> {
        self.running.look(|state| match &state.sort {
            Sort::Ended(ended) => Some(ended.exit.clone()),
            _ => None,
        })
    }

    async fn info(&mut self, key: &str) -> Option<Value> {
        self.running.look(|state| match (&state.sort, key) {
            (Sort::Ended(ended), "cwd") => ended.cwd.clone().map(Value::String),
            (Sort::Ended(ended), "dropped-bytes") => Some(ended.dropped_bytes.into()),
            (Sort::Ended(ended), "duration-ms") => Some(ended.duration_ms.into()),
            _ => None,
        })
    }

    async fn kill(&mut self) {
        self.launcher.kill(self.running.id);
    }

    async fn detach(&mut self) {
        self.kept = true;
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.kept {
            self.launcher.kill(self.running.id);
            self.launcher.forget(self.running.id);
        }
    }
}
