//! Ways into a runner's pod.

use super::pods::{NAME, runner};
use crate::people::{Person, Project};
use serde_json::{Value, json};

const POLICY: &str = "vteam-runner-doors";
const MESSAGE: &str = "takes the verb connect on agenticsessions";

/// It went past admission: no node has the pod, so that there is nothing to connect to.
fn gets_through(person: &Person<'_>, door: &[&str]) {
    let nothing = ["does not have a host assigned", "address not allowed"];
    person.until(door, &Value::Null, |answer| nothing.iter().any(|text| answer.err.contains(text)));
}

#[test]
fn they_take_a_verb() {
    let project = Project::new("doors");
    project.operator().creates(&runner());
    let plain = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mine"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    project.person("tenant").creates(&plain);
    let path = |rest: &str| format!("/api/v1/namespaces/{}/pods/{rest}", project.namespace());
    let posted = [
        "exec?container=tools&command=true&stdout=1",
        "attach?container=tools&stdout=1",
        "portforward?ports=1",
    ];
    let proxied = [format!("{NAME}/proxy/"), format!("{NAME}:80/proxy/"), format!("http:{NAME}:80/proxy/")];
    let posted = posted.map(|door| {
        ["create".to_owned(), format!("--raw={}", path(&format!("{NAME}/{door}"))), "-f=-".to_owned()]
    });
    let proxied = proxied.map(|door| ["get".to_owned(), format!("--raw={}", path(&door)), "-v=0".to_owned()]);
    for door in posted.iter().chain(&proxied) {
        let door = door.each_ref().map(String::as_str);
        project.person("tenant").may_not(&door, &Value::Null, POLICY, MESSAGE);
        // Who may do everything in the namespace may do this.
        gets_through(&project.person("lord"), &door);
    }
    project.bind("tenant", "ClusterRole", "vteam-admin");
    gets_through(&project.person("tenant"), &proxied[0].each_ref().map(String::as_str));
    let mine = format!("--raw={}", path("mine/exec?command=true&stdout=1"));
    gets_through(&project.person("tenant"), &["create", &mine, "-f=-"]);
}

#[test]
fn a_container_beside_takes_the_same() {
    let project = Project::new("debug");
    project.operator().creates(&runner());
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "debug"}, "rules": [
        {"apiGroups": [""], "resources": ["pods", "pods/ephemeralcontainers"], "verbs": ["get", "patch", "update"]}]});
    project.root().may(&["create", "-f", "-"], &role);
    project.bind("debugger", "Role", "debug");
    let container = json!({"spec": {"ephemeralContainers": [{"name": "e", "image": "i"}]}}).to_string();
    let attack =
        ["patch", "pod", NAME, "--subresource=ephemeralcontainers", "--type=strategic", "-p", &container];
    project.person("debugger").may_not(&attack, &Value::Null, POLICY, MESSAGE);
    project.bind("debugger", "ClusterRole", "vteam-admin");
    project.person("debugger").may(&attack, &Value::Null);
}
