//! The whole demo in a pod: a project with a failing test, handed over as an archive, mended by a persona who edits and runs
//! programs, judged, and given back; as YAML and over REST, watched while it happens.

use crate::{
    job::wait_for_ask,
    world::{Caller, PATIENCE, Project, SYSTEM, apply, kubectl, kubectl_with, repository, restart},
};
use anyhow::{Context as _, ensure};
use futures::StreamExt as _;
use reqwest::{Method, header};
use serde_json::{Value, json};
use std::process::Command;
use tokio::task::JoinHandle;

const PROMPT: &str = "The test in test.sh fails. Find out why, fix it, and show that it passes.";
const MENDED: &str = "4 of 4 passed";

/// The demo's model in place of the overlay's, until it is dropped.
struct Script(Value);

impl Script {
    fn of_the_demo() -> anyhow::Result<Self> {
        let there = kubectl(&["-n", SYSTEM, "get", "configmap", "vteam-script", "-o", "json"])?;
        let mut before: Value = serde_json::from_str(&there)?;
        before["metadata"] =
            json!({"name": "vteam-script", "namespace": SYSTEM, "labels": before["metadata"]["labels"]});
        let script = Self(before.clone());
        let demo = std::fs::read_to_string(repository().join("examples/scripts/demo.yaml"))?;
        before["data"] = json!({"script.yaml": demo});
        put(&before)?;
        Ok(script)
    }
}

fn put(script: &Value) -> anyhow::Result<()> {
    kubectl_with(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &script.to_string())?;
    restart("statefulset/vteam-server")
}

impl Drop for Script {
    fn drop(&mut self) {
        if let Err(error) = put(&self.0) {
            eprintln!("the overlay's script is not back: {error:#}");
        }
    }
}

/// Uploads the example as a person's folder; returns what names it.
async fn upload(caller: &Caller) -> anyhow::Result<String> {
    let folder = repository().join("examples/slug");
    let packed =
        Command::new("tar").args(["--create", "--gzip", "--directory"]).arg(folder).arg(".").output()?;
    ensure!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
    let answer = caller.ask(Method::PUT, "/archives").body(packed.stdout).send().await?.error_for_status()?;
    let answer: Value = answer.json().await?;
    Ok(answer["blob"].as_str().with_context(|| answer.to_string())?.to_owned())
}

/// Everything that the session's stream says up to the end of its run.
fn watched(caller: &Caller, session: &str) -> JoinHandle<anyhow::Result<String>> {
    let path = format!("/agentic-sessions/{session}/agui/events");
    let request = caller.ask(Method::GET, &path).header(header::ACCEPT, "text/event-stream");
    tokio::spawn(async move {
        let mut stream = request.send().await?.error_for_status()?.bytes_stream();
        let mut said = Vec::new();
        while let Some(part) = stream.next().await {
            said.extend_from_slice(&part?);
            if String::from_utf8_lossy(&said).contains("RUN_FINISHED") {
                break;
            }
        }
        Ok(String::from_utf8(said)?)
    })
}

async fn is_mended(project: &Project, caller: &Caller, session: &str) -> anyhow::Result<()> {
    for _ in 0..2 {
        let ask = wait_for_ask(caller, session).await.with_context(|| project.about(session))?;
        let path = format!("/agentic-sessions/{session}/approvals/{ask}");
        let decided = caller.ask(Method::POST, &path).json(&json!({"decision": "once"})).send().await?;
        ensure!(decided.status().is_success(), "{}", decided.text().await?);
    }
    project.reaches(session, "Completed").await?;
    let events = caller.events(session).await?;
    let of = |kind: &str| events.iter().filter(|event| event["kind"] == kind).collect::<Vec<_>>();
    let persona = of("persona.prompted");
    ensure!(persona.iter().any(|event| event["data"]["persona"] == "STAFF_ENGINEER"), "{persona:?}");
    let results = json!(of("call.finished")).to_string();
    ensure!(results.contains("2 of 4 failed") && results.contains(MENDED), "{results}");
    let diff =
        caller.ask(Method::GET, &format!("/agentic-sessions/{session}/diff")).send().await?.text().await?;
    ensure!(
        diff.contains("slug.sh") && diff.contains("+  text=${text#-}") && !diff.contains("test.sh"),
        "{diff}"
    );
    Ok(())
}

#[tokio::test]
async fn the_whole_demo_in_a_pod() -> anyhow::Result<()> {
    let project = Project::alone("demo")?;
    let _script = Script::of_the_demo()?;
    let caller = project.caller("edit")?;
    let blob = upload(&caller).await?;
    let spec = json!({"prompt": PROMPT, "persona": "STAFF_ENGINEER", "permissionMode": "acceptEdits",
        "workspace": {"archive": {"blob": blob}}});

    let name = caller.create(spec.clone()).await?;
    let live = watched(&caller, &name);
    is_mended(&project, &caller, &name).await?;
    let said = tokio::time::timeout(PATIENCE, live).await???;
    for part in [
        "RUN_STARTED",
        "vteam.persona",
        "TOOL_CALL_START",
        "vteam.approval.requested",
        MENDED,
        "The test passes",
    ] {
        ensure!(said.contains(part), "{part}: {said}");
    }

    apply(&json!({"apiVersion": "vteam.ambient-code/v1alpha1", "kind": "AgenticSession",
        "metadata": {"name": "mend-the-test", "namespace": project.name}, "spec": spec}))?;
    is_mended(&project, &caller, "mend-the-test").await?;

    // Two personas judge, and the judge of one sends her first answer back.
    for (persona, judged) in [("STAFF_ENGINEER", 2), ("TEAM_MEMBER", 1)] {
        let spec = json!({"prompt": "Why does test.sh fail?", "persona": persona, "analyse": true,
            "workspace": {"archive": {"blob": blob}}});
        let name = caller.create(spec).await?;
        project.reaches(&name, "Completed").await?;
        let events = caller.events(&name).await?;
        let answers: Vec<_> = events.iter().filter(|event| event["kind"] == "analysis.judged").collect();
        assert_eq!(answers.len(), judged, "{persona}: {answers:?}");
    }
    Ok(())
}
