//! What a person decides, answers and stops.

use crate::{
    process::Running,
    server::{Play, calls, says, text},
};
use model::{
    approval::{Decision, Subject},
    grant::PermissionMode,
    message::Block,
};
use protocol::control::{Ask, FromServer};
use serde_json::json;

const RUN: &str = r#"{"command":"echo hello > made.txt; echo printed"}"#;

fn approval(ask: Ask) -> model::approval::ApprovalRequest {
    match ask {
        Ask::Approval(request) => *request,
        Ask::Question(_) => panic!("a question"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_waits_for_approval_and_runs_once() {
    let running = Running::start("go", &[], |_| {});
    let server = &running.server;
    server.play([calls(&[("Bash", RUN)]), calls(&[("Bash", RUN)]), says("done")]);
    let asked = approval(server.ask().await);
    let Subject::Process { argv, .. } = &asked.subject else { panic!("{asked:?}") };
    assert_eq!(argv.iter().map(model::Untrusted::raw).collect::<Vec<_>>()[..2], ["bash", "-c"]);
    assert!(!running.path("made.txt").exists());
    server.decide(&asked.id, Decision::Once);
    let again = approval(server.ask().await);
    assert_eq!(running.file("made.txt"), "hello\n");
    assert_ne!(again.id, asked.id);
    server.decide(&again.id, Decision::Deny { reason: "not twice".into() });
    assert_eq!(server.end_of("r1").await, "Done: ");
    let finished = server.finished();
    assert!(finished[0].starts_with("Bash done:") && finished[0].contains("printed"), "{finished:?}");
    assert_eq!(finished[1], "Bash denied: The user declined: not twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_shown_as_a_diff_and_approved_for_the_session() {
    let running = Running::start("go", &[("a.txt", "one\n")], |_| {});
    let server = &running.server;
    let write = |text: &str| {
        json!({"file_path": "/workspace/a.txt", "old_string": text, "new_string": "two"}).to_string()
    };
    server.play([calls(&[("Edit", &write("one"))]), calls(&[("Edit", &write("two"))]), says("done")]);
    let asked = approval(server.ask().await);
    let Subject::Changes { files } = &asked.subject else { panic!("{asked:?}") };
    assert!(files[0].diff.raw().contains("-one\n+two\n"));
    assert_eq!(running.file("a.txt"), "one\n");
    server.decide(&asked.id, Decision::Session);
    assert_eq!(server.end_of("r1").await, "Done: ");
    assert_eq!(running.file("a.txt"), "two\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_mode_refuses_without_asking() {
    let running = Running::start("go", &[], |binding| binding.mode = PermissionMode::Plan);
    let server = &running.server;
    let write = r#"{"file_path":"/workspace/new.txt","content":"x"}"#;
    server.play([calls(&[("Write", write), ("Bash", RUN)]), says("ok")]);
    assert_eq!(server.end_of("r1").await, "Done: ");
    let finished = server.finished();
    assert!(finished.iter().all(|line| line.contains("failed") && line.contains("plan")), "{finished:?}");
    assert!(server.inside().asks.is_empty() && !running.path("new.txt").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_by_a_person() {
    let running = Running::start("go", &[], |_| {});
    let server = &running.server;
    let question = json!({"questions": [{"question": "Which?", "header": "Which", "multiSelect": false,
        "options": [{"label": "A", "description": "a"}, {"label": "B", "description": "b"}]}]});
    server.play([calls(&[("AskUserQuestion", &question.to_string())]), says("ok")]);
    let Ask::Question(asked) = server.ask().await else { panic!("no question") };
    server.answer(&asked.id, json!({"answers": {"Which?": "B"}}));
    assert_eq!(server.end_of("r1").await, "Done: ");
    let finished = server.finished();
    assert!(finished[0].starts_with("AskUserQuestion done:") && finished[0].contains('B'), "{finished:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_ends_a_stream_and_keeps_what_was_said() {
    let running = Running::start("go", &[], |_| {});
    let server = &running.server;
    server.play([Play::Hang(text("I was about to"))]);
    server.until("delta", |inside| (inside.live.len() >= 2).then_some(())).await;
    server.tell(FromServer::Interrupt { run: "r1".parse().unwrap() });
    assert_eq!(server.end_of("r1").await, "Interrupted: ");
    assert!(server.inside().told().iter().any(|line| line.contains("I was about to")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_ends_a_program() {
    let running = Running::start("go", &[], |binding| binding.mode = PermissionMode::Bypass);
    let server = &running.server;
    let long = r#"{"command":"echo begun; sleep 600","timeout":600000}"#;
    server.play([calls(&[("Bash", long), ("LS", r#"{"path":"/workspace"}"#)])]);
    let output = |inside: &mut crate::server::Inside| {
        inside.live.iter().any(|live| matches!(live, model::event::Live::CallOutput { .. })).then_some(())
    };
    server.until("output", output).await;
    server.tell(FromServer::Interrupt { run: "r1".parse().unwrap() });
    assert_eq!(server.end_of("r1").await, "Interrupted: ");
    let finished = server.finished();
    assert!(finished.len() == 2 && finished.iter().all(|line| line.contains("interrupted")), "{finished:?}");

    server.begin("r2", "what happened?");
    server.play([says("you stopped me")]);
    server.tell(FromServer::Run { run: "r2".parse().unwrap() });
    assert_eq!(server.end_of("r2").await, "Done: ");
    let inside = server.inside();
    let messages = &inside.requests[1].request.messages;
    assert!(matches!(
        messages[2].content[..],
        [Block::ToolResult { .. }, Block::ToolResult { .. }, Block::Text { .. }]
    ));
}
