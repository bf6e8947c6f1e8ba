//! Each part is killed at a random moment of a running session, as a crash or the kernel would.
//!
//! `VTEAM_SEED` says which moments, `VTEAM_ROUNDS` how often each part is killed.

use crate::{
    harm::approve,
    job::did_the_job,
    log::breaches,
    process::Process,
    world::{Caller, PATIENCE, Project, SYSTEM, eventually, kubectl},
};
use anyhow::{Context as _, ensure};
use model::event::{CallOutcome, Event, Stored};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const PARTS: [&str; 4] = ["server", "operator", "runner", "tools"];

#[tokio::test]
async fn a_part_killed_at_any_moment_loses_and_doubles_nothing() -> anyhow::Result<()> {
    let seed = match number("VTEAM_SEED")? {
        Some(seed) => seed,
        None => rand::random(),
    };
    eprintln!("to have the same moments again: VTEAM_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let project = Project::alone("random")?;
    project.settings(json!({"permissions": {"allowBypass": true}}))?;
    let caller = project.caller("edit")?;

    begin(&project, "unharmed", false).await?;
    let begun = Instant::now();
    ends(&project, &caller, "unharmed", "", &[]).await?;
    let usual = begun.elapsed();
    for round in 0..number("VTEAM_ROUNDS")?.unwrap_or(1) {
        for part in PARTS {
            let name = format!("{part}-{round}");
            let (persistent, moment) = (random.random(), usual.mul_f64(random.random()));
            one(&project, &caller, part, &name, persistent, moment)
                .await
                .with_context(|| format!("{name}, VTEAM_SEED={seed}, killed {moment:.1?} after its start"))?;
        }
    }
    kubectl(&["-n", &project.name, "delete", "agenticsessions", "--all"])?;
    for kind in ["pods", "persistentvolumeclaims"] {
        eventually(&format!("no {kind} are left"), || Ok(project.list(kind)?.is_empty().then_some(())))
            .await?;
    }
    Ok(())
}

async fn one(
    project: &Project,
    caller: &Caller,
    part: &str,
    name: &str,
    persistent: bool,
    moment: Duration,
) -> anyhow::Result<()> {
    let pod = begin(project, name, persistent).await?;
    let (namespace, pod) = match part {
        "server" => (SYSTEM, "vteam-server-0".to_owned()),
        "operator" => (SYSTEM, operator()?),
        _ => (project.name.as_str(), pod),
    };
    // Found before, so that the moment is the one that was drawn.
    let process = Process::of(namespace, &pod, part)?;
    tokio::time::sleep(moment).await;
    let before = caller.events(name).await?;
    if let Err(error) = process.kill() {
        // What the session has of its own goes with it.
        let object = project.get("agenticsession", name)?;
        ensure!(object["status"]["phase"] == "Completed", "{error:#}\n{}", project.about(name));
    }
    ends(project, caller, name, part, &before).await
}

/// Until its runner runs; its pod.
async fn begin(project: &Project, name: &str, persistent: bool) -> anyhow::Result<String> {
    let spec =
        json!({"prompt": "Greet me.", "permissionMode": "bypass", "workspace": {"persistent": persistent}});
    project.session(name, spec)?;
    eventually("its containers run", || {
        let Some(pod) = project.get("agenticsession", name)?["status"]["podName"].as_str().map(str::to_owned)
        else {
            return Ok(None);
        };
        let object = project.get("pod", &pod)?;
        let containers = object["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
        let run = containers.iter().all(|container| container["state"]["running"].is_object());
        Ok((containers.len() == 2 && run).then_some(pod))
    })
    .await
    .with_context(|| project.about(name))
}

/// As if nothing had been: whatever has to be repeated is permitted.
async fn ends(
    project: &Project,
    caller: &Caller,
    name: &str,
    killed: &str,
    before: &[Value],
) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let status = project.get("agenticsession", name)?["status"].clone();
        match status["phase"].as_str() {
            Some("Completed") => break,
            Some("Failed" | "Stopped" | "Suspended") => {
                anyhow::bail!("{status}\n{}", project.about(name));
            }
            _ => {}
        }
        ensure!(begun.elapsed() < PATIENCE, "{status}\n{}", project.about(name));
        if status["reason"] == "ApprovalPending" {
            // Whoever answers may be the one that was killed.
            let _ = approve(caller, name).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let events = loop {
        match caller.events(name).await {
            Ok(events) => break events,
            Err(error) => ensure!(begun.elapsed() < PATIENCE, "{error:#}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    ensure!(events.starts_with(before), "the log was another one:\n{before:?}\n{events:?}");
    let log: Vec<Stored> = serde_json::from_value(Value::Array(events.clone()))?;
    let breaches = breaches(&log, true);
    ensure!(breaches.is_empty(), "{breaches:?}\n{events:?}");
    // What a program did that was under way when its own part was killed is not known: the log says so, and it is not begun again.
    if was_cut_off(&log, killed) {
        return Ok(());
    }
    did_the_job(&events).with_context(|| project.about(name))
}

/// Whether a program was under way when the part that it ran in or was asked by was killed, and its call says so.
fn was_cut_off(log: &[Stored], killed: &str) -> bool {
    log.iter().any(|stored| {
        let Event::CallFinished(call) = &stored.event else { return false };
        match killed {
            "runner" => matches!(call.outcome, CallOutcome::Lost),
            "tools" => {
                format!("{:?}", call.content).contains("the launcher of native programs was restarted")
            }
            _ => false,
        }
    })
}

fn operator() -> anyhow::Result<String> {
    let selector = "app.kubernetes.io/name=vteam-operator";
    let path = "jsonpath={.items[0].metadata.name}";
    kubectl(&["-n", SYSTEM, "get", "pods", "-l", selector, "-o", path])
}

fn number(name: &str) -> anyhow::Result<Option<u64>> {
    let Ok(text) = std::env::var(name) else { return Ok(None) };
    Ok(Some(text.parse().with_context(|| format!("{name} is a number"))?))
}
