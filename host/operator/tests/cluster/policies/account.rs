//! The account of runners.

use crate::people::Project;
use serde_json::{Value, json};

#[test]
fn its_tokens_are_for_nodes() {
    let project = Project::new("tokens");
    let policy = "vteam-runner-tokens";
    // Not even an operator that could make tokens.
    project.bind("system:serviceaccount:vteam-system:vteam-operator", "Role", "everything");
    let token = ["create", "token", "vteam-runner"];
    let audience = ["create", "token", "vteam-runner", "--audience=vteam-runner"];
    for person in [project.person("tenant"), project.person("lord"), project.root(), project.operator()] {
        person.may_not(&token, &Value::Null, policy, "use an account of your own");
        person.may_not(&audience, &Value::Null, policy, "use an account of your own");
    }
    project.person("tenant").may(&["create", "token", "default"], &Value::Null);
    project.bind("system:node:n", "Role", "everything");
    project.member("system:node:n", "system:nodes").may(&audience, &Value::Null);

    let secret = |account: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
            "metadata": {"name": format!("of-{account}"), "annotations": {"kubernetes.io/service-account.name": account}}})
    };
    for person in [project.person("tenant"), project.root()] {
        person.may_not_create(
            &secret("vteam-runner"),
            "vteam-runner-token-secrets",
            "use an account of your own",
        );
    }
    project.person("tenant").creates(&secret("default"));
    let turn = [
        "annotate",
        "--overwrite",
        "secret",
        "of-default",
        "kubernetes.io/service-account.name=vteam-runner",
    ];
    project.person("tenant").may_not(
        &turn,
        &Value::Null,
        "vteam-runner-token-secrets",
        "use an account of your own",
    );
    project
        .person("tenant")
        .creates(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "plain"}}));
}

#[test]
fn it_is_made_by_the_operator() {
    let project = Project::new("account");
    let policy = "vteam-runner-account";
    let cloud = ["annotate", "serviceaccount", "vteam-runner", "eks.amazonaws.com/role-arn=theirs"];
    for person in [project.person("tenant"), project.person("lord")] {
        person.may_not(&cloud, &Value::Null, policy, "changed by who administers the cluster");
    }
    let pull = r#"{"imagePullSecrets":[{"name":"registry"}]}"#;
    project.root().may(&["patch", "serviceaccount", "vteam-runner", "-p", pull], &Value::Null);
    project.person("tenant").may(&["delete", "serviceaccount", "vteam-runner"], &Value::Null);
    let account = Project::runners_account();
    project.person("tenant").may_not_create(&account, policy, "it is made when it is needed");
    project.operator().creates(&account);
    project.person("tenant").may(&["annotate", "serviceaccount", "default", "a=b"], &Value::Null);
}
