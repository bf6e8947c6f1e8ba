//! AgenticSession: the established fields, in their older and in today's shape, and ours.

mod accept;
pub mod phase;
pub mod placement;
pub mod rules;
pub mod status;

use crate::{
    Invalid, ProcessNetwork, invalid,
    mcp::McpServers,
    rules::{A_DIGEST, A_PERSONA_KEY, DIGEST, PERSONA_KEY, text},
    schema,
};
use placement::{ResourceOverrides, Resources};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A session as an object of its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgenticSession {
    #[serde(default = "api_version")]
    pub api_version: String,
    #[serde(default = "kind")]
    pub kind: String,
    #[serde(default)]
    pub metadata: Metadata,
    pub spec: AgenticSessionSpec,
    /// Written by the server; ignored when posted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub status: Option<Value>,
}

fn api_version() -> String {
    crate::API_VERSION.to_owned()
}

fn kind() -> String {
    "AgenticSession".to_owned()
}

/// Kubernetes' object metadata, as far as it means something here. The rest is accepted and ignored, as a manifest
/// that was read from a cluster carries it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// A DNS label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The server appends random characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generate_name: Option<String>,
    /// The project, where it is not given by the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// What a session is to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::spec()))]
pub struct AgenticSessionSpec {
    /// The task. An interactive session may do without.
    #[schemars(length(max = 262_144))]
    pub prompt: Option<String>,
    /// Today's name of `prompt`.
    #[schemars(length(max = 262_144))]
    pub initial_prompt: Option<String>,
    /// What people call it.
    #[schemars(length(max = 256))]
    pub display_name: Option<String>,
    /// What is wanted of the session now; `Running` where absent.
    pub operating_mode: Option<OperatingMode>,
    /// A finished run leaves the session open for further messages.
    pub interactive: bool,
    /// Hard limit of one run's active time, seconds: 1 to 14400.
    #[schemars(range(min = 1, max = 14_400))]
    pub timeout: Option<u64>,
    /// How long an idle session keeps its runner, seconds.
    pub inactivity_timeout: Option<u64>,
    /// An interactive session stops when its run is finished.
    pub stop_on_run_finished: bool,
    /// How long the session is kept, with log and workspace, after it came to rest, seconds. Absent: the project's
    /// setting, else until it is deleted.
    pub ttl_seconds_after_finished: Option<u64>,
    /// The model, and how it is asked.
    pub llm_settings: Option<LlmSettings>,
    /// Environment of native programs, and of nothing else.
    #[schemars(
        schema_with = "schema::texts::<256, 65_536>",
        extend("x-kubernetes-validations" = rules::environment())
    )]
    pub environment_variables: BTreeMap<String, String>,

    /// Key of the persona that does the work, such as `STAFF_ENGINEER`.
    #[schemars(length(max = 64), extend("x-kubernetes-validations" = text(PERSONA_KEY, A_PERSONA_KEY)))]
    pub persona: Option<String>,
    /// The persona analyses the prompt and answers by its schema.
    pub analyse: bool,
    /// Ids of the only plugins to use.
    #[schemars(length(max = 64), inner(length(max = 128)))]
    #[schemars(extend("x-kubernetes-validations" = rules::plugins()))]
    pub plugins: Option<Vec<String>>,
    /// What the agent may do without asking; `default` where absent.
    pub permission_mode: Option<Mode>,
    /// US dollars that the session may cost.
    #[schemars(range(min = 0, max = 1_000_000_000_000u64))]
    pub budget: Option<f64>,
    /// Model requests of one run.
    #[schemars(range(min = 1, max = 200))]
    pub max_turns: Option<u32>,
    pub workspace: Option<Workspace>,
    /// Network of native programs; at most what the project's settings permit.
    pub process_network: Option<ProcessNetwork>,
    /// Refuse the session where native programs cannot be confined.
    pub needs_programs: bool,

    /// Repositories to work on. Not implemented: answered by a condition.
    #[schemars(length(max = 32))]
    pub repos: Vec<Repo>,
    /// Which of `repos` the agent starts in. Not implemented: answered by a condition.
    pub main_repo_index: Option<u32>,
    /// The same by name. Not implemented: answered by a condition.
    #[schemars(length(max = 128))]
    pub main_repo_name: Option<String>,
    /// Push what was changed when the run is finished. Not implemented: answered by a condition.
    pub auto_push_on_complete: bool,
    /// Ignored: the server knows who asks. Answered by a condition.
    #[schemars(schema_with = "schema::free_form")]
    #[schema(value_type = Option<Object>)]
    pub user_context: Option<Value>,
    /// What the session's pod is given on a cluster. On one machine it has no effect, which is answered by a warning.
    pub resource_overrides: Option<ResourceOverrides>,
    /// The same with a GPU, the image of native programs and the choice of a node.
    pub resources: Option<Resources>,
    /// MCP servers whose tools the agent gets. Not implemented: answered by a condition.
    pub mcp_servers: Option<McpServers>,
    /// The workflow that the prompt is worked on by. Not implemented: answered by a condition.
    pub active_workflow: Option<ActiveWorkflow>,
}

/// What a person may want of a session. To delete it is to delete its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
pub enum OperatingMode {
    /// It works while there is work.
    Running,
    /// Its runner is ended. What was under way goes on when it is `Running` again. On a cluster this takes
    /// `workspace.persistent`, or a session that was not begun: any other workspace goes with its runner.
    Suspended,
    /// Its runner is ended, and so is the run under way.
    Stopped,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LlmSettings {
    #[schemars(length(min = 1, max = 256))]
    pub model: Option<String>,
    /// Dropped with a warning: providers refuse it.
    pub temperature: Option<f64>,
    /// Tokens of one answer.
    #[schemars(range(min = 1))]
    pub max_tokens: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// Reading is free, the rest is asked for.
    Default,
    /// Changing files in the workspace is free too.
    AcceptEdits,
    /// Reading only.
    Plan,
    /// Nothing is asked; only where the project's settings permit it.
    Bypass,
}

/// Where the workspace's first files come from, at most one of `dir` and `archive`, and how long it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::workspace()))]
pub struct Workspace {
    pub dir: Option<DirSource>,
    pub archive: Option<ArchiveSource>,
    /// On a cluster: a volume of its own, which every runner of the session mounts. Absent or `false`: the workspace ends
    /// with the runner's pod. One machine keeps every workspace as long as its session.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub persistent: bool,
}

/// A private copy of a folder on the server's machine, or that folder itself. A cluster has no such folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DirSource {
    /// Absolute.
    #[schemars(length(max = 4096))]
    pub path: String,
    /// Also what the folder's ignore files leave out.
    #[serde(default)]
    pub include_ignored: bool,
    /// No copy: the session works in the folder itself, git's metadata excepted. Needs mount namespaces.
    #[serde(default)]
    pub in_place: bool,
}

/// A tar (gzip) that was uploaded before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ArchiveSource {
    /// Digest that the upload was answered with.
    #[schemars(length(max = 71), extend("x-kubernetes-validations" = text(DIGEST, A_DIGEST)))]
    pub blob: String,
}

/// A repository, in the older shape (`input`, `output`) or in today's (`url`, `branch`, `autoPush`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::repository()))]
pub struct Repo {
    #[schemars(length(max = 128))]
    pub name: Option<String>,
    #[schemars(length(max = 2048))]
    pub url: Option<String>,
    #[schemars(length(max = 256))]
    pub branch: Option<String>,
    pub auto_push: Option<bool>,
    pub input: Option<RepoEnd>,
    pub output: Option<RepoEnd>,
    #[schemars(length(max = 64))]
    pub status: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RepoEnd {
    #[schemars(length(max = 2048))]
    pub url: Option<String>,
    #[schemars(length(max = 256))]
    pub branch: Option<String>,
    /// `fork` or `direct`.
    #[serde(rename = "type")]
    #[schemars(length(max = 64))]
    pub kind: Option<String>,
    #[schemars(length(max = 256))]
    pub target_branch: Option<String>,
    #[schemars(length(max = 256))]
    pub push_branch: Option<String>,
    pub create_pull_request: Option<bool>,
}

/// A workflow in a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ActiveWorkflow {
    #[schemars(length(max = 2048))]
    pub git_url: Option<String>,
    #[schemars(length(max = 256))]
    pub branch: Option<String>,
    #[schemars(length(max = 1024))]
    pub path: Option<String>,
}

/// Reasons of warnings that are true on one machine and not on a cluster.
pub const OF_ONE_MACHINE: [&str; 1] = [accept::RESOURCES_NOT_IMPLEMENTED];

/// What was posted: the object, or its specification alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Posted {
    pub metadata: Metadata,
    pub spec: AgenticSessionSpec,
    /// The specification as it was written.
    pub raw: Value,
}

/// Reads what was posted or written: an AgenticSession, or the fields of its `spec` alone.
///
/// # Errors
/// Unknown fields (with the nearest known name), wrong types, another kind or version.
pub fn read(value: &Value) -> Result<Posted, Invalid> {
    let whole = ["spec", "apiVersion", "kind", "metadata"].iter().any(|key| value.get(key).is_some());
    if !whole {
        return Ok(Posted { metadata: Metadata::default(), spec: invalid::read(value)?, raw: value.clone() });
    }
    let AgenticSession { api_version, kind: found, metadata, spec, status: _ } = invalid::read(value)?;
    let mut problems = invalid::Problems::default();
    invalid::expect_kind(&mut problems, (&api_version, &found), &kind());
    let raw = value.get("spec").cloned().unwrap_or_default();
    problems.finish(Posted { metadata, spec, raw })
}
