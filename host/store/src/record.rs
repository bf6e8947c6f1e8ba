//! A session as the store keeps it beside its events.

use model::{
    Untrusted,
    event::{PinnedPlugin, Snapshot},
    id::{Epoch, MessageId, ProjectUid, RunId, SessionRef, SessionUid, UnixMillis},
    lifecycle::{Phase, Reason},
    message::Block,
    money::{Budget, MicroUsd, Usage},
    plan::Desired,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionRecord {
    pub uid: SessionUid,
    pub reference: SessionRef,
    /// Of the project that it was made in; absent where an earlier release made it.
    #[serde(default)]
    pub project_uid: Option<ProjectUid>,
    pub created_at: UnixMillis,
    pub created_by: Untrusted,
    pub labels: BTreeMap<String, String>,
    /// As it was accepted; never changes.
    pub spec: Value,
    /// Bytes of events that the session may store.
    pub event_bytes: u64,
    pub state: SessionState,
}

/// What changes in a session's life. Written together with the events that say so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionState {
    pub phase: Phase,
    pub reason: Reason,
    #[serde(default)]
    pub message: Untrusted,
    pub desired: Desired,
    pub updated_at: UnixMillis,
    /// Since when the phase is a settled one.
    #[serde(default)]
    pub settled_at: Option<UnixMillis>,
    /// The last one that was started.
    pub epoch: Epoch,
    /// Events of runners before this epoch are refused.
    pub fence: Epoch,
    /// SHA-256 of the runner's token, hex.
    #[serde(default)]
    pub token_hash: Option<String>,
    /// Runners lost in a row without progress.
    #[serde(default)]
    pub losses: u32,
    #[serde(default)]
    pub lost_at: Option<UnixMillis>,
    /// Under way.
    #[serde(default)]
    pub run: Option<RunId>,
    /// Active time of the run under way.
    #[serde(default)]
    pub run_active_ms: u64,
    /// Since when nothing has been under way.
    #[serde(default)]
    pub idle_since: Option<UnixMillis>,
    /// Messages that wait for the run under way to finish.
    #[serde(default)]
    pub queue: Vec<Queued>,
    #[serde(default)]
    pub budget: Budget,
    /// Promised to model calls under way, by idempotency key.
    #[serde(default)]
    pub reserved: BTreeMap<String, Reserved>,
    /// Keys of the last settled calls.
    #[serde(default)]
    pub settled: Vec<String>,
    #[serde(default)]
    pub totals: Totals,
    /// What the session runs, from its first binding on.
    #[serde(default)]
    pub pins: Vec<PinnedPlugin>,
    /// The pod of the runner that was bound last, where runners are in pods.
    #[serde(default)]
    pub pod: Option<String>,
    /// The last one.
    #[serde(default)]
    pub snapshot: Option<Snapshot>,
}

impl SessionState {
    /// A runner was given the session once: its workspace is not what it began with any more.
    #[must_use]
    pub fn was_bound(&self) -> bool {
        self.pod.is_some() || !self.pins.is_empty()
    }

    /// A run is unfinished or a message waits.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.run.is_some() || !self.queue.is_empty()
    }

    /// When its rest began, for a settled one; else its last change.
    #[must_use]
    pub fn rests_since(&self) -> UnixMillis {
        self.settled_at.unwrap_or(self.updated_at)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Queued {
    pub run: RunId,
    pub message: MessageId,
    pub content: Vec<Block>,
    pub sent_by: Untrusted,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reserved {
    pub run: RunId,
    pub model: String,
    pub worst: MicroUsd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Finished runs.
    pub runs: u64,
    pub turns: u64,
    pub usage: Usage,
    pub cost: MicroUsd,
    /// Of the run under way.
    pub run_usage: Usage,
    pub run_cost: MicroUsd,
}
