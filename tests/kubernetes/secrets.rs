//! A planted key is looked for wherever somebody could read: in the pod, in what the cluster keeps of it, in what the server keeps.

use crate::{
    harm::{approve, waits},
    process::Process,
    world::{Project, SYSTEM, apply, kubectl, restart},
};
use anyhow::{Context as _, ensure};
use serde_json::json;

#[tokio::test]
async fn a_planted_key_is_the_servers_alone() -> anyhow::Result<()> {
    let project = Project::alone("planted")?;
    let key = format!("sk-planted-{}-{}", std::process::id(), project.name);
    apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "vteam-model", "namespace": SYSTEM},
        "stringData": {"ANTHROPIC_API_KEY": key},
    }))?;
    restart("statefulset/vteam-server")?;
    let server = Process::of(SYSTEM, "vteam-server-0", "server")?;
    ensure!(!server.having("environ", &[&key])?.is_empty(), "nothing was planted");

    project.session("s", json!({"prompt": "Greet me.", "permissionMode": "acceptEdits"}))?;
    let object = waits(&project, "s").await?;
    let pod = object["status"]["podName"].as_str().context("no pod")?.to_owned();
    let token = Process::of(&project.name, &pod, "runner")?.read("root/run/secrets/vteam/token")?;
    let mut in_files = vec![];
    for (container, planted) in [("runner", vec![key.as_str()]), ("tools", vec![&key, token.trim()])] {
        let process = Process::of(&project.name, &pod, container)?;
        for place in ["root", "environ", "cmdline"] {
            in_files.extend(process.having(place, &planted)?);
        }
    }
    // What a program in the pod can read of everything that runs there.
    let all = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null; env; true";
    let said = kubectl(&["-n", &project.name, "exec", &pod, "-c", "tools", "--", "/bin/sh", "-c", all])?;
    ensure!(!said.contains(&key) && !said.contains(token.trim()), "{said}");
    approve(&project.caller("edit")?, "s").await?;
    let logs = kubectl(&["-n", &project.name, "logs", &pod, "--all-containers"])?;
    project.reaches("s", "Completed").await?;

    let events = serde_json::to_string(&project.caller("edit")?.events("s").await?)?;
    let kept =
        kubectl(&["get", "agenticsessions,projectsettings,pods,configmaps,events", "-A", "-o", "yaml"])?;
    let ours =
        ["vteam-server-0", "deployment/vteam-operator"].map(|one| kubectl(&["-n", SYSTEM, "logs", one]));
    for (what, text) in [
        ("log", &logs),
        ("events", &events),
        ("objects", &kept),
        ("logs", &ours.map(Result::unwrap_or_default).concat()),
    ] {
        for planted in [key.as_str(), token.trim()] {
            ensure!(!text.contains(planted), "{what} have it");
        }
    }
    // The event store, blobs and all: also not the runner's token.
    in_files.extend(server.having("root/var/lib/vteam", &[&key, token.trim()])?);
    ensure!(in_files.is_empty(), "{in_files:?}");
    kubectl(&["-n", SYSTEM, "delete", "secret", "vteam-model"])?;
    restart("statefulset/vteam-server")?;
    Ok(())
}
