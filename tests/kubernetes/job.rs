//! The main job on a cluster: a session from YAML and one over REST, its pod, its files, its end.

use crate::world::{Caller, PATIENCE, Project, eventually, kubectl};
use anyhow::{Context as _, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// What the dev overlay's script does, and that it really happened in the pod.
pub(crate) fn did_the_job(events: &[Value]) -> anyhow::Result<()> {
    let text = serde_json::to_string(events)?;
    ensure!(text.contains("hello from /workspace"), "the program did not run: {text}");
    let seqs: Vec<u64> = events.iter().filter_map(|event| event["seq"].as_u64()).collect();
    ensure!(seqs.iter().copied().eq(1..=seqs.len() as u64), "the log has gaps: {seqs:?}");
    Ok(())
}

/// Returns once the server has nothing of it any more.
pub(crate) async fn gone(caller: &Caller, session: &str) -> anyhow::Result<()> {
    let path = format!("/agentic-sessions/{session}/export");
    let asked = async {
        while caller.ask(Method::GET, &path).send().await?.status() != StatusCode::NOT_FOUND {
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    };
    timeout(PATIENCE, asked).await.context("the log is still there")?
}

#[tokio::test]
async fn from_yaml() -> anyhow::Result<()> {
    let project = Project::new("yaml")?;
    project.settings(json!({"permissions": {"allowBypass": true}}))?;
    project.session("greet", json!({"prompt": "Greet me.", "permissionMode": "bypass"}))?;
    // As a script waits for it.
    let wait = ["wait", "--for=condition=Finished", "agenticsession/greet", "--timeout=180s"];
    kubectl(&[&["-n", project.name.as_str()], &wait[..]].concat()).with_context(|| project.about("greet"))?;
    let object = project.reaches("greet", "Completed").await?;
    let status = &object["status"];
    assert!(status["num_turns"].as_u64() >= Some(3), "{status}");
    assert!(status["startTime"].is_string() && status["completionTime"].is_string(), "{status}");
    let caller = project.caller("view")?;
    did_the_job(&caller.events("greet").await?)?;
    // Its pod goes, its log stays.
    eventually("the pod is gone", || Ok(project.list("pods")?.is_empty().then_some(()))).await?;
    let diff = caller.ask(Method::GET, "/agentic-sessions/greet/diff").send().await?.text().await?;
    assert!(diff.contains("+echo \"hello from $(pwd)\""), "{diff}");
    kubectl(&["-n", &project.name, "delete", "agenticsession", "greet"])?;
    let read = caller.ask(Method::GET, "/agentic-sessions/greet").send().await?;
    assert_eq!(read.status(), 404, "it is read where it is written");
    gone(&caller, "greet").await
}

#[tokio::test]
async fn over_rest_with_an_approval() -> anyhow::Result<()> {
    let project = Project::new("rest")?;
    let caller = project.caller("edit")?;
    let name = caller.create(json!({"prompt": "Greet me.", "interactive": true})).await?;
    for _ in 0..2 {
        let ask = wait_for_ask(&caller, &name).await.with_context(|| project.about(&name))?;
        let path = format!("/agentic-sessions/{name}/approvals/{ask}");
        let decided = caller.ask(Method::POST, &path).json(&json!({"decision": "once"})).send().await?;
        ensure!(decided.status().is_success(), "{}", decided.text().await?);
    }
    let waits = eventually("it waits for the next message", || {
        let object = project.get("agenticsession", &name)?;
        Ok((object["status"]["reason"] == "MessageAwaited").then_some(object))
    })
    .await
    .with_context(|| project.about(&name))?;
    assert_eq!(waits["status"]["phase"], "Waiting");
    let managers = "jsonpath={.items[*].metadata.managedFields[*].manager}";
    let managers = kubectl(&["-n", &project.name, "get", "pods", "--show-managed-fields", "-o", managers])?;
    assert!(managers.split_whitespace().any(|manager| manager == "vteam-operator"), "{managers}");
    did_the_job(&caller.events(&name).await?)?;
    // A file of a session that is awake comes from its pod.
    let path = format!("/agentic-sessions/{name}/workspace/greet.sh");
    let file = caller.ask(Method::GET, &path).send().await?.error_for_status()?.text().await?;
    assert!(file.contains("hello from"), "{file}");
    let stopped = caller.ask(Method::POST, &format!("/agentic-sessions/{name}/stop")).send().await?;
    ensure!(stopped.status() == 202, "{}", stopped.text().await?);
    let object = project.reaches(&name, "Stopped").await?;
    assert_eq!(object["spec"]["operatingMode"], "Stopped");
    eventually("the pod is gone", || Ok(project.list("pods")?.is_empty().then_some(()))).await?;
    // Its files went with the pod: there is nothing to go on in, and the session stays what it is.
    let path = format!("/agentic-sessions/{name}/agui/run");
    let said = caller.ask(Method::POST, &path).json(&json!({"message": "Go on."})).send().await?;
    let (status, why) = (said.status(), said.text().await?);
    ensure!(status == 409 && why.contains("workspace.persistent"), "{status}: {why}");
    let object = project.get("agenticsession", &name)?;
    assert_eq!(object["spec"]["operatingMode"], "Stopped", "nobody woke it");
    let removed = caller.ask(Method::DELETE, &format!("/agentic-sessions/{name}")).send().await?;
    assert_eq!(removed.status(), 204);
    eventually("the object is gone", || Ok(project.list("agenticsessions")?.is_empty().then_some(())))
        .await?;
    Ok(())
}

pub(crate) async fn wait_for_ask(caller: &crate::world::Caller, session: &str) -> anyhow::Result<String> {
    let begun = std::time::Instant::now();
    loop {
        let path = format!("/agentic-sessions/{session}/approvals");
        let open: Value = caller.ask(Method::GET, &path).send().await?.error_for_status()?.json().await?;
        if let Some(id) = open["items"][0]["data"]["id"].as_str() {
            return Ok(id.to_owned());
        }
        ensure!(begun.elapsed() < crate::world::PATIENCE, "nothing waits for a person: {open}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
