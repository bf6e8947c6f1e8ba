//! Fields that carry authority: who writes one needs, beyond leave to write the object, a verb of its own on the object's
//! resource. This table is the only place that says which. A cluster's API server refuses by policies that are made of it
//! (`manifests/policies/fields.yaml`), whatever an object is written with; the server refuses by [`changed`].
//!
//! Only what is set or changed counts: who edits the rest of an object needs no verb for what stands there already.

use serde_json::Value;

/// The resource of AgenticSession.
pub const SESSIONS: &str = "agenticsessions";
/// The resource of ProjectSettings.
pub const SETTINGS: &str = "projectsettings";

/// A field, and what it takes to write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority {
    pub resource: &'static str,
    /// The way to it from `spec`.
    pub path: &'static [&'static str],
    counts: Counts,
    pub verb: &'static str,
}

/// What of a field's value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counts {
    /// All of it. This, in JSON, is as good as absent.
    But(&'static str),
    /// That it is this word.
    Word(&'static str),
    /// That this is `true` in an entry of the list.
    Entry(&'static str),
}

const ANY: Counts = Counts::But("null");
const FLAG: Counts = Counts::But("false");
const LIST: Counts = Counts::But("[]");
const MAP: Counts = Counts::But("{}");

const fn row(
    resource: &'static str,
    path: &'static [&'static str],
    counts: Counts,
    verb: &'static str,
) -> Authority {
    Authority { resource, path, counts, verb }
}

/// Each field that carries authority.
pub static AUTHORITIES: [Authority; 22] = [
    row(SESSIONS, &["permissionMode"], Counts::Word("bypass"), "bypass-approvals"),
    row(SESSIONS, &["budget"], ANY, "set-budget"),
    row(SESSIONS, &["environmentVariables"], MAP, "set-environment"),
    row(SESSIONS, &["autoPushOnComplete"], FLAG, "auto-push"),
    row(SESSIONS, &["repos"], Counts::Entry("autoPush"), "auto-push"),
    row(SESSIONS, &["resourceOverrides", "priorityClass"], ANY, "set-priority"),
    row(SESSIONS, &["resourceOverrides", "storageClass"], ANY, "set-placement"),
    row(SESSIONS, &["resources", "toolsImage"], ANY, "set-image"),
    row(SESSIONS, &["resources", "nodeSelector"], MAP, "set-placement"),
    row(SESSIONS, &["resources", "tolerations"], LIST, "set-placement"),
    row(SETTINGS, &["permissions", "allowBypass"], FLAG, "bypass-approvals"),
    row(SETTINGS, &["permissions", "fetchHosts"], LIST, "open-network"),
    row(SETTINGS, &["permissions", "processNetwork"], Counts::But("\"none\""), "open-network"),
    row(SETTINGS, &["permissions", "maxBudget"], ANY, "set-budget"),
    row(SETTINGS, &["permissions", "nodeLabels"], ANY, "set-placement"),
    row(SETTINGS, &["permissions", "taints"], ANY, "set-placement"),
    row(SETTINGS, &["defaults", "budget"], ANY, "set-budget"),
    row(SETTINGS, &["defaults", "toolsImage"], ANY, "set-image"),
    row(SETTINGS, &["plugins", "grants"], LIST, "grant-plugins"),
    row(SETTINGS, &["plugins", "revoked"], LIST, "grant-plugins"),
    row(SETTINGS, &["groupAccess"], LIST, "grant-access"),
    row(SETTINGS, &["runnerSecretsName"], ANY, "use-secrets"),
];

/// Fields of this resource that carry authority and are not what they were: `None` is an object that is not there.
pub fn changed(
    resource: &str,
    before: Option<&Value>,
    now: Option<&Value>,
) -> impl Iterator<Item = &'static Authority> {
    AUTHORITIES
        .iter()
        .filter(move |authority| authority.resource == resource && authority.of(before) != authority.of(now))
}

impl Authority {
    /// As people write it.
    #[must_use]
    pub fn field(&self) -> String {
        let path = self.path.join(".");
        match self.counts {
            Counts::Entry(field) => format!("spec.{path}[].{field}"),
            Counts::Word(word) => format!("spec.{path}: {word}"),
            Counts::But(_) => format!("spec.{path}"),
        }
    }

    /// To whoever may not.
    #[must_use]
    pub fn message(&self) -> String {
        let Self { resource, verb, .. } = self;
        format!(
            "{} takes the verb {verb} on {resource} in this project: leave it as it is, or ask whoever administers the \
             project for a role that has the verb",
            self.field()
        )
    }

    /// What counts of the field in this specification.
    fn of(&self, spec: Option<&Value>) -> Value {
        let found = spec.and_then(|spec| self.path.iter().try_fold(spec, |value, field| value.get(field)));
        let found = found.filter(|value| !value.is_null());
        match self.counts {
            Counts::But(nothing) => {
                found.cloned().unwrap_or_else(|| serde_json::from_str(nothing).unwrap_or_default())
            }
            Counts::Word(word) => found.is_some_and(|value| value == word).into(),
            Counts::Entry(field) => {
                let mut entries = found.and_then(Value::as_array).into_iter().flatten();
                entries.any(|entry| entry.get(field) == Some(&true.into())).into()
            }
        }
    }

    /// The same in CEL, of a specification that is an `optional`.
    #[must_use]
    pub fn cel(&self, spec: &str) -> String {
        let path: String = self.path.iter().map(|field| format!(".?{field}")).collect();
        match self.counts {
            Counts::But("null") => format!("{spec}{path}"),
            Counts::But(nothing) => format!("{spec}{path}.orValue({nothing})"),
            Counts::Word(word) => format!("({spec}{path}.orValue(\"\") == \"{word}\")"),
            Counts::Entry(field) => {
                format!("{spec}{path}.orValue([]).exists(entry, entry.?{field}.orValue(false))")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeSet;

    fn check(resource: &str, before: Option<Value>, now: Option<Value>, expected: &[&str]) {
        let verbs: Vec<_> = changed(resource, before.as_ref(), now.as_ref()).map(|row| row.verb).collect();
        assert_eq!(verbs, expected, "{before:?} {now:?}");
    }

    #[test]
    fn what_is_set_or_changed_counts() {
        let made = |spec: Value, expected: &[&str]| check(SESSIONS, None, Some(spec), expected);
        made(json!({"prompt": "p", "permissionMode": "acceptEdits", "budget": null}), &[]);
        made(json!({"environmentVariables": {}, "autoPushOnComplete": false, "repos": [{"url": "u"}]}), &[]);
        made(json!({"permissionMode": "bypass", "budget": 0}), &["bypass-approvals", "set-budget"]);
        made(json!({"environmentVariables": {"A": "b"}}), &["set-environment"]);
        made(json!({"autoPushOnComplete": true}), &["auto-push"]);
        made(json!({"repos": [{"url": "u"}, {"url": "v", "autoPush": true}]}), &["auto-push"]);
        made(json!({"resourceOverrides": {"cpu": 1}}), &[]);
        made(json!({"resourceOverrides": {"priorityClass": "high"}}), &["set-priority"]);
        made(json!({"resources": {"cpu": 1, "gpu": 1, "nodeSelector": {}, "tolerations": []}}), &[]);
        made(json!({"resources": {"toolsImage": "i"}}), &["set-image"]);
        made(json!({"resourceOverrides": {"storageClass": "fast"}}), &["set-placement"]);
        made(json!({"resources": {"nodeSelector": {"a": "b"}}}), &["set-placement"]);
        made(json!({"resources": {"tolerations": [{"operator": "Exists"}]}}), &["set-placement"]);

        let five = Some(json!({"budget": 5}));
        check(SESSIONS, five.clone(), five.clone(), &[]);
        check(SESSIONS, five.clone(), Some(json!({"budget": 6})), &["set-budget"]);
        check(SESSIONS, five, Some(json!({})), &["set-budget"]);
    }

    /// The server writes what was left out of settings too.
    #[test]
    fn settings_that_say_nothing_take_no_verb() {
        let empty = serde_json::to_value(crate::ProjectSettingsSpec::default()).unwrap();
        check(SETTINGS, None, Some(empty.clone()), &[]);
        check(SETTINGS, Some(empty.clone()), None, &[]);
        let mut open = empty.clone();
        open["permissions"]["processNetwork"] = json!("loopback");
        open["groupAccess"] = json!([{"groupName": "g", "role": "view"}]);
        check(SETTINGS, Some(empty), Some(open.clone()), &["open-network", "grant-access"]);
        // To remove them takes what it took to write them.
        check(SETTINGS, Some(open), None, &["open-network", "grant-access"]);
    }

    /// A new field fails here until somebody decides.
    #[test]
    fn each_field_carries_authority_or_does_not() {
        let session = schemars::schema_for!(crate::AgenticSessionSpec).to_value();
        let plain = [
            "activeWorkflow",
            "analyse",
            "displayName",
            "inactivityTimeout",
            "initialPrompt",
            "interactive",
            "llmSettings",
            "mainRepoIndex",
            "mainRepoName",
            "maxTurns",
            "mcpServers",
            "needsPrograms",
            "operatingMode",
            "persona",
            "plugins",
            "processNetwork",
            "prompt",
            "resources",
            "stopOnRunFinished",
            "timeout",
            "ttlSecondsAfterFinished",
            "userContext",
            "workspace",
        ];
        decided(SESSIONS, &[], &session, &plain);
        let plain = ["cpu", "gpu", "memory", "runner", "storage"];
        decided(SESSIONS, &["resources"], &session["$defs"]["Resources"], &plain);
        let plain = ["cpu", "memory"];
        decided(SESSIONS, &["resourceOverrides"], &session["$defs"]["ResourceOverrides"], &plain);
        let settings = schemars::schema_for!(crate::ProjectSettingsSpec).to_value();
        let plain = [
            "displayName",
            "inactivityTimeoutSeconds",
            "mcpServers",
            "repositories",
            "ttlSecondsAfterFinished",
        ];
        decided(SETTINGS, &[], &settings, &plain);
        decided(SETTINGS, &["permissions"], &settings["$defs"]["Permissions"], &["maxWorkspaceMib"]);
        decided(SETTINGS, &["defaults"], &settings["$defs"]["Defaults"], &["model", "persona"]);
        decided(SETTINGS, &["plugins"], &settings["$defs"]["Plugins"], &["settings"]);
    }

    fn decided(resource: &str, at: &[&str], schema: &Value, plain: &[&str]) {
        let fields: BTreeSet<&str> =
            schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        let of = AUTHORITIES.iter().filter(|row| row.resource == resource && row.path.starts_with(at));
        let with: BTreeSet<&str> = of.map(|row| row.path[at.len()]).collect();
        let both: BTreeSet<&str> = with.into_iter().chain(plain.iter().copied()).collect();
        assert_eq!(fields, both, "{resource} {at:?}");
    }
}
