//! No room left: in a workspace, and on the disk of the data folder.

use crate::world::{PATIENCE, World, open_approval, phase, session};
use model::{
    event::{Blame, CallFinished, CallOutcome, Event, Stored},
    lifecycle::{Phase, Reason},
};
use reqwest::Method;
use serde_json::json;
use std::{fs, io::Write as _, path::Path, time::Instant};

fn calls(log: &[Stored]) -> Vec<(&CallOutcome, String)> {
    let said = |call: &CallFinished| serde_json::to_string(&call.content).unwrap_or_default();
    log.iter()
        .filter_map(|s| match &s.event {
            Event::CallFinished(call) => Some((&call.outcome, said(call))),
            _ => None,
        })
        .collect()
}

fn finished(log: &[Stored]) -> usize {
    log.iter().filter(|s| matches!(s.event, Event::RunFinished(_))).count()
}

fn end(log: &[Stored]) -> Option<(Phase, Reason, String)> {
    log.iter().rev().find_map(|s| match &s.event {
        Event::PhaseChanged(changed) => {
            Some((changed.phase, changed.reason.clone(), changed.message.raw().to_owned()))
        }
        _ => None,
    })
}

/// The message of the second run follows results, so the script goes on counting.
const FILL: &str = r#"
name: fill
rules:
  - when: { turn: 0, user_contains: fill it }
    reply: [{ tool_use: { name: Bash, input: { command: "head -c 1000000 /dev/zero > part" } } }]
  - when: { turn: 1, user_contains: fill it }
    reply: [{ tool_use: { name: Write, input: { file_path: more.txt, content: LONG } } }]
  - when: { turn: 2, user_contains: fill it, result_contains: "may hold 1 MiB" }
    reply: [{ tool_use: { name: Bash, input: { command: "head -c 3000000 /dev/zero > big" } } }]
  - when: { turn: 3, user_contains: fill it }
    reply: [{ tool_use: { name: Write, input: { file_path: more.txt, content: LONG } } }]
  - when: { turn: 4, user_contains: fill it, result_is_error: true }
    reply: [{ tool_use: { name: Bash, input: { command: "rm part; ls" } } }]
  - when: { turn: 5, user_contains: fill it }
    reply: [{ tool_use: { name: Bash, input: { command: "rm big; ls" } } }]
  - when: { turn: 6, user_contains: fill it }
    reply: [{ tool_use: { name: Write, input: { file_path: more.txt, content: LONG } } }]
  - when: { turn: 0, user_contains: without end }
    reply: [{ tool_use: { name: Bash, input: { command: "while true; do head -c 100000 /dev/zero >> big; sleep 0.05; done" } } }]
  - reply: [{ text: "done" }]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_workspace_ends_the_run_and_the_next_one_can_make_room() -> anyhow::Result<()> {
    let world = World::up(&FILL.replace("LONG", &"long ".repeat(20_000))).await;
    let settings = json!({ "permissions": { "allowBypass": true, "maxWorkspaceMib": 1 } });
    world.put("/api/projects/default/settings", &settings).await?;
    world.create("fill", json!({ "prompt": "fill it", "permissionMode": "bypass" })).await?;
    let log = world.settled("fill").await;
    let made = calls(&log);
    assert_eq!(made.len(), 3, "{made:?}");
    assert_eq!(made.get(1).map(|c| c.0), Some(&CallOutcome::Failed { blame: Blame::Model }), "{made:?}");
    assert!(
        made.get(1).is_some_and(|c| c.1.contains("Nothing was changed") && c.1.contains("delete")),
        "{made:?}"
    );
    let (phase_then, reason, message) = end(&log).expect("an end");
    assert_eq!((phase_then, reason), (Phase::Failed, Reason::WorkspaceFull));
    assert!(message.contains("more than the 1 MiB") && message.contains("maxWorkspaceMib"), "{message}");

    world.post(&format!("{}/agui/run", session("fill")), &json!({ "message": "clean up" })).await?;
    let log = world.until("fill", "end of the second run", |log| finished(log) == 2).await;
    let log = if end(&log).is_some_and(|e| e.0.is_settled()) { log } else { world.settled("fill").await };
    assert_eq!(phase(&log), Some(Phase::Completed), "{:?}", end(&log));
    let last = calls(&log).split_off(3);
    let done: Vec<bool> = last.iter().map(|c| *c.0 == CallOutcome::Done).collect();
    assert_eq!(done, [false, true, true, true], "{last:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_fills_the_workspace_is_ended_while_it_runs() -> anyhow::Result<()> {
    let world = World::up(FILL).await;
    let settings = json!({ "permissions": { "allowBypass": true, "maxWorkspaceMib": 2 } });
    world.put("/api/projects/default/settings", &settings).await?;
    world.create("endless", json!({ "prompt": "without end", "permissionMode": "bypass" })).await?;
    let log = world.settled("endless").await;
    assert_eq!(end(&log).map(|e| e.1), Some(Reason::WorkspaceFull), "{log:?}");
    assert_eq!(calls(&log).first().map(|c| c.0), Some(&CallOutcome::Interrupted));
    Ok(())
}

const SMALL: &str = r#"
name: small
rules:
  - when: { turn: 0, user_contains: write }
    reply: [{ tool_use: { name: Write, input: { file_path: a.txt, content: hello } } }]
  - when: { user_contains: slowly }
    pace: { first_ms: 1500 }
    reply: [{ text: "done, slowly" }]
  - reply: [{ text: "done" }]
"#;

/// Takes what is left of the disk on which `at` lies.
fn fill(at: &Path) -> anyhow::Result<()> {
    let mut filler = fs::File::create(at)?;
    let mut piece = vec![1; 1 << 20];
    while !piece.is_empty() {
        if filler.write_all(&piece).is_err() {
            piece.truncate(piece.len() / 2);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_and_survived() -> anyhow::Result<()> {
    let Some(mut world) = World::on_small_disk(SMALL, 300).await else {
        assert!(std::env::var_os("CI").is_none(), "here a file system has to be mountable");
        eprintln!("this machine lets nobody mount a file system: nothing was tested");
        return Ok(());
    };
    world.create("before", json!({ "prompt": "hello" })).await?;
    assert_eq!(phase(&world.settled("before").await), Some(Phase::Completed));
    world.create("waits", json!({ "prompt": "write" })).await?;
    let log = world.until("waits", "approval", |log| open_approval(log).is_some()).await;
    let approval = open_approval(&log).expect("asked");
    world.create("works", json!({ "prompt": "slowly" })).await?;
    world.until("works", "run under way", |log| phase(log) == Some(Phase::Running)).await;
    let filler = world.seen(&world.data().join("filler"));
    fill(&filler)?;

    // Whatever would be written is refused, with what to do.
    let once = json!({ "decision": "once" });
    let decide = format!("{}/approvals/{approval}", session("waits"));
    for (path, body) in [
        ("/api/projects/default/agentic-sessions", json!({ "prompt": "hello" })),
        (decide.as_str(), once.clone()),
        ("/api/projects", json!({ "name": "other" })),
    ] {
        let answer = world.request(Method::POST, path).json(&body).send().await?;
        let status = answer.status().as_u16();
        let kind = answer.headers().get("content-type").cloned();
        let text = answer.text().await?;
        assert_eq!(status, 507, "{path}: {text}");
        assert_eq!(kind.as_ref().and_then(|k| k.to_str().ok()), Some("application/problem+json"));
        assert!(
            text.contains("urn:vteam:problem:store-full") && text.contains("free space"),
            "{path}: {text}"
        );
    }
    let upload =
        world.request(Method::POST, "/api/projects/default/plugins").body(crate::guests::built("echo"));
    assert_eq!(upload.send().await?.status(), 507);
    // What is there can be read.
    assert_eq!(phase(&world.log("before").await?), Some(Phase::Completed));
    world.get("/health").await?;
    assert_eq!(
        open_approval(&world.log("waits").await?),
        Some(approval.clone()),
        "a decision that was refused is none"
    );

    // A server that starts on a full disk does not lose anything either, nor the one that had to stop.
    world.kill();
    let again = world.start().await;
    fs::remove_file(&filler)?;
    if again.is_err() {
        world.kill();
        world.start().await?;
    }
    let start = Instant::now();
    while let Err(error) = world.decide("waits", &approval, once.clone()).await {
        assert!(start.elapsed() < PATIENCE, "{error}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let log = world.settled_allowing_all("waits").await;
    assert_eq!(phase(&log), Some(Phase::Completed), "{}", world.server_log());
    assert!(calls(&log).iter().any(|call| *call.0 == CallOutcome::Done), "{:?}", calls(&log));
    // What was under way says what it could not say then.
    let log = world.settled("works").await;
    assert_eq!(phase(&log), Some(Phase::Completed), "{}", world.server_log());
    assert_eq!(crate::log::breaches(&log, true), Vec::<String>::new());
    world.create("after", json!({ "prompt": "hello" })).await?;
    assert_eq!(phase(&world.settled("after").await), Some(Phase::Completed));
    world.stop();
    // SQLite would look for the path on our side of the mount.
    let copy = tempfile::tempdir()?;
    for entry in fs::read_dir(world.seen(&world.data()))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("vteam.db") {
            fs::copy(entry.path(), copy.path().join(entry.file_name()))?;
        }
    }
    let read = store::verify(copy.path())?;
    assert!(read.problems.is_empty() && read.sessions == 4, "{read:?}");
    Ok(())
}
