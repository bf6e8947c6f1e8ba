//! Volumes of sessions.

use super::pods::runner;
use crate::people::Project;
use serde_json::{Value, json};

const NAME: &str = "vteam-s-0d6b9a2e-1f0c-4d4f-8f0e-0a6c4d1f2b3c";

/// As far as the policies look at it.
pub(super) fn claim(name: &str, more: Value) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    for (field, value) in more.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    object
}

/// As the operator makes it.
pub(super) fn of_session(more: Value) -> Value {
    let mut claim = claim(NAME, more);
    let made = runner();
    for field in ["labels", "ownerReferences"] {
        claim["metadata"][field] = made["metadata"][field].clone();
    }
    claim
}

#[test]
fn only_the_operator_makes_and_changes_them() {
    let project = Project::new("claims");
    let policy = "vteam-session-claims";
    // The last two make claims of templates and of ephemeral volumes.
    let others = [
        project.person("tenant"),
        project.person("lord"),
        project.root(),
        project.person("system:serviceaccount:kube-system:statefulset-controller"),
        project.person("system:serviceaccount:kube-system:ephemeral-volume-controller"),
    ];
    for person in &others {
        person.may_not_create(
            &claim(NAME, json!({})),
            policy,
            "write workspace.persistent in an AgenticSession",
        );
    }
    project.operator().creates(&of_session(json!({})));
    let patch = |what: &'static str| ["patch", "pvc", NAME, "--type=merge", "-p", what];
    for what in [
        r#"{"spec":{"volumeName":"theirs"}}"#,
        r#"{"metadata":{"labels":{"a":"b"}}}"#,
        r#"{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"c","uid":"u"}]}}"#,
    ] {
        for person in [project.person("tenant"), project.person("lord")] {
            person.may_not(&patch(what), &Value::Null, policy, "is not changed by hand");
        }
    }
    // A scheduler's note, and the binding.
    let note = r#"{"metadata":{"annotations":{"volume.kubernetes.io/selected-node":"n"}}}"#;
    project.person("lord").may(&patch(note), &Value::Null);
    let binder = "system:serviceaccount:kube-system:persistent-volume-binder";
    project.bind(binder, "Role", "everything");
    project.person(binder).may(&patch(r#"{"spec":{"volumeName":"v"}}"#), &Value::Null);
    project.person("tenant").creates(&claim("mine", json!({})));
}

#[test]
fn nobody_copies_them_who_may_not_connect() {
    let project = Project::new("clones");
    let source = json!({"kind": "PersistentVolumeClaim", "name": NAME});
    let clones = [json!({"dataSource": source}), json!({"dataSourceRef": source})];
    for clone in clones {
        let (policy, message) = ("vteam-session-clones", "takes the verb connect");
        project.person("tenant").may_not_create(&claim("copy", clone.clone()), policy, message);
        project.bind("tenant", "ClusterRole", "vteam-admin");
        project.person("tenant").creates(&claim("copy", clone));
        project.root().may(&["delete", "rolebinding", "tenant-vteam-admin"], &Value::Null);
        project.root().may(&["delete", "pvc", "copy", "--wait=false"], &Value::Null);
        project.root().may(
            &["patch", "pvc", "copy", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#],
            &Value::Null,
        );
    }
    project
        .person("tenant")
        .creates(&claim("of-mine", json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "mine"}})));
}

/// A definition, the same.
fn definition(group: &str, kind: &str, plural: &str) -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}"), "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"}},
        "spec": {"group": group, "scope": "Namespaced", "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}})
}

#[test]
fn nobody_snapshots_them_who_may_not_connect() {
    let project = Project::new("snapshots");
    let (one, many) = ("snapshot.storage.k8s.io", "groupsnapshot.storage.k8s.io");
    for definition in [
        definition(one, "VolumeSnapshot", "volumesnapshots"),
        definition(many, "VolumeGroupSnapshot", "volumegroupsnapshots"),
    ] {
        project.root().may(&["apply", "--server-side", "-f", "-"], &definition);
    }
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "snapshots"}, "rules": [
        {"apiGroups": [one, many], "resources": ["*"], "verbs": ["create"]}]});
    project.root().may(&["create", "-f", "-"], &role);
    for person in ["tenant", "admin"] {
        project.bind(person, "Role", "snapshots");
    }
    project.bind("admin", "ClusterRole", "vteam-admin");
    let of = |kind: &str, group: &str, name: &str, source: Value| json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {"name": name}, "spec": {"source": source}});
    let theirs = of("VolumeSnapshot", one, "theirs", json!({"persistentVolumeClaimName": NAME}));
    let labelled = json!({"selector": {"matchLabels": {"vteam.ambient-code/session": "1"}}});
    let all = of("VolumeGroupSnapshot", many, "all", labelled);
    let (tenant, admin) = (project.person("tenant"), project.person("admin"));
    admin.until(&["create", "-f", "-"], &theirs, |answer| answer.good);
    admin.until(&["create", "-f", "-"], &all, |answer| answer.good);
    let message = "takes the verb connect";
    tenant.may_not_create(&theirs, "vteam-session-snapshots", message);
    tenant.may_not_create(&all, "vteam-session-group-snapshots", message);
    tenant.creates(&of("VolumeSnapshot", one, "mine", json!({"persistentVolumeClaimName": "mine"})));
}
