//! The operator itself: with all that its account may do, it makes runners and nothing else.

use super::{claims, pods};
use crate::people::Project;
use serde_json::{Value, json};

const POLICY: &str = "vteam-operator";

fn with(object: &Value, pointer: &str, value: Value) -> Value {
    let mut object = object.clone();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[field] = value;
    object
}

fn volume(volume: Value) -> Value {
    let mut pod = pods::runner();
    pod["spec"]["volumes"].as_array_mut().unwrap().push(volume);
    pod
}

#[test]
fn it_makes_no_pod_but_a_runners() {
    let project = Project::new("operator-pods");
    let (operator, made) = (project.operator(), pods::runner());
    let check = |message: &str, attack: Value| operator.may_not_create(&attack, POLICY, message);
    let plain = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mine"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    check("are called vteam-s- and its value", plain);
    check("are called vteam-s- and its value", with(&made, "/metadata/name", json!("vteam-t-1")));
    check("belong to an AgenticSession", with(&made, "/metadata/ownerReferences", json!([])));
    check("carry the label", with(&made, "/metadata/labels", json!({})));
    check("are called vteam-s- and its value", with(&made, "/metadata/name", json!("vteam-s-another-1")));

    let shape = "has the account vteam-runner without its token";
    check(shape, with(&made, "/spec/serviceAccountName", json!("default")));
    check(shape, with(&made, "/spec/automountServiceAccountToken", json!(true)));
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        check(shape, with(&made, &format!("/spec/{field}"), json!(true)));
    }
    check(shape, with(&made, "/spec/nodeName", json!("control-plane")));
    check(shape, with(&made, "/spec/securityContext", json!({})));
    check(shape, with(&made, "/spec/shareProcessNamespace", json!(true)));
    let node =
        json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["control-plane"]}]});
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [node]}}});
    check(shape, with(&made, "/spec/affinity", affinity));
    for (field, value) in
        [("runAsGroup", json!(0)), ("fsGroup", json!(0)), ("supplementalGroups", json!([0]))]
    {
        check(shape, with(&made, &format!("/spec/securityContext/{field}"), value));
    }
    // Names of no class are refused for that; these are there.
    check(shape, with(&made, "/spec/priorityClassName", json!("system-node-critical")));
    let sysctls = json!([{"name": "kernel.shm_rmid_forced", "value": "1"}]);
    check(shape, with(&made, "/spec/securityContext/sysctls", sysctls));
    check(shape, with(&made, "/spec/securityContext/runAsUser", json!(0)));
    check(shape, with(&made, "/spec/securityContext/seccompProfile", json!({"type": "Unconfined"})));

    let bare = "have no privilege, no port of their node and no Secret";
    let container = |field: &str, value| with(&made, &format!("/spec/containers/1/{field}"), value);
    let secret = json!({"secretKeyRef": {"name": "s", "key": "k"}});
    check(bare, container("env", json!([{"name": "A", "valueFrom": secret}])));
    check(bare, container("envFrom", json!([{"secretRef": {"name": "s"}}])));
    check(bare, container("ports", json!([{"containerPort": 80, "hostPort": 80}])));
    check(bare, container("securityContext", json!({})));
    for (field, value) in [
        ("allowPrivilegeEscalation", json!(true)),
        ("runAsUser", json!(0)),
        ("seLinuxOptions", json!({"type": "spc_t"})),
        ("appArmorProfile", json!({"type": "Unconfined"})),
        ("seccompProfile", json!({"type": "Unconfined"})),
        ("capabilities", json!({"add": ["SYS_ADMIN"], "drop": ["ALL"]})),
    ] {
        check(bare, container(&format!("securityContext/{field}"), value));
    }
    // Beside the two, too.
    for list in ["containers", "initContainers"] {
        let mut third = with(&made, "/spec/initContainers", json!([]));
        let bold = json!({"name": "c", "image": "i", "securityContext": {"runAsUser": 0}});
        third["spec"][list].as_array_mut().unwrap().push(bold);
        check(bare, third);
    }

    let asked = "have nothing but themselves asked";
    for (probe, how) in [
        ("livenessProbe", json!({"httpGet": {"host": "10.0.0.1", "port": 80}})),
        ("readinessProbe", json!({"tcpSocket": {"host": "10.0.0.1", "port": 80}})),
        ("lifecycle", json!({"preStop": {"httpGet": {"host": "10.0.0.1", "port": 80}}})),
    ] {
        check(asked, container(probe, how));
    }

    let empty = "are empty folders, its session's claim, and a token";
    check(empty, volume(json!({"name": "v", "hostPath": {"path": "/"}})));
    check(empty, volume(json!({"name": "v", "secret": {"secretName": "s"}})));
    check(empty, volume(json!({"name": "v", "configMap": {"name": "c"}})));
    for claim in ["theirs", "vteam-s-of-another"] {
        check(empty, volume(json!({"name": "v", "persistentVolumeClaim": {"claimName": claim}})));
    }
    let token = json!({"serviceAccountToken": {"path": "t", "audience": "https://kubernetes.default.svc"}});
    check(empty, volume(json!({"name": "v", "projected": {"sources": [token]}})));
    let secret = json!({"secret": {"name": "s"}});
    check(empty, volume(json!({"name": "v", "projected": {"sources": [secret]}})));

    operator.creates(&made);
    let label = ["label", "pod", pods::NAME, "a=b"];
    assert!(!operator.kubectl(&label, &Value::Null).good, "it has no verb to change one");
    // Nor does it remove what is others'.
    let mine = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mine"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    project.person("tenant").creates(&mine);
    let delete = |name: &'static str| ["delete", "pod", name, "--wait=false"];
    operator.may_not(&delete("mine"), &Value::Null, POLICY, "are called vteam-s- and its value");
    operator.may(&delete(pods::NAME), &Value::Null);
}

#[test]
fn it_makes_no_claim_account_or_binding_but_its_own() {
    let project = Project::new("operator-others");
    let operator = project.operator();
    let check = |message: &str, attack: Value| operator.may_not_create(&attack, POLICY, message);
    check("are called vteam-s- and its value", claims::claim("mine", json!({})));
    check("begins empty", claims::of_session(json!({"volumeName": "theirs"})));
    let source = json!({"kind": "PersistentVolumeClaim", "name": "theirs"});
    check("begins empty", claims::of_session(json!({"dataSource": source})));
    check("begins empty", claims::of_session(json!({"selector": {"matchLabels": {"a": "theirs"}}})));
    check("begins empty", claims::of_session(json!({"volumeMode": "Block"})));
    operator.creates(&claims::of_session(json!({})));

    let account = Project::runners_account();
    let nothing = "makes no account but vteam-runner, which has nothing";
    check(nothing, with(&account, "/metadata/name", json!("mine")));
    project.root().may(&["delete", "serviceaccount", "vteam-runner"], &Value::Null);
    check(nothing, with(&account, "/automountServiceAccountToken", json!(true)));
    check(nothing, with(&account, "/metadata/annotations", json!({"eks.amazonaws.com/role-arn": "theirs"})));
    check(nothing, with(&account, "/metadata/ownerReferences", json!([])));
    check(nothing, with(&account, "/imagePullSecrets", json!([{"name": "s"}])));
    operator.creates(&account);

    let group = "rbac.authorization.k8s.io";
    let owner = json!({"apiVersion": resources::API_VERSION, "kind": "ProjectSettings", "name": "projectsettings", "uid": "u"});
    let binding = json!({"apiVersion": format!("{group}/v1"), "kind": "RoleBinding",
        "metadata": {"name": "vteam-edit-1", "labels": {"vteam.ambient-code/group-access": "true"}, "ownerReferences": [owner]},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "vteam-edit"},
        "subjects": [{"apiGroup": group, "kind": "Group", "name": "g"}]});
    let (label, groups) =
        ("carry the label", "are of groups of people or of a namespace's accounts, to vteam's three roles");
    check(label, with(&binding, "/metadata/labels", json!({})));
    check(groups, with(&binding, "/metadata/ownerReferences", json!([])));
    let account = json!([{"kind": "ServiceAccount", "name": "vteam-operator", "namespace": "vteam-system"}]);
    check(groups, with(&binding, "/subjects", account));
    for name in ["system:unauthenticated", "system:authenticated", "system:masters"] {
        let everybody = json!([{"apiGroup": group, "kind": "Group", "name": name}]);
        check(groups, with(&binding, "/subjects", everybody));
    }
    operator.creates(&binding);
    let theirs = project.person("lord");
    theirs.creates(&with(&with(&binding, "/metadata/labels", json!({})), "/metadata/name", json!("theirs")));
    let delete = |name: &'static str| ["delete", "rolebinding", name];
    operator.may_not(&delete("theirs"), &Value::Null, POLICY, label);
    // What somebody made of one is put right all the same.
    let owner = r#"{"metadata":{"ownerReferences":null},"subjects":[{"kind":"User","name":"eve","apiGroup":"rbac.authorization.k8s.io"}]}"#;
    theirs.may(&["patch", "rolebinding", "vteam-edit-1", "--type=merge", "-p", owner], &Value::Null);
    operator.may(&delete("vteam-edit-1"), &Value::Null);
    // A role of less than it may itself, which RBAC would let it bind.
    let role = json!({"apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": {"name": "small"}, "rules": [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["delete"]}]});
    project.root().creates(&role);
    check(groups, with(&binding, "/roleRef", json!({"apiGroup": group, "kind": "Role", "name": "small"})));
}

#[test]
fn it_makes_nothing_where_there_is_no_project() {
    let project = Project::new("operator-elsewhere");
    let operator = project.operator();
    operator.creates(&claims::of_session(json!({})));
    operator.creates(&pods::runner());
    let label = ["label", "namespace", project.namespace(), "vteam.ambient-code/project-"];
    project.root().may(&label, &Value::Null);
    let only = "makes things in projects only";
    operator.may_not_create(&with(&pods::runner(), "/metadata/name", json!("vteam-s-2")), POLICY, only);
    project.root().may(&["delete", "serviceaccount", "vteam-runner"], &Value::Null);
    operator.may_not_create(&Project::runners_account(), POLICY, only);
    // What is there is removed all the same.
    operator.may(&["delete", "pod", pods::NAME, "--wait=false"], &Value::Null);
}
