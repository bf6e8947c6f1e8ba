use super::{
    fake::Fake,
    world::{World, diligent, interactive, me, play, settings, spec, text, told},
};
use model::{
    event::{Event, RunEnd, RunOutcome},
    id::Seq,
    lifecycle::{Phase, Reason},
    message::Delta,
    plan::Desired,
};
use protocol::control::{FromRunner, FromServer, Reply, Request};
use resources::{Accepted, Source};
use server::sessions::{FilesError, SessionError, Settings, Tail};
use std::time::Duration;

#[tokio::test]
async fn a_session_runs_to_its_end() {
    let world = World::new(diligent()).await;
    let view = world.create(spec()).await;
    let uid = view.record.uid;
    let events = world.until_phase(&uid, Phase::Completed).await;
    assert_eq!(
        told(&events),
        [
            "session.created",
            "Pending Accepted",
            "run.started",
            "user.message",
            "Creating RunnerStarting",
            "bound 1",
            "Running Working",
            "assistant.message",
            "run.ended",
            "workspace.snapshot",
            "run.finished Completed",
            "Completed Finished",
        ]
    );
    let view = world.view(&view.record.reference).await;
    assert_eq!((view.record.state.totals.runs, view.record.state.totals.turns), (1, 1));
    world.verify();
}

#[tokio::test]
async fn messages_queue_behind_the_run_and_wake_what_is_settled() {
    let world = World::new(diligent()).await;
    let session = world.create(spec()).await.record;
    let (second, _) = world.sessions.send(&me(), &session.reference, text("and that")).await.unwrap();
    let done = |event: &Event| matches!(event, Event::RunFinished(run) if run.run == second);
    world.until(&session.uid, done).await;
    world.until_phase(&session.uid, Phase::Completed).await;
    let (third, _) = world.sessions.send(&me(), &session.reference, text("once more")).await.unwrap();
    let done = |event: &Event| matches!(event, Event::RunFinished(run) if run.run == third);
    let events = world.until(&session.uid, done).await;
    let runs = events.iter().filter(|event| matches!(event, Event::RunStarted(_))).count();
    assert_eq!(runs, 3);
    world.verify();
}

#[tokio::test]
async fn an_interactive_session_stays_and_goes_to_sleep() {
    let spec = Accepted { inactivity: Some(Duration::from_millis(100)), ..interactive() };
    let world = World::new(diligent()).await;
    let session = world.create(spec).await.record;
    let events = world.until_phase(&session.uid, Phase::Stopped).await;
    let told = told(&events);
    let last: Vec<&str> = told.iter().rev().take(4).rev().map(String::as_str).collect();
    let expected =
        ["run.finished Completed", "Waiting MessageAwaited", "Stopping Inactivity", "Stopped Inactivity"];
    assert_eq!(last, expected);
    world.sessions.send(&me(), &session.reference, text("wake")).await.unwrap();
    world.until(&session.uid, |event| matches!(event, Event::RunnerBound(bound) if bound.epoch.0 == 2)).await;
    world.verify();
}

#[tokio::test]
async fn a_stop_interrupts_drains_and_keeps_the_snapshot() {
    let world = World::new(play(|stage| async move {
        let mut fake = Fake::bound(&stage.socket, &stage.token).await?;
        let run = fake
            .until(|m| if let FromServer::Interrupt { run } = m { Some(run.clone()) } else { None })
            .await?;
        fake.end(&run, RunEnd::Interrupted).await?;
        fake.until(|message| matches!(message, FromServer::Drain { .. }).then_some(())).await?;
        fake.say(&FromRunner::Bye { message: "".into() }).await
    }))
    .await;
    let session = world.create(spec()).await.record;
    world.until_phase(&session.uid, Phase::Running).await;
    world.sessions.stop(&session.reference).await.unwrap();
    let events = world.until_phase(&session.uid, Phase::Stopped).await;
    let told = told(&events);
    let expected = [
        "Stopping StoppedByUser",
        "run.ended",
        "workspace.snapshot",
        "run.finished Interrupted",
        "Stopped StoppedByUser",
    ];
    assert_eq!(told[told.len() - 5..], expected);
    world.verify();
}

#[tokio::test]
async fn a_runner_that_will_not_stop_is_killed() {
    let deaf = play(|stage| async move {
        let mut fake = Fake::bound(&stage.socket, &stage.token).await?;
        fake.until(|_| None::<()>).await
    });
    let world = World::with(deaf, Settings { drain: Duration::from_millis(50), ..settings() }).await;
    let session = world.create(spec()).await.record;
    world.until_phase(&session.uid, Phase::Running).await;
    world.sessions.stop(&session.reference).await.unwrap();
    let events = world.until_phase(&session.uid, Phase::Stopped).await;
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::RunFinished(run) if run.outcome == RunOutcome::Interrupted))
    );
    world.verify();
}

#[tokio::test]
async fn a_run_has_a_hard_end() {
    let deaf = play(|stage| async move {
        let mut fake = Fake::bound(&stage.socket, &stage.token).await?;
        fake.until(|_| None::<()>).await
    });
    let world = World::with(deaf, Settings { drain: Duration::from_millis(50), ..settings() }).await;
    let session = world.create(Accepted { timeout: Duration::from_millis(50), ..spec() }).await.record;
    let events = world.until_phase(&session.uid, Phase::Failed).await;
    let told = told(&events);
    assert_eq!(told[told.len() - 2..], ["run.finished Failed", "Failed Timeout"]);
    world.verify();
}

#[tokio::test]
async fn suspending_keeps_the_run() {
    let world = World::new(play(|stage| async move {
        let mut fake = Fake::bound(&stage.socket, &stage.token).await?;
        if stage.epoch.0 > 1 {
            let run = fake.open_run().await.unwrap();
            fake.end(&run, RunEnd::Done).await?;
        }
        fake.until(|message| matches!(message, FromServer::Drain { .. }).then_some(())).await?;
        fake.say(&FromRunner::Bye { message: "".into() }).await
    }))
    .await;
    let session = world.create(spec()).await.record;
    world.until_phase(&session.uid, Phase::Running).await;
    world.sessions.set_desired(&session.reference, Desired::Suspend).await.unwrap();
    world.until_phase(&session.uid, Phase::Suspended).await;
    assert!(world.view(&session.reference).await.record.state.run.is_some());
    world.sessions.set_desired(&session.reference, Desired::Run).await.unwrap();
    let events = world.until_phase(&session.uid, Phase::Completed).await;
    assert_eq!(events.iter().filter(|event| matches!(event, Event::RunStarted(_))).count(), 1);
    world.verify();
}

#[tokio::test]
async fn a_session_may_begin_at_rest() {
    for (desired, rest) in [(Desired::Stop, Phase::Stopped), (Desired::Suspend, Phase::Suspended)] {
        let world = World::new(diligent()).await;
        let session = world.create(Accepted { desired, ..spec() }).await.record;
        let events = world.until_phase(&session.uid, rest).await;
        assert!(!events.iter().any(|event| matches!(event, Event::RunStarted(_))), "{rest}");
        world.sessions.set_desired(&session.reference, Desired::Run).await.unwrap();
        let events = world.until_phase(&session.uid, Phase::Completed).await;
        assert_eq!(events.iter().filter(|event| matches!(event, Event::RunStarted(_))).count(), 1);
        world.verify();
    }
}

#[tokio::test]
async fn what_cannot_start_fails_with_the_reason() {
    let world = World::new(diligent()).await;
    let check = async |spec: Accepted, reason: Reason| {
        let session = world.create(spec).await.record;
        world.until_phase(&session.uid, Phase::Failed).await;
        let state = world.view(&session.reference).await.record.state;
        assert_eq!(state.reason, reason);
        assert!(!state.message.is_empty());
    };
    let nowhere = Source::Dir { path: "/no/such/folder".into(), include_ignored: false };
    check(Accepted { workspace: nowhere, ..spec() }, Reason::Other("WorkspaceMissing".to_owned())).await;
    check(Accepted { persona: Some("NOBODY".parse().unwrap()), ..spec() }, Reason::PersonaMissing).await;
    world.verify();
}

#[tokio::test]
async fn files_come_from_the_runner_or_from_the_last_snapshot() {
    let world = World::new(diligent()).await;
    let session = world.create(spec()).await.record;
    world.until_phase(&session.uid, Phase::Completed).await;
    let files = |request: Request| world.sessions.files(&session.reference, request);
    let awake = |view: &server::sessions::SessionView| view.connected;
    while awake(&world.view(&session.reference).await) {
        tokio::task::yield_now().await;
    }
    let Reply::Diff { diff, .. } = files(Request::Diff).await.unwrap() else { panic!("a diff") };
    assert_eq!(world.sessions.store().get_blob(&diff, 100).await.unwrap(), b"the diff");
    let Reply::Blob { blob, size: 3 } =
        files(Request::Read { path: "src/new.txt".to_owned() }).await.unwrap()
    else {
        panic!("a blob of three bytes")
    };
    assert_eq!(world.sessions.store().get_blob(&blob, 100).await.unwrap(), b"new");
    let list = files(Request::List { path: String::new() }).await;
    assert!(matches!(list, Err(FilesError::NotAwake)), "{list:?}");
}

#[tokio::test]
async fn live_parts_come_between_the_events_that_they_belong_between() {
    let world = World::new(play(|stage| async move {
        let mut fake = Fake::bound(&stage.socket, &stage.token).await?;
        let run = fake.open_run().await.unwrap();
        for round in 0..20u32 {
            for part in 0..5u32 {
                let live = model::event::Live::MessageDelta {
                    run: run.clone(),
                    message: format!("m{round}").parse().unwrap(),
                    index: part,
                    delta: Delta::Text { text: "x".into() },
                };
                fake.say(&FromRunner::Live { live }).await?;
            }
            fake.message(&run, "whole").await?;
        }
        fake.end(&run, RunEnd::Done).await?;
        fake.until(|_| None::<()>).await
    }))
    .await;
    let session = world.create(Accepted { prompt: String::new(), ..interactive() }).await.record;
    let mut tail = Box::pin(world.sessions.tail(&session.uid, Seq(0)));
    world.sessions.send(&me(), &session.reference, text("go")).await.unwrap();
    let (mut whole, mut parts) = (0, 0);
    while whole < 20 {
        match futures::StreamExt::next(&mut tail).await.unwrap() {
            Tail::Live(live) => {
                let model::event::Live::MessageDelta { message, index, .. } = *live else {
                    panic!("a delta")
                };
                assert_eq!((message.as_str(), index), (format!("m{whole}").as_str(), parts));
                parts += 1;
            }
            Tail::Stored(stored) => {
                if matches!(stored.event, Event::AssistantMessage(_)) {
                    assert_eq!(parts, 5);
                    (whole, parts) = (whole + 1, 0);
                }
            }
        }
    }
}

#[tokio::test]
async fn deleting_removes_everything() {
    let world = World::new(diligent()).await;
    let session = world.create(interactive()).await.record;
    world.until_phase(&session.uid, Phase::Waiting).await;
    let mut tail = Box::pin(world.sessions.tail(&session.uid, Seq(0)));
    world.sessions.delete(&session.reference).await.unwrap();
    assert!(matches!(world.sessions.get(&session.reference).await, Err(SessionError::NotFound)));
    while futures::StreamExt::next(&mut tail).await.is_some() {}
    assert_eq!(world.sessions.list(&session.reference.project).await.unwrap().len(), 0);
}

#[tokio::test]
async fn what_rests_goes_when_its_time_is_over() {
    let world = World::new(diligent()).await;
    let kept = world.create(spec()).await.record;
    let gone = world.create(Accepted { retention: Some(Duration::from_millis(300)), ..spec() }).await.record;
    let later = world.create(Accepted { retention: Some(Duration::from_secs(3600)), ..spec() }).await.record;
    for session in [&kept, &later] {
        world.until_phase(&session.uid, Phase::Completed).await;
    }
    world.until_removed(&gone.reference).await;

    // Nobody takes up what rests after a restart, but for that.
    let again = world.create(Accepted { retention: Some(Duration::from_secs(2)), ..spec() }).await.record;
    world.until_phase(&again.uid, Phase::Completed).await;
    let world = world.restart(diligent()).await;
    let shutdown = telemetry::Shutdown::new();
    let keeping =
        tokio::spawn(world.sessions.clone().housekeeping(Duration::from_millis(50), shutdown.clone()));
    world.until_removed(&again.reference).await;
    shutdown.request();
    keeping.await.unwrap();
    let left = world.sessions.list(&kept.reference.project).await.unwrap();
    let mut left: Vec<_> = left.into_iter().map(|view| view.record.uid).collect();
    left.sort();
    let mut expected = vec![kept.uid, later.uid];
    expected.sort();
    assert_eq!(left, expected);
}
