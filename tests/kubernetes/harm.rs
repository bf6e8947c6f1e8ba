//! What is killed, removed or malformed, and what becomes of sessions then.

use crate::{
    process::Process,
    world::{Caller, Project, SYSTEM, eventually, kubectl, kubectl_with, restart},
};
use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};

pub(crate) async fn waits(project: &Project, session: &str) -> anyhow::Result<Value> {
    eventually("it waits for an approval", || {
        let object = project.get("agenticsession", session)?;
        Ok((object["status"]["reason"] == "ApprovalPending").then_some(object))
    })
    .await
    .with_context(|| project.about(session))
}

/// Lets what was asked for last happen.
pub(crate) async fn approve(caller: &Caller, session: &str) -> anyhow::Result<()> {
    let events = caller.events(session).await?;
    let asked = events.iter().rev().find(|event| event["kind"] == "approval.requested");
    let id = asked.and_then(|event| event["data"]["id"].as_str()).context("nothing was asked")?;
    let path = format!("/agentic-sessions/{session}/approvals/{id}");
    let decided = caller.ask(Method::POST, &path).json(&json!({"decision": "once"})).send().await?;
    ensure!(decided.status().is_success(), "{}", decided.text().await?);
    Ok(())
}

#[tokio::test]
async fn a_deleted_pod_is_the_truthful_end_of_an_ephemeral_workspace() -> anyhow::Result<()> {
    let project = Project::new("lost")?;
    project.session("lost", json!({"prompt": "Greet me.", "permissionMode": "acceptEdits"}))?;
    // The file is written by then.
    let object = waits(&project, "lost").await?;
    let pod = object["status"]["podName"].as_str().context("no pod")?;
    kubectl(&["-n", &project.name, "delete", "pod", pod, "--grace-period=1"])?;
    let object = project.reaches("lost", "Failed").await?;
    assert_eq!(object["status"]["reason"], "WorkspaceLost");
    Ok(())
}

#[tokio::test]
async fn the_server_may_be_killed() -> anyhow::Result<()> {
    let project = Project::alone("server")?;
    project.session("s", json!({"prompt": "Greet me.", "permissionMode": "acceptEdits"}))?;
    waits(&project, "s").await?;
    kubectl(&["-n", SYSTEM, "delete", "pod", "vteam-server-0", "--grace-period=0", "--force"])?;
    kubectl(&["-n", SYSTEM, "rollout", "status", "statefulset/vteam-server", "--timeout=120s"])?;
    let caller = project.caller("edit")?;
    let before = caller.events("s").await?;
    approve(&caller, "s").await?;
    let object = project.reaches("s", "Completed").await?;
    assert_eq!(object["status"]["epoch"], 1, "the same runner went on: {object}");
    let after = caller.events("s").await?;
    assert_eq!(after[..before.len()], before[..], "nothing of the log was lost");
    Ok(())
}

/// What is deleted while the server is away it removes when it is back.
#[tokio::test]
async fn a_session_may_be_deleted_while_the_server_is_away() -> anyhow::Result<()> {
    let project = Project::alone("away")?;
    project.session("a", json!({"prompt": "Greet me.", "permissionMode": "acceptEdits"}))?;
    waits(&project, "a").await?;
    let replicas =
        |count: &str| kubectl(&["-n", SYSTEM, "scale", "statefulset/vteam-server", "--replicas", count]);
    replicas("0")?;
    kubectl(&["-n", SYSTEM, "wait", "pod/vteam-server-0", "--for=delete", "--timeout=120s"])?;
    kubectl(&["-n", &project.name, "delete", "agenticsession", "a"])?;
    let left = eventually("its pod is gone", || Ok(project.list("pods")?.is_empty().then_some(()))).await;
    replicas("1")?;
    kubectl(&["-n", SYSTEM, "rollout", "status", "statefulset/vteam-server", "--timeout=120s"])?;
    left?;
    crate::job::gone(&project.caller("view")?, "a").await
}

#[tokio::test]
async fn a_killed_launcher_costs_the_call_and_no_more() -> anyhow::Result<()> {
    let project = Project::new("tools")?;
    project.session("t", json!({"prompt": "Greet me.", "permissionMode": "acceptEdits"}))?;
    let object = waits(&project, "t").await?;
    let pod = object["status"]["podName"].as_str().context("no pod")?;
    Process::of(&project.name, pod, "tools")?.kill()?;
    let caller = project.caller("edit")?;
    eventually("the container is back", || {
        let pod = project.get("pod", pod)?;
        let containers = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
        let back =
            |c: &Value| c["name"] == "tools" && c["restartCount"].as_u64() > Some(0) && c["ready"] == true;
        Ok(containers.iter().any(back).then_some(()))
    })
    .await?;
    approve(&caller, "t").await?;
    project.reaches("t", "Completed").await?;
    Ok(())
}

#[tokio::test]
async fn a_call_under_way_fails_with_its_launcher_and_says_so() -> anyhow::Result<()> {
    let project = Project::new("undertow")?;
    project.settings(json!({"permissions": {"allowBypass": true}}))?;
    project.session("t", json!({"prompt": "Take your time.", "permissionMode": "bypass"}))?;
    let caller = project.caller("view")?;
    let pod = crate::life::is_busy(&project, &caller, "t").await?;
    Process::of(&project.name, &pod, "tools")?.kill()?;
    project.reaches("t", "Completed").await?;
    let events = caller.events("t").await?;
    let call = events.iter().find(|event| event["kind"] == "call.finished").context("no call")?;
    ensure!(call.to_string().contains("was restarted; what ran has ended"), "{call}");
    Ok(())
}

#[tokio::test]
async fn a_killed_runner_begins_again_in_its_pod() -> anyhow::Result<()> {
    let project = Project::new("runner")?;
    project.session("r", json!({"prompt": "Greet me.", "permissionMode": "acceptEdits"}))?;
    let object = waits(&project, "r").await?;
    let pod = object["status"]["podName"].as_str().context("no pod")?.to_owned();
    Process::of(&project.name, &pod, "runner")?.kill()?;
    let object = eventually("the next epoch", || {
        let object = project.get("agenticsession", "r")?;
        Ok((object["status"]["epoch"] == 2 && object["status"]["reason"] == "ApprovalPending")
            .then_some(object))
    })
    .await
    .with_context(|| project.about("r"))?;
    assert_eq!(object["status"]["podName"], pod.as_str(), "in the same pod");
    let caller = project.caller("edit")?;
    approve(&caller, "r").await?;
    project.reaches("r", "Completed").await?;
    let events = caller.events("r").await?;
    let writes = events.iter().filter(|event| event.to_string().contains("\"name\":\"Write\"")).count();
    assert_eq!(writes, 1, "nothing was done twice: {events:?}");
    Ok(())
}

#[tokio::test]
async fn the_operator_may_be_killed() -> anyhow::Result<()> {
    let project = Project::new("operator")?;
    project.session("o", json!({"prompt": "Greet me.", "permissionMode": "acceptEdits"}))?;
    waits(&project, "o").await?;
    let selector = "app.kubernetes.io/name=vteam-operator";
    kubectl(&["-n", SYSTEM, "delete", "pods", "-l", selector, "--grace-period=0", "--force"])?;
    let caller = project.caller("edit")?;
    approve(&caller, "o").await?;
    let object = project.reaches("o", "Completed").await?;
    assert_eq!(object["status"]["epoch"], 1, "{object}");
    eventually("the pod is gone", || Ok(project.list("pods")?.is_empty().then_some(()))).await
}

/// Who works as the operator, and how often that changed.
fn lease() -> anyhow::Result<(String, u64)> {
    let lease: Value =
        serde_json::from_str(&kubectl(&["-n", SYSTEM, "get", "lease", "vteam-operator", "-o", "json"])?)?;
    let holder = lease["spec"]["holderIdentity"].as_str().context("nobody holds it")?;
    let transitions = lease["spec"]["leaseTransitions"].as_u64().context("it was never taken")?;
    Ok((holder.to_owned(), transitions))
}

#[tokio::test]
async fn an_upgrade_goes_by_under_a_session() -> anyhow::Result<()> {
    let project = Project::alone("upgrade")?;
    project.session("u", json!({"prompt": "Greet me.", "permissionMode": "acceptEdits"}))?;
    waits(&project, "u").await?;
    let before = project.caller("edit")?.events("u").await?;
    let (holder, transitions) = lease()?;
    for part in ["statefulset/vteam-server", "deployment/vteam-operator"] {
        restart(part)?;
    }
    eventually("the new operator holds the lease", || {
        let now = lease()?;
        Ok((now.0 != holder && now.1 == transitions + 1).then_some(()))
    })
    .await?;
    let caller = project.caller("edit")?;
    approve(&caller, "u").await?;
    let object = project.reaches("u", "Completed").await?;
    assert_eq!(object["status"]["epoch"], 1, "the same runner went on: {object}");
    let after = caller.events("u").await?;
    assert_eq!(after[..before.len()], before[..], "nothing of the log was lost");
    Ok(())
}

/// Whoever ends lets go of the lease, so that nobody waits until it is over.
#[tokio::test]
async fn an_operator_that_ends_lets_go_of_its_lease() -> anyhow::Result<()> {
    let _project = Project::alone("lease")?;
    let replicas =
        |count: &str| kubectl(&["-n", SYSTEM, "scale", "deployment/vteam-operator", "--replicas", count]);
    ensure!(!lease()?.0.is_empty(), "nobody works");
    replicas("0")?;
    let free = eventually("nobody holds it", || {
        let path = "jsonpath={.spec.holderIdentity}";
        let holder = kubectl(&["-n", SYSTEM, "get", "lease", "vteam-operator", "-o", path])?;
        Ok(holder.is_empty().then_some(()))
    })
    .await;
    replicas("1")?;
    kubectl(&["-n", SYSTEM, "rollout", "status", "deployment/vteam-operator", "--timeout=120s"])?;
    free
}

/// What only kubectl can make, and serde_json does not read.
#[tokio::test]
async fn an_object_that_is_too_deep_to_read_is_worked_on_like_any_other() -> anyhow::Result<()> {
    let project = Project::new("deep")?;
    let deep = format!("{}1{}", r#"{"a":"#.repeat(900), "}".repeat(900));
    let object = format!(
        r#"{{"apiVersion": "vteam.ambient-code/v1alpha1", "kind": "AgenticSession",
        "metadata": {{"name": "deep", "namespace": "{}"}}, "spec": {{"prompt": "Say a word", "userContext": {deep}}}}}"#,
        project.name
    );
    kubectl_with(&["create", "--validate=false", "-f", "-"], &object)?;
    let path = "jsonpath={.status.phase} {.status.reason} {.status.work.phase}";
    let done = eventually("it is done", || {
        let said = kubectl(&["-n", &project.name, "get", "agenticsession", "deep", "-o", path])?;
        let settled = ["Completed", "Failed"].iter().any(|phase| said.starts_with(phase));
        Ok(settled.then_some(said))
    })
    .await?;
    ensure!(done == "Completed Finished Completed", "{done}");
    Ok(())
}
