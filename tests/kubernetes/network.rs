//! What the NetworkPolicies keep apart. The cluster's network has to enforce them: one that does not fails here.

use crate::{
    harm::{approve, waits},
    process::Process,
    world::{Project, SYSTEM, eventually, kubectl, repository},
};
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

const LISTENS: u16 = 8080;

/// Whether a TCP connection is made within two seconds.
fn connects(project: &Project, pod: &str, address: &str, port: u16) -> anyhow::Result<bool> {
    let script = format!("timeout 2 bash -c 'exec 3<>/dev/tcp/{address}/{port}' 2>&1 && echo open || true");
    let said = kubectl(&["-n", &project.name, "exec", pod, "-c", "tools", "--", "bash", "-c", &script])?;
    Ok(said.trim() == "open")
}

/// Returns when it listens.
fn listen(project: &Project, pod: &str) -> anyhow::Result<()> {
    let script = format!(
        "(trap '' HUP; exec python3 -m http.server {LISTENS} --directory /tmp >/dev/null 2>&1 </dev/null) & \
         until (exec 3<>/dev/tcp/127.0.0.1/{LISTENS}) 2>/dev/null; do sleep 0.1; done"
    );
    let exec =
        ["-n", &project.name, "exec", pod, "-c", "tools", "--", "timeout", "20", "bash", "-c", &script];
    kubectl(&exec).map(drop)
}

fn text<'a>(object: &'a Value, pointer: &str) -> anyhow::Result<&'a str> {
    object.pointer(pointer).and_then(Value::as_str).with_context(|| format!("no {pointer}: {object}"))
}

/// Somebody else's pod in the same project.
async fn neighbour(project: &Project, image: &str) -> anyhow::Result<Value> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "neighbour", "namespace": project.name},
        "spec": {
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "tools", "image": image, "command": ["sleep", "600"],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    });
    crate::world::apply(&pod)?;
    eventually("the neighbour runs", || {
        let pod = project.get("pod", "neighbour")?;
        Ok((pod["status"]["phase"] == "Running").then_some(pod))
    })
    .await
}

#[tokio::test]
async fn a_runner_reaches_the_server_and_nothing_else() -> anyhow::Result<()> {
    let project = Project::new("network")?;
    let policies = repository().join("manifests/project");
    kubectl(&["-n", &project.name, "apply", "--server-side", "-k", &policies.to_string_lossy()])?;
    project.session("s", json!({"prompt": "Greet me.", "permissionMode": "acceptEdits"}))?;
    let object = waits(&project, "s").await?;
    let runner = text(&object, "/status/podName")?;
    let pod = project.get("pod", runner)?;
    let containers = pod["spec"]["containers"].as_array().context("no containers")?;
    let tools = containers.iter().find(|one| one["name"] == "tools").context("no tools")?;
    let other = neighbour(&project, text(tools, "/image")?).await?;
    listen(&project, runner)?;
    listen(&project, "neighbour")?;

    let address = |service: &str, at: &str| {
        kubectl(&["-n", at, "get", "service", service, "-o", "jsonpath={.spec.clusterIP}"])
    };
    let (api, names) = (address("kubernetes", "default")?, address("kube-dns", "kube-system")?);
    let server = kubectl(&["-n", SYSTEM, "get", "pod", "vteam-server-0", "-o", "jsonpath={.status.podIP}"])?;
    let of_operator = "app.kubernetes.io/name=vteam-operator";
    let first = "jsonpath={.items[0].status.podIP}";
    let operator = kubectl(&["-n", SYSTEM, "get", "pods", "-l", of_operator, "-o", first])?;
    let (runner_ip, other_ip) = (text(&pod, "/status/podIP")?, text(&other, "/status/podIP")?);

    // They were made a moment ago, and the rules follow the pods.
    eventually("the policies hold: does this cluster's network enforce any?", || {
        Ok((!connects(&project, runner, &api, 443)?).then_some(()))
    })
    .await?;
    let seen = |from: &str, to: &str, port| connects(&project, from, to, port);
    for (from, to, port, open) in [
        (runner, server.as_str(), 8444, true),
        (runner, server.as_str(), 8443, false),
        (runner, other_ip, LISTENS, false),
        (runner, names.trim(), 53, false),
        (runner, runner_ip, LISTENS, true),
        ("neighbour", other_ip, LISTENS, true),
        ("neighbour", runner_ip, LISTENS, false),
        ("neighbour", server.as_str(), 8444, false),
        ("neighbour", server.as_str(), 8443, true),
        ("neighbour", operator.as_str(), 8080, false),
        ("neighbour", api.trim(), 443, true),
    ] {
        let found = seen(from, to, port)?;
        ensure!(found == open, "{from} to {to}:{port}: {}", if found { "open" } else { "shut" });
    }
    // vteam's own: names, the API server and whatever speaks TLS, and not what listens elsewhere.
    let operators = kubectl(&[
        "-n",
        SYSTEM,
        "get",
        "pods",
        "-l",
        of_operator,
        "-o",
        "jsonpath={.items[0].metadata.name}",
    ])?;
    for (pod, container) in [("vteam-server-0", "server"), (operators.trim(), "operator")] {
        let process = Process::of(SYSTEM, pod, container)?;
        for (to, port, open) in [
            (api.trim(), 443, true),
            (names.trim(), 53, true),
            (other_ip, LISTENS, false),
            (runner_ip, LISTENS, false),
        ] {
            let found = process.connects(to, port)?;
            ensure!(found == open, "{container} to {to}:{port}: {}", if found { "open" } else { "shut" });
        }
    }
    approve(&project.caller("edit")?, "s").await?;
    project.reaches("s", "Completed").await?;
    Ok(())
}
