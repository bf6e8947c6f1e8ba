use super::*;
use crate::sessions::judge::{Project, judge};
use resources::ProjectPolicy;
use serde_json::{Value, json};

fn judged(spec: Value) -> (View, Wish) {
    judged_by(ProjectPolicy::try_from(resources::ProjectSettingsSpec::default()).unwrap(), spec)
}

fn judged_by(policy: ProjectPolicy, spec: Value) -> (View, Wish) {
    let object = serde_json::from_value(json!({
        "apiVersion": resources::API_VERSION, "kind": "AgenticSession",
        "metadata": {"name": "fix", "namespace": "p", "uid": "0d6b9a2e-1f0c-4d4f-8f0e-0a6c4d1f2b3c", "resourceVersion": "1"},
        "spec": spec,
    }));
    let view = View::read(&object.unwrap()).unwrap();
    let wish = judge(&view, &Project::Policy(Box::new(policy))).wish.unwrap();
    (view, wish)
}

fn made(spec: Value) -> Value {
    let (view, wish) = judged(spec);
    let server = Server {
        url: "https://10.96.3.4:8443".to_owned(),
        name: "vteam-server.vteam-system.svc".to_owned(),
        ca: "PEM".to_owned(),
    };
    let images =
        Images { runner: "vteam/runner:1".to_owned(), tools: "vteam/tools:1".to_owned(), pull_policy: None };
    json!({"pod": pod(&view, &wish, Epoch(3), &server, &images), "claim": claim(&view, &wish)})
}

#[test]
fn the_pod_of_a_plain_session() {
    insta::assert_json_snapshot!(made(json!({"prompt": "fix it"}))["pod"]);
}

#[test]
fn the_pod_of_a_session_with_wishes() {
    let made = made(json!({
        "prompt": "fix it", "workspace": {"persistent": true},
        "resourceOverrides": {"cpu": "4", "storageClass": "fast", "priorityClass": "high"},
        "resources": {
            "memory": "8Gi", "storage": "1Gi", "runner": {"memory": "1Gi"}, "toolsImage": "registry.example/cuda:12",
            "gpu": {"count": 2, "product": "NVIDIA-L4", "memory": "20Gi"},
            "nodeSelector": {"zone": "a"}, "tolerations": [{"key": "team", "operator": "Equal", "value": "ml", "effect": "NoExecute", "tolerationSeconds": 30}],
        },
    }));
    let spec = &made["pod"]["spec"];
    let tools = &spec["containers"][1];
    insta::assert_json_snapshot!(json!({
        "claim": made["claim"], "volumes": spec["volumes"], "affinity": spec["affinity"], "tolerations": spec["tolerations"],
        "priority": spec["priorityClassName"], "selector": spec["nodeSelector"],
        "tools": {"image": tools["image"], "resources": tools["resources"], "mounts": tools["volumeMounts"]},
        "runner": {"mounts": spec["containers"][0]["volumeMounts"], "resources": spec["containers"][0]["resources"]},
    }));
}

/// What the tools must not have.
#[test]
fn the_credential_is_the_runners_alone() {
    for persistent in [false, true] {
        let made = made(json!({"prompt": "fix it", "workspace": {"persistent": persistent}}));
        let spec = &made["pod"]["spec"];
        assert_eq!(spec["automountServiceAccountToken"], false);
        let tools = spec["containers"][1].to_string();
        for part in ["credential", "/run/secrets", "vteam-session", "\"env\""] {
            assert!(!tools.contains(part), "{part}: {tools}");
        }
        assert!(!spec.to_string().contains("secretName"), "{spec}");
        // Nothing says whose runner it is.
        let text = spec["containers"].to_string();
        assert!(!text.contains("fix") && !text.contains("0d6b9a2e"), "{text}");
    }
}

#[test]
fn a_project_may_name_the_image_for_programs() {
    let policy: resources::ProjectSettingsSpec =
        serde_json::from_value(json!({"defaults": {"toolsImage": "registry.example/ours:1"}})).unwrap();
    let policy = ProjectPolicy::try_from(policy).unwrap();
    let image = |spec: Value| judged_by(policy.clone(), spec).1.resources.tools_image;
    assert_eq!(image(json!({"prompt": "a"})).as_deref(), Some("registry.example/ours:1"));
    let own = json!({"prompt": "a", "resources": {"toolsImage": "registry.example/mine:1"}});
    assert_eq!(image(own).as_deref(), Some("registry.example/mine:1"));
}

#[test]
fn what_is_cut_is_said() {
    let check = |spec: Value, expected: &[&str]| {
        let (_, wish) = judged(spec);
        let warned: Vec<_> = wish.accepted.warnings.into_iter().map(|warning| warning.reason).collect();
        assert_eq!(warned, expected);
    };
    check(json!({"prompt": "a", "resources": {"storage": "1Ti"}}), &["StorageLimited"]);
    check(json!({"prompt": "a", "resources": {"storage": "1Gi"}}), &[]);
    let class = json!({"storageClass": "fast"});
    check(json!({"prompt": "a", "resourceOverrides": class}), &["StorageClassUnused"]);
    check(json!({"prompt": "a", "resourceOverrides": class, "workspace": {"persistent": true}}), &[]);
}

#[test]
fn a_workspace_is_no_larger_than_allowed() {
    let limit = |spec: Value| {
        let made = made(spec);
        let volumes = made["pod"]["spec"]["volumes"].as_array().unwrap().clone();
        volumes.iter().find(|volume| volume["name"] == "workspace").unwrap()["emptyDir"]["sizeLimit"].clone()
    };
    let most = model::limits::Limits::shipped().session.workspace_bytes.to_string();
    assert_eq!(limit(json!({"prompt": "a"})), most.as_str());
    assert_eq!(limit(json!({"prompt": "a", "resources": {"storage": "1Ti"}})), most.as_str());
    assert_eq!(limit(json!({"prompt": "a", "resources": {"storage": "1Mi"}})), "1048576");
}

/// What the shipped policies for networks say of runners is said of this pod.
#[test]
fn the_network_policies_mean_it() {
    let made = made(json!({"prompt": "fix it"}));
    let labels = made["pod"]["metadata"]["labels"].as_object().unwrap();
    let read = |path: &str| -> Vec<Value> {
        let path = format!("{}/../../manifests/{path}", env!("CARGO_MANIFEST_DIR"));
        serde_saphyr::from_multiple(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    let project = &read("project/network.yaml")[0]["spec"]["podSelector"];
    let base = read("base/network.yaml");
    let server = base.iter().find(|policy| policy["metadata"]["name"] == "vteam-server").unwrap();
    let rules = server["spec"]["ingress"].as_array().unwrap();
    let runners = rules.iter().find(|rule| rule["ports"][0]["port"] == "runners").unwrap();
    for selector in [project, &runners["from"][0]["podSelector"]] {
        assert_eq!(*selector, json!({"matchExpressions": [{"key": SESSION_LABEL, "operator": "Exists"}]}));
        assert!(labels.contains_key(SESSION_LABEL));
    }
}
