//! Sessions about which somebody else decides, as an operator does on a cluster.

use super::{
    fake::Fake,
    world::{Stage, World, diligent, spec, told},
};
use futures::future::BoxFuture;
use model::{
    event::{Event, RunEnd},
    id::{Epoch, RunnerSeq, Seq, SessionRef, SessionUid},
    lifecycle::{Phase, Reason},
    plan::Desired,
};
use protocol::control::{FromServer, Resume};
use resources::{
    Accepted, Source,
    session::status::{ServerStatus, Work},
};
use secrecy::{ExposeSecret, SecretString};
use server::sessions::{Decided, Elsewhere, Object};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::watch;

/// Knows one session, and the epoch that was counted last.
struct Operator {
    uid: SessionUid,
    epoch: Mutex<Epoch>,
    /// That the runners are in.
    pod: Mutex<&'static str>,
    told: watch::Sender<Option<ServerStatus>>,
}

impl Elsewhere for Operator {
    fn prove(&self, token: SecretString) -> BoxFuture<'_, Option<(SessionUid, Epoch)>> {
        let known = token.expose_secret() == "pod";
        let epoch = *self.epoch.lock().unwrap();
        Box::pin(async move { known.then(|| (self.uid.clone(), epoch)) })
    }

    fn tell(&self, _session: &SessionRef, _uid: &SessionUid, status: ServerStatus, _may_wait: bool) {
        self.told.send_replace(Some(status));
    }
}

impl Operator {
    fn new() -> Arc<Self> {
        let told = watch::Sender::new(None);
        Arc::new(Self {
            uid: "uid-of-the-object".parse().unwrap(),
            epoch: Mutex::default(),
            pod: Mutex::new("first"),
            told,
        })
    }

    async fn decide(&self, world: &World, phase: Phase, epoch: u64, desired: Desired) {
        self.decide_of(spec(), world, phase, epoch, desired).await;
    }

    async fn decide_of(&self, spec: Accepted, world: &World, phase: Phase, epoch: u64, desired: Desired) {
        let reference = SessionRef { project: "p".parse().unwrap(), name: "s".parse().unwrap() };
        let object = Object { reference, created_by: "ada".into(), spec, ran: false };
        let decided = Decided {
            desired,
            phase,
            reason: Reason::Working,
            message: "as decided".into(),
            epoch: Epoch(epoch),
            pod: Some((*self.pod.lock().unwrap()).to_owned()),
            observed: Seq(1000),
            gone: desired == Desired::Delete,
        };
        *self.epoch.lock().unwrap() = Epoch(epoch);
        world.sessions.take_up(&self.uid, Some(object), decided).await.unwrap();
    }

    async fn until(&self, wanted: impl Fn(&Work) -> bool) -> ServerStatus {
        let mut told = self.told.subscribe();
        let is = |status: &Option<ServerStatus>| {
            status.as_ref().and_then(|s| s.work.as_ref()).is_some_and(&wanted)
        };
        let found = tokio::time::timeout(std::time::Duration::from_secs(20), told.wait_for(is)).await;
        found.unwrap().unwrap().clone().unwrap()
    }
}

fn stage(world: &World) -> Stage {
    Stage { socket: world.socket.clone(), token: "pod".to_owned(), epoch: Epoch(0) }
}

#[tokio::test]
async fn a_session_is_carried_through_the_loss_of_its_runner() {
    let operator = Operator::new();
    let world = World::followed(operator.clone()).await;
    operator.decide(&world, Phase::Pending, 0, Desired::Run).await;
    operator.decide(&world, Phase::Creating, 1, Desired::Run).await;
    let session = SessionRef { project: "p".parse().unwrap(), name: "s".parse().unwrap() };
    let view = world.view(&session).await;
    assert_eq!((view.record.state.message.raw(), view.workspace_gone), ("as decided", false));
    {
        let mut first = Fake::bound(&world.socket, "pod").await.unwrap();
        let run = first.open_run().await.unwrap();
        first.message(&run, "half of it").await.unwrap();
        let status = operator.until(|work| work.phase == Some(Phase::Running)).await;
        let work = status.work.unwrap();
        assert_eq!((work.connected_epoch, work.has_work, work.deadline.is_some()), (Some(1), true, true));
        assert_eq!(work.workspace_used, Some(true));
    }
    operator.until(|work| work.connected_epoch.is_none()).await;
    // The process that comes next is not counted yet: it must not speak as the one before it.
    let mut second = Fake::dial(&world.socket, "pod").await.unwrap();
    let refused = second.hello(None).await.unwrap_err();
    assert!(refused.0.contains("not counted"), "{}", refused.0);
    operator.decide(&world, Phase::Creating, 2, Desired::Run).await;
    let runner = tokio::spawn(diligent()(stage(&world)));
    let status = operator.until(|work| work.phase == Some(Phase::Completed)).await;
    let work = status.work.as_ref().unwrap();
    assert_eq!((work.has_work, work.connected_epoch, status.is_error), (false, None, Some(false)));
    assert_eq!(status.num_turns, Some(1));
    // It is told to end, without anybody deciding so.
    runner.await.unwrap();
    let events = world.until_phase(&operator.uid, Phase::Completed).await;
    let told = told(&events);
    for line in ["bound 1", "lost 1", "bound 2", "run.finished Completed"] {
        assert!(told.iter().any(|told| told == line), "{line}: {told:#?}");
    }
    assert!(world.view(&session).await.workspace_gone);
    operator.decide(&world, Phase::Completed, 2, Desired::Delete).await;
    world.until_removed(&session).await;
    world.verify();
}

#[tokio::test]
async fn a_stop_that_was_decided_interrupts_the_run_first() {
    let operator = Operator::new();
    let world = World::followed(operator.clone()).await;
    operator.decide(&world, Phase::Creating, 1, Desired::Run).await;
    let mut runner = Fake::bound(&world.socket, "pod").await.unwrap();
    let run = runner.open_run().await.unwrap();
    operator.decide(&world, Phase::Stopping, 1, Desired::Stop).await;
    let interrupted = runner.until(|m| matches!(m, FromServer::Interrupt { .. }).then_some(())).await;
    interrupted.unwrap();
    runner.end(&run, RunEnd::Interrupted).await.unwrap();
    runner.until(|m| matches!(m, FromServer::Drain { .. }).then_some(())).await.unwrap();
    drop(runner);
    operator.until(|work| !work.has_work && work.phase == Some(Phase::Stopped)).await;
    operator.until(|work| work.connected_epoch.is_none()).await;
    operator.decide(&world, Phase::Stopped, 1, Desired::Stop).await;
    world.until_phase(&operator.uid, Phase::Stopped).await;
    world.verify();
}

/// The operator did not hear that the first one was bound: server and pod went at once, as with their node.
#[tokio::test]
async fn a_runner_in_another_pod_does_not_go_on_without_the_files() {
    let check = async |persistent: bool, expected: Phase| {
        let operator = Operator::new();
        let world = World::followed(operator.clone()).await;
        let spec = Accepted { persistent, ..spec() };
        let decide = async |epoch| {
            operator.decide_of(spec.clone(), &world, Phase::Creating, epoch, Desired::Run).await;
        };
        decide(1).await;
        drop(Fake::bound(&world.socket, "pod").await.unwrap());
        *operator.pod.lock().unwrap() = "second";
        decide(2).await;
        let runner = tokio::spawn(diligent()(stage(&world)));
        let events = world.until_phase(&operator.uid, expected).await;
        runner.abort();
        let told = told(&events);
        let bound = told.iter().any(|line| line == "bound 2");
        assert_eq!(bound, persistent, "{told:#?}");
        if !persistent {
            let work = operator.until(|work| work.phase == Some(Phase::Failed)).await.work.unwrap();
            assert_eq!(work.reason.as_deref(), Some("WorkspaceLost"));
        }
        world.verify();
    };
    check(false, Phase::Failed).await;
    check(true, Phase::Completed).await;
}

/// Whoever wrote the object is told, and nobody tries again for ever.
#[tokio::test]
async fn a_session_from_another_projects_archive_fails_at_once() {
    let operator = Operator::new();
    let world = World::followed(operator.clone()).await;
    let mut upload = world.sessions.store().blob_writer(9).await.unwrap();
    upload.write(b"theirs".to_vec()).await.unwrap();
    let blob = upload.finish_upload(&"another".parse().unwrap()).await.unwrap().digest;
    let from = Accepted { workspace: Source::Archive { blob: blob.clone() }, ..spec() };
    operator.decide_of(from.clone(), &world, Phase::Creating, 1, Desired::Run).await;
    let work = operator.until(|work| work.phase == Some(Phase::Failed)).await.work.unwrap();
    assert_eq!((work.reason.as_deref(), work.has_work), (Some("WorkspaceMissing"), false));
    assert_eq!(work.workspace_used, Some(false));
    assert!(work.message.unwrap().contains("no such upload"));
    assert!(!world.sessions.store().owns_blob(&operator.uid, &blob).await.unwrap());
    operator.decide_of(from, &world, Phase::Failed, 1, Desired::Run).await;
    let events = world.until_phase(&operator.uid, Phase::Failed).await;
    assert_eq!(events.len(), 6, "{:?}", told(&events));
    world.verify();
}

/// One is served at a time: who begins anew is not counted yet, and who goes on takes the place of the one before.
#[tokio::test]
async fn one_connection_lives() {
    let operator = Operator::new();
    let world = World::followed(operator.clone()).await;
    operator.decide(&world, Phase::Creating, 1, Desired::Run).await;
    let mut first = Fake::bound(&world.socket, "pod").await.unwrap();
    let run = first.open_run().await.unwrap();
    first.message(&run, "here").await.unwrap();
    let mut second = Fake::dial(&world.socket, "pod").await.unwrap();
    let refused = second.hello(None).await.unwrap_err();
    assert!(refused.0.contains("not counted"), "{}", refused.0);
    first.message(&run, "still here").await.unwrap();
    let resume = Resume { epoch: Epoch(1), runner_seq: RunnerSeq(first.seq) };
    let mut third = Fake::dial(&world.socket, "pod").await.unwrap();
    third.hello(Some(resume)).await.unwrap();
    third.seq = first.seq;
    assert!(first.message(&run, "there are two of us").await.is_err());
    third.message(&run, "I go on").await.unwrap();
    let messages = AtomicUsize::new(0);
    let third_message = |event: &Event| {
        let is_one = matches!(event, Event::AssistantMessage(_));
        is_one && messages.fetch_add(1, Ordering::Relaxed) == 2
    };
    let told = told(&world.until(&operator.uid, third_message).await);
    assert_eq!(told.iter().filter(|told| *told == "bound 1").count(), 1, "{told:#?}");
    assert!(told.iter().all(|told| !told.starts_with("lost")), "{told:#?}");
}

#[tokio::test]
async fn nobody_else_is_listened_to() {
    let operator = Operator::new();
    let world = World::followed(operator.clone()).await;
    operator.decide(&world, Phase::Creating, 1, Desired::Run).await;
    assert!(Fake::dial(&world.socket, "another pod").await.is_err());
    let mut old = Fake::bound(&world.socket, "pod").await.unwrap();
    let run = old.open_run().await.unwrap();
    operator.decide(&world, Phase::Creating, 2, Desired::Run).await;
    assert!(old.message(&run, "too late").await.is_err(), "a newer epoch revokes");
    let (status, _) = old.http("GET", "/runner/v1/history?after=0", vec![]).await;
    assert_eq!(status, 409);
}
