//! What survives the end of a process or a connection.

use crate::{
    process::Running,
    server::{calls, says},
};
use model::{approval::Decision, event::Live, grant::PermissionMode};
use protocol::control::Ask;

const RUN: &str = r#"{"command":"echo ran >> made.txt; echo begun; sleep 600","timeout":600000}"#;
const SHORT: &str = r#"{"command":"echo ran >> made.txt"}"#;

fn id(ask: &Ask) -> model::id::AskId {
    ask.id().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waits_is_asked_for_again_and_runs_once() {
    let mut running = Running::start("go", &[], |_| {});
    let server = running.server.clone();
    server.play([calls(&[("Bash", SHORT)]), says("done")]);
    let first = id(&server.ask().await);
    running.kill_and_restart();
    let second = id(&server.ask().await);
    assert_eq!(first, second);
    server.decide(&second, Decision::Once);
    assert_eq!(server.end_of("r1").await, "Done: ");
    assert_eq!(running.file("made.txt"), "ran\n");
    assert_eq!(server.inside().requests.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_under_way_is_lost_and_not_repeated() {
    let mut running = Running::start("go", &[], |binding| binding.mode = PermissionMode::Bypass);
    let server = running.server.clone();
    server.play([calls(&[("Bash", RUN)]), says("I see")]);
    let printed = |inside: &mut crate::server::Inside| {
        inside.live.iter().any(|live| matches!(live, Live::CallOutput { .. })).then_some(())
    };
    server.until("output", printed).await;
    running.kill_and_restart();
    assert_eq!(server.end_of("r1").await, "Done: ");
    let finished = server.finished();
    assert!(finished[0].starts_with("Bash lost: This call was interrupted"), "{finished:?}");
    assert_eq!(running.file("made.txt"), "ran\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_committed_is_said_again() {
    let mut running = Running::start("go", &[("a.txt", "one\n")], |_| {});
    let server = running.server.clone();
    server.inside().deaf = true;
    server.play([calls(&[("Read", r#"{"file_path":"a.txt"}"#)]), says("done")]);
    assert_eq!(server.end_of("r1").await, "Done: ");
    server.inside().deaf = false;
    server.hang_up();
    server.until("reconnect", |inside| (inside.hellos == 2 && inside.repeated >= 4).then_some(())).await;
    let kinds = server.inside().kinds();
    assert_eq!(kinds.iter().filter(|kind| *kind == "run.ended").count(), 1, "{kinds:?}");
    server.tell(protocol::control::FromServer::Drain { deadline_ms: 1000 });
    assert!(running.ended().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runner_has_confined_itself_with_all_its_threads() {
    let running = Running::start("go", &[], |_| {});
    running.server.play([says("done")]);
    running.server.end_of("r1").await;
    let tasks = std::fs::read_dir(format!("/proc/{}/task", running.pid())).unwrap();
    let mut threads = 0;
    for task in tasks {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        for line in
            ["NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000"]
        {
            assert!(status.contains(line), "{line}\n{status}");
        }
        threads += 1;
    }
    assert!(threads > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_did_not_hear_is_in_the_journal() {
    let mut running = Running::start("go", &[], |_| {});
    let server = running.server.clone();
    server.inside().mute = true;
    server.play([says("done")]);
    let heard =
        |inside: &mut crate::server::Inside| inside.unheard.iter().any(|k| k == "run.ended").then_some(());
    server.until("end that is not heard", heard).await;
    running.kill_and_restart();
    server.inside().mute = false;
    server.hang_up();
    assert_eq!(server.end_of("r1").await, "Done: ");
    let inside = server.inside();
    assert_eq!(inside.requests.len(), 1);
    assert!(inside.told().iter().any(|line| line.contains("assistant.message") && line.contains("done")));
}
