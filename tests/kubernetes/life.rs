//! What a session waits for, and how it ends, when nothing is harmed.

use crate::world::{Project, eventually, kubectl};
use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};

/// A shell, and nothing that knows of vteam.
const FOREIGN: &str = "localhost/elsewhere/shell:1";

/// Waits until the reason of its phase is one of these.
pub(crate) async fn because(project: &Project, session: &str, reasons: &[&str]) -> anyhow::Result<Value> {
    eventually(&format!("{session}: {reasons:?}"), || {
        let object = project.get("agenticsession", session)?;
        let reason = object["status"]["reason"].as_str().unwrap_or_default();
        Ok(reasons.contains(&reason).then_some(object))
    })
    .await
    .with_context(|| project.about(session))
}

#[tokio::test]
async fn what_a_project_does_not_permit_is_told_and_not_run() -> anyhow::Result<()> {
    let project = Project::new("refused")?;
    project.session("bold", json!({"prompt": "Greet me.", "permissionMode": "bypass"}))?;
    let object = project.reaches("bold", "Failed").await?;
    let status = &object["status"];
    assert_eq!(status["reason"], "NotAccepted");
    assert!(status["message"].to_string().contains("permissionMode"), "{status}");
    assert!(project.list("pods")?.is_empty(), "nothing was started");
    let caller = project.caller("edit")?;
    let listed = caller.ask(Method::GET, "/agentic-sessions").send().await?.json::<Value>().await?;
    let told = |object: &Value| [&object["metadata"]["name"], &object["status"]["reason"]].map(Value::clone);
    assert_eq!(told(&listed["items"][0]), ["bold", "NotAccepted"], "{listed}");
    let shown = caller.ask(Method::GET, "/agentic-sessions/bold").send().await?.json::<Value>().await?;
    assert_eq!((&shown["spec"]["prompt"], &told(&shown)[1]), (&json!("Greet me."), &json!("NotAccepted")));
    for (method, rest) in [(Method::GET, "events"), (Method::POST, "stop"), (Method::POST, "clone")] {
        let answer = caller.ask(method, &format!("/agentic-sessions/bold/{rest}")).send().await?;
        let (status, told) = (answer.status(), answer.text().await?);
        assert!(status == 409 && told.contains("permissionMode"), "{rest}: {status}: {told}");
    }
    let other = Project::new("other")?.caller("admin")?;
    let path = format!("/api/projects/{}/agentic-sessions/bold", project.name);
    assert_eq!(other.to(Method::GET, &path).send().await?.status(), 403);
    let removed = caller.ask(Method::DELETE, "/agentic-sessions/bold").send().await?;
    assert_eq!(removed.status(), 204);
    assert_eq!(caller.ask(Method::GET, "/agentic-sessions/bold").send().await?.status(), 404);
    // The next one is not held up.
    project.session("modest", json!({"interactive": true}))?;
    because(&project, "modest", &["Accepted"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_namespace_that_is_no_project_says_what_to_do() -> anyhow::Result<()> {
    let project = Project::new("none")?;
    kubectl(&["label", "namespace", &project.name, "vteam.ambient-code/project-"])?;
    // Who watches labels is told within milliseconds, and nobody says when.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    project.session("s", json!({"prompt": "Greet me."}))?;
    let message = because(&project, "s", &["NoProject"]).await?["status"]["message"].to_string();
    assert!(message.contains("kubectl label namespace"), "{message}");
    kubectl(&["label", "namespace", &project.name, "vteam.ambient-code/project=true"])?;
    because(&project, "s", &["ApprovalPending"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_pod_that_cannot_start_is_the_reason_of_its_phase() -> anyhow::Result<()> {
    let project = Project::new("waits")?;
    let nowhere = json!({"prompt": "Greet me.", "resources": {"nodeSelector": {"vteam.test/pool": "none"}}});
    project.session("nowhere", nowhere)?;
    let absent =
        json!({"prompt": "Greet me.", "resources": {"toolsImage": "localhost/vteam/no-such-image:1"}});
    project.session("absent", absent)?;
    let object = because(&project, "nowhere", &["Unschedulable"]).await?;
    assert_eq!(object["status"]["phase"], "Creating");
    let caller = project.caller("view")?;
    let shown = caller.ask(Method::GET, "/agentic-sessions/nowhere").send().await?.json::<Value>().await?;
    let status = &shown["status"];
    assert_eq!(
        (&status["phase"], &status["reason"]),
        (&json!("Creating"), &json!("Unschedulable")),
        "{status}"
    );
    assert!(status["message"].to_string().contains("nodes are available"), "{status}");
    // What needs no programs goes on without them, and is told why there are none.
    eventually("the condition names the image", || {
        let object = project.get("agenticsession", "absent")?;
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let started = conditions.iter().find(|condition| condition["type"] == "PodStarted");
        let why = started.filter(|started| started["status"] == "False");
        let why = why.map(|started| started["message"].to_string()).unwrap_or_default();
        Ok(why.contains("no-such-image").then_some(()))
    })
    .await
    .with_context(|| project.about("absent"))?;
    for session in ["nowhere", "absent"] {
        kubectl(&["-n", &project.name, "delete", "agenticsession", session])?;
    }
    eventually("their pods are gone", || Ok(project.list("pods")?.is_empty().then_some(()))).await
}

#[tokio::test]
async fn a_finished_session_goes_when_its_time_is_over() -> anyhow::Result<()> {
    let project = Project::new("ttl")?;
    project.settings(json!({"permissions": {"allowBypass": true}}))?;
    let spec = json!({"prompt": "Greet me.", "permissionMode": "bypass", "ttlSecondsAfterFinished": 2});
    project.session("short", spec)?;
    project.reaches("short", "Completed").await?;
    eventually("the object is gone", || Ok(project.list("agenticsessions")?.is_empty().then_some(())))
        .await?;
    let caller = project.caller("view")?;
    let begun = std::time::Instant::now();
    while caller.get("short").await.is_ok() {
        ensure!(begun.elapsed() < crate::world::PATIENCE, "the log is still there");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    Ok(())
}

#[tokio::test]
async fn an_idle_session_gives_its_pod_back() -> anyhow::Result<()> {
    let project = Project::new("idle")?;
    project.settings(json!({"permissions": {"allowBypass": true}}))?;
    let spec = json!({"prompt": "Greet me.", "permissionMode": "bypass", "interactive": true, "inactivityTimeout": 2});
    project.session("idle", spec)?;
    let object = project.reaches("idle", "Stopped").await?;
    assert_eq!(object["status"]["reason"], "Inactivity");
    assert_eq!(object["status"]["stoppedReason"], "inactivity");
    eventually("its pod is gone", || Ok(project.list("pods")?.is_empty().then_some(()))).await
}

#[tokio::test]
async fn what_sleeps_can_be_stopped() -> anyhow::Result<()> {
    let project = Project::new("asleep")?;
    let spec =
        json!({"prompt": "Greet me.", "permissionMode": "acceptEdits", "workspace": {"persistent": true}});
    project.session("s", spec)?;
    because(&project, "s", &["ApprovalPending"]).await?;
    let caller = project.caller("view")?;
    for mode in ["Suspended", "Stopped"] {
        let patch = json!({"spec": {"operatingMode": mode}}).to_string();
        kubectl(&["-n", &project.name, "patch", "agenticsession", "s", "--type=merge", "-p", &patch])?;
        eventually(&format!("it is {mode}"), || {
            Ok((project.get("agenticsession", "s")?["status"]["phase"] == mode).then_some(()))
        })
        .await
        .with_context(|| project.about("s"))?;
        eventually("its pod is gone", || Ok(project.list("pods")?.is_empty().then_some(()))).await?;
        let events = caller.events("s").await?;
        let over = events.iter().any(|event| event["kind"] == "run.finished");
        assert_eq!(over, mode == "Stopped", "{events:?}");
    }
    let begun = std::time::Instant::now();
    while caller.get("s").await?["status"]["phase"] != "Stopped" {
        ensure!(begun.elapsed() < crate::world::PATIENCE, "{}", caller.get("s").await?);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_persistent_workspace_outlives_its_pod() -> anyhow::Result<()> {
    let project = Project::new("kept")?;
    let spec =
        json!({"prompt": "Greet me.", "permissionMode": "acceptEdits", "workspace": {"persistent": true}});
    project.session("kept", spec)?;
    let object = because(&project, "kept", &["ApprovalPending"]).await?;
    let pod = object["status"]["podName"].as_str().context("no pod")?;
    kubectl(&["-n", &project.name, "delete", "pod", pod, "--grace-period=1"])?;
    eventually("the next epoch", || {
        let object = project.get("agenticsession", "kept")?;
        let status = &object["status"];
        Ok((status["epoch"] == 2 && status["reason"] == "ApprovalPending").then_some(()))
    })
    .await
    .with_context(|| project.about("kept"))?;
    let caller = project.caller("edit")?;
    crate::harm::approve(&caller, "kept").await?;
    let object = project.reaches("kept", "Completed").await?;
    assert!(object["status"]["losses"].is_null(), "a deleted pod is nobody's failure: {object}");
    let events = caller.events("kept").await?;
    ensure!(
        serde_json::to_string(&events)?.contains("hello from /workspace"),
        "the file was not kept: {events:?}"
    );
    Ok(())
}

/// An image of somebody else's with a shell and nothing of vteam, named by the project and by a session.
#[tokio::test]
async fn programs_run_in_an_image_of_anybodys() -> anyhow::Result<()> {
    let project = Project::new("image")?;
    let caller = project.caller("edit")?;
    let spec = json!({"prompt": "Greet me.", "permissionMode": "acceptEdits", "needsPrograms": true});
    let runs_there = async |name: &str, spec: Value| {
        project.session(name, spec)?;
        let object = crate::harm::waits(&project, name).await?;
        let pod = project.get("pod", object["status"]["podName"].as_str().context("no pod")?)?;
        assert_eq!(pod["spec"]["containers"][1]["image"], FOREIGN);
        crate::harm::approve(&caller, name).await?;
        project.reaches(name, "Completed").await?;
        crate::job::did_the_job(&caller.events(name).await?)
    };
    project.settings(json!({"defaults": {"toolsImage": FOREIGN}}))?;
    runs_there("of-the-project", spec.clone()).await?;
    // What a session says goes before what its project does.
    project.settings(json!({"defaults": {"toolsImage": "localhost/vteam/no-such-image:1"}}))?;
    let mut own = spec;
    own["resources"] = json!({"toolsImage": FOREIGN});
    runs_there("of-the-session", own).await
}

/// All of them live, before the first one is over.
#[tokio::test]
async fn twenty_at_once() -> anyhow::Result<()> {
    let project = Project::new("twenty")?;
    for n in 0..20 {
        let spec = json!({"prompt": "Greet me.", "permissionMode": "acceptEdits",
            "resources": {"cpu": "10m", "memory": "64Mi"}});
        project.session(&format!("s{n}"), spec)?;
    }
    eventually("each waits for a person, in a pod that runs", || {
        let waiting = project.list("agenticsessions")?;
        let waiting =
            waiting.iter().filter(|session| session["status"]["reason"] == "ApprovalPending").count();
        let pods = project.list("pods")?;
        let running = pods.iter().filter(|pod| pod["status"]["phase"] == "Running").count();
        ensure!((waiting, running) == (20, 20), "{waiting} wait, {running} pods run");
        Ok(Some(()))
    })
    .await?;
    let caller = project.caller("edit")?;
    for n in 0..20 {
        crate::harm::approve(&caller, &format!("s{n}")).await?;
    }
    for n in 0..20 {
        let name = format!("s{n}");
        project.reaches(&name, "Completed").await?;
        crate::job::did_the_job(&caller.events(&name).await?)?;
    }
    eventually("all pods are gone", || Ok(project.list("pods")?.is_empty().then_some(()))).await
}
