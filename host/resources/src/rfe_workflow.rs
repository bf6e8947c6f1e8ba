//! RFEWorkflow: from an idea to tickets in several steps. The kind is kept and read; nothing works on it yet, and
//! [`not_implemented`] is what its status says.

use crate::{Condition, ConditionStatus, Invalid, invalid, session::Metadata, session::status::conditions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

const KIND: &str = "RFEWorkflow";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RfeWorkflow {
    pub api_version: String,
    pub kind: String,
    #[serde(default)]
    pub metadata: Metadata,
    pub spec: RfeWorkflowSpec,
    /// Ignored when read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Value>,
}

/// A request for an enhancement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RfeWorkflowSpec {
    /// In one line.
    #[schemars(length(min = 1, max = 512))]
    pub title: String,
    /// What is wanted and why.
    #[schemars(length(max = 65_536))]
    pub description: String,
    /// Where the specification is written.
    pub umbrella_repo: Repository,
    /// Where the work will be done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub supporting_repos: Vec<Repository>,
    /// Where the workspace of its sessions is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub workspace_path: Option<String>,
    /// Key of the outcome that the request belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub parent_outcome: Option<String>,
    /// Files that tickets were made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub jira_links: Vec<JiraLink>,
    /// The branch that is worked on in each repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub branch_name: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Repository {
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,
    /// `main` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub branch: Option<String>,
}

/// A file of the umbrella repository and its ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JiraLink {
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    #[schemars(length(min = 1, max = 64))]
    pub jira_key: String,
}

/// Written by the operator only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RfeWorkflowStatus {
    /// The `metadata.generation` that the rest was decided by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<RfePhase>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub message: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RfePhase {
    Initializing,
    Ready,
}

/// Reads an RFEWorkflow.
///
/// # Errors
/// Unknown fields (with the nearest known name), wrong types, another kind or version.
pub fn read(value: &Value) -> Result<RfeWorkflow, Invalid> {
    let workflow: RfeWorkflow = invalid::read(value)?;
    let mut problems = invalid::Problems::default();
    invalid::expect_kind(&mut problems, (&workflow.api_version, &workflow.kind), KIND);
    problems.finish(workflow)
}

/// The condition of every RFEWorkflow as long as nothing works on them.
#[must_use]
pub fn not_implemented(now: String, generation: Option<u64>) -> Condition {
    Condition {
        kind: "Ready".to_owned(),
        status: ConditionStatus::False,
        reason: "NotImplemented".to_owned(),
        message: "RFEWorkflows are kept and have no effect yet: create an AgenticSession for each step, with the persona \
                  that is to do it"
            .to_owned(),
        last_transition_time: now,
        observed_generation: generation,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_wrong_is_named() {
        let check = |spec: Value, expected: &str| {
            let object = json!({"apiVersion": crate::API_VERSION, "kind": KIND, "spec": spec});
            let error = read(&object).unwrap_err().to_string();
            assert!(error.contains(expected), "{object}: {error}");
        };
        check(json!({"titel": "t"}), "did you mean \"title\"?");
        check(json!({"title": "t", "description": "d"}), "umbrellaRepo: is required");
        check(json!({"title": "t", "description": "d", "umbrellaRepo": "u"}), "must be an object");
    }
}
