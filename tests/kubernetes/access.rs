//! Who may do what: each documented route by each kind of caller, with real tokens of the cluster's own.

use crate::world::{Caller, PATIENCE, Project, SYSTEM, eventually, kubectl};
use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// What a caller without leave is answered; `None`: whatever the route answers to those who may.
fn expected(caller: &str, needs: Option<(&str, &str)>) -> Option<u16> {
    let verb = needs.map(|(verb, _)| verb);
    match (caller, needs) {
        ("no token" | "invalid" | "over", _) => Some(401),
        (_, None) => None,
        ("another project's admin" | "nobody", Some(_)) => Some(403),
        ("view", Some(_)) => (!matches!(verb, Some("get" | "list"))).then_some(403),
        ("edit", Some((verb, "projectsettings"))) => (verb != "get").then_some(403),
        _ => None,
    }
}

/// A verb on a resource.
type Needs = (String, String);

/// As the snapshot of the server's own table has it.
fn table() -> Vec<(Method, String, Option<Needs>)> {
    let text =
        include_str!("../../host/server/src/snapshots/server__access__tests__every_route_asks_leave.snap");
    let lines = text.lines().filter(|line| line.contains(" /"));
    lines
        .map(|line| {
            let (method, rest) = line.split_once(' ').expect("a method");
            let (route, needs) = rest.split_once(": ").expect("what it needs");
            let needs = needs.split_once(' ').filter(|_| needs != "whoever is known");
            let needs = needs.map(|(verb, resource)| (verb.to_owned(), resource.to_owned()));
            (method.parse().expect("a method"), route.to_owned(), needs)
        })
        .collect()
}

#[tokio::test]
async fn every_route_by_every_caller() -> anyhow::Result<()> {
    let (project, other) = (Project::new("access")?, Project::new("access-other")?);
    let callers = [
        ("no token", Caller::with(None, &project.name)?),
        ("invalid", Caller::with(Some("eyJhbGciOiJSUzI1NiJ9.e30.x"), &project.name)?),
        ("over", Caller::with(Some(&over(&project).await?), &project.name)?),
        ("another project's admin", other.caller("admin")?.in_project(&project.name)),
        ("nobody", project.caller("nobody")?),
        ("view", project.caller("view")?),
        ("edit", project.caller("edit")?),
        ("admin", project.caller("admin")?),
    ];
    let mut wrong = Vec::new();
    for (method, route, needs) in table() {
        if route == "/health" {
            continue;
        }
        let path = route
            .replace("{project}", &project.name)
            .replace("{session}", "no-such-session")
            .replace("{*path}", "x")
            .replace("{ask}", "a")
            .replace("{plugin}", "vteam.files");
        for (name, caller) in &callers {
            let needs = needs.as_ref().map(|(verb, resource)| (verb.as_str(), resource.as_str()));
            let response = caller.to(method.clone(), &path).send().await?;
            let status = response.status().as_u16();
            let body = response.text().await?;
            let right = match expected(name, needs) {
                Some(refusal) => status == refusal,
                None => !matches!(status, 401 | 403 | 500..),
            };
            if !right {
                wrong.push(format!("{name}: {method} {path}: {status} {body}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// A token that was good: it is bound to an object, and dies with it.
async fn over(project: &Project) -> anyhow::Result<String> {
    let at = project.name.as_str();
    let secret =
        kubectl(&["-n", at, "create", "secret", "generic", "over", "-o", "jsonpath={.metadata.uid}"])?;
    let bound =
        ["--bound-object-kind=Secret", "--bound-object-name=over", "--bound-object-uid", secret.trim()];
    let token = kubectl(&[&["-n", at, "create", "token", "admin"][..], &bound].concat())?.trim().to_owned();
    let caller = Caller::with(Some(&token), at)?;
    let status = async || anyhow::Ok(caller.ask(Method::GET, "/agentic-sessions").send().await?.status());
    assert_eq!(status().await?, 200);
    kubectl(&["-n", at, "delete", "secret", "over"])?;
    // The API server remembers tokens for 10 s, and the server what it said for 5.
    let begun = Instant::now();
    while status().await? != 401 {
        ensure!(begun.elapsed() < PATIENCE, "a token that is over is good for ever");
        sleep(Duration::from_millis(200)).await;
    }
    Ok(token)
}

/// What is taken from somebody counts within seconds, also for who was let in before.
#[tokio::test]
async fn what_is_taken_away_is_gone_soon() -> anyhow::Result<()> {
    let project = Project::new("taken")?;
    let edit = project.caller("edit")?;
    let status = async || anyhow::Ok(edit.ask(Method::GET, "/agentic-sessions").send().await?.status());
    assert_eq!(status().await?, 200);
    kubectl(&["-n", &project.name, "delete", "rolebinding", "edit"])?;
    let begun = Instant::now();
    while status().await? != 403 {
        ensure!(begun.elapsed() < PATIENCE, "what was taken away still counts");
        sleep(Duration::from_millis(100)).await;
    }
    let projects: Value =
        edit.to(Method::GET, "/api/projects").send().await?.error_for_status()?.json().await?;
    let listed = projects["items"].as_array().into_iter().flatten();
    assert!(listed.into_iter().all(|one| one["name"] != project.name.as_str()), "{projects}");
    Ok(())
}

/// What the server follows may be behind; what is asked for by name is read with the caller's own token.
#[tokio::test]
async fn what_was_written_is_read() -> anyhow::Result<()> {
    let project = Project::new("fresh")?;
    let view = project.caller("view")?;
    for name in ["one", "two", "three", "four", "five"] {
        project.settings(serde_json::json!({"displayName": name}))?;
        let read: Value = view.ask(Method::GET, "/settings").send().await?.error_for_status()?.json().await?;
        assert_eq!(read["spec"]["displayName"], name, "{read}");
    }
    kubectl(&["-n", &project.name, "delete", "projectsettings", "--all"])?;
    let read: Value = view.ask(Method::GET, "/settings").send().await?.error_for_status()?.json().await?;
    assert!(read["spec"]["displayName"].is_null(), "{read}");
    // More of a session than its record is asked for before the server was told of it.
    for name in ["first", "second", "third"] {
        project.session(name, serde_json::json!({"interactive": true}))?;
        let log = view.ask(Method::GET, &format!("/agentic-sessions/{name}/export")).send().await?;
        assert_eq!(log.status(), 200, "{name}");
    }
    Ok(())
}

/// Not by a connection that breaks while they are still sending.
#[tokio::test]
async fn who_may_not_upload_is_told_so() -> anyhow::Result<()> {
    let project = Project::new("upload")?;
    let view = project.caller("view")?;
    for _ in 0..8 {
        let sent = view.ask(Method::PUT, "/archives").body(vec![0; 5 << 20]).send().await?;
        assert_eq!(sent.status(), 403);
    }
    Ok(())
}

/// Routes of a session that is there: nobody is told so who may not see it, and nothing answers as if it were not there.
#[tokio::test]
async fn every_route_of_a_session_that_is_there() -> anyhow::Result<()> {
    let project = Project::new("there")?;
    let (nobody, view, edit) = (project.caller("nobody")?, project.caller("view")?, project.caller("edit")?);
    let name = edit.create(serde_json::json!({"interactive": true})).await?;
    let mut wrong = Vec::new();
    let mut routes: Vec<_> =
        table().into_iter().filter(|(_, route, _)| route.contains("{session}")).collect();
    // What ends it comes last.
    routes.sort_by_key(|(_, route, _)| (route.ends_with("/{session}"), route.ends_with("/stop")));
    for (method, route, needs) in routes {
        let path = route.replace("{project}", &project.name).replace("{session}", &name);
        let path = path.replace("{*path}", "x").replace("{ask}", "a");
        let reads = matches!(needs.as_ref().map(|(verb, _)| verb.as_str()), Some("get"));
        for (who, caller) in [("nobody", &nobody), ("view", &view), ("edit", &edit)] {
            let response = caller.to(method.clone(), &path).send().await?;
            let status = response.status().as_u16();
            let right = match who {
                "nobody" => status == 403,
                "view" if !reads => status == 403,
                // Before its first run it has no diff, and nobody asked `a`; the file `x` is not there.
                _ => matches!(status, 200..300 | 400 | 404 | 409 | 415 | 422),
            };
            // One that streams has no end.
            let said = if status < 300 { String::new() } else { response.text().await? };
            if !right || said.contains("no session of this name") {
                wrong.push(format!("{who}: {method} {path}: {status} {said}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn a_copy_takes_leave_to_read_what_is_copied() -> anyhow::Result<()> {
    let project = Project::new("copied")?;
    let at = project.name.as_str();
    let name = project.caller("edit")?.create(serde_json::json!({"interactive": true})).await?;
    kubectl(&[
        "-n",
        at,
        "create",
        "role",
        "blind",
        "--verb=create",
        "--resource=agenticsessions.vteam.ambient-code",
    ])?;
    let account = format!("--serviceaccount={at}:nobody");
    kubectl(&["-n", at, "create", "rolebinding", "blind", "--role=blind", &account])?;
    project.may("nobody", &["create", "agenticsessions.vteam.ambient-code"]).await?;
    let blind = project.caller("nobody")?;
    blind.create(serde_json::json!({"interactive": true})).await?;
    let copy = async |caller: &Caller| {
        let answer = caller.ask(Method::POST, &format!("/agentic-sessions/{name}/clone")).send().await?;
        anyhow::Ok((answer.status().as_u16(), answer.text().await?))
    };
    let (status, said) = copy(&blind).await?;
    ensure!(status == 403 && said.contains("may not get agenticsessions"), "{status} {said}");
    let (status, said) = copy(&project.caller("edit")?).await?;
    ensure!(status == 201, "{status} {said}");
    Ok(())
}

#[tokio::test]
async fn who_did_what_is_in_the_servers_log() -> anyhow::Result<()> {
    let project = Project::new("audit")?;
    let (edit, view) = (project.caller("edit")?, project.caller("view")?);
    let name = edit
        .create(serde_json::json!({"interactive": true, "prompt": "Say a word about secret-7c1."}))
        .await?;
    let refused = view.ask(Method::DELETE, &format!("/agentic-sessions/{name}")).send().await?;
    assert_eq!(refused.status(), 403);
    let failed =
        edit.ask(Method::POST, "/agentic-sessions").json(&serde_json::json!({"promt": "x"})).send().await?;
    assert_eq!(failed.status(), 422);
    let removed = edit.ask(Method::DELETE, &format!("/agentic-sessions/{name}")).send().await?;
    assert_eq!(removed.status(), 204);
    let text = |line: &Value, field: &str| line[field].as_str().unwrap_or_default().to_owned();
    // A log reaches its reader a moment later.
    let (log, told) = eventually("four lines", || {
        let log = kubectl(&["-n", SYSTEM, "logs", "vteam-server-0", "--since=10m"])?;
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let ours = lines.filter(|line| line["target"] == "audit" && line["project"] == project.name.as_str());
        let told: Vec<_> = ours
            .map(|line| {
                let who = text(&line, "who").rsplit(':').next().unwrap_or_default().to_owned();
                let session = text(&line, "session").rsplit('/').next().unwrap_or_default().to_owned();
                let status = line["status"].as_u64().unwrap_or_default();
                (who, text(&line, "verb"), session, status, text(&line, "outcome"))
            })
            .collect();
        Ok((told.len() >= 4).then_some((log, told)))
    })
    .await?;
    let line = |who: &str, verb: &str, session: &str, status: u64, outcome: &str| {
        (who.to_owned(), verb.to_owned(), session.to_owned(), status, outcome.to_owned())
    };
    let expected = [
        line("edit", "create", &name, 201, "done"),
        line("view", "delete", &name, 403, "refused"),
        line("edit", "create", "", 422, "failed"),
        line("edit", "delete", &name, 204, "done"),
    ];
    assert_eq!(told, expected);
    assert!(!log.contains("secret-7c1"), "what was written is nobody's business");
    Ok(())
}

#[tokio::test]
async fn a_session_belongs_to_who_made_it() -> anyhow::Result<()> {
    let project = Project::new("owner")?;
    let edit = project.caller("edit")?;
    // Whoever they say that they are.
    let forged = serde_json::json!({"apiVersion": "vteam.ambient-code/v1alpha1", "kind": "AgenticSession",
        "metadata": {"annotations": {"vteam.ambient-code/created-by": "admin"}}, "spec": {"interactive": true}});
    let made = edit.ask(Method::POST, "/agentic-sessions").json(&forged).send().await?;
    let made: Value = made.error_for_status()?.json().await?;
    let name = made["metadata"]["name"].as_str().context("no name")?.to_owned();
    let object = project.get("agenticsession", &name)?;
    let by = format!("system:serviceaccount:{}:edit", project.name);
    assert_eq!(object["metadata"]["annotations"]["vteam.ambient-code/created-by"], by.as_str());
    let seen: Value = project.caller("view")?.get(&name).await?;
    assert_eq!(seen["metadata"]["annotations"]["vteam.ambient-code/created-by"], by.as_str());
    kubectl(&["-n", &project.name, "delete", "agenticsession", &name])?;
    Ok(())
}
