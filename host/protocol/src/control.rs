//! The control channel. The runner dials out, says [`FromRunner::Hello`], and is told who it is by [`FromServer::Bind`].
//!
//! Every message is one JSON object `{"type": …}`. An unknown type is ignored and logged: a newer peer sends it only
//! where its absence is harmless. Version negotiation: the highest version in both ranges.

use crate::artifact::Signed;
use model::{
    Untrusted,
    approval::{ApprovalRequest, Question},
    event::{ApprovalDecided, Event, Live, QuestionAnswered, Stored},
    grant::{EffectSet, PermissionMode},
    id::{AskId, Digest, Epoch, PersonaKey, PluginId, RunId, RunnerSeq, Seq, SessionRef, SessionUid},
    limits::Limits,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// What this release speaks. A runner one release older keeps working: raise `min` one release after `max`.
pub const VERSIONS: Versions = Versions { min: 1, max: 1 };

/// Frames above this are a breach of the protocol.
pub const MAX_FRAME_BYTES: usize = 4 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    pub min: u32,
    pub max: u32,
}

impl Versions {
    /// The version to speak, if there is one.
    #[must_use]
    pub fn agree(self, other: Self) -> Option<u32> {
        let version = self.max.min(other.max);
        (version >= self.min && version >= other.min).then_some(version)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum FromRunner {
    #[serde(rename_all = "camelCase")]
    Hello {
        versions: Versions,
        runner_version: String,
        /// [`crate::artifact::EngineId`] of the runner's engine.
        engine_id: String,
        target: String,
        /// What its launcher can keep; empty when there is none.
        confinement: Vec<crate::exec::Property>,
        /// Epoch of an earlier connection of the same process, when it reconnects.
        #[serde(default)]
        resumes: Option<Resume>,
    },
    /// In order and without gaps; committed as a whole and then acknowledged. Sent again after a reconnect.
    Events {
        events: Vec<Sequenced>,
    },
    Live {
        live: Live,
    },
    /// Idempotent by the ask's id; sent again after a reconnect while it is open.
    Ask {
        ask: Ask,
    },
    /// The answer to [`FromServer::Request`].
    Response {
        id: u64,
        result: Result<Reply, RequestError>,
    },
    /// The runner ends in order after this.
    Bye {
        message: Untrusted,
    },
    #[serde(untagged)]
    Unknown(Value),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resume {
    pub epoch: Epoch,
    /// The last event sent, acknowledged or not.
    pub runner_seq: RunnerSeq,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sequenced {
    pub runner_seq: RunnerSeq,
    #[serde(flatten)]
    pub event: Event,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", content = "data", rename_all = "camelCase")]
pub enum Ask {
    Approval(Box<ApprovalRequest>),
    Question(Question),
}

impl Ask {
    #[must_use]
    pub fn id(&self) -> &AskId {
        match self {
            Self::Approval(request) => &request.id,
            Self::Question(question) => &question.id,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum FromServer {
    Welcome {
        version: u32,
    },
    /// The connection is closed after this; the runner ends unless `retry`.
    Refused {
        message: String,
        retry: bool,
    },
    Bind {
        binding: Box<Binding>,
    },
    /// Everything up to here is committed.
    #[serde(rename_all = "camelCase")]
    Ack {
        runner_seq: RunnerSeq,
    },
    /// Work on this run: its messages are in the log. Idempotent by `run`.
    Run {
        run: RunId,
    },
    /// Stop the run under way, in mid-call and in mid-stream.
    Interrupt {
        run: RunId,
    },
    Decided {
        decided: ApprovalDecided,
    },
    Answered {
        answered: QuestionAnswered,
    },
    /// These must not run any more, whatever the binding says.
    Revoked {
        digests: Vec<Digest>,
    },
    Request {
        id: u64,
        request: Request,
    },
    /// Leave the run under way as it is (the next runner goes on with it), have the journal acknowledged, say [`FromRunner::Bye`] and end.
    #[serde(rename_all = "camelCase")]
    Drain {
        deadline_ms: u64,
    },
    #[serde(untagged)]
    Unknown(Value),
}

/// Identity and work of a runner, given after it has started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    pub session: SessionRef,
    pub uid: SessionUid,
    pub epoch: Epoch,
    /// Interactive sessions keep their runner after a run.
    pub interactive: bool,
    pub mode: PermissionMode,
    pub purpose: Purpose,
    #[serde(default)]
    pub persona: Option<PersonaKey>,
    pub model: String,
    /// Tokens that the model's window holds, for compaction.
    pub context_tokens: u64,
    pub max_output_tokens: u32,
    pub limits: Limits,
    pub plugins: Vec<PluginBinding>,
    /// Ed25519 public key that signed the artefacts, hex.
    pub artifact_key: String,
    pub workspace: WorkspaceSource,
    pub policy: SessionPolicy,
    /// Variables of native programs, never of the runner.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The log's end when the binding was made: rebuild from what is up to here, then follow the messages.
    pub cursor: Seq,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Purpose {
    Act,
    Analyse,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginBinding {
    pub id: PluginId,
    pub version: String,
    /// Of the component.
    pub digest: Digest,
    /// The manifest as JSON, as the server admitted it. The runner checks it against nothing but its own needs.
    pub manifest: Value,
    pub artifact: Signed,
    /// What policy grants this plugin here.
    pub granted: EffectSet,
    /// The plugin's settings in this project.
    #[serde(default)]
    pub config: Value,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum WorkspaceSource {
    /// The folder was prepared before the runner started (or kept from an earlier epoch).
    Prepared,
    /// Unpack this blob (tar, gzip) first, if the workspace was not yet made.
    Archive { blob: Digest },
}

/// The default permits nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct SessionPolicy {
    /// Hosts that `net.fetch` reaches without being asked for: `host` or `host:port`, exact.
    #[serde(default)]
    pub fetch_hosts: Vec<String>,
    /// Network of native programs: `none` or `loopback`.
    pub process_network: crate::exec::Network,
    /// Digests that must not run, whatever was pinned.
    #[serde(default)]
    pub revoked: Vec<Digest>,
}

/// Something the server needs done in the workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "camelCase")]
pub enum Request {
    /// One level of a folder.
    List {
        path: String,
    },
    Read {
        path: String,
    },
    /// Upload the content as a blob first.
    Write {
        path: String,
        blob: Digest,
    },
    Delete {
        path: String,
    },
    /// Whole workspace as a tar (gzip) blob.
    Archive,
    /// Diff against the baseline, as a blob.
    Diff,
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "camelCase")]
pub enum Reply {
    Entries {
        entries: Vec<Entry>,
    },
    /// The content is this blob.
    #[serde(rename_all = "camelCase")]
    Blob {
        blob: Digest,
        size: u64,
    },
    #[serde(rename_all = "camelCase")]
    Diff {
        diff: Digest,
        archive: Digest,
        files_changed: u64,
        added: u64,
        removed: u64,
    },
    Done,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    pub name: Untrusted,
    pub kind: EntryKind,
    pub size: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EntryKind {
    File,
    Directory,
    Link,
    #[serde(other)]
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "error", content = "message", rename_all = "camelCase")]
pub enum RequestError {
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    TooLarge(String),
    #[error("{0}")]
    Failed(String),
}

/// One line of the history that a runner rebuilds from.
pub type HistoryLine = Stored;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_overlap_or_not() {
        let range = |min, max| Versions { min, max };
        assert_eq!(range(1, 1).agree(range(1, 2)), Some(1));
        assert_eq!(range(2, 3).agree(range(1, 2)), Some(2));
        assert_eq!(range(2, 3).agree(range(1, 1)), None);
    }

    #[test]
    fn an_unknown_message_is_no_error() {
        let text = r#"{"type":"ofTomorrow","x":1}"#;
        assert!(matches!(serde_json::from_str::<FromServer>(text).unwrap(), FromServer::Unknown(_)));
        assert!(matches!(serde_json::from_str::<FromRunner>(text).unwrap(), FromRunner::Unknown(_)));
    }

    #[test]
    fn messages_are_tagged_objects() {
        let text = serde_json::to_string(&FromRunner::Events {
            events: vec![Sequenced {
                runner_seq: RunnerSeq(1),
                event: Event::RunStarted(model::event::RunStarted { run: "r".parse().unwrap() }),
            }],
        })
        .unwrap();
        assert_eq!(
            text,
            r#"{"type":"events","events":[{"runnerSeq":1,"kind":"run.started","data":{"run":"r"}}]}"#
        );
    }
}
