//! What a component may reach of the host, as traits that the caller implements. Everything is denied by default: a
//! capability is there only when the call grants its effect *and* the caller gave an implementation.

use crate::{async_trait, path::WorkspacePath};
use bytes::Bytes;
use futures::stream::BoxStream;
use model::{
    Untrusted,
    approval::Subject,
    id::{Digest, Effect},
    message::ModelFailure,
};
use protocol::{
    exec::{Exit, Network, Refusal, Stream},
    http::FetchFailure,
};
use serde_json::Value;
use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

/// What one call is given.
#[derive(Clone)]
pub struct Host {
    /// Folder on the host that the guest sees at `/workspace`, read-only; needs the grant `fs.read`.
    pub workspace: Option<PathBuf>,
    pub gate: Arc<dyn Gate>,
    pub process: Option<Arc<dyn Processes>>,
    pub state: Option<Arc<dyn State>>,
    pub fetch: Option<Arc<dyn Fetch>>,
    pub model: Option<Arc<dyn Completions>>,
    pub changes: Option<Arc<dyn ChangeBase>>,
    pub progress: Arc<dyn Progress>,
    pub log: Arc<dyn PluginLog>,
    /// The plugin's settings in this project: an object.
    pub config: Value,
}

impl Host {
    /// Nothing but silence: for `describe`, personas, and calls that need no host.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            workspace: None,
            gate: Arc::new(Nothing),
            process: None,
            state: None,
            fetch: None,
            model: None,
            changes: None,
            progress: Arc::new(Nothing),
            log: Arc::new(Nothing),
            config: Value::Null,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    /// A person has to say: the call ends with [`crate::CallEnd::NeedsApproval`].
    Ask,
    /// The guest is told this, as a typed denial.
    Refuse(String),
}

/// Asked once before each effect that leaves the sandbox (programs, fetches), with the effect as the host sees it.
/// Staged changes are asked for by whoever applies them, as one subject.
#[async_trait]
pub trait Gate: Send + Sync {
    async fn check(&self, effect: &Effect, subject: &Subject) -> Verdict;
}

/// A program that a guest wants run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramRequest {
    pub argv: Vec<String>,
    /// `/workspace` or a folder below it, normalised.
    pub cwd: String,
    pub env: BTreeMap<String, String>,
    pub stdin: Option<String>,
    /// `None`: the host's.
    pub timeout_ms: Option<u64>,
    pub report_cwd: bool,
}

#[async_trait]
pub trait Processes: Send + Sync {
    /// What programs of this session may reach; part of what a person approves.
    fn network(&self) -> Network;
    /// Nobody is asked for what cannot run: refuses a program that is not there. Where that is not known, it is `start` that says so.
    async fn find(&self, _program: &str) -> Result<(), Refusal> {
        Ok(())
    }
    async fn start(&self, program: ProgramRequest) -> Result<Box<dyn Child>, Refusal>;
    /// A child that was detached by an earlier call of the same plugin.
    async fn attach(&self, id: &str) -> Result<Box<dyn Child>, Refusal>;
}

/// Dropping it ends the whole tree, unless it was detached or attached to.
#[async_trait]
pub trait Child: Send + Sync {
    fn id(&self) -> String;
    /// Waits for output at most this long; without a limit until the program has ended and all output was read.
    async fn next(&mut self, wait: Option<Duration>) -> Next;
    /// `None` while it runs.
    async fn exit(&mut self) -> Option<Exit>;
    /// See `process.child.info` of the contract.
    async fn info(&mut self, key: &str) -> Option<Value>;
    async fn kill(&mut self);
    async fn detach(&mut self);
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    Output { stream: Stream, bytes: Vec<u8> },
    Quiet,
    End,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    #[error("{0}")]
    Quota(String),
    #[error("{0}")]
    Failed(String),
}

/// One plugin's key-value store in one session.
#[async_trait]
pub trait State: Send + Sync {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StateError>;
    async fn set(&self, key: &str, value: Vec<u8>) -> Result<(), StateError>;
    async fn delete(&self, key: &str) -> Result<(), StateError>;
    async fn keys(&self) -> Result<Vec<String>, StateError>;
}

pub struct Fetched {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: BoxStream<'static, Result<Bytes, FetchFailure>>,
}

/// GET and HEAD without credentials. Redirects are handed back.
#[async_trait]
pub trait Fetch: Send + Sync {
    async fn fetch(
        &self,
        method: &str,
        url: &str,
        headers: Vec<(String, String)>,
    ) -> Result<Fetched, FetchFailure>;
}

/// A bounded completion by the session's model.
#[async_trait]
pub trait Completions: Send + Sync {
    async fn complete(
        &self,
        system: Option<String>,
        prompt: String,
        max_tokens: Option<u32>,
    ) -> Result<String, ModelFailure>;
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BaseError {
    /// A link, a special file, or a path through one.
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Failed(String),
}

/// What staged changes replace. Implementations follow no link.
#[async_trait]
pub trait ChangeBase: Send + Sync {
    /// Of a regular file; `None` where nothing is.
    async fn digest(&self, path: &WorkspacePath) -> Result<Option<Digest>, BaseError>;
}

/// Live news for people who watch; never stored.
pub trait Progress: Send + Sync {
    /// `kind` and `value` are the guest's.
    fn emit(&self, kind: &str, value: Value);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogSource {
    Log,
    Stdout,
    Stderr,
    /// Said by the engine about the plugin.
    Host,
}

/// The plugin's own log. Bytes were limited before they come here.
pub trait PluginLog: Send + Sync {
    fn write(&self, level: Level, source: LogSource, text: Untrusted);
}

struct Nothing;

#[async_trait]
impl Gate for Nothing {
    async fn check(&self, effect: &Effect, _: &Subject) -> Verdict {
        Verdict::Refuse(format!("{effect} is not available in an empty sandbox"))
    }
}

impl Progress for Nothing {
    fn emit(&self, _: &str, _: Value) {}
}

impl PluginLog for Nothing {
    fn write(&self, _: Level, _: LogSource, _: Untrusted) {}
}
