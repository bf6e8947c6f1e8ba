//! Bad input, bad models, bad luck: each has a message that says what to do, and a true end.

use crate::world::{World, phase, session};
use model::{
    event::{Event, Stored},
    lifecycle::{Phase, Reason},
};
use serde_json::json;

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
    let missing = world.get(&session("never-was")).await.expect_err("404").to_string();
    assert!(missing.starts_with("404") && missing.contains("vteam sessions ls"), "{missing}");

    let plugin =
        world.request(reqwest::Method::POST, "/api/projects/default/plugins").body("no wasm").send().await?;
    assert_eq!(plugin.status(), 422);
    assert_eq!(plugin.headers()["content-type"], "application/problem+json");
    assert!(plugin.text().await?.contains("WebAssembly"));
    Ok(())
}
