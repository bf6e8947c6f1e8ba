use super::{
    fake::{Fake, Over, http},
    people::fetch_approval,
    world::{Stage, World, interactive, play, settings, spec, told},
};
use futures::StreamExt as _;
use model::{
    event::{Event, RunEnd, RunFinished, RunOutcome},
    id::{Digest, RunnerSeq},
    lifecycle::{Phase, Reason},
    limits::Limits,
};
use protocol::{
    control::{Ask, FromRunner, FromServer, MAX_FRAME_BYTES, Reply, Request, Sequenced},
    http::{BLOBS, HISTORY},
};
use server::sessions::Settings;
use std::sync::{Arc, Mutex};

#[tokio::test]
async fn a_runner_that_breaks_the_protocol_fails_its_session() {
    async fn check(name: &str, expected: &str, breach: fn(&model::id::RunId) -> String) {
        let world = World::new(play(move |stage| async move {
            let mut fake = Fake::bound(&stage.socket, &stage.token).await?;
            let run = fake.open_run().await.unwrap();
            fake.raw(breach(&run)).await?;
            fake.until(|_| None::<()>).await
        }))
        .await;
        let session = world.create(spec()).await.record;
        let events = world.until_phase(&session.uid, Phase::Failed).await;
        let state = world.view(&session.reference).await.record.state;
        assert_eq!(state.reason, Reason::Other("ProtocolBreach".to_owned()), "{name}: {:?}", told(&events));
        assert!(state.message.raw().contains(expected), "{name}: {}", state.message.raw());
        world.verify();
    }
    check("a server's kind", "only the server writes", |run| {
        let finished = Event::RunFinished(RunFinished {
            run: run.clone(),
            outcome: RunOutcome::Completed,
            reason: Reason::Finished,
            message: "".into(),
            cost: Default::default(),
            usage: Default::default(),
            turns: 0,
        });
        let events = vec![Sequenced { runner_seq: RunnerSeq(1), event: finished }];
        serde_json::to_string(&FromRunner::Events { events }).unwrap()
    })
    .await;
    check("a gap", "came after event 0", |run| {
        let event = super::fake::intended(run, "c1");
        let events = vec![Sequenced { runner_seq: RunnerSeq(2), event }];
        serde_json::to_string(&FromRunner::Events { events }).unwrap()
    })
    .await;
    check("an approval of something else", "not what its digest says", |_| {
        let mut ask = fetch_approval("c1", "https://a.example/");
        if let Ask::Approval(request) = &mut ask {
            request.subject_digest = Digest::of(b"something harmless");
        }
        serde_json::to_string(&FromRunner::Ask { ask }).unwrap()
    })
    .await;
    check("no JSON", "not JSON", |_| "{".to_owned()).await;
    check("too long", "above", |_| "x".repeat(MAX_FRAME_BYTES + 1)).await;
}

#[tokio::test]
async fn a_session_over_its_quota_ends_with_the_reason() {
    let mut limits = Limits::shipped();
    limits.session.event_bytes = 10_000;
    let flood = play(|stage| async move {
        let mut fake = Fake::bound(&stage.socket, &stage.token).await?;
        let run = fake.open_run().await.unwrap();
        loop {
            fake.message(&run, &"x".repeat(1000)).await?;
        }
    });
    let world = World::with(flood, Settings { limits, ..settings() }).await;
    let session = world.create(spec()).await.record;
    world.until_phase(&session.uid, Phase::Failed).await;
    let state = world.view(&session.reference).await.record.state;
    assert_eq!(state.reason, Reason::Other("EventQuota".to_owned()));
    world.verify();
}

#[tokio::test]
async fn tokens_open_one_session_and_die_with_their_epoch() {
    let stages: Arc<Mutex<Vec<Stage>>> = Arc::default();
    let seen = Arc::clone(&stages);
    let world = World::new(play(move |stage| {
        seen.lock().unwrap().push(stage.clone());
        async move {
            let mut fake = Fake::bound(&stage.socket, &stage.token).await?;
            fake.until(|_| None::<()>).await
        }
    }))
    .await;
    let first = world.create(spec()).await.record;
    world.until_phase(&first.uid, Phase::Running).await;
    let token = stages.lock().unwrap()[0].token.clone();
    let socket = world.socket.clone();
    let get = |token: Option<String>, epoch: Option<&'static str>, path: String| {
        let socket = socket.clone();
        async move { http(&socket, token.as_deref(), epoch, "GET", &path, vec![]).await.0 }
    };
    let history = || HISTORY.to_owned();
    assert_eq!(get(None, None, history()).await, 401);
    assert_eq!(get(Some("vr1.x.1.00".to_owned()), None, history()).await, 401);
    assert_eq!(get(Some(format!("{token}0")), None, history()).await, 401);
    assert_eq!(get(Some(token.clone()), Some("0"), history()).await, 409);
    assert_eq!(get(Some(token.clone()), Some("1"), history()).await, 200);

    // Another session's blob is not there.
    let second = world.create(spec()).await.record;
    let blob = world.sessions.store().put_blob(Some(&second.uid), b"theirs".to_vec()).await.unwrap();
    assert_eq!(get(Some(token.clone()), None, format!("{BLOBS}/{blob}")).await, 404);
    let own = world.sessions.store().put_blob(Some(&first.uid), b"ours".to_vec()).await.unwrap();
    assert_eq!(get(Some(token.clone()), None, format!("{BLOBS}/{own}")).await, 200);
    let wrong =
        http(&socket, Some(&token), None, "PUT", &format!("{BLOBS}/{own}"), b"other".to_vec()).await.0;
    assert_eq!(wrong, 422);

    world.kill_runner(&first.uid, 1).await;
    world.until(&first.uid, |event| matches!(event, Event::RunnerBound(bound) if bound.epoch.0 == 2)).await;
    assert_eq!(get(Some(token.clone()), None, history()).await, 401);
    assert!(Fake::dial(&socket, &token).await.is_err());
}

/// Answers each request with bytes of another session.
async fn names_what_is_theirs(stage: Stage) -> Result<(), Over> {
    let mut fake = Fake::bound(&stage.socket, &stage.token).await?;
    let run = fake.open_run().await.unwrap();
    fake.end(&run, RunEnd::Done).await?;
    while let Some(Ok(message)) = fake.stream.next().await {
        let Ok(text) = message.into_text() else { continue };
        if let Ok(FromServer::Request { id, request }) = serde_json::from_str(&text) {
            let theirs = || Digest::of(THEIRS);
            let reply = match request {
                Request::Diff => {
                    Reply::Diff { diff: theirs(), archive: theirs(), files_changed: 1, added: 1, removed: 0 }
                }
                _ => Reply::Blob { blob: theirs(), size: 6 },
            };
            fake.say(&FromRunner::Response { id, result: Ok(reply) }).await?;
        }
    }
    Ok(())
}

const THEIRS: &[u8] = b"theirs";

#[tokio::test]
async fn naming_another_sessions_bytes_does_not_get_them() {
    let tokens: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&tokens);
    let world = World::new(play(move |stage| {
        seen.lock().unwrap().push(stage.token.clone());
        names_what_is_theirs(stage)
    }))
    .await;
    let other = "other".parse().unwrap();
    let theirs = world.sessions.store().put_blob(Some(&other), THEIRS.to_vec()).await.unwrap();
    let session = world.create(interactive()).await.record;
    let events = world.until_phase(&session.uid, Phase::Waiting).await;
    assert!(!events.iter().any(|event| matches!(event, Event::Snapshot(_))), "{:?}", told(&events));
    for request in [Request::Read { path: "a".to_owned() }, Request::Archive, Request::Diff] {
        let answer = world.sessions.files(&session.reference, request.clone()).await;
        assert!(answer.is_err(), "{request:?}: {answer:?}");
    }
    let token = tokens.lock().unwrap()[0].clone();
    let path = format!("{BLOBS}/{theirs}");
    assert_eq!(http(&world.socket, Some(&token), None, "GET", &path, vec![]).await.0, 404);
    world.verify();
}
