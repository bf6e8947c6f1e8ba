//! A planted key is looked for wherever somebody could read: in the pod, in what the cluster keeps of it, in what the server keeps.

use crate::{
    harm::{approve, waits},
    process::Process,
    world::{Project, SYSTEM, kubectl},
};
use anyhow::{Context as _, ensure};
use serde_json::json;
use std::{fs, io::Read as _, path::Path};

/// Files beyond this are not ours.
const LARGEST: u64 = 256 << 20;

/// Each plain file below `folder` that has one of `planted` in it.
fn found(folder: &Path, planted: &[&str], in_files: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(about) = fs::symlink_metadata(&path) else { continue };
        if about.is_dir() {
            // The kernel's own; what of it a process can read of others is looked at by itself.
            if !["proc", "sys", "dev"].iter().any(|name| path.ends_with(format!("root/{name}"))) {
                found(&path, planted, in_files);
            }
        } else if about.is_file() && about.len() < LARGEST && has(&path, planted) {
            in_files.push(path.display().to_string());
        }
    }
}

fn has(path: &Path, planted: &[&str]) -> bool {
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
    read.is_ok() && planted.iter().any(|one| bytes.windows(one.len()).any(|window| window == one.as_bytes()))
}

#[tokio::test]
async fn a_planted_key_is_the_servers_alone() -> anyhow::Result<()> {
    let project = Project::alone("planted")?;
    let key = format!("sk-planted-{}-{}", std::process::id(), project.name);
    let literal = format!("--from-literal=ANTHROPIC_API_KEY={key}");
    kubectl(&["-n", SYSTEM, "create", "secret", "generic", "vteam-model", &literal])?;
    let restart = || {
        kubectl(&["-n", SYSTEM, "rollout", "restart", "statefulset/vteam-server"])?;
        kubectl(&["-n", SYSTEM, "rollout", "status", "statefulset/vteam-server", "--timeout=180s"])
    };
    restart()?;
    let server = Process::of(SYSTEM, "vteam-server-0", "server")?;
    ensure!(has(&server.folder().join("environ"), &[&key]), "nothing was planted");

    project.session("s", json!({"prompt": "Greet me.", "permissionMode": "acceptEdits"}))?;
    let object = waits(&project, "s").await?;
    let pod = object["status"]["podName"].as_str().context("no pod")?.to_owned();
    let token = fs::read_to_string(
        Process::of(&project.name, &pod, "runner")?.folder().join("root/run/secrets/vteam/token"),
    )?;
    let mut in_files = vec![];
    for (container, planted) in [("runner", vec![key.as_str()]), ("tools", vec![&key, token.trim()])] {
        let process = Process::of(&project.name, &pod, container)?;
        found(&process.folder().join("root"), &planted, &mut in_files);
        for file in ["environ", "cmdline"] {
            let path = process.folder().join(file);
            ensure!(!has(&path, &planted), "{container}: {file}");
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
    let data = server.folder().join("root/var/lib/vteam");
    ensure!(data.is_dir(), "{}", data.display());
    found(&data, &[&key, token.trim()], &mut in_files);
    ensure!(in_files.is_empty(), "{in_files:?}");
    kubectl(&["-n", SYSTEM, "delete", "secret", "vteam-model"])?;
    restart()?;
    Ok(())
}
