//! The kinds: what they are called and how `kubectl get` shows them.

use super::schema::structural;
use resources::{
    AgenticSessionSpec, AgenticSessionStatus, ProjectSettingsSpec, ProjectSettingsStatus, RfeWorkflowSpec,
    RfeWorkflowStatus, Rule, project, session,
};
use serde_json::Value;

pub(super) struct Kind {
    pub(super) kind: &'static str,
    pub(super) singular: &'static str,
    pub(super) plural: &'static str,
    pub(super) short: &'static str,
    pub(super) about: &'static str,
    pub(super) columns: &'static [Column],
    pub(super) spec: fn() -> Value,
    pub(super) status: fn() -> Value,
    /// About the object as a whole: its name.
    pub(super) rules: fn() -> Vec<Rule>,
}

pub(super) struct Column {
    pub(super) name: &'static str,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub(super) kind: &'static str,
    pub(super) path: &'static str,
    pub(super) about: &'static str,
    /// Shown with `--output wide` only.
    pub(super) wide: bool,
}

const fn column(name: &'static str, kind: &'static str, path: &'static str, about: &'static str) -> Column {
    Column { name, kind, path, about, wide: false }
}

const fn wide(column: Column) -> Column {
    Column { wide: true, ..column }
}

const AGE: Column = column("Age", "date", ".metadata.creationTimestamp", "Since when it exists.");

pub(super) const KINDS: &[Kind] = &[
    Kind {
        kind: "AgenticSession",
        singular: "agenticsession",
        plural: "agenticsessions",
        short: "as",
        about: "A task, a workspace and a few wishes: one agent works on it.",
        // Without `wide` within 100 characters, also with the longest phase and reason.
        columns: &[
            column("Phase", "string", ".status.phase", "Where the session is in its life."),
            column("Reason", "string", ".status.reason", "Why it is in this phase."),
            column("Persona", "string", ".status.persona", "Who works on it."),
            column("Turns", "integer", ".status.num_turns", "Requests to the model so far."),
            column("Cost", "number", ".status.total_cost_usd", "US dollars so far."),
            AGE,
            wide(column("Model", "string", ".status.model", "The model in use.")),
            wide(column("Pod", "string", ".status.podName", "The pod of its runner.")),
            wide(column("Message", "string", ".status.message", "The reason, for people.")),
        ],
        spec: structural::<AgenticSessionSpec>,
        status: structural::<AgenticSessionStatus>,
        rules: session::rules::object,
    },
    Kind {
        kind: "ProjectSettings",
        singular: "projectsettings",
        plural: "projectsettings",
        short: "ps",
        about: "What a project permits and what its sessions start from. A project has one, called projectsettings.",
        columns: &[
            column("Title", "string", ".spec.displayName", "What people call the project."),
            column("Bypass", "boolean", ".spec.permissions.allowBypass", "Sessions may run unasked."),
            column("Budget", "number", ".spec.permissions.maxBudget", "US dollars a session at most."),
            column(
                "Bindings",
                "integer",
                ".status.groupBindingsCreated",
                "RoleBindings made of groupAccess.",
            ),
            AGE,
        ],
        spec: structural::<ProjectSettingsSpec>,
        status: structural::<ProjectSettingsStatus>,
        rules: project::object_rules,
    },
    Kind {
        kind: "RFEWorkflow",
        singular: "rfeworkflow",
        plural: "rfeworkflows",
        short: "rfe",
        about: "From an idea to tickets, in several steps.",
        columns: &[
            column("Title", "string", ".spec.title", "What is asked for."),
            column("Phase", "string", ".status.phase", "Where the workflow is."),
            column(
                "Reason",
                "string",
                ".status.conditions[?(@.type==\"Ready\")].reason",
                "Why it is not ready.",
            ),
            AGE,
            wide(column(
                "Message",
                "string",
                ".status.conditions[?(@.type==\"Ready\")].message",
                "The reason, for people.",
            )),
        ],
        spec: structural::<RfeWorkflowSpec>,
        status: structural::<RfeWorkflowStatus>,
        rules: Vec::new,
    },
];
