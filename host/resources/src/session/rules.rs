//! What a session's fields must be together, and which of them may change.

use crate::rules::{Reason, Rule};

pub(super) const WRITE_A_PROMPT: &str = "write what to do; only an interactive session may do without";
pub(super) const ONE_PROMPT: &str = "differs from spec.prompt: write one of them";
pub(super) const NAME_A_PERSONA: &str = "an analysis needs a persona: name one, such as STAFF_ENGINEER";
pub(super) const ONE_SOURCE: &str = "names both dir and archive: a workspace has one source";
/// Why a cluster takes no `workspace.dir`.
pub const NO_FOLDERS: &str =
    "is a folder of the machine of `vteam up`, which a cluster does not have: upload it as an archive";
const KEEPS_NOTHING: &str = "its workspace is not persistent and would go with its runner: write Stopped to end what is under way, and \
    workspace.persistent in sessions that are to be suspended";
pub(super) const ENVIRONMENT_NAME: &str =
    "a name is made of A-Z, a-z, 0-9 and '_', not a digit first, and a value has no NUL";
pub(super) const REPOSITORY_URL: &str = "write url (or input.url, its older form)";
pub(super) const NO_SUCH_REPOSITORY: &str = "is the number of an entry of repos, counted from 0";

/// About the object as a whole. A session's name becomes a part of other names (its pod's), so it is shorter than what
/// Kubernetes lets an object be called.
#[must_use]
pub fn object() -> Vec<Rule> {
    let name = Rule::new(
        "size(self.metadata.name) <= 63 && !self.metadata.name.contains('.')",
        "a session's name is a DNS label: at most 63 of a-z, 0-9 and '-', not at either end",
    );
    let sleeps =
        |session: &str| format!("(has({session}.operatingMode) && {session}.operatingMode == 'Suspended')");
    let (before, now) = (sleeps("oldSelf.spec"), sleeps("self.spec"));
    let suspended = Rule {
        rule: format!(
            "!{now} || {before} || (has(self.spec.workspace) && has(self.spec.workspace.persistent) \
             && self.spec.workspace.persistent) || !has(self.status) \
             || (has(self.status.phase) && self.status.phase in ['Completed', 'Failed', 'Stopped']) \
             || ((!has(self.status.workspaceUsed) || !self.status.workspaceUsed) \
             && (!has(self.status.work) || !has(self.status.work.workspaceUsed) || !self.status.work.workspaceUsed))"
        )
        .into(),
        message: KEEPS_NOTHING.into(),
        field_path: Some(".spec.operatingMode".into()),
        reason: None,
    };
    vec![name.at(".metadata.name"), suspended]
}

/// Costs are estimated by bounds, and the value of an `optional` has none: so these say `has` and not `orValue`.
pub(super) fn spec() -> Vec<Rule> {
    let mut rules = vec![
        Rule::new(
            "(has(self.interactive) && self.interactive) \
             || (has(self.prompt) && self.prompt.trim() != '') \
             || (has(self.initialPrompt) && self.initialPrompt.trim() != '')",
            WRITE_A_PROMPT,
        )
        .at(".prompt")
        .required(),
        Rule::new(
            "!has(self.prompt) || !has(self.initialPrompt) || self.prompt == self.initialPrompt",
            ONE_PROMPT,
        )
        .at(".initialPrompt"),
        Rule::new("!has(self.analyse) || !self.analyse || has(self.persona)", NAME_A_PERSONA)
            .at(".persona")
            .required(),
        Rule::new(
            "!has(self.mainRepoIndex) || self.mainRepoIndex == 0 \
             || (has(self.repos) && self.mainRepoIndex < size(self.repos))",
            NO_SUCH_REPOSITORY,
        )
        .at(".mainRepoIndex"),
    ];
    rules.extend(["cpu", "memory"].map(once));
    rules.extend(FIXED.iter().map(|field| fixed(field)));
    rules
}

/// An amount that both forms of resources have.
fn once(amount: &str) -> Rule {
    let rule = format!(
        "!has(self.resources) || !has(self.resources.{amount}) \
         || !has(self.resourceOverrides) || !has(self.resourceOverrides.{amount})"
    );
    Rule {
        rule: rule.into(),
        message: in_one_of_them(amount).into(),
        field_path: Some(format!(".resources.{amount}").into()),
        reason: None,
    }
}

pub(super) fn in_one_of_them(amount: &str) -> String {
    format!("stands in resourceOverrides too: write {amount} in one of them")
}

pub(super) fn workspace() -> Vec<Rule> {
    vec![
        Rule::new("!has(self.dir) || !has(self.archive)", ONE_SOURCE),
        // The schema is a cluster's only; on one machine `accept` decides.
        Rule::new("!has(self.dir)", NO_FOLDERS).at(".dir"),
    ]
}

pub(super) fn environment() -> Vec<Rule> {
    vec![Rule::new("self.all(name, name.matches('^[A-Za-z_][A-Za-z0-9_]*$'))", ENVIRONMENT_NAME)]
}

pub(super) fn repository() -> Vec<Rule> {
    vec![Rule::new("has(self.url) || (has(self.input) && has(self.input.url))", REPOSITORY_URL).required()]
}

/// As [`model::id::PluginId`] reads it.
pub(super) fn plugins() -> [Rule; 1] {
    [Rule::new(
        r"self.all(id, id.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?){1,3}$'))",
        "names plugins by id: 2 to 4 parts of a-z, 0-9 and '-' joined by dots, such as acme.linter",
    )]
}

/// Fields that are read once, when the session is accepted: its runner is bound to them, or its workspace is made of them.
/// A change would be accepted and without effect.
const FIXED: [&str; 20] = [
    "activeWorkflow",
    "analyse",
    "autoPushOnComplete",
    "environmentVariables",
    "initialPrompt",
    "llmSettings",
    "mainRepoIndex",
    "mainRepoName",
    "maxTurns",
    "mcpServers",
    "needsPrograms",
    "permissionMode",
    "persona",
    "plugins",
    "processNetwork",
    "prompt",
    "repos",
    "resourceOverrides",
    "resources",
    "workspace",
];

/// Fields that are read each time something is decided by them, so that a change holds from then on. `userContext` has no
/// effect at any time.
#[cfg(test)]
const CHANGEABLE: [&str; 9] = [
    "budget",
    "displayName",
    "inactivityTimeout",
    "interactive",
    "operatingMode",
    "stopOnRunFinished",
    "timeout",
    "ttlSecondsAfterFinished",
    "userContext",
];
const IS_FIXED: &str = "is fixed once a session exists: make a new one. Only budget, displayName, inactivityTimeout, \
    interactive, operatingMode, stopOnRunFinished, timeout and ttlSecondsAfterFinished may be changed";

fn fixed(field: &str) -> Rule {
    let rule = format!(
        "has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"
    );
    Rule {
        rule: rule.into(),
        message: IS_FIXED.into(),
        field_path: Some(format!(".{field}").into()),
        reason: Some(Reason::FieldValueForbidden),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// A new field fails here until somebody decides.
    #[test]
    fn each_field_is_fixed_or_changeable() {
        let schema = schemars::schema_for!(crate::AgenticSessionSpec).to_value();
        let fields: BTreeSet<&str> =
            schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        let decided: BTreeSet<&str> = FIXED.into_iter().chain(CHANGEABLE).collect();
        assert_eq!(fields, decided);
        for field in CHANGEABLE.iter().filter(|field| **field != "userContext") {
            assert!(IS_FIXED.contains(field), "{field} is not named");
        }
    }
}
