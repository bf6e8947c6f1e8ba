//! What waits for a person, as the host saw it.

use crate::{
    Untrusted,
    id::{AskId, CallId, Digest, Effect, PluginId, ToolName},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The effect itself, from the host's own records: never what a guest says of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Subject {
    #[serde(rename_all = "camelCase")]
    Process {
        argv: Vec<Untrusted>,
        /// Workspace path.
        cwd: Untrusted,
        network: String,
        /// Variables set for it, beyond those of every program.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        env: BTreeMap<String, Untrusted>,
        /// What it reads, whole.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stdin: Option<Untrusted>,
    },
    #[serde(rename_all = "camelCase")]
    Fetch { method: String, url: Untrusted },
    #[serde(rename_all = "camelCase")]
    Changes { files: Vec<FileChange> },
    #[serde(untagged)]
    Other(Value),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileChange {
    pub path: Untrusted,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renamed_from: Option<Untrusted>,
    /// Digest of what is there now; `None` for a new file.
    pub before: Option<Digest>,
    /// Digest of what would be there; `None` when deleted.
    pub after: Option<Digest>,
    /// Unified diff made by the host; for a binary file one line that says so.
    pub diff: Untrusted,
}

impl Subject {
    /// What an approval binds: the effect and the state it acts on, without how it is shown.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(serde_json::to_string(self).unwrap_or_default().as_bytes())
    }
}

/// A request for approval. Invariant: what was shown is what runs: the answer counts for exactly this call of this
/// plugin with these argument bytes and this subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalRequest {
    pub id: AskId,
    pub call: CallId,
    pub tool: ToolName,
    pub plugin: PluginId,
    pub plugin_digest: Digest,
    /// Digest of the canonical argument bytes.
    pub input_digest: Digest,
    pub effect: Effect,
    pub subject: Subject,
    /// [`Subject::digest`] of `subject`.
    pub subject_digest: Digest,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "camelCase")]
pub enum Decision {
    Once,
    /// Also for later effects of the same kind: the same program (argv[0] and, for a shell, the same command), the
    /// same host, any file change of this plugin.
    Session,
    Deny {
        /// For the model to read.
        #[serde(default)]
        reason: Untrusted,
    },
}

/// A tool's own question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    pub id: AskId,
    pub call: CallId,
    pub tool: ToolName,
    pub request: Value,
}

/// What later effects a decision for the session covers.
#[must_use]
pub fn session_key(plugin: &PluginId, subject: &Subject) -> Option<String> {
    let key = match subject {
        Subject::Process { argv, env, stdin, .. } => {
            format!("process {}", serde_json::to_string(&(argv, env, stdin)).ok()?)
        }
        Subject::Fetch { method, url } => {
            let host = url.raw().split('/').take(3).collect::<Vec<_>>().join("/");
            format!("fetch {method} {host}")
        }
        Subject::Changes { .. } => "changes".to_owned(),
        Subject::Other(_) => return None,
    };
    Some(format!("{plugin} {key}"))
}
