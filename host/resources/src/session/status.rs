//! A session's status on a cluster. Two processes write it, each with a field manager of its own and by server-side
//! apply: a field has one writer, and a struct per writer says which.
//!
//! The operator writes what has to be true while no server answers: the phase, which `model::plan` moves on, and what
//! becomes of the pod. The server writes what only it and its log know: runs, their cost, who is connected. The operator
//! reads that to plan. Events, transcripts and diffs are not here: the object stays small.

use crate::{condition::Condition, schema};
use model::lifecycle::Phase;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// All of it, as it is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AgenticSessionStatus {
    #[serde(flatten)]
    pub operator: OperatorStatus,
    #[serde(flatten)]
    pub server: ServerStatus,
    /// Each writer has types of its own: [`condition::operator`](crate::condition::operator) and
    /// [`condition::server`](crate::condition::server).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

/// Written by the operator only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OperatorStatus {
    /// The `metadata.generation` that the rest was decided by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "phase")]
    pub phase: Option<Phase>,
    /// Why it is in this phase: one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub reason: Option<String>,
    /// The same for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub message: Option<String>,
    /// The persona in effect: the session's, or its project's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub persona: Option<String>,
    /// When the session was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub start_time: Option<String>,
    /// Since when it rests; absent while it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub completion_time: Option<String>,
    /// Who stopped it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_reason: Option<StoppedReason>,
    /// The pod of the runner of `epoch`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub pod_name: Option<String>,
    /// The same: the server listens to the runner in this pod and to no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub pod_uid: Option<String>,
    /// How often the runner's container in this pod had been started anew when `epoch` began: together they name one process,
    /// also after the operator was started again. Absent: not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_restarts: Option<u32>,
    /// A run was begun in the session's workspace: from here on the workspace cannot be made anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace_used: Option<bool>,
    /// Counts the session's runners; a runner of an earlier epoch is not listened to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Runners that were lost in a row; a run that ends clears it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub losses: Option<u32>,
    /// When the last of them was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub lost_time: Option<String>,
    /// The `work.seq` that this was decided by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_work: Option<u64>,
    /// Of the older system, which ran sessions as Jobs; never written.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub job_name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum StoppedReason {
    User,
    Inactivity,
}

/// Written by the server only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerStatus {
    /// The model in effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub model: Option<String>,
    /// The run under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub run: Option<String>,
    /// What the operator decides by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub work: Option<Work>,
    /// Approvals and questions that wait for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub last_activity_time: Option<String>,
    /// Where the workspace's files are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub state_dir: Option<String>,
    /// Repositories as they are in the workspace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub reconciled_repos: Vec<ReconciledRepo>,
    /// What became of the changes to each repository.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub repos: Vec<RepoResult>,
    #[serde(rename = "session_id", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub session_id: Option<String>,
    /// Requests to the model in all runs.
    #[serde(rename = "num_turns", skip_serializing_if = "Option::is_none")]
    pub num_turns: Option<u64>,
    /// US dollars of all runs.
    #[serde(rename = "total_cost_usd", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub total_cost_usd: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// How the last run ended: one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub subtype: Option<String>,
    /// Whether the last run failed.
    #[serde(rename = "is_error", skip_serializing_if = "Option::is_none")]
    pub is_error: Option<bool>,
    /// The last answer's beginning; all of it is in the session's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub result: Option<String>,
}

/// What has become of the session's runs, as far as its log says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct Work {
    /// The log's last event when this was written.
    pub seq: u64,
    /// The event by which the session was last given something to do. A settled phase that was decided by an earlier
    /// `seq` is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub woken: Option<u64>,
    /// A run is unfinished or a message waits.
    pub has_work: bool,
    /// The epoch of the runner that is connected; absent: none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected_epoch: Option<u64>,
    /// What the session has come to as far as its runs decide it: `Running`, `Waiting`, `Completed`, `Stopped` or `Failed`.
    /// Absent before a runner began one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "phase")]
    pub phase: Option<Phase>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub message: Option<String>,
    /// A runner was given the session: what it began with is not what its workspace holds any more. Absent: of a server that
    /// does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace_used: Option<bool>,
    /// When the run under way has used its time; absent while it waits for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub deadline: Option<String>,
    /// Since when nothing has been under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub idle_since: Option<String>,
}

/// Tokens of all runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, JsonSchema)]
#[serde(default)]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cache_creation_input_tokens: u64,
    pub cache_read_input_tokens: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct ReconciledRepo {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub branch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub status: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default, JsonSchema)]
#[serde(default)]
pub struct RepoResult {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<RepoOutcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub last_updated: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_added: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_removed: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RepoOutcome {
    Pushed,
    Abandoned,
    Diff,
    NoDiff,
}

fn phase(_: &mut SchemaGenerator) -> Schema {
    let phases = Phase::ALL.map(|phase| phase.to_string());
    json_schema!({"type": "string", "enum": phases})
}

pub(crate) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    schema::shared_list::<Condition>(generator, 64, &["type"])
}
