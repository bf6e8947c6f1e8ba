//! Bad input, bad models, bad luck: each has a message that says what to do, and a true end.

use crate::world::{World, phase, session};
use anyhow::Context as _;
use model::{
    event::{Event, Stored},
    lifecycle::{Phase, Reason},
};
use serde_json::json;
use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

fn shown(log: &[Stored]) -> String {
    serde_json::to_string(log).unwrap_or_default()
}

fn reason(log: &[Stored]) -> Option<Reason> {
    log.iter().rev().find_map(|s| match &s.event {
        Event::PhaseChanged(changed) => Some(changed.reason.clone()),
        _ => None,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_model_gets_wrong_it_is_told() -> anyhow::Result<()> {
    let script = r#"
name: wrong
rules:
  - when: { turn: 0 }
    reply:
      - tool_use: { name: NoSuchTool, input: {} }
      - tool_use: { name: Read, raw_input: "{\"file_path\":" }
      - tool_use: { name: Read, raw_input: "{\"file_path\": \"a\", \"file_path\": \"b\"}" }
      - tool_use: { name: Read, input: { path: wrong-name } }
      - tool_use: { name: Read, input: { file_path: ../../etc/passwd } }
  - when: { turn: 1, result_is_error: true }
    reply: [{ text: "sorry" }]
"#;
    let world = World::up(script).await;
    world.create("wrong", json!({ "prompt": "go" })).await?;
    let log = world.settled("wrong").await;
    assert_eq!(phase(&log), Some(Phase::Completed));
    let text = shown(&log);
    for said in ["NoSuchTool", "not valid JSON", "twice", "file_path"] {
        assert!(text.contains(said), "nobody said {said:?}");
    }
    assert!(!text.contains("root:x:0"), "a file outside was read");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_fails_ends_the_run_truthfully() -> anyhow::Result<()> {
    let script = r#"
name: faults
rules:
  - when: { user_contains: overloaded-once }
    reply: [{ text: "after a retry" }]
    fault: { kind: status, status: 529, error: overloaded_error, retry_after_ms: 10, times: 1 }
  - when: { user_contains: wrong-key }
    fault: { kind: status, status: 401, error: authentication_error }
  - when: { user_contains: cut-once }
    reply: [{ text: "whole at last" }]
    fault: { kind: truncate, after: 4, times: 1 }
  - when: { user_contains: unknown-things }
    reply: [{ block: { type: of_tomorrow, x: 1 } }, { text: "known" }]
  - when: { user_contains: expensive }
    reply: [{ text: "never said" }]
"#;
    let world = World::up(script).await;
    let check = |name: &'static str, budget: Option<f64>, expected: (Phase, Reason)| {
        let world = &world;
        async move {
            world.create(name, json!({ "prompt": name, "budget": budget })).await?;
            let log = world.settled(name).await;
            assert_eq!(phase(&log), Some(expected.0), "{name}: {}", shown(&log));
            assert_eq!(reason(&log), Some(expected.1), "{name}");
            anyhow::Ok(log)
        }
    };
    check("overloaded-once", None, (Phase::Completed, Reason::Finished)).await?;
    check("cut-once", None, (Phase::Completed, Reason::Finished)).await?;
    check("unknown-things", None, (Phase::Completed, Reason::Finished)).await?;
    let log = check("wrong-key", None, (Phase::Failed, Reason::ModelUnauthorized)).await?;
    assert!(shown(&log).contains("key"), "it says what to look at");
    check("expensive", Some(0.000_001), (Phase::Failed, Reason::BudgetSpent)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_say_what_to_write_instead() -> anyhow::Result<()> {
    let world = World::up("name: none\nrules: [{ reply: [{ text: hi }] }]\n").await;
    let refused = async |spec| world.create("x", spec).await.expect_err("refused").to_string();
    assert!(refused(json!({ "prompt": "x", "permisionMode": "plan" })).await.contains("permissionMode"));
    assert!(refused(json!({ "prompt": "x", "persona": "NOBODY" })).await.contains("STAFF_ENGINEER"));
    assert!(
        refused(json!({ "prompt": "x", "workspace": { "dir": { "path": "/no/such/folder" } } }))
            .await
            .contains("/no/such/folder")
    );
    for path in ["/".into(), world.data(), world.data().join("keys")] {
        let refused = refused(json!({ "prompt": "x", "workspace": { "dir": { "path": path } } })).await;
        assert!(refused.starts_with("422") && refused.contains("spec.workspace.dir.path"), "{refused}");
    }
    let missing = world.get(&session("never-was")).await.expect_err("404").to_string();
    assert!(missing.starts_with("404") && missing.contains("vteam sessions ls"), "{missing}");

    let plugin =
        world.request(reqwest::Method::POST, "/api/projects/default/plugins").body("no wasm").send().await?;
    assert_eq!(plugin.status(), 422);
    assert_eq!(plugin.headers()["content-type"], "application/problem+json");
    assert!(plugin.text().await?.contains("WebAssembly"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_ends_with_the_documented_codes() -> anyhow::Result<()> {
    let script = r#"
name: codes
rules:
  - when: { user_contains: long }
    pace: { delta_ms: 200, chunk: 1 }
    reply: [{ text: "this takes longer than anybody wants to wait for it, so somebody removes it meanwhile" }]
  - reply: [{ text: hi }]
"#;
    let world = World::up(script).await;
    let check = |arguments: &[&str], code: i32, part: &str| {
        let output = world.vteam(arguments).output().expect("the command runs");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(part), "{arguments:?}: {said}");
    };
    world.create("rests", json!({ "prompt": "short" })).await?;
    world.settled("rests").await;
    check(&["sessions", "stop", "rests"], 0, "it is at rest already (Completed)");
    let markdown = world.dir.path().join("wrong.md");
    std::fs::write(&markdown, "---\nnme: x\n---\n")?;
    check(&["plugins", "build", &markdown.display().to_string()], 2, "line 2: 'nme' is none of");
    check(&["sessions", "ls", "--token-file", "/no/such/token"], 7, "no token at /no/such/token");
    check(&["sessions", "ls", "--server", &world.url.replace("http:", "https:")], 6, "http://127.0.0.1:PORT");
    check(&["run", "go", "--in-place", "/"], 2, "spec.workspace.dir.path");
    let doctor = world.vteam(&["doctor"]).output()?;
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("scripted/codes: the server that runs plays"));

    let mut long = world.vteam(&["run", "long", "--name", "long"]);
    let mut long = long.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let shown = BufReader::new(long.stdout.take().context("stdout")?).lines();
    // Kept open: a command whose reader has left ends for that reason.
    let shown = shown.map_while(Result::ok).skip_while(|line| line != "> long");
    let mut shown = shown.peekable();
    assert!(shown.peek().is_some(), "it follows the session");
    check(&["sessions", "rm", "long"], 0, "removed");
    let output = long.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        (output.status.code(), said.trim()),
        (Some(4), "vteam: the session long was removed meanwhile")
    );
    Ok(())
}
