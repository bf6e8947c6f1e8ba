//! What is wrong is refused at once, in words that say what to write.

use crate::server::{Namespace, cluster};
use serde_json::{Value, json};

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "vteam.ambient-code/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn check(namespace: &Namespace, object: &Value, expected: &str) {
    let answer = namespace.apply(object);
    assert!(!answer.good && answer.err.contains(expected), "{object}: {answer:?}");
}

#[test]
fn wrong_sessions() {
    let cluster = cluster();
    let namespace = cluster.namespace("wrong-sessions");
    let refused =
        |spec: Value, expected: &str| check(&namespace, &object("AgenticSession", "wrong", &spec), expected);
    let prompt = "spec.prompt: Required value: write what to do; only an interactive session may do without";
    refused(json!({}), prompt);
    refused(json!({"prompt": "  "}), prompt);
    refused(json!({"interactive": false, "prompt": null}), prompt);
    refused(
        json!({"prompt": "a", "initialPrompt": "b"}),
        "spec.initialPrompt: Invalid value: differs from spec.prompt: write one of them",
    );
    refused(json!({"promt": "a"}), "unknown field \"spec.promt\"");
    refused(json!({"prompt": 5}), "spec.prompt in body must be of type string");
    refused(
        json!({"prompt": "a", "timeout": 14401}),
        "spec.timeout in body should be less than or equal to 14400",
    );
    refused(
        json!({"prompt": "a", "timeout": 0}),
        "spec.timeout in body should be greater than or equal to 1",
    );
    refused(json!({"prompt": "a", "inactivityTimeout": -1}), "should be greater than or equal to 0");
    refused(
        json!({"prompt": "a", "analyse": true}),
        "spec.persona: Required value: an analysis needs a persona: name one, such as STAFF_ENGINEER",
    );
    refused(
        json!({"prompt": "a", "persona": "staff engineer"}),
        "must be a persona's key, such as STAFF_ENGINEER",
    );
    refused(json!({"prompt": "a", "budget": -1}), "spec.budget in body should be greater than or equal to 0");
    refused(
        json!({"prompt": "a", "maxTurns": 201}),
        "spec.maxTurns in body should be less than or equal to 200",
    );
    refused(
        json!({"prompt": "a", "permissionMode": "yolo"}),
        r#"spec.permissionMode: Unsupported value: "yolo": supported values: "default", "acceptEdits", "plan", "bypass""#,
    );
    refused(
        json!({"prompt": "a", "operatingMode": "Paused"}),
        r#"supported values: "Running", "Suspended", "Stopped""#,
    );
    refused(
        json!({"prompt": "a", "environmentVariables": {"A B": "c"}}),
        "a name is made of A-Z, a-z, 0-9 and '_'",
    );
    refused(json!({"prompt": "a", "plugins": ["linter"]}), "such as acme.linter");
    for class in ["system-node-critical", "vteam-system"] {
        refused(
            json!({"prompt": "a", "resourceOverrides": {"priorityClass": class}}),
            "is what the cluster or vteam itself runs by: name a PriorityClass that was made for sessions",
        );
    }
    refused(
        json!({"prompt": "a", "resources": {"gpu": {"count": 1, "resource": "node-role.kubernetes.io/control-plane"}}}),
        "must be an extended resource, such as nvidia.com/gpu",
    );
    refused(
        json!({"prompt": "a", "repos": [{"branch": "main"}]}),
        "spec.repos[0]: Required value: write url (or input.url",
    );
    refused(
        json!({"prompt": "a", "repos": [{"url": "https://x/y"}], "mainRepoIndex": 1}),
        "spec.mainRepoIndex: Invalid value: is the number of an entry of repos, counted from 0",
    );
    refused(
        json!({"prompt": "a", "workspace": {"dir": {"path": "/home/me"}}}),
        "spec.workspace.dir: Invalid value: is a folder of the machine of `vteam up`",
    );
    let archive = json!({"blob": format!("sha256:{}", "0".repeat(64))});
    refused(
        json!({"prompt": "a", "workspace": {"dir": {"path": "/home/me"}, "archive": archive}}),
        "spec.workspace: Invalid value: names both dir and archive: a workspace has one source",
    );
    refused(
        json!({"prompt": "a", "workspace": {"archive": {"blob": "x"}}}),
        "must be 'sha256:' and 64 lower-case hex digits",
    );
    refused(
        json!({"prompt": "a", "resources": {"memory": "4GB"}}),
        "spec.resources.memory in body should match",
    );
    refused(json!({"prompt": "a", "resources": {"gpu": {}}}), "spec.resources.gpu.count: Required value");
    refused(
        json!({"prompt": "a", "resources": {"cpu": 1}, "resourceOverrides": {"cpu": "2"}}),
        "spec.resources.cpu: Invalid value: stands in resourceOverrides too: write cpu in one of them",
    );
    let named = |name: &str| object("AgenticSession", name, &json!({"prompt": "a"}));
    let label = "metadata.name: Invalid value: a session's name is a DNS label";
    check(&namespace, &named("a.b"), label);
    check(&namespace, &named(&"a".repeat(64)), label);
}

#[test]
fn wrong_settings_and_workflows() {
    let cluster = cluster();
    let namespace = cluster.namespace("wrong-settings");
    let refused = |spec: Value, expected: &str| {
        check(&namespace, &object("ProjectSettings", "projectsettings", &spec), expected)
    };
    refused(
        json!({"permissions": {"fetchHosts": ["https://docs.rs/"]}}),
        "must be a host in lower case, or host:port",
    );
    refused(json!({"permissions": {"maxWorkspaceMib": 0}}), "should be greater than or equal to 1");
    refused(json!({"permissions": {"processNetwork": "all"}}), r#"supported values: "none", "loopback""#);
    refused(json!({"defaults": {"persona": "staff"}}), "must be a persona's key, such as STAFF_ENGINEER");
    refused(json!({"defaults": {"model": ""}}), "defaults.model");
    refused(
        json!({"defaults": {"budget": 9}, "permissions": {"maxBudget": 5}}),
        "spec.defaults.budget: Invalid value: is more than one session may cost",
    );
    refused(
        json!({"groupAccess": [{"groupName": "system:unauthenticated", "role": "view"}]}),
        r#"spec.groupAccess[0].groupName: Invalid value: "system:unauthenticated": is the cluster's own"#,
    );
    refused(
        json!({"groupAccess": [{"groupName": "g", "role": "owner"}]}),
        r#"spec.groupAccess[0].role: Unsupported value: "owner": supported values: "admin", "edit", "view""#,
    );
    refused(
        json!({"plugins": {"grants": [{"digest": "x", "effects": []}]}}),
        "must be 'sha256:' and 64 lower-case hex digits",
    );
    let digest = format!("sha256:{}", "0".repeat(64));
    refused(
        json!({"plugins": {"grants": [{"digest": digest, "effects": ["root"]}]}}),
        r#"supported values: "fs.read""#,
    );
    let grant = json!({"digest": digest, "effects": ["fs.read"]});
    refused(json!({"plugins": {"grants": [grant, grant]}}), "Duplicate value");
    check(
        &namespace,
        &object("ProjectSettings", "other", &json!({})),
        "metadata.name: Invalid value: a project has one ProjectSettings: call it projectsettings",
    );
    check(
        &namespace,
        &object("RFEWorkflow", "r", &json!({"title": "t", "description": "d"})),
        "spec.umbrellaRepo: Required value",
    );
    check(
        &namespace,
        &object(
            "RFEWorkflow",
            "r",
            &json!({"title": "", "description": "d", "umbrellaRepo": {"url": "https://x/y"}}),
        ),
        "spec.title in body should be at least 1 chars long",
    );
}
