//! The main job: a session works on a folder through real components, and a diff comes out.

use crate::{
    log::breaches,
    world::{World, folder, phase, session},
};
use model::{event::Event, lifecycle::Phase};
use serde_json::json;

/// Looks, edits, runs, and says so.
pub(crate) const FIX: &str = r#"
name: fix
rules:
  - when: { turn: 0 }
    reply:
      - thinking: "The greeting is wrong."
        signature: c2lnbmF0dXJl
      - text: "I look at the program first."
      - tool_use: { name: Read, input: { file_path: /workspace/hello.sh } }
      - tool_use: { name: Grep, input: { pattern: wrold, output_mode: content } }
  - when: { turn: 1 }
    reply:
      - tool_use: { name: Edit, input: { file_path: /workspace/hello.sh, old_string: wrold, new_string: world } }
  - when: { turn: 2 }
    reply:
      - tool_use: { name: Bash, input: { command: "bash hello.sh" } }
  - when: { turn: 3, result_contains: "hello world" }
    reply:
      - text: "It greets the world now."
"#;

pub(crate) fn project(world: &World) -> String {
    let dir = world.dir.path().join("project");
    folder(&dir, &[("hello.sh", "echo hello wrold\n"), ("README.md", "A greeting.\n")]);
    dir.to_str().expect("UTF-8").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_reads_edits_runs_and_hands_back_a_diff() -> anyhow::Result<()> {
    let world = World::up(FIX).await;
    let spec = json!({ "prompt": "Fix the greeting", "persona": "STAFF_ENGINEER", "workspace": { "dir": { "path": project(&world) } } });
    world.create("fix", spec).await?;
    let log = world.settled_allowing_all("fix").await;
    assert_eq!(phase(&log), Some(Phase::Completed), "{}", world.server_log());
    assert_eq!(breaches(&log, true), Vec::<String>::new());

    let approvals = log.iter().filter(|s| matches!(s.event, Event::ApprovalDecided(_))).count();
    assert_eq!(approvals, 2, "one for the edit, one for the program");
    assert!(
        log.iter()
            .any(|s| matches!(&s.event, Event::PersonaPrompted(p) if p.persona.as_str() == "STAFF_ENGINEER"))
    );

    let diff = world.get(&format!("{}/diff", session("fix"))).await?.to_string();
    assert!(diff.contains("-echo hello wrold") && diff.contains("+echo hello world"), "{diff}");
    let original = std::fs::read_to_string(world.dir.path().join("project/hello.sh"))?;
    assert_eq!(original, "echo hello wrold\n", "the person's folder is not touched");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_further_message_is_a_further_run_of_the_same_conversation() -> anyhow::Result<()> {
    let script = r#"
name: talk
rules:
  - when: { prompt: 1 }
    reply: [{ text: "first answer" }]
  - when: { prompt: 2, user_contains: again }
    reply: [{ text: "second answer" }]
"#;
    let world = World::up(script).await;
    world.create("talk", json!({ "prompt": "hello", "interactive": true })).await?;
    world.until("talk", "end of the first run", |log| finished(log) == 1).await;
    world.post(&format!("{}/agui/run", session("talk")), &json!({ "message": "again" })).await?;
    let log = world.until("talk", "end of the second run", |log| finished(log) == 2).await;
    assert_eq!(phase(&log), Some(Phase::Waiting), "interactive: it waits for the next message");
    assert_eq!(breaches(&log, false), Vec::<String>::new());
    world.post(&format!("{}/stop", session("talk")), &json!({})).await?;
    let log = world.settled("talk").await;
    assert_eq!(phase(&log), Some(Phase::Stopped));
    world.delete(&session("talk")).await?;
    assert!(world.get(&session("talk")).await.is_err());
    Ok(())
}

fn finished(log: &[model::event::Stored]) -> usize {
    log.iter().filter(|s| matches!(s.event, Event::RunFinished(_))).count()
}
