//! ProjectSettings: what a project permits and what its sessions start from.

mod placement;
mod status;

pub use placement::PermittedNodes;
pub use status::ProjectSettingsStatus;

use crate::{
    Invalid, ProcessNetwork, invalid,
    invalid::{Problems, named},
    mcp::McpServers,
    rules::{A_DIGEST, A_PERSONA_KEY, AN_IMAGE, DIGEST, IMAGE, PERSONA_KEY, Rule, text},
    schema,
    session::Metadata,
};
use model::{
    event::Warning,
    grant::{EffectSet, effects},
    id::{Digest, PersonaKey, PluginId},
    money::MicroUsd,
};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use utoipa::ToSchema;

const KIND: &str = "ProjectSettings";
/// What the object is called on a cluster, where a project has one.
pub const NAME: &str = "projectsettings";
const GROUP_ACCESS_NOT_IMPLEMENTED: &str = "GroupAccessNotImplemented";
/// Reasons of warnings that are true of one machine and not of a cluster.
pub const OF_ONE_MACHINE: [&str; 1] = [GROUP_ACCESS_NOT_IMPLEMENTED];
/// What the established field holds where it is not written.
const INACTIVITY_SECONDS: u64 = 86_400;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProjectSettings {
    #[serde(default = "api_version")]
    pub api_version: String,
    #[serde(default = "kind")]
    pub kind: String,
    #[serde(default)]
    pub metadata: Metadata,
    #[serde(default)]
    pub spec: ProjectSettingsSpec,
    /// Written by the server; ignored when posted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub status: Option<Value>,
}

fn api_version() -> String {
    crate::API_VERSION.to_owned()
}

fn kind() -> String {
    KIND.to_owned()
}

impl ProjectSettings {
    #[must_use]
    pub fn new(spec: ProjectSettingsSpec) -> Self {
        Self { api_version: api_version(), kind: kind(), metadata: Metadata::default(), spec, status: None }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = budget_rule()))]
pub struct ProjectSettingsSpec {
    /// What people call the project.
    #[schemars(length(max = 256))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// How long an idle session keeps its runner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inactivity_timeout_seconds: Option<u64>,
    /// How long sessions that do not say are kept after they came to rest; absent: until they are deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds_after_finished: Option<u64>,
    /// What sessions of the project may ask for.
    pub permissions: Permissions,
    /// For sessions that do not say otherwise.
    pub defaults: Defaults,
    /// Which plugins run here, with what.
    pub plugins: Plugins,

    /// Groups and what they may do in the project: on a cluster each becomes a RoleBinding. One machine knows no groups, and
    /// answers by a condition.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub group_access: Vec<GroupAccess>,
    /// Secret with the keys of model providers. Not implemented: answered by a condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub runner_secrets_name: Option<String>,
    /// Repositories of the project. Not implemented: answered by a condition.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::free_forms")]
    #[schema(value_type = Vec<Object>)]
    pub repositories: Vec<Value>,
    /// MCP servers for all sessions. Not implemented: answered by a condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcp_servers: Option<McpServers>,
}

/// What sessions of the project may ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Permissions {
    /// Sessions may run with `permissionMode: bypass`.
    pub allow_bypass: bool,
    /// Hosts that are fetched from without asking: `host` or `host:port`, exact.
    #[schemars(length(max = 256), inner(length(max = 260)))]
    #[schemars(extend("x-kubernetes-validations" = hosts_rule()))]
    pub fetch_hosts: Vec<String>,
    /// The most that sessions may give to native programs, and what they get where they do not say.
    pub process_network: ProcessNetwork,
    /// US dollars that one session may cost at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000_000u64))]
    pub max_budget: Option<f64>,
    /// MiB that the workspace of one session may hold at most; absent: what the server allows, which is also the most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub max_workspace_mib: Option<u64>,
    /// Labels that sessions may choose nodes by: `key`, or `key=value`. Absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 380)))]
    pub node_labels: Option<Vec<String>>,
    /// Keys of the taints that sessions may tolerate. Absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 316)))]
    pub taints: Option<Vec<String>>,
}

/// For sessions that do not say otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Defaults {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("x-kubernetes-validations" = text(PERSONA_KEY, A_PERSONA_KEY)))]
    pub persona: Option<String>,
    /// Image in which native programs run on a cluster: any with a shell at `/bin/sh`. Absent: the one that comes with the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), extend("x-kubernetes-validations" = text(IMAGE, AN_IMAGE)))]
    pub tools_image: Option<String>,
    /// US dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000_000u64))]
    pub budget: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Plugins {
    /// A plugin that is not first-party is given nothing but this.
    #[schemars(schema_with = "grants")]
    pub grants: Vec<Grant>,
    /// Settings of plugins, by id; each is checked against the plugin's own schema.
    #[schemars(schema_with = "schema::named_free_forms")]
    #[schema(value_type = BTreeMap<String, Object>)]
    pub settings: BTreeMap<String, Value>,
    /// Digests that must not run here, whatever was granted or pinned.
    #[schemars(length(max = 256), inner(length(max = 71), regex(pattern = "^sha256:[0-9a-f]{64}$")))]
    pub revoked: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Grant {
    /// Of the component: a new version needs a new grant.
    #[schemars(length(max = 71), extend("x-kubernetes-validations" = text(DIGEST, A_DIGEST)))]
    pub digest: String,
    /// For people who read this; the digest decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub plugin: Option<String>,
    #[schemars(schema_with = "known_effects")]
    pub effects: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupAccess {
    #[schemars(
        length(min = 1, max = 253),
        extend("x-kubernetes-validations" = [Rule::new(GROUP, A_GROUP)])
    )]
    pub group_name: String,
    pub role: Role,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Admin,
    Edit,
    View,
}

const BUDGET_ABOVE_MOST: &str =
    "is more than one session may cost: raise permissions.maxBudget, or lower this";
const GROUP: &str = "!self.startsWith('system:') || self.startsWith('system:serviceaccounts:')";
const A_GROUP: &str = "is the cluster's own and would let in whoever reaches it: name a group of your people, or the accounts of \
                       a namespace with system:serviceaccounts:<namespace>";
const A_HOST: &str = "must be a host in lower case, or host:port; no scheme, path or wildcard";

/// About the object as a whole.
#[must_use]
pub fn object_rules() -> Vec<Rule> {
    let message = "a project has one ProjectSettings: call it projectsettings";
    let rule = format!("self.metadata.name == '{NAME}'").into();
    vec![Rule { rule, ..Rule::new("", message).at(".metadata.name") }]
}

fn budget_rule() -> [Rule; 1] {
    let rule = "!has(self.defaults) || !has(self.defaults.budget) || !has(self.permissions) \
                || !has(self.permissions.maxBudget) || self.defaults.budget <= self.permissions.maxBudget";
    [Rule::new(rule, BUDGET_ABOVE_MOST).at(".defaults.budget")]
}

fn hosts_rule() -> [Rule; 1] {
    [Rule::new("self.all(host, host.matches('^[a-z0-9.-]+(:[0-9]{1,5})?$'))", A_HOST)]
}

fn grants(generator: &mut SchemaGenerator) -> Schema {
    schema::shared_list::<Grant>(generator, 256, &["digest"])
}

fn known_effects(_: &mut SchemaGenerator) -> Schema {
    schema::words(32, &effects::ALL)
}

/// [`ProjectSettings`] after they were accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct ProjectPolicy {
    pub allow_bypass: bool,
    pub fetch_hosts: Vec<String>,
    pub process_network: ProcessNetwork,
    pub max_budget: Option<MicroUsd>,
    pub max_workspace_bytes: Option<u64>,
    pub default_model: Option<String>,
    pub default_persona: Option<PersonaKey>,
    pub default_budget: Option<MicroUsd>,
    pub default_tools_image: Option<String>,
    pub nodes: PermittedNodes,
    pub inactivity: Option<Duration>,
    pub retention: Option<Duration>,
    pub grants: BTreeMap<Digest, EffectSet>,
    pub plugin_settings: BTreeMap<PluginId, Value>,
    pub revoked: BTreeSet<Digest>,
    pub warnings: Vec<Warning>,
}

/// Reads ProjectSettings: the object, or its `spec` alone.
///
/// # Errors
/// Unknown fields (with the nearest known name), wrong types, another kind or version.
pub fn read(value: &Value) -> Result<ProjectSettings, Invalid> {
    let whole = ["spec", "apiVersion", "kind", "metadata"].iter().any(|key| value.get(key).is_some());
    if !whole {
        return Ok(ProjectSettings::new(invalid::read(value)?));
    }
    let settings: ProjectSettings = invalid::read(value)?;
    let mut problems = Problems::default();
    invalid::expect_kind(&mut problems, (&settings.api_version, &settings.kind), KIND);
    problems.finish(settings)
}

impl TryFrom<ProjectSettingsSpec> for ProjectPolicy {
    type Error = Invalid;

    fn try_from(spec: ProjectSettingsSpec) -> Result<Self, Invalid> {
        let mut problems = Problems::default();
        let mut warnings = Vec::new();
        let ProjectSettingsSpec {
            display_name: _,
            inactivity_timeout_seconds,
            ttl_seconds_after_finished,
            permissions:
                Permissions {
                    allow_bypass,
                    fetch_hosts,
                    process_network,
                    max_budget,
                    max_workspace_mib,
                    node_labels,
                    taints,
                },
            defaults: Defaults { model, persona, tools_image, budget },
            plugins: Plugins { grants, settings, revoked },
            group_access,
            runner_secrets_name,
            repositories,
            mcp_servers,
        } = spec;
        not_implemented(
            &mut warnings,
            [
                (!group_access.is_empty(), "groupAccess", GROUP_ACCESS_NOT_IMPLEMENTED),
                (runner_secrets_name.is_some(), "runnerSecretsName", "RunnerSecretsNotImplemented"),
                (!repositories.is_empty(), "repositories", "RepositoriesNotImplemented"),
                (mcp_servers.is_some(), "mcpServers", "McpNotImplemented"),
            ],
        );
        for (at, GroupAccess { group_name, .. }) in group_access.iter().enumerate() {
            if group_name.starts_with("system:") && !group_name.starts_with("system:serviceaccounts:") {
                problems.add(format!("spec.groupAccess[{at}].groupName"), A_GROUP);
            }
        }
        let mut money = |field: &str, dollars: Option<f64>| {
            dollars.and_then(|dollars| problems.take(field, MicroUsd::from_dollars(dollars)))
        };
        let (max_budget, default_budget) =
            (money("spec.permissions.maxBudget", max_budget), money("spec.defaults.budget", budget));
        named("spec.defaults.model", model.as_deref(), &mut problems);
        if let (Some(default), Some(most)) = (default_budget, max_budget)
            && default > most
        {
            problems.add("spec.defaults.budget", BUDGET_ABOVE_MOST);
        }
        let policy = Self {
            allow_bypass,
            fetch_hosts: hosts(fetch_hosts, &mut problems),
            process_network,
            max_budget,
            max_workspace_bytes: workspace(max_workspace_mib, &mut problems),
            default_model: model,
            default_persona: persona.and_then(|key| problems.take("spec.defaults.persona", key.parse())),
            default_budget,
            default_tools_image: tools_image,
            nodes: PermittedNodes { labels: node_labels, taints },
            inactivity: Some(Duration::from_secs(inactivity_timeout_seconds.unwrap_or(INACTIVITY_SECONDS))),
            retention: ttl_seconds_after_finished.map(Duration::from_secs),
            grants: granted(grants, &mut problems),
            plugin_settings: settings
                .into_iter()
                .filter_map(|(id, value)| {
                    Some((problems.take(&format!("spec.plugins.settings.{id}"), id.parse())?, value))
                })
                .collect(),
            revoked: revoked
                .iter()
                .enumerate()
                .filter_map(|(at, digest)| {
                    problems.take(&format!("spec.plugins.revoked[{at}]"), digest.parse())
                })
                .collect(),
            warnings,
        };
        problems.finish(policy)
    }
}

fn workspace(mib: Option<u64>, problems: &mut Problems) -> Option<u64> {
    let most = model::limits::Limits::shipped().session.workspace_bytes >> 20;
    if mib.is_some_and(|mib| !(1..=most).contains(&mib)) {
        problems.add("spec.permissions.maxWorkspaceMib", format_args!("must be 1 to {most}"));
    }
    mib.map(|mib| mib.min(most) << 20)
}

fn granted(grants: Vec<Grant>, problems: &mut Problems) -> BTreeMap<Digest, EffectSet> {
    let mut table = BTreeMap::new();
    for (at, Grant { digest, plugin: _, effects }) in grants.into_iter().enumerate() {
        let field = format!("spec.plugins.grants[{at}]");
        let mut set = EffectSet::new();
        for effect in effects {
            if effects::ALL.contains(&effect.as_str()) {
                set.extend(effect.parse());
            } else {
                let known = effects::ALL.join(", ");
                problems
                    .add(format!("{field}.effects"), format_args!("{effect:?} is no effect: one of {known}"));
            }
        }
        if let Some(digest) = problems.take(&format!("{field}.digest"), digest.parse()) {
            table.insert(digest, set);
        }
    }
    table
}

fn hosts(hosts: Vec<String>, problems: &mut Problems) -> Vec<String> {
    for (at, host) in hosts.iter().enumerate() {
        let (name, port) =
            host.rsplit_once(':').map_or((host.as_str(), None), |(name, port)| (name, Some(port)));
        let name_is_valid = !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.');
        if !name_is_valid || port.is_some_and(|port| port.parse::<u16>().is_err()) {
            problems.add(format!("spec.permissions.fetchHosts[{at}]"), A_HOST);
        }
    }
    hosts
}

fn not_implemented<const N: usize>(warnings: &mut Vec<Warning>, table: [(bool, &str, &str); N]) {
    for (given, field, reason) in table {
        if given {
            warnings.push(Warning {
                reason: reason.to_owned(),
                message: format!("{field} is kept and has no effect yet").into(),
            });
        }
    }
}

#[cfg(test)]
mod tests;
