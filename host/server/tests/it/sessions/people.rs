use super::{
    fake::{Fake, Over, finished, intended},
    world::{World, diligent, interactive, me, play, spec, text, told},
};
use model::{
    approval::{ApprovalRequest, Decision, Question, Subject},
    event::{CallOutcome, Event, RunEnd},
    id::{Digest, RunId, RunnerSeq},
    lifecycle::Phase,
    money::{MicroUsd, Usage},
    plan::Desired,
};
use protocol::{
    control::{Ask, FromRunner, FromServer, Resume},
    http::FetchRequest,
};
use resources::Accepted;
use server::{
    broker::{Charge, Ledger, ReserveError, SessionKey, Settlement},
    sessions::{NewSession, SessionError},
};
use std::sync::atomic::Ordering;

pub(crate) fn fetch_approval(call: &str, url: &str) -> Ask {
    let subject = Subject::Fetch { method: "GET".to_owned(), url: url.into() };
    Ask::Approval(Box::new(ApprovalRequest {
        id: format!("ask-{call}").parse().unwrap(),
        call: call.parse().unwrap(),
        tool: "WebFetch".parse().unwrap(),
        plugin: "vteam.web".parse().unwrap(),
        plugin_digest: Digest::of(b"plugin"),
        input_digest: Digest::of(b"input"),
        effect: "net.fetch".parse().unwrap(),
        subject_digest: subject.digest(),
        subject,
    }))
}

/// Asks once, and ends its run when it was told.
async fn asks(fake: &mut Fake, run: &RunId, ask: Ask) -> Result<FromServer, Over> {
    fake.say(&FromRunner::Ask { ask }).await?;
    let told = fake
        .until(|message| match message {
            FromServer::Decided { .. } | FromServer::Answered { .. } => Some(message.clone()),
            _ => None,
        })
        .await?;
    fake.record(vec![finished(run, "c1", CallOutcome::Done)]).await?;
    fake.end(run, RunEnd::Done).await?;
    Ok(told)
}

/// Another one has its name, and the session was not removed yet.
#[tokio::test]
async fn a_session_of_a_project_that_is_gone_is_nobodys() {
    let world = World::new(diligent()).await;
    let session = world.create(spec()).await.record;
    world.until_phase(&session.uid, Phase::Completed).await;
    let check = async |there: bool| {
        let (name, project) = (&session.reference, &session.reference.project);
        let refused = |error: SessionError| {
            assert!(!there && matches!(error, SessionError::NotFound), "{error:?}");
        };
        drop(world.sessions.get(name).await.map_err(refused));
        drop(world.sessions.duplicate(&me(), name, None).await.map_err(refused));
        drop(world.sessions.set_desired(name, Desired::Run).await.map_err(refused));
        assert_eq!(world.sessions.list(project).await.unwrap().is_empty(), !there);
        assert_eq!(world.sessions.get(name).await.is_ok(), there);
    };
    world.incarnation.store(1, Ordering::Relaxed);
    check(false).await;
    world.incarnation.store(0, Ordering::Relaxed);
    check(true).await;
}

#[tokio::test]
async fn an_approval_waits_and_counts_for_what_was_shown() {
    let url = "https://a.example/x";
    let world = World::new(play(move |stage| async move {
        let mut fake = Fake::bound(&stage.socket, &stage.token).await?;
        let run = fake.open_run().await.unwrap();
        fake.record(vec![intended(&run, "c1")]).await?;
        asks(&mut fake, &run, fetch_approval("c1", url)).await?;
        fake.until(|_| None::<()>).await
    }))
    .await;
    let session = world.create(spec()).await.record;
    world.until_phase(&session.uid, Phase::Waiting).await;
    let pending = world.sessions.pending(&session.reference).await.unwrap();
    assert_eq!(pending.len(), 1);
    let run = world.view(&session.reference).await.record.state.run.unwrap();
    let request = |url: &str| FetchRequest {
        run: run.clone(),
        call: "c1".parse().unwrap(),
        method: "GET".to_owned(),
        url: url.to_owned(),
        headers: vec![],
    };
    assert!(!world.sessions.may_fetch(&session.uid, &request(url)).await);
    assert!(world.sessions.may_fetch(&session.uid, &request("https://named.example/")).await);

    let decide = |id: &str, decision| {
        let id = id.parse().unwrap();
        let (sessions, reference) = (world.sessions.clone(), session.reference.clone());
        async move { sessions.decide(&me(), &reference, &id, decision).await }
    };
    assert!(matches!(decide("ask-other", Decision::Once).await, Err(SessionError::NothingPending)));
    decide("ask-c1", Decision::Once).await.unwrap();
    decide("ask-c1", Decision::Once).await.unwrap();
    let otherwise = decide("ask-c1", Decision::Deny { reason: "no".into() }).await;
    assert!(matches!(otherwise, Err(SessionError::Conflict(_))), "{otherwise:?}");
    let events = world.until_phase(&session.uid, Phase::Completed).await;
    let told = told(&events);
    let at = told.iter().position(|line| line == "approval.requested").unwrap();
    assert_eq!(
        told[at..at + 4],
        ["approval.requested", "Waiting ApprovalPending", "approval.decided", "Running Working"]
    );
    world.verify();
}

/// What was decided is told again whenever it is asked again: more than any runner asks, and than a connection may hold.
const AGAIN: usize = 50_000;

#[tokio::test]
async fn a_runner_that_does_not_read_is_cut_off_and_comes_again() {
    let world = World::new(play(move |stage| async move {
        let mut fake = Fake::bound(&stage.socket, &stage.token).await?;
        let run = fake.open_run().await.unwrap();
        fake.record(vec![intended(&run, "c1")]).await?;
        let ask = || FromRunner::Ask { ask: fetch_approval("c1", "https://a.example/") };
        fake.say(&ask()).await?;
        fake.until(|message| matches!(message, FromServer::Decided { .. }).then_some(())).await?;
        let mut said = 0;
        while said < AGAIN && fake.say(&ask()).await.is_ok() {
            said += 1;
        }
        if said == AGAIN {
            return fake.end(&run, RunEnd::Internal).await;
        }
        let mut again = Fake::dial(&stage.socket, &stage.token).await?;
        again.hello(Some(Resume { epoch: stage.epoch, runner_seq: RunnerSeq(1) })).await?;
        again.seq = 1;
        again.say(&ask()).await?;
        again.until(|message| matches!(message, FromServer::Decided { .. }).then_some(())).await?;
        again.record(vec![finished(&run, "c1", CallOutcome::Done)]).await?;
        again.end(&run, RunEnd::Done).await?;
        again.until(|_| None::<()>).await
    }))
    .await;
    let session = world.create(spec()).await.record;
    world.until_phase(&session.uid, Phase::Waiting).await;
    let ask = "ask-c1".parse().unwrap();
    world.sessions.decide(&me(), &session.reference, &ask, Decision::Once).await.unwrap();
    let events = world.until(&session.uid, |event| matches!(event, Event::RunFinished(_))).await;
    let told = told(&events);
    assert_eq!(told.last().unwrap(), "run.finished Completed", "{told:#?}");
    assert!(told.iter().all(|line| !line.starts_with("lost")), "{told:#?}");
    world.verify();
}

#[tokio::test]
async fn what_waits_survives_the_server_and_the_runner() {
    let asking = || {
        play(|stage| async move {
            let mut fake = Fake::bound(&stage.socket, &stage.token).await?;
            let run = fake.open_run().await.unwrap();
            if stage.epoch.0 == 1 {
                fake.record(vec![intended(&run, "c1")]).await?;
            }
            asks(&mut fake, &run, fetch_approval("c1", "https://a.example/")).await?;
            fake.until(|_| None::<()>).await
        })
    };
    let world = World::new(asking()).await;
    let session = world.create(spec()).await.record;
    world.until_phase(&session.uid, Phase::Waiting).await;
    world.kill_runner(&session.uid, 1).await;
    let again = |event: &Event| matches!(event, Event::RunnerBound(bound) if bound.epoch.0 == 2);
    world.until(&session.uid, again).await;
    let world = world.restart(asking()).await;
    assert_eq!(world.sessions.pending(&session.reference).await.unwrap().len(), 1);
    let ask = "ask-c1".parse().unwrap();
    world.sessions.decide(&me(), &session.reference, &ask, Decision::Session).await.unwrap();
    let events = world.until_phase(&session.uid, Phase::Completed).await;
    let asked = events.iter().filter(|event| matches!(event, Event::ApprovalRequested(_))).count();
    assert_eq!(asked, 1, "{:?}", told(&events));
    world.verify();
}

#[tokio::test]
async fn a_question_is_answered() {
    let world = World::new(play(|stage| async move {
        let mut fake = Fake::bound(&stage.socket, &stage.token).await?;
        let run = fake.open_run().await.unwrap();
        let question = Question {
            id: "q1".parse().unwrap(),
            call: "c1".parse().unwrap(),
            tool: "AskUserQuestion".parse().unwrap(),
            request: serde_json::json!({"question": "which?"}),
        };
        fake.record(vec![intended(&run, "c1")]).await?;
        let told = asks(&mut fake, &run, Ask::Question(question)).await?;
        let FromServer::Answered { answered } = told else { panic!("an answer") };
        assert_eq!(answered.answer, "this one");
        fake.until(|_| None::<()>).await
    }))
    .await;
    let session = world.create(spec()).await.record;
    world.until_phase(&session.uid, Phase::Waiting).await;
    let decision =
        world.sessions.decide(&me(), &session.reference, &"q1".parse().unwrap(), Decision::Once).await;
    assert!(matches!(decision, Err(SessionError::NothingPending)));
    let answer = "this one".into();
    world.sessions.answer(&me(), &session.reference, &"q1".parse().unwrap(), answer).await.unwrap();
    world.until_phase(&session.uid, Phase::Completed).await;
}

#[tokio::test]
async fn an_interrupted_interactive_session_waits_for_the_next_message() {
    let world = World::new(play(|stage| async move {
        let mut fake = Fake::bound(&stage.socket, &stage.token).await?;
        let run = fake
            .until(|m| if let FromServer::Interrupt { run } = m { Some(run.clone()) } else { None })
            .await?;
        fake.end(&run, RunEnd::Interrupted).await?;
        let next =
            fake.until(|m| if let FromServer::Run { run } = m { Some(run.clone()) } else { None }).await?;
        fake.end(&next, RunEnd::Done).await?;
        fake.until(|_| None::<()>).await
    }))
    .await;
    let session = world.create(interactive()).await.record;
    world.until_phase(&session.uid, Phase::Running).await;
    let other = world.sessions.interrupt(&me(), &session.reference, Some("no-run".parse().unwrap())).await;
    assert!(matches!(other, Err(SessionError::Conflict(_))));
    world.sessions.interrupt(&me(), &session.reference, None).await.unwrap();
    world.until_phase(&session.uid, Phase::Waiting).await;
    let (run, _) = world.sessions.send(&me(), &session.reference, text("go on")).await.unwrap();
    let events = world
        .until(&session.uid, |event| matches!(event, Event::RunFinished(finished) if finished.run == run))
        .await;
    assert_eq!(told(&events).iter().filter(|line| line.starts_with("run.finished")).count(), 2);
    world.verify();
}

#[tokio::test]
async fn names_are_taken_made_and_copied() {
    let world = World::new(diligent()).await;
    let project = "p".parse().unwrap();
    let new = |name: Option<&str>| NewSession {
        name: name.map(|name| name.parse().unwrap()),
        generate_name: None,
        spec: interactive(),
    };
    let first = world.sessions.create(&me(), &project, new(Some("fix"))).await.unwrap();
    let again = world.sessions.create(&me(), &project, new(Some("fix"))).await;
    assert!(matches!(again, Err(SessionError::NameTaken)));
    let made = world.sessions.create(&me(), &project, new(None)).await.unwrap();
    assert!(made.record.reference.name.as_str().starts_with("session-"));
    let copy = world.sessions.duplicate(&me(), &first.record.reference, None).await.unwrap();
    assert!(copy.record.reference.name.as_str().starts_with("fix-"));
    assert_eq!(copy.accepted, first.accepted);
    assert_eq!(world.sessions.list(&project).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_budget_is_promised_charged_and_survives_a_crash() {
    let deaf = || {
        play(|stage| async move {
            let mut fake = Fake::bound(&stage.socket, &stage.token).await?;
            fake.until(|_| None::<()>).await
        })
    };
    let world = World::new(deaf()).await;
    let session = world.create(Accepted { budget: Some(MicroUsd(100)), ..spec() }).await.record;
    world.until_phase(&session.uid, Phase::Running).await;
    let state = world.view(&session.reference).await.record.state;
    let charge = |key: &str| Charge {
        who: SessionKey { uid: session.uid.clone(), epoch: state.epoch },
        run: state.run.clone().unwrap(),
        key: key.to_owned(),
        model: "m".to_owned(),
    };
    let ledger = world.sessions.clone();
    ledger.reserve(&charge("a"), Some(MicroUsd(60))).await.unwrap();
    assert!(matches!(ledger.reserve(&charge("a"), Some(MicroUsd(1))).await, Err(ReserveError::Duplicate)));
    assert!(matches!(
        ledger.reserve(&charge("b"), Some(MicroUsd(60))).await,
        Err(ReserveError::Overspent(_))
    ));
    assert!(matches!(ledger.reserve(&charge("b"), None).await, Err(ReserveError::Unpriced)));
    let usage = Usage { input_tokens: 5, ..Usage::default() };
    ledger.settle(&charge("a"), Settlement { usage, cost: MicroUsd(10), aborted: false }).await;
    assert!(matches!(ledger.reserve(&charge("a"), Some(MicroUsd(1))).await, Err(ReserveError::Duplicate)));
    ledger.reserve(&charge("b"), Some(MicroUsd(60))).await.unwrap();
    let mut stale = charge("c");
    stale.who.epoch = model::id::Epoch(0);
    assert!(matches!(ledger.reserve(&stale, Some(MicroUsd(1))).await, Err(ReserveError::Stale)));
    drop(ledger);
    let world = world.restart(deaf()).await;
    let state = world.view(&session.reference).await.record.state;
    assert_eq!((state.budget.spent, state.budget.reserved), (MicroUsd(70), MicroUsd(0)));
    assert_eq!(state.totals.cost, MicroUsd(70));
    world.verify();
}
