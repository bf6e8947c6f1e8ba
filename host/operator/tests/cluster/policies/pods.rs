//! Pods that are a runner's, or pose as one.

use crate::people::Project;
use serde_json::{Value, json};

const POLICY: &str = "vteam-runner-pods";
const UID: &str = "0d6b9a2e-1f0c-4d4f-8f0e-0a6c4d1f2b3c";
pub(crate) const NAME: &str = "vteam-s-0d6b9a2e-1f0c-4d4f-8f0e-0a6c4d1f2b3c-3";

fn pod(metadata: Value, spec: Value) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    for (field, value) in spec.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    object
}

/// As the operator makes it.
pub(crate) fn runner() -> Value {
    let made = include_str!(
        "../../../src/sessions/pod/snapshots/operator__sessions__pod__tests__the_pod_of_a_plain_session.snap"
    );
    let (_, made) = made.rsplit_once("\n---\n").unwrap();
    let mut pod: Value = serde_json::from_str(made).unwrap();
    pod["metadata"].as_object_mut().unwrap().remove("namespace");
    pod
}

#[test]
fn only_the_operator_makes_them() {
    let project = Project::new("pods");
    let made = "are made by vteam's operator only: make an AgenticSession";
    let named = |name: &str| json!({"name": name});
    let session = json!({"vteam.ambient-code/session": UID});
    let volume =
        json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": format!("vteam-s-{UID}")}}]});
    let attacks = [
        runner(),
        pod(named("vteam-s-mine"), json!({})),
        pod(json!({"generateName": "vteam-s-"}), json!({})),
        pod(named("a"), json!({"serviceAccountName": "vteam-runner"})),
        // The older name of the field.
        pod(named("b"), json!({"serviceAccount": "vteam-runner"})),
        pod(json!({"name": "c", "labels": session}), json!({})),
        pod(named("d"), volume),
    ];
    // Not even who may do everything, nor who makes pods for others.
    let others = [
        project.person("tenant"),
        project.person("lord"),
        project.root(),
        project.member("somebody", "system:masters"),
        project.person("system:serviceaccount:kube-system:replicaset-controller"),
    ];
    for attack in &attacks {
        for person in &others {
            person.may_not_create(attack, POLICY, made);
        }
    }
    project.operator().creates(&runner());
    // What is nobody's business goes on.
    for name in ["mine", "vteam-server-0", "my-vteam-s-1"] {
        project
            .person("tenant")
            .creates(&pod(named(name), json!({"volumes": [{"name": "e", "emptyDir": {}}]})));
    }
    project.person("tenant").may(&["label", "pod", "mine", "a=b"], &Value::Null);
}

#[test]
fn nobody_changes_them_and_none_becomes_one() {
    let project = Project::new("changed-pods");
    project.operator().creates(&runner());
    project.person("tenant").creates(&pod(json!({"name": "mine"}), json!({})));
    let patch = |name: &'static str, what: &'static str| ["patch", "pod", name, "--type=merge", "-p", what];
    let label = r#"{"metadata":{"labels":{"vteam.ambient-code/session":null}}}"#;
    let pose = r#"{"metadata":{"labels":{"vteam.ambient-code/session":"1"}}}"#;
    let owner = r#"{"metadata":{"ownerReferences":null}}"#;
    let finalizer = r#"{"metadata":{"finalizers":["a.b/c"]}}"#;
    let deadline = r#"{"spec":{"activeDeadlineSeconds":1}}"#;
    let fixed = "the pod of a runner is not changed, and no pod becomes one";
    for person in [project.person("tenant"), project.person("lord"), project.root()] {
        for what in [label, r#"{"metadata":{"labels":{"a":"b"}}}"#, finalizer, deadline] {
            person.may_not(&patch(NAME, what), &Value::Null, POLICY, fixed);
        }
        person.may_not(&patch("mine", pose), &Value::Null, POLICY, fixed);
    }
    // Subresources by which the same could be written.
    let ca = r#"{"metadata":{"annotations":{"vteam.ambient-code/server-ca":"evil"}}}"#;
    let status = "neither its labels nor its annotation";
    for (name, what) in [(NAME, label), (NAME, ca), ("mine", pose)] {
        let args = [&patch(name, what)[..], &["--subresource=status"]].concat();
        project.person("lord").may_not(&args, &Value::Null, POLICY, status);
    }
    let resize = r#"{"spec":{"containers":[{"name":"runner","resources":{"requests":{"cpu":"2"}}}]}}"#;
    let args = ["patch", "pod", NAME, "--type=strategic", "-p", resize, "--subresource=resize"];
    project.person("lord").may_not(&args, &Value::Null, POLICY, fixed);

    // The cluster does its part: nodes and networks write the status, the garbage collector takes owners out.
    let running =
        r#"{"metadata":{"annotations":{"cni.example/ip":"10.0.0.1"}},"status":{"phase":"Running"}}"#;
    let args = [&patch(NAME, running)[..], &["--subresource=status"]].concat();
    project.person("lord").may(&args, &Value::Null);
    project.member("system:kube-controller-manager", "system:masters").may(&patch(NAME, owner), &Value::Null);
    let collector = "system:serviceaccount:kube-system:generic-garbage-collector";
    project.bind(collector, "Role", "everything");
    project.person(collector).may(&patch(NAME, owner), &Value::Null);
    // Who may delete pods may delete these.
    project.person("tenant").may(&["delete", "pod", NAME, "--wait=false"], &Value::Null);
}
