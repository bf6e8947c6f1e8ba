//! Who may do what: each documented route by each kind of caller, with real tokens of the cluster's own.

use crate::world::{Caller, Project, kubectl};
use reqwest::Method;
use serde_json::Value;

/// What a caller without leave is answered; `None`: whatever the route answers to those who may.
fn expected(caller: &str, needs: Option<(&str, &str)>) -> Option<u16> {
    let verb = needs.map(|(verb, _)| verb);
    match (caller, needs) {
        ("no token" | "invalid", _) => Some(401),
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

#[tokio::test]
async fn a_session_belongs_to_who_made_it() -> anyhow::Result<()> {
    let project = Project::new("owner")?;
    let edit = project.caller("edit")?;
    let name = edit.create(serde_json::json!({"interactive": true})).await?;
    let object = project.get("agenticsession", &name)?;
    let by = format!("system:serviceaccount:{}:edit", project.name);
    assert_eq!(object["metadata"]["annotations"]["vteam.ambient-code/created-by"], by.as_str());
    let seen: Value = project.caller("view")?.get(&name).await?;
    assert_eq!(seen["metadata"]["annotations"]["vteam.ambient-code/created-by"], by.as_str());
    kubectl(&["-n", &project.name, "delete", "agenticsession", &name])?;
    Ok(())
}
