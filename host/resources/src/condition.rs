//! Conditions: what is true of an object beside its phase, in the shape that Kubernetes' tools know.

use crate::schema;
use model::{event::Warning, render};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const MESSAGE_CHARACTERS: usize = 2000;

/// One aspect. Writers share the list: each writes the types that are its own, and changes `lastTransitionTime` only
/// when `status` changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 316))]
    pub kind: String,
    pub status: ConditionStatus,
    /// One word in CamelCase, for programs.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// For people.
    #[schemars(length(max = 32_768))]
    pub message: String,
    /// Since when `status` is what it is.
    #[schemars(schema_with = "schema::time")]
    pub last_transition_time: String,
    /// The `metadata.generation` that this was judged by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    True,
    False,
    Unknown,
}

/// Types of a session's conditions that the operator writes: what becomes of the object and its pod. They are the
/// established ones. Beside these, each field that was accepted without effect has a condition of its own
/// ([`Condition::without_effect`]).
pub mod operator {
    /// The specification was accepted; where not, the message names each wrong field.
    pub const ACCEPTED: &str = "Accepted";
    pub const POD_CREATED: &str = "PodCreated";
    pub const POD_SCHEDULED: &str = "PodScheduled";
    /// Both of its containers run; where not, the reason is the container's.
    pub const POD_STARTED: &str = "PodStarted";
    /// It rests and will not go on by itself: the reason is `Completed`, `Stopped` or `Failed`. Always there.
    pub const FINISHED: &str = "Finished";
    /// Its runner is gone and its workspace kept.
    pub const SUSPENDED: &str = "Suspended";
    /// Its runner is on its way out: the reason is `Stopping` or `Suspending`.
    pub const DRAINING: &str = "Draining";
    /// A run is under way; `False`: it waits for a person. Absent while there is no run.
    pub const WORKING: &str = "Working";
    /// What a session's phase follows from: [`phase`](crate::session::phase).
    pub const LIFE: [&str; 4] = [FINISHED, SUSPENDED, DRAINING, WORKING];
    /// What its pod is at.
    pub const POD: [&str; 3] = [POD_CREATED, POD_SCHEDULED, POD_STARTED];
    pub const ALL: [&str; 8] =
        [ACCEPTED, POD_CREATED, POD_SCHEDULED, POD_STARTED, FINISHED, SUSPENDED, DRAINING, WORKING];
}

/// Types of a session's conditions that the server writes: what its runner does.
pub mod server {
    /// A runner is connected and bound.
    pub const READY: &str = "Ready";
    pub const RUNNER_STARTED: &str = "RunnerStarted";
    pub const REPOS_RECONCILED: &str = "ReposReconciled";
    pub const WORKFLOW_RECONCILED: &str = "WorkflowReconciled";
    pub const ALL: [&str; 4] = [READY, RUNNER_STARTED, REPOS_RECONCILED, WORKFLOW_RECONCILED];
}

impl Condition {
    /// What a warning says. Its type is the warning's reason: several stand beside each other in a list that is keyed by
    /// type.
    #[must_use]
    pub fn without_effect(warning: &Warning, now: String, generation: Option<u64>) -> Self {
        Self {
            kind: warning.reason.clone(),
            status: ConditionStatus::True,
            reason: warning.reason.clone(),
            message: render::line(&warning.message, MESSAGE_CHARACTERS),
            last_transition_time: now,
            observed_generation: generation,
        }
    }
}
