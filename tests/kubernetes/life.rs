//! What a session waits for, and how it ends, when nothing is harmed.

use crate::{
    cli::Streamed,
    process::Process,
    world::{Caller, PATIENCE, Project, eventually, kubectl},
};
use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

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
    // With the grace that the pod has: both containers end by themselves within it.
    let path = format!("/api/v1/namespaces/{}/pods?watch=1&fieldSelector=metadata.name={pod}", project.name);
    let mut watch = Command::new("kubectl");
    let mut watch = Streamed(watch.args(["get", "--raw", &path]).stdout(Stdio::piped()).spawn()?);
    let mut news = BufReader::new(watch.0.stdout.take().context("no output")?).lines();
    news.next().context("the pod is not there")??;
    kubectl(&["-n", &project.name, "delete", "pod", pod, "--wait=false"])?;
    let last = loop {
        let news: Value = serde_json::from_str(&news.next().context("the watch has ended")??)?;
        if news["type"] == "DELETED" {
            break news;
        }
    };
    let containers = last["object"]["status"]["containerStatuses"].as_array().context("no containers")?;
    let codes: Vec<_> = containers.iter().map(|one| &one["state"]["terminated"]["exitCode"]).collect();
    assert_eq!(codes, [&json!(0), &json!(0)], "{last}");
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

#[tokio::test]
async fn a_program_sees_what_it_was_given_and_no_name() -> anyhow::Result<()> {
    let project = Project::new("around")?;
    let spec = json!({"prompt": "Look around.", "needsPrograms": true,
        "environmentVariables": {"PLANTED": "for-programs"}});
    project.session("s", spec)?;
    let object = crate::harm::waits(&project, "s").await?;
    // In neither container's own.
    let name = object["status"]["podName"].as_str().context("no pod")?;
    ensure!(!project.get("pod", name)?.to_string().contains("for-programs"), "{}", project.about("s"));
    let exec = |line: &[&str]| {
        kubectl(&[&["-n", &project.name, "exec", name, "-c", "tools", "--"][..], line].concat())
    };
    ensure!(!exec(&["env"])?.contains("for-programs"));
    let names = exec(&["cat", "/etc/resolv.conf"])?;
    let servers: Vec<_> = names.lines().filter(|line| line.starts_with("nameserver")).collect();
    assert_eq!(servers, ["nameserver 127.0.0.1"], "{names}");
    ensure!(exec(&["getent", "hosts", "kubernetes.default.svc"]).is_err(), "a name was found");
    crate::harm::approve(&project.caller("edit")?, "s").await?;
    project.reaches("s", "Completed").await?;
    let events = project.caller("view")?.events("s").await?;
    let said = events.iter().find(|event| event["kind"] == "call.finished").context("no call")?;
    let said = said["data"]["content"][0]["text"].as_str().context("no text")?;
    for part in ["PLANTED=for-programs", "uid=65532", "resolv.conf: Permission denied"] {
        ensure!(said.contains(part), "{part}: {said}");
    }
    ensure!(!said.contains("KUBERNETES_"), "{said}");
    Ok(())
}

/// Waits until its program runs; its pod.
pub(crate) async fn is_busy(project: &Project, caller: &Caller, session: &str) -> anyhow::Result<String> {
    let begun = Instant::now();
    loop {
        // At first the server does not know it.
        let events = caller.events(session).await.unwrap_or_default();
        let under_way = events.iter().any(|event| event["kind"] == "call.intended");
        let object = project.get("agenticsession", session)?;
        if under_way && object["status"]["phase"] == "Running" {
            return Ok(object["status"]["podName"].as_str().context("no pod")?.to_owned());
        }
        ensure!(begun.elapsed() < PATIENCE, "its program does not run: {}", project.about(session));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_run_ends_with_its_time_and_its_time_may_be_changed() -> anyhow::Result<()> {
    let project = Project::new("timeout")?;
    project.settings(json!({"permissions": {"allowBypass": true}}))?;
    let spec =
        |timeout: u64| json!({"prompt": "Take your time.", "permissionMode": "bypass", "timeout": timeout});
    project.session("short", spec(3))?;
    project.session("shortened", spec(3600))?;
    let object = project.reaches("short", "Failed").await?;
    assert_eq!(object["status"]["reason"], "Timeout", "{object}");
    is_busy(&project, &project.caller("view")?, "shortened").await?;
    let shorter = r#"{"spec": {"timeout": 3, "displayName": "Shortened"}}"#;
    kubectl(&["-n", &project.name, "patch", "agenticsession", "shortened", "--type=merge", "-p", shorter])?;
    let object = project.reaches("shortened", "Failed").await?;
    assert_eq!(object["status"]["reason"], "Timeout", "{object}");
    assert_eq!(object["status"]["observedGeneration"], object["metadata"]["generation"]);
    // What is fixed is refused with what to do.
    let other = r#"{"spec": {"prompt": "Another."}}"#;
    let refused =
        kubectl(&["-n", &project.name, "patch", "agenticsession", "shortened", "--type=merge", "-p", other]);
    ensure!(refused.err().context("it was changed")?.to_string().contains("is fixed once a session exists"));
    eventually("their pods are gone", || Ok(project.list("pods")?.is_empty().then_some(()))).await
}

/// Somebody else's controller may have to do something first; its runner does not wait for that.
#[tokio::test]
async fn what_is_held_while_it_is_deleted_is_stopped() -> anyhow::Result<()> {
    let project = Project::new("held")?;
    project.session("s", json!({"prompt": "Greet me.", "permissionMode": "acceptEdits"}))?;
    because(&project, "s", &["ApprovalPending"]).await?;
    let patch = |finalizers: Value| {
        let patch = json!({"metadata": {"finalizers": finalizers}}).to_string();
        kubectl(&["-n", &project.name, "patch", "agenticsession", "s", "--type=merge", "-p", &patch])
    };
    patch(json!(["example.com/audit"]))?;
    kubectl(&["-n", &project.name, "delete", "agenticsession", "s", "--wait=false"])?;
    project.reaches("s", "Stopped").await?;
    eventually("its pod is gone", || Ok(project.list("pods")?.is_empty().then_some(()))).await?;
    patch(json!(null))?;
    eventually("it is gone", || Ok(project.list("agenticsessions")?.is_empty().then_some(()))).await
}

/// Whatever it is in the middle of.
#[tokio::test]
async fn deleted_in_any_phase_nothing_of_it_is_left() -> anyhow::Result<()> {
    let project = Project::new("deleted")?;
    project.settings(json!({"permissions": {"allowBypass": true}}))?;
    let caller = project.caller("view")?;
    let waiting =
        json!({"prompt": "Greet me.", "permissionMode": "acceptEdits", "workspace": {"persistent": true}});
    let busy =
        json!({"prompt": "Take your time.", "permissionMode": "bypass", "workspace": {"persistent": true}});
    let nowhere = json!({"prompt": "Greet me.", "resources": {"nodeSelector": {"vteam.test/pool": "none"}}});
    let absent_class =
        json!({"prompt": "Greet me.", "resourceOverrides": {"priorityClass": "vteam-test-absent"}});
    let mode = |session: &str, mode: &str| {
        let patch = json!({"spec": {"operatingMode": mode}}).to_string();
        kubectl(&["-n", &project.name, "patch", "agenticsession", session, "--type=merge", "-p", &patch])
    };
    project.session("pending", absent_class)?;
    project.session("creating", nowhere)?;
    project.session("failed", json!({"prompt": "Greet me.", "persona": "NOBODY"}))?;
    project.session("completed", json!({"prompt": "Say a word."}))?;
    for session in ["waiting", "suspended", "stopped"] {
        project.session(session, waiting.clone())?;
    }
    for session in ["running", "stopping", "suspending"] {
        project.session(session, busy.clone())?;
    }
    because(&project, "pending", &["Forbidden"]).await?;
    because(&project, "creating", &["Unschedulable"]).await?;
    because(&project, "failed", &["PersonaMissing"]).await?;
    project.reaches("completed", "Completed").await?;
    for session in ["waiting", "suspended", "stopped"] {
        because(&project, session, &["ApprovalPending"]).await?;
    }
    is_busy(&project, &caller, "running").await?;
    for session in ["stopping", "suspending"] {
        // It does not hear that it is to end, and stays where it is.
        let pod = is_busy(&project, &caller, session).await?;
        Process::of(&project.name, &pod, "runner")?.pause()?;
    }
    for (session, wanted, phase) in [
        ("suspended", "Suspended", "Suspended"),
        ("stopped", "Stopped", "Stopped"),
        ("stopping", "Stopped", "Stopping"),
        ("suspending", "Suspended", "Suspending"),
    ] {
        mode(session, wanted)?;
        eventually(&format!("{session} is {phase}"), || {
            Ok((project.get("agenticsession", session)?["status"]["phase"] == phase).then_some(()))
        })
        .await
        .with_context(|| project.about(session))?;
    }
    let all = [
        "pending",
        "creating",
        "waiting",
        "running",
        "suspending",
        "suspended",
        "stopping",
        "stopped",
        "completed",
        "failed",
    ];
    kubectl(&[&["-n", &project.name, "delete", "agenticsession", "--wait=false"][..], &all].concat())?;
    for kind in ["agenticsessions", "pods", "persistentvolumeclaims"] {
        eventually(&format!("no {kind} are left"), || {
            let left = project.list(kind)?;
            let names: Vec<_> = left.iter().map(|one| one["metadata"]["name"].to_string()).collect();
            ensure!(names.is_empty(), "{names:?}");
            Ok(Some(()))
        })
        .await?;
    }
    for session in all {
        crate::job::gone(&caller, session).await.context(session)?;
    }
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
    // Settings and sessions reach the operator by two ways.
    let judged = async |image: &str| {
        eventually("the settings were read", || {
            let object = project.get("projectsettings", "projectsettings")?;
            let generation = &object["metadata"]["generation"];
            let said = object["spec"]["defaults"]["toolsImage"] == image;
            Ok((said && object["status"]["observedGeneration"] == *generation).then_some(()))
        })
        .await
    };
    judged(FOREIGN).await?;
    runs_there("of-the-project", spec.clone()).await?;
    // What a session says goes before what its project does.
    project.settings(json!({"defaults": {"toolsImage": "localhost/vteam/no-such-image:1"}}))?;
    judged("localhost/vteam/no-such-image:1").await?;
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
