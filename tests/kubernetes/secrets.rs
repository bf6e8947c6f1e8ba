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
    let planted_as = |what: &str| format!("sk-planted-{what}-{}", project.name);
    let (key, theirs) = (planted_as("model"), planted_as("project"));
    apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "vteam-model", "namespace": SYSTEM},
        "stringData": {"ANTHROPIC_API_KEY": key},
    }))?;
    // Named by the settings, and without effect yet.
    apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys", "namespace": project.name},
        "stringData": {"ANTHROPIC_API_KEY": theirs},
    }))?;
    project.settings(json!({"runnerSecretsName": "keys"}))?;
    restart("statefulset/vteam-server")?;
    let server = Process::of(SYSTEM, "vteam-server-0", "server")?;
    ensure!(!server.having("environ", &[&key])?.is_empty(), "nothing was planted");
    // What vouches for the server, by a line of it.
    let authority = server.read("root/var/lib/vteam/data/pki/ca.key")?;
    let authority = authority.lines().nth(1).context("a key has lines")?;

    let caller = project.caller("edit")?;
    let bearer = caller.token.clone().context("a caller has a token")?;
    let name = caller.create(json!({"prompt": "Greet me.", "permissionMode": "acceptEdits"})).await?;
    let object = waits(&project, &name).await?;
    let pod = object["status"]["podName"].as_str().context("no pod")?.to_owned();
    let token = Process::of(&project.name, &pod, "runner")?.read("root/run/secrets/vteam/token")?;
    let token = token.trim();
    let foreign = [key.as_str(), &theirs, &bearer, authority];
    let all = [&foreign[..], &[token]].concat();
    let mut in_files = vec![];
    for (container, planted) in [("runner", &foreign[..]), ("tools", &all)] {
        let process = Process::of(&project.name, &pod, container)?;
        for place in ["root", "environ", "cmdline"] {
            in_files.extend(process.having(place, planted)?);
        }
    }
    // What a program in the pod can read of everything that runs there.
    let shown = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null; env; true";
    let seen = kubectl(&["-n", &project.name, "exec", &pod, "-c", "tools", "--", "/bin/sh", "-c", shown])?;
    // As long as the pod is there.
    let logs = kubectl(&["-n", &project.name, "logs", &pod, "--all-containers"])?;
    let objects = "agenticsessions,projectsettings,pods,configmaps,events";
    let running = kubectl(&["get", objects, "-A", "-o", "yaml"])?;
    ensure!(running.contains(&pod), "its pod is among what is looked at");
    approve(&caller, &name).await?;
    project.reaches(&name, "Completed").await?;

    let events = serde_json::to_string(&caller.events(&name).await?)?;
    let kept = running + &kubectl(&["get", objects, "-A", "-o", "yaml"])?;
    let mut texts = vec![("a program", seen), ("the pod's log", logs), ("events", events), ("objects", kept)];
    for part in ["vteam-server-0", "deployment/vteam-operator"] {
        texts.push((part, kubectl(&["-n", SYSTEM, "logs", part])?));
    }
    for (what, text) in &texts {
        ensure!(!text.is_empty(), "{what} said nothing: it was not looked at");
        for planted in &all {
            ensure!(!text.contains(planted), "{what} has it: {planted:.30}");
        }
    }
    // The event store, blobs and all: also not the runner's token. The authority's key is where it belongs.
    in_files.extend(server.having("root/var/lib/vteam", &[&key, &theirs, &bearer, token])?);
    ensure!(in_files.is_empty(), "{in_files:?}");
    kubectl(&["-n", SYSTEM, "delete", "secret", "vteam-model"])?;
    restart("statefulset/vteam-server")?;
    Ok(())
}
