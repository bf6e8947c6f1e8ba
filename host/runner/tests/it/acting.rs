//! A run from prompt to end, and what can go wrong with the model on the way.

use crate::{
    process::Running,
    server::{Play, calls, says, stop, text},
};
use model::{event::Live, grant::PermissionMode, message::CacheMark};
use protocol::control::{FromServer, Purpose, Reply, Request};
use serde_json::json;

fn edits(binding: &mut protocol::control::Binding) {
    binding.mode = PermissionMode::AcceptEdits;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_edits_and_hands_back_a_diff() {
    let mut running =
        Running::start("fix it", &[("a.txt", "one\ntwo\n"), ("AGENTS.md", "use tabs\n")], |binding| {
            edits(binding);
            binding.persona = Some("STAFF_ENGINEER".parse().unwrap());
        });
    let server = running.server.clone();
    server.play([
        calls(&[("Read", r#"{"file_path":"/workspace/a.txt"}"#), ("LS", r#"{"path":"/workspace"}"#)]),
        calls(&[("Edit", r#"{"file_path":"a.txt","old_string":"two","new_string":"three"}"#)]),
        says("done"),
    ]);
    assert_eq!(server.end_of("r1").await, "Done: ");
    assert_eq!(running.file("a.txt"), "one\nthree\n");
    let finished = server.finished();
    assert!(
        finished.iter().any(|line| line.starts_with("Read done:") && line.contains("one")),
        "{finished:?}"
    );
    assert!(finished[2].starts_with("Edit done:"), "{finished:?}");
    {
        let inside = server.inside();
        let kinds = inside.kinds();
        let first = kinds.iter().position(|kind| kind == "persona.prompted").unwrap();
        assert!(first < kinds.iter().position(|kind| kind == "assistant.message").unwrap());
        assert!(inside.live.iter().any(|live| matches!(live, Live::MessageDelta { .. })));
        let last = &inside.requests[2].request;
        let prompt = last.system.join("\n");
        assert!(prompt.contains("Stella") && prompt.contains("use tabs"), "{prompt}");
        assert_eq!(last.messages.len(), 5);
        assert_eq!(
            last.cache,
            [CacheMark::Tools, CacheMark::System, CacheMark::Message(2), CacheMark::Message(4)]
        );
    }
    let Ok(Reply::Diff { diff, files_changed: 1, added: 1, removed: 1, .. }) =
        server.request(Request::Diff).await
    else {
        panic!("no diff")
    };
    let diff = String::from_utf8(server.blob(&diff)).unwrap();
    assert!(diff.contains("-two\n+three\n"), "{diff}");

    server.begin("r2", "again");
    server.play([says("nothing to do")]);
    server.tell(FromServer::Run { run: "r2".parse().unwrap() });
    assert_eq!(server.end_of("r2").await, "Done: ");
    assert_eq!(server.inside().requests[3].request.messages.len(), 7);
    assert!(server.request(Request::Diff).await.is_ok());
    server.tell(FromServer::Drain { deadline_ms: 5000 });
    assert!(running.ended().await);
    assert!(server.inside().said_bye);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_model_gets_wrong_it_is_told() {
    let running = Running::start("go", &[("a.txt", "one\n")], edits);
    let server = &running.server;
    server.play([
        calls(&[
            ("Teleport", "{}"),
            ("Read", r#"{"file_path":"a.txt","file_path":"b.txt"}"#),
            ("Read", r#"{"file_path":"#),
            ("Read", r#"{"path":1}"#),
            ("Read", r#"{"file_path":"missing.txt"}"#),
        ]),
        says("sorry"),
    ]);
    assert_eq!(server.end_of("r1").await, "Done: ");
    let finished = server.finished();
    let check = |line: usize, parts: &[&str]| {
        for part in parts {
            assert!(finished[line].contains(part), "{part}: {finished:?}");
        }
    };
    check(0, &["Teleport failed", "The tools are: ", "Bash", "Edit"]);
    check(1, &["Read failed", "\"file_path\" is given twice"]);
    check(2, &["Read failed", "not valid JSON"]);
    check(3, &["Read failed", "does not fit the schema"]);
    check(4, &["Read failed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_the_model_are_retried_or_end_the_run() {
    let refuse = |kind: &str, retryable: bool| {
        Play::Refuse(400, json!({"kind": kind, "message": "because", "retryable": retryable}))
    };
    let check = async |plays: Vec<Play>, expected: &str| {
        let running = Running::start("go", &[], edits);
        running.server.play(plays);
        assert_eq!(running.server.end_of("r1").await, expected);
    };
    tokio::join!(
        check(vec![Play::Whole(text("half an ans")), says("whole")], "Done: "),
        check(vec![refuse("unavailable", true), says("whole")], "Done: "),
        check(vec![refuse("unauthorized", false)], "ModelUnauthorized: because"),
        check(vec![refuse("budget", false)], "BudgetSpent: because"),
        check(
            vec![Play::Whole(vec![stop("refusal")])],
            "Refused: the model refused to go on with this conversation"
        ),
        check(vec![Play::Whole([text("a"), vec![stop("max_tokens")]].concat()), says("b")], "Done: "),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_end_a_run() {
    let running = Running::start("go", &[], |binding| binding.limits.session.max_turns = 1);
    running.server.play([calls(&[("LS", r#"{"path":"/workspace"}"#)])]);
    assert_eq!(running.server.end_of("r1").await, "TurnLimit: the run used its 1 turns");

    let running = Running::start("go", &[], |binding| binding.limits.session.run_ms = 300);
    running.server.play([Play::Hang(text("thinking"))]);
    assert_eq!(running.server.end_of("r1").await, "Timeout: the run took longer than its limit");

    let running = Running::start("go", &[], |binding| {
        binding.purpose = Purpose::Act;
        binding.persona = Some("NOBODY".parse().unwrap());
    });
    let end = running.server.end_of("r1").await;
    assert!(end.starts_with("PersonaFailed: there is no persona NOBODY"), "{end}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_window_is_summarised() {
    let running = Running::start("remember me", &[("a.txt", "one\n")], edits);
    let server = &running.server;
    let full = json!({"kind": "too_long", "message": "full", "retryable": false});
    server.play([
        calls(&[("Read", r#"{"file_path":"a.txt"}"#)]),
        Play::Refuse(400, full),
        says("SUM"),
        says("end"),
    ]);
    assert_eq!(server.end_of("r1").await, "Done: ");
    let inside = server.inside();
    assert!(inside.kinds().contains(&"context.compacted".to_owned()));
    let last = &inside.requests[3].request.messages;
    let shown = serde_json::to_string(last).unwrap();
    assert!(last.len() == 1 && shown.contains("SUM") && shown.contains("remember me"), "{shown}");
}
