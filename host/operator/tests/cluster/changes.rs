//! What may be changed on a session that exists, and what may not.

use crate::server::{Namespace, cluster};
use serde_json::{Value, json};

#[test]
fn the_work_of_a_session_is_fixed() {
    let cluster = cluster();
    let namespace = cluster.namespace("changes");
    let session = json!({
        "apiVersion": "vteam.ambient-code/v1alpha1", "kind": "AgenticSession", "metadata": {"name": "s"},
        "spec": {
            "prompt": "a", "persona": "STAFF_ENGINEER", "repos": [{"url": "https://x/y"}], "needsPrograms": false,
            "llmSettings": {"model": "m"}, "environmentVariables": {"A": "b"},
            "mcpServers": {"custom": {"jira": {"url": "https://x/mcp", "headers": {"A": "b"}}}},
        },
    });
    let answer = namespace.apply(&session);
    assert!(answer.good, "{answer:?}");
    let allowed = |spec: Value| {
        let answer = patch(&namespace, &spec);
        assert!(answer.good, "{spec}: {answer:?}");
    };
    let refused = |spec: Value, field: &str| {
        let answer = patch(&namespace, &spec);
        let expected =
            format!("spec.{field}: Forbidden: is fixed once a session exists: make a new one. Only budget,");
        assert!(!answer.good && answer.err.contains(&expected), "{spec}: {answer:?}");
    };
    refused(json!({"prompt": "b"}), "prompt");
    refused(json!({"initialPrompt": "a"}), "initialPrompt");
    refused(json!({"persona": null}), "persona");
    refused(json!({"analyse": true}), "analyse");
    refused(json!({"repos": [{"url": "https://x/y"}, {"url": "https://x/z"}]}), "repos");
    refused(json!({"repos": null}), "repos");
    refused(json!({"mainRepoIndex": 0}), "mainRepoIndex");
    refused(json!({"needsPrograms": true}), "needsPrograms");
    refused(json!({"llmSettings": {"model": "n"}}), "llmSettings");
    refused(json!({"llmSettings": {"maxTokens": 5}}), "llmSettings");
    refused(json!({"environmentVariables": {"A": "c"}}), "environmentVariables");
    refused(json!({"mcpServers": {"custom": {"jira": {"headers": {"A": "c"}}}}}), "mcpServers");
    refused(json!({"permissionMode": "bypass"}), "permissionMode");
    refused(json!({"plugins": []}), "plugins");
    refused(json!({"workspace": {}}), "workspace");
    refused(json!({"resources": {"cpu": 1}}), "resources");
    allowed(json!({"displayName": "Another name"}));
    allowed(json!({"operatingMode": "Suspended"}));
    allowed(json!({"operatingMode": "Stopped"}));
    allowed(json!({"operatingMode": null}));
    allowed(json!({"timeout": 60, "inactivityTimeout": 60, "ttlSecondsAfterFinished": 60, "budget": 1.5}));
    allowed(json!({"interactive": true, "stopOnRunFinished": true}));
    allowed(json!({"userContext": {"anything": ["at", {"all": 1}]}}));
}

#[test]
fn only_a_workspace_that_is_kept_is_suspended() {
    let cluster = cluster();
    let namespace = cluster.namespace("suspended");
    let suspend = json!({"operatingMode": "Suspended"});
    let check = |persistent: bool, status: Value, expected: Option<&str>| {
        let session = json!({
            "apiVersion": "vteam.ambient-code/v1alpha1", "kind": "AgenticSession", "metadata": {"name": "s"},
            "spec": {"prompt": "a", "workspace": {"persistent": persistent}},
        });
        assert!(namespace.apply(&session).good);
        let status = json!({"status": status}).to_string();
        let set = ["patch", "as", "s", "--subresource=status", "--type=merge", "--patch", &status];
        assert!(namespace.kubectl(&set).good);
        let answer = patch(&namespace, &suspend);
        let said = |expected: &str| answer.err.contains(expected);
        assert!(
            answer.good == expected.is_none() && expected.is_none_or(said),
            "{persistent} {status}: {answer:?}"
        );
        // It may be used by then: what is written about it is not refused for that.
        let late = namespace.kubectl(&[
            "patch",
            "as",
            "s",
            "--subresource=status",
            "--type=merge",
            "--patch",
            r#"{"status": {"workspaceUsed": true}}"#,
        ]);
        assert!(late.good, "{late:?}");
        assert!(namespace.kubectl(&["delete", "as", "s"]).good);
    };
    let refused =
        "spec.operatingMode: Invalid value: its workspace is not persistent and would go with its runner";
    let work = json!({"seq": 1, "hasWork": true, "workspaceUsed": true});
    check(false, json!({"workspaceUsed": true}), Some(refused));
    check(false, json!({"work": work}), Some(refused));
    check(false, json!({"phase": "Running", "work": work}), Some(refused));
    check(false, json!({"phase": "Completed", "work": work}), None);
    check(false, json!({}), None);
    check(true, json!({"workspaceUsed": true, "work": work}), None);
}

fn patch(namespace: &Namespace, spec: &Value) -> crate::server::Answer {
    let patch = json!({"spec": spec}).to_string();
    namespace.kubectl(&["patch", "as", "s", "--type=merge", "--patch", &patch])
}
