//! A session's specification after it was accepted: model types only, each field enforced by somebody.

use model::{
    event::Warning,
    grant::PermissionMode,
    id::{Digest, PersonaKey, PluginId},
    money::MicroUsd,
    plan::Desired,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

/// What a session is to do and may do. The server stores it with the session and reads it back as it is: defaults and
/// the project's settings were applied once, when the session was accepted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Accepted {
    /// The first message; empty for an interactive session that waits for one.
    pub prompt: String,
    /// What is wanted of it from the start.
    #[serde(default)]
    pub desired: Desired,
    pub persona: Option<PersonaKey>,
    /// The persona analyses the prompt and answers by its schema, in place of a coding session.
    pub analyse: bool,
    /// `None`: the server's default model.
    pub model: Option<String>,
    /// Tokens of one answer of the model; `None`: the server's default.
    pub max_output_tokens: Option<u32>,
    pub mode: PermissionMode,
    /// `None`: no limit.
    pub budget: Option<MicroUsd>,
    pub interactive: bool,
    /// Hard limit of one run's active time.
    pub timeout: Duration,
    /// How long an idle session keeps its runner; `None`: the server's default.
    pub inactivity: Option<Duration>,
    /// An interactive session is stopped when its run is finished.
    pub stop_on_run_finished: bool,
    /// How long it is kept after it came to rest; `None`: until somebody deletes it.
    #[serde(default)]
    pub retention: Option<Duration>,
    pub workspace: Source,
    /// Bytes that the workspace may hold; `None`: the server's limit.
    #[serde(default)]
    pub workspace_bytes: Option<u64>,
    /// On a cluster its files outlive the pod. One machine keeps every workspace.
    #[serde(default)]
    pub persistent: bool,
    /// For native programs, never for the runner.
    pub environment: BTreeMap<String, String>,
    /// Model requests of one run; `None`: the server's limit.
    pub max_turns: Option<u32>,
    pub process_network: ProcessNetwork,
    /// Refuse to start where native programs cannot be confined.
    pub needs_programs: bool,
    /// Only these plugins; `None`: all that the project grants.
    pub plugins: Option<BTreeSet<PluginId>>,
    pub display_name: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// What was accepted without effect, or with another one than it seems. Each becomes a `session.warning`.
    pub warnings: Vec<Warning>,
    /// The specification as it was written.
    pub spec: Value,
}

/// Where the workspace's first files come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Source {
    Empty,
    /// A private copy of a folder of the server's machine; absolute.
    #[serde(rename_all = "camelCase")]
    Dir {
        path: PathBuf,
        /// Also what the folder's ignore files leave out.
        include_ignored: bool,
    },
    /// A folder of the server's machine itself; absolute.
    InPlace {
        path: PathBuf,
    },
    /// A tar (gzip) that was uploaded before.
    Archive {
        blob: Digest,
    },
}

/// Network of native programs.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, schemars::JsonSchema, utoipa::ToSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum ProcessNetwork {
    /// No socket at all.
    #[default]
    None,
    /// A network of the program's own, where only loopback is.
    Loopback,
}
