//! When pods came to what, as a watch of the API server tells; and a bare one of the same shape.

use super::follow::follow;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

/// Milliseconds since the epoch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) made: u64,
    /// The container of the runner runs.
    pub(crate) runs: Option<u64>,
    pub(crate) ready: Option<u64>,
    gone: bool,
}

pub(crate) struct Pods(Arc<Mutex<HashMap<String, Times>>>);

impl Pods {
    pub(crate) async fn follow(client: Client, namespace: &str) -> Self {
        let pods = Self(Arc::default());
        let of = Arc::clone(&pods.0);
        follow(Api::namespaced(client, namespace), move |pod: Pod, gone| note(&of, &pod, gone)).await;
        pods
    }

    pub(crate) fn of(&self, pod: &str) -> Times {
        *self.0.lock().unwrap().get(pod).unwrap_or_else(|| panic!("{pod} was not seen"))
    }

    pub(crate) async fn ready(&self, pod: &str) -> u64 {
        self.until(pod, |times| times.ready).await
    }

    pub(crate) async fn gone(&self, pod: &str) {
        self.until(pod, |times| times.gone.then_some(())).await;
    }

    async fn until<T>(&self, pod: &str, what: impl Fn(&Times) -> Option<T>) -> T {
        loop {
            if let Some(found) = self.0.lock().unwrap().get(pod).and_then(&what) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn note(of: &Mutex<HashMap<String, Times>>, pod: &Pod, gone: bool) {
    let now = super::super::now();
    let status = pod.status.clone().unwrap_or_default();
    let containers = status.container_statuses.unwrap_or_default();
    let runs = containers
        .iter()
        .any(|one| one.name == "runner" && one.state.as_ref().is_some_and(|state| state.running.is_some()));
    let ready =
        status.conditions.unwrap_or_default().iter().any(|one| one.type_ == "Ready" && one.status == "True");
    let mut of = of.lock().unwrap();
    let times = of.entry(pod.name_any()).or_insert(Times { made: now, runs: None, ready: None, gone });
    times.gone |= gone;
    times.runs = times.runs.or(runs.then_some(now));
    times.ready = times.ready.or(ready.then_some(now));
}

/// Two containers with as many volumes and the same confinement as a runner's pod, of an image that is there; they sleep.
pub(crate) fn bare(name: &str) -> Pod {
    let container = |name: &str, mounts: &[&str]| {
        let mounts: Vec<_> =
            mounts.iter().map(|mount| json!({"name": mount, "mountPath": format!("/mnt/{mount}")})).collect();
        json!({
            "name": name, "image": "localhost/vteam/tools:0.1.0",
            "command": ["/bin/sh", "-c", "trap 'exit 0' TERM; sleep 3600 & wait"],
            "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]}},
            "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
            "volumeMounts": mounts,
        })
    };
    let empty = |name: &str| json!({"name": name, "emptyDir": {"sizeLimit": "64Mi"}});
    let pod = json!({
        "metadata": {"name": name},
        "spec": {
            "automountServiceAccountToken": false, "enableServiceLinks": false, "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
                "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                container("runner", &["launcher", "workspace", "session", "identity"]),
                container("tools", &["launcher", "workspace", "home", "tmp"]),
            ],
            "volumes": [
                empty("launcher"), empty("workspace"), empty("session"), empty("home"), empty("tmp"),
                {"name": "identity", "projected": {"defaultMode": 0o440, "sources": [
                    {"serviceAccountToken": {"audience": "bare", "expirationSeconds": 3600, "path": "token"}},
                    {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
                ]}},
            ],
        },
    });
    serde_json::from_value(pod).unwrap()
}
