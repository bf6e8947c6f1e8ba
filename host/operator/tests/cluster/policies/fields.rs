//! Fields that carry authority.

use crate::people::Project;
use resources::authority::{AUTHORITIES, Authority, SESSIONS, changed};
use serde_json::{Value, json};

fn session(name: &str, spec: &Value) -> Value {
    let mut object = json!({"apiVersion": resources::API_VERSION, "kind": "AgenticSession",
        "metadata": {"name": name}, "spec": {"prompt": "p"}});
    for (field, value) in spec.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    object
}

fn settings(spec: &Value) -> Value {
    json!({"apiVersion": resources::API_VERSION, "kind": "ProjectSettings", "metadata": {"name": "projectsettings"}, "spec": spec})
}

/// A specification in which this field says something.
fn saying(authority: &Authority) -> Value {
    let examples: Value =
        serde_json::from_str(include_str!("../../../../resources/tests/authority.json")).unwrap();
    examples[authority.resource][authority.path.join(".")].clone()
}

/// Of each field: who may write the object but not the field is refused; who has the verb, and no other, is not.
#[test]
fn each_takes_its_verb() {
    let project = Project::new("fields");
    let write = |person: &str, resource: &str, verbs: &[&str]| {
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": person},
            "rules": [{"apiGroups": ["vteam.ambient-code"], "resources": [resource], "verbs": verbs}]});
        project.root().may(&["apply", "-f", "-"], &role);
        project.bind(person, "Role", person);
    };
    for (at, authority) in AUTHORITIES.iter().enumerate() {
        let Authority { resource, verb, .. } = authority;
        let (spec, policy) = (saying(authority), format!("vteam-{resource}-fields"));
        assert_eq!(changed(resource, None, Some(&spec)).collect::<Vec<_>>(), [authority], "REST agrees");
        let object = if *resource == SESSIONS { session(&format!("s{at}"), &spec) } else { settings(&spec) };
        let (without, with) = (format!("without-{resource}"), format!("with-{verb}-{resource}"));
        let plain = ["create", "update", "patch", "delete", "get"];
        write(&without, resource, &plain);
        write(&with, resource, &[&plain[..], &[*verb]].concat());
        project.person(&without).may_not_create(&object, &policy, &authority.message());
        project.person(&with).creates(&object);
        if *resource != SESSIONS {
            // What stands there may stay, but neither go nor be removed with the rest.
            let patch = |spec: Value| json!({"spec": spec}).to_string();
            let patch_with = |spec: &str| {
                ["patch", "ps", "projectsettings", "--type=merge", "--patch", spec].map(str::to_owned)
            };
            let named = patch_with(&patch(json!({"displayName": "d"})));
            project.person(&without).may(&named.each_ref().map(String::as_str), &Value::Null);
            let gone = patch_with(&patch(json!({authority.path[0]: null})));
            let gone = gone.each_ref().map(String::as_str);
            project.person(&without).may_not(&gone, &Value::Null, &policy, &authority.message());
            let delete = ["delete", "ps", "projectsettings"];
            project.person(&without).may_not(&delete, &Value::Null, &policy, &authority.message());
            project.person(&with).may(&delete, &Value::Null);
        }
    }
}

#[test]
fn our_roles_do_their_job() {
    let project = Project::new("roles");
    let (editor, admin) = (project.person("editor"), project.person("admin"));
    editor.creates(&session(
        "plain",
        &json!({"permissionMode": "acceptEdits", "resources": {"cpu": 1}, "interactive": true}),
    ));
    editor.creates(&session("paid", &json!({"budget": 5, "environmentVariables": {"TZ": "UTC"}})));
    let patch = |spec: Value| json!({"spec": spec}).to_string();
    let stop = patch(json!({"operatingMode": "Stopped"}));
    editor.may(&["patch", "as", "plain", "--type=merge", "--patch", &stop], &Value::Null);
    editor
        .may(&["patch", "as", "paid", "--type=merge", "--patch", &patch(json!({"budget": 6}))], &Value::Null);
    let policy = "vteam-agenticsessions-fields";
    editor.may_not_create(
        &session("bold", &json!({"permissionMode": "bypass"})),
        policy,
        "takes the verb bypass-approvals",
    );
    admin.creates(&session(
        "bold",
        &json!({"permissionMode": "bypass", "resourceOverrides": {"priorityClass": "high"}}),
    ));
    // Who came later may work with what an admin made.
    editor.may(&["patch", "as", "bold", "--type=merge", "--patch", &stop], &Value::Null);
    editor.may(&["delete", "as", "bold"], &Value::Null);
    admin.creates(&settings(
        &json!({"permissions": {"allowBypass": true, "maxBudget": 9}, "defaults": {"budget": 1},
        "groupAccess": [{"groupName": "g", "role": "edit"}], "runnerSecretsName": "s"}),
    ));
    admin.may(&["delete", "ps", "projectsettings"], &Value::Null);
}

/// Who may write settings cannot have them collected either, by an owner that is not there.
#[test]
fn the_cluster_removes_them_with_their_namespace_only() {
    let project = Project::new("collected");
    project.root().creates(&settings(&json!({"permissions": {"maxBudget": 10.5}})));
    let collector = "system:serviceaccount:kube-system:generic-garbage-collector";
    // As it may in a cluster: all that there is, and no verb of ours.
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "collect"},
        "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["delete", "get", "list", "patch", "update", "watch"]}]});
    project.root().may(&["create", "-f", "-"], &role);
    project.bind(collector, "Role", "collect");
    let collector = project.member(collector, "system:serviceaccounts:kube-system");
    let delete = ["delete", "ps", "projectsettings"];
    let policy = "vteam-projectsettings-fields";
    collector.may_not(&delete, &Value::Null, policy, "permissions.maxBudget takes the verb set-budget");
    // Where a controller empties it, it is gone meanwhile.
    let namespace = ["delete", "namespace", project.namespace(), "--wait=false"];
    project.root().may(&namespace, &Value::Null);
    collector.until(&delete, &Value::Null, |answer| answer.good || answer.err.contains("NotFound"));
}
