//! A runner's pod, and the claim of its workspace: pure. What stands here of flags and folders is what the crate `runner`
//! says of itself (`docs/adr/0011`).

use super::object::{Session, Task};
use crate::{kinds, settings::Images};
use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Pod},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use resources::{
    Quantity,
    session::placement::{Gpu, ResourceOverrides, Resources},
};
use serde_json::{Map, Value, json};

/// The container of the agent loop.
pub(crate) const RUNNER: &str = "runner";
const TOOLS: &str = "tools";
/// By this label runner pods are found.
pub(crate) const LABEL: &str = "vteam.ambient-code/session";
/// Reserved: whoever may make pods may not make these.
const PREFIX: &str = "vteam-s-";
/// The account of runners in each project; it may do nothing.
pub(crate) const ACCOUNT: &str = "vteam-runner";
const CA: &str = "vteam.ambient-code/server-ca";
const AUDIENCE: &str = "vteam-runner";
const USER: u32 = 65532;
/// Of the pod; the runner takes its leave some seconds before.
const GRACE_SECONDS: u32 = 30;
const LEAVE_SECONDS: u32 = 25;
/// What a workspace holds at most where nobody says otherwise.
const WORKSPACE: &str = "4Gi";

/// How a runner reaches the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// `https://ADDRESS:PORT`
    pub(crate) url: String,
    pub(crate) name: String,
    pub(crate) ca: String,
}

pub(crate) fn name(session: &Session, epoch: u64) -> String {
    format!("{PREFIX}{}-{epoch}", session.uid)
}

fn claim_name(session: &Session) -> String {
    format!("{PREFIX}{}", session.uid)
}

pub(crate) fn is_persistent(task: &Task) -> bool {
    task.spec.workspace.as_ref().is_some_and(|workspace| workspace.persistent)
}

fn owner(session: &Session) -> OwnerReference {
    OwnerReference {
        api_version: resources::API_VERSION.to_owned(),
        kind: kinds::SESSION.to_owned(),
        name: session.name.clone(),
        uid: session.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(false),
    }
}

/// # Errors
/// When this does not fit the API's types, which a test rules out.
pub(crate) fn claim(session: &Session, task: &Task) -> Result<PersistentVolumeClaim, serde_json::Error> {
    let class = task.spec.resource_overrides.as_ref().and_then(|overrides| overrides.storage_class.clone());
    let mut spec = json!({
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": size(task)}},
    });
    if let (Some(class), Some(spec)) = (class, spec.as_object_mut()) {
        spec.insert("storageClassName".to_owned(), json!(class));
    }
    serde_json::from_value(json!({
        "metadata": {
            "name": claim_name(session), "namespace": session.namespace,
            "labels": {LABEL: session.uid}, "ownerReferences": [owner(session)],
        },
        "spec": spec,
    }))
}

/// # Errors
/// As [`claim`].
pub(crate) fn pod(
    session: &Session,
    task: &Task,
    epoch: u64,
    images: &Images,
    server: &Server,
) -> Result<Pod, serde_json::Error> {
    let overrides = task.spec.resource_overrides.clone().unwrap_or_default();
    let wanted = task.spec.resources.clone().unwrap_or_default();
    let mut spec = json!({
        "serviceAccountName": ACCOUNT,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "restartPolicy": "OnFailure",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        // There is no name to resolve in it.
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["127.0.0.1"], "options": [{"name": "attempts", "value": "1"}]},
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [runner(task, images, server), tools(&overrides, &wanted, images)],
        "volumes": volumes(session, task),
    });
    if let Some(spec) = spec.as_object_mut() {
        place(spec, &overrides, &wanted);
    }
    serde_json::from_value(json!({
        "metadata": {
            "name": name(session, epoch), "namespace": session.namespace,
            "labels": {LABEL: session.uid, "app.kubernetes.io/name": "vteam-session", "app.kubernetes.io/part-of": "vteam"},
            "annotations": {CA: server.ca},
            "ownerReferences": [owner(session)],
        },
        "spec": spec,
    }))
}

fn restricted() -> Value {
    json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    })
}

fn container(name: &str, image: &str, images: &Images) -> Map<String, Value> {
    let mut container = Map::new();
    container.insert("name".to_owned(), json!(name));
    container.insert("image".to_owned(), json!(image));
    if let Some(policy) = &images.pull_policy {
        container.insert("imagePullPolicy".to_owned(), json!(policy));
    }
    container.insert("securityContext".to_owned(), restricted());
    container
}

fn runner(task: &Task, images: &Images, server: &Server) -> Value {
    let mut container = container(RUNNER, &images.runner, images);
    let leave = LEAVE_SECONDS.to_string();
    let mut args = vec![
        "--install-launcher",
        "/run/vteam",
        "--exec-socket",
        "/run/vteam/exec.sock",
        "--connect",
        &server.url,
        "--server-name",
        &server.name,
        "--ca",
        "/run/secrets/vteam/ca.crt",
        "--token-file",
        "/run/secrets/vteam/token",
        "--session-dir",
        "/var/lib/vteam-session",
        "--workspace",
        "/workspace",
        "--grace",
        &leave,
    ];
    if !task.accepted.needs_programs {
        args.push("--dial-at-once");
    }
    container.insert("args".to_owned(), json!(args));
    container.insert(
        "resources".to_owned(),
        json!({"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}),
    );
    let mounts = json!([
        {"name": "launcher", "mountPath": "/run/vteam"},
        {"name": "workspace", "mountPath": "/workspace", "subPath": "workspace"},
        {"name": "workspace", "mountPath": "/var/lib/vteam-session", "subPath": "session"},
        {"name": "identity", "mountPath": "/run/secrets/vteam", "readOnly": true},
    ]);
    container.insert("volumeMounts".to_owned(), mounts);
    Value::Object(container)
}

/// The shell of the image waits for the launcher, and becomes it.
const BECOME_LAUNCHER: &str =
    "until [ -x /run/vteam/vteam-exec ]; do sleep 0.05; done; exec /run/vteam/vteam-exec \"$@\"";

fn tools(overrides: &ResourceOverrides, wanted: &Resources, images: &Images) -> Value {
    let image = wanted.tools_image.as_deref().unwrap_or(&images.tools);
    let mut container = container(TOOLS, image, images);
    container.insert("command".to_owned(), json!(["/bin/sh", "-c", BECOME_LAUNCHER, "vteam-exec"]));
    let memory = wanted.memory.as_ref().or(overrides.memory.as_ref());
    let cpu = wanted.cpu.as_ref().or(overrides.cpu.as_ref());
    let limit = memory.map_or("2Gi", Quantity::as_str);
    // A program that takes all is ended before the whole container is.
    let bytes = memory.map_or(2 << 30, Quantity::units) / 8 * 7;
    let args = json!([
        "--listen",
        "/run/vteam/exec.sock",
        "--workspace",
        "/workspace",
        "--home",
        "/home/vteam",
        "--tmp",
        "/tmp",
        "--limit",
        format!("memory-bytes={bytes}"),
    ]);
    container.insert("args".to_owned(), args);
    let mut requests = json!({"cpu": cpu.map_or("100m", Quantity::as_str), "memory": memory.map_or("128Mi", Quantity::as_str)});
    let mut limits = json!({"memory": limit});
    if let Some(gpu) = &wanted.gpu {
        for list in [&mut requests, &mut limits] {
            if let Some(list) = list.as_object_mut() {
                list.insert(resource(gpu).to_owned(), json!(gpu.count.to_string()));
            }
        }
    }
    container.insert("resources".to_owned(), json!({"requests": requests, "limits": limits}));
    let mounts = json!([
        {"name": "launcher", "mountPath": "/run/vteam"},
        {"name": "workspace", "mountPath": "/workspace", "subPath": "workspace"},
        {"name": "home", "mountPath": "/home/vteam"},
        {"name": "tmp", "mountPath": "/tmp"},
    ]);
    container.insert("volumeMounts".to_owned(), mounts);
    Value::Object(container)
}

fn size(task: &Task) -> String {
    let wanted = task.spec.resources.as_ref().and_then(|resources| resources.storage.as_ref());
    wanted.map_or(WORKSPACE, Quantity::as_str).to_owned()
}

fn volumes(session: &Session, task: &Task) -> Value {
    let workspace = if is_persistent(task) {
        json!({"name": "workspace", "persistentVolumeClaim": {"claimName": claim_name(session)}})
    } else {
        json!({"name": "workspace", "emptyDir": {"sizeLimit": size(task)}})
    };
    json!([
        workspace,
        {"name": "launcher", "emptyDir": {"sizeLimit": "64Mi"}},
        {"name": "home", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "identity", "projected": {"defaultMode": 0o440, "sources": [
            {"serviceAccountToken": {"audience": AUDIENCE, "expirationSeconds": 3600, "path": "token"}},
            {"downwardAPI": {"items": [{"path": "ca.crt", "fieldRef": {"fieldPath": format!("metadata.annotations['{CA}']")}}]}},
        ]}},
    ])
}

const NVIDIA: &str = "nvidia.com/gpu";

fn resource(gpu: &Gpu) -> &str {
    gpu.resource.as_deref().unwrap_or(NVIDIA)
}

fn place(spec: &mut Map<String, Value>, overrides: &ResourceOverrides, wanted: &Resources) {
    if let Some(class) = &overrides.priority_class {
        spec.insert("priorityClassName".to_owned(), json!(class));
    }
    if !wanted.node_selector.is_empty() {
        spec.insert("nodeSelector".to_owned(), json!(wanted.node_selector));
    }
    if !wanted.tolerations.is_empty() {
        spec.insert("tolerations".to_owned(), json!(wanted.tolerations));
    }
    let Some(gpu) = &wanted.gpu else { return };
    let domain = resource(gpu).split('/').next().unwrap_or_default();
    let mut demands = Vec::new();
    if let Some(product) = &gpu.product {
        demands.push(json!({"key": format!("{domain}/gpu.product"), "operator": "In", "values": [product]}));
    }
    if let Some(memory) = &gpu.memory {
        // The label counts MiB; `Gt` is the only comparison there is.
        let least = (memory.units() >> 20).saturating_sub(1).to_string();
        demands.push(json!({"key": format!("{domain}/gpu.memory"), "operator": "Gt", "values": [least]}));
    }
    if !demands.is_empty() {
        let terms = json!({"nodeSelectorTerms": [{"matchExpressions": demands}]});
        let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}});
        spec.insert("affinity".to_owned(), affinity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::DynamicObject;
    use resources::{ProjectPolicy, ProjectSettingsSpec};

    fn made(spec: Value) -> (Session, Task) {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": resources::API_VERSION, "kind": "AgenticSession",
            "metadata": {"name": "s", "namespace": "p", "uid": "11111111-2222-3333-4444-555555555555"},
            "spec": spec,
        }))
        .unwrap();
        let session = Session::read(&object).unwrap();
        let policy = ProjectPolicy::try_from(ProjectSettingsSpec::default()).unwrap();
        let task = session.task(&policy).unwrap();
        (session, task)
    }

    fn images() -> Images {
        Images { runner: "vteam/runner".into(), tools: "vteam/tools".into(), pull_policy: None }
    }

    fn server() -> Server {
        let url = "https://10.96.0.7:8444".to_owned();
        Server { url, name: "vteam-server.vteam-system.svc".into(), ca: "PEM".into() }
    }

    #[test]
    fn a_pod_of_a_plain_session() {
        let (session, task) = made(json!({"prompt": "do it"}));
        insta::assert_json_snapshot!(pod(&session, &task, 1, &images(), &server()).unwrap());
    }

    #[test]
    fn what_is_asked_for_is_given() {
        let (session, task) = made(json!({
            "prompt": "do it",
            "needsPrograms": true,
            "workspace": {"persistent": true},
            "resourceOverrides": {"priorityClass": "high", "storageClass": "fast", "cpu": "2"},
            "resources": {"memory": "8Gi", "storage": "20Gi", "toolsImage": "team/tools:1",
                "gpu": {"count": 1, "product": "NVIDIA-L4", "memory": "20Gi"},
                "nodeSelector": {"pool": "agents"},
                "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]},
        }));
        insta::assert_json_snapshot!((
            pod(&session, &task, 3, &images(), &server()).unwrap(),
            claim(&session, &task).unwrap()
        ));
    }

    #[test]
    fn nothing_in_it_says_whose_it_is_but_its_name() {
        let (session, task) = made(json!({"prompt": "the prompt", "persona": "STAFF_ENGINEER",
            "environmentVariables": {"SECRET": "hunter-2"}}));
        let text = serde_json::to_string(&pod(&session, &task, 1, &images(), &server()).unwrap()).unwrap();
        for secret in ["the prompt", "STAFF_ENGINEER", "SECRET", "hunter-2"] {
            assert!(!text.contains(&format!("\"{secret}\"")), "{secret}: {text}");
        }
    }
}
