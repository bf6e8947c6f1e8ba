//! What waits for a person: approvals and questions, over restarts, and what their answers do.

use crate::{
    log::breaches,
    world::{World, open_approval, phase, session},
};
use model::{
    approval::Subject,
    event::{CallFinished, CallOutcome, Event, Stored},
    lifecycle::Phase,
};
use serde_json::json;

/// Runs the same program twice, then says how that went.
const TWICE: &str = r#"
name: twice
rules:
  - when: { turn: 0 }
    reply: [{ tool_use: { name: Bash, input: { command: "echo once" } } }]
  - when: { turn: 1 }
    reply: [{ tool_use: { name: Bash, input: { command: "echo once" } } }]
  - when: { turn: 2 }
    reply: [{ text: "done" }]
"#;

fn results(log: &[Stored]) -> Vec<&CallFinished> {
    log.iter()
        .filter_map(|s| match &s.event {
            Event::CallFinished(call) => Some(call),
            _ => None,
        })
        .collect()
}

fn asked(log: &[Stored]) -> usize {
    log.iter().filter(|s| matches!(s.event, Event::ApprovalRequested(_))).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_shows_what_runs_and_outlives_a_killed_server() -> anyhow::Result<()> {
    let mut world = World::up(TWICE).await;
    world.create("ask", json!({ "prompt": "go" })).await?;
    let log = world.until("ask", "approval", |log| open_approval(log).is_some()).await;
    let request = log.iter().find_map(|s| match &s.event {
        Event::ApprovalRequested(request) => Some(request.clone()),
        _ => None,
    });
    let request = request.expect("asked");
    let Subject::Process { argv, .. } = &request.subject else { panic!("{:?}", request.subject) };
    assert_eq!(argv.iter().map(|a| a.raw()).collect::<Vec<_>>(), ["bash", "-c", "echo once"]);
    assert_eq!(request.subject_digest, request.subject.digest());

    world.kill();
    world.start().await?;
    world.until("ask", "waiting phase", |log| phase(log) == Some(Phase::Waiting)).await;
    world.decide("ask", request.id.as_str(), json!({ "decision": "session" })).await?;
    let log = world.settled("ask").await;
    assert_eq!(phase(&log), Some(Phase::Completed));
    assert_eq!(asked(&log), 1, "the same program was allowed for the session");
    assert_eq!(results(&log).len(), 2);
    assert!(results(&log).iter().all(|c| c.outcome == CallOutcome::Done), "{:?}", results(&log));
    assert_eq!(breaches(&log, true), Vec::<String>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_reaches_the_model_with_its_reason() -> anyhow::Result<()> {
    let script = r#"
name: refused
rules:
  - when: { turn: 0 }
    reply: [{ tool_use: { name: Bash, input: { command: "rm -rf ." } } }]
  - when: { turn: 1, result_contains: "not on my watch" }
    reply: [{ text: "understood" }]
"#;
    let world = World::up(script).await;
    world.create("deny", json!({ "prompt": "go" })).await?;
    let log = world.until("deny", "approval", |log| open_approval(log).is_some()).await;
    let id = open_approval(&log).expect("asked");
    world.decide("deny", &id, json!({ "decision": "deny", "reason": "not on my watch" })).await?;
    let log = world.settled("deny").await;
    assert_eq!(phase(&log), Some(Phase::Completed));
    assert_eq!(results(&log).first().map(|c| &c.outcome), Some(&CallOutcome::Denied));
    let again = world.decide("deny", &id, json!({ "decision": "once" })).await;
    assert!(again.is_err(), "a decision is final");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_mode_changes_nothing_and_bypass_needs_permission() -> anyhow::Result<()> {
    let world = World::up(TWICE).await;
    world.create("plan", json!({ "prompt": "go", "permissionMode": "plan" })).await?;
    let log = world.settled("plan").await;
    assert_eq!(asked(&log), 0);
    assert!(results(&log).iter().all(|c| c.outcome != CallOutcome::Done), "{:?}", results(&log));

    let refused = world.create("bypass", json!({ "prompt": "go", "permissionMode": "bypass" })).await;
    assert!(refused.expect_err("refused").to_string().contains("settings"));

    let settings = json!({ "spec": { "permissions": { "allowBypass": true } } });
    world.put("/api/projects/default/settings", &settings).await?;
    world.create("permitted", json!({ "prompt": "go", "permissionMode": "bypass" })).await?;
    let log = world.settled("permitted").await;
    assert_eq!(asked(&log), 0, "nobody was asked");
    assert!(results(&log).iter().all(|c| c.outcome == CallOutcome::Done), "{:?}", results(&log));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tools_question_waits_for_its_answer() -> anyhow::Result<()> {
    let script = r#"
name: question
rules:
  - when: { turn: 0 }
    reply:
      - tool_use:
          name: AskUserQuestion
          input:
            questions:
              - { question: "Which colour?", header: Colour, multiSelect: false,
                  options: [{ label: Red, description: warm }, { label: Blue, description: cool }] }
  - when: { turn: 1, result_contains: Blue }
    reply: [{ text: "Blue it is." }]
"#;
    let world = World::up(script).await;
    world.create("colour", json!({ "prompt": "paint" })).await?;
    let log = world
        .until("colour", "question", |log| log.iter().any(|s| matches!(s.event, Event::QuestionAsked(_))))
        .await;
    let id = log.iter().find_map(|s| match &s.event {
        Event::QuestionAsked(question) => Some(question.id.to_string()),
        _ => None,
    });
    let path = format!("{}/questions/{}", session("colour"), id.expect("asked"));
    world.post(&path, &json!({ "answer": { "answers": { "Which colour?": "Blue" } } })).await?;
    let log = world.settled("colour").await;
    assert_eq!(phase(&log), Some(Phase::Completed));
    Ok(())
}
