//! One session's task: the only one that changes its record.
//!
//! It takes a command, commits what follows from it, and then does what `model::plan` says until there is nothing to do
//! before a certain time. Whatever takes long (starting, killing, compiling) runs beside it and reports back as a command.

mod accounts;
mod advance;
mod binding;
mod departure;
mod elsewhere;
mod ending;
mod people;
mod runner;

use super::{
    change::{Afterwards, Change},
    error::{ConnectError, SessionError},
    link::{ConnectionId, Hello, ToRunner},
    live::Channel,
    registry::{self, Registry},
    seams::{Decided, LaunchError, Material, Missing},
    story::Story,
    view::{Caller, SessionView},
};
use crate::broker::{Charge, ReserveError, Settlement};
use model::{
    approval::Decision,
    event::{Snapshot, Warning},
    id::{AskId, Digest, Epoch, MessageId, RunId, SessionUid, UnixMillis},
    lifecycle::Phase,
    message::Block,
    money::MicroUsd,
    plan::{Desired, Runner},
};
use protocol::{
    control::{Ask, FromRunner, FromServer, Reply, Request, RequestError},
    http::FetchRequest,
};
use resources::{Accepted, session::status::ServerStatus};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};
use store::{AppendError, SessionRecord};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

type Answer<T> = oneshot::Sender<T>;
/// `Err`: no runner is connected; with the last snapshot, if there is one.
pub(super) type FilesAnswer = Result<Result<Reply, RequestError>, Option<Snapshot>>;

pub(super) enum Command {
    // of people
    View { reply: Answer<SessionView> },
    Pending { reply: Answer<Vec<Ask>> },
    Send { who: Caller, content: Vec<Block>, reply: Answer<Result<(RunId, MessageId), SessionError>> },
    Interrupt { run: Option<RunId>, reply: Answer<Result<RunId, SessionError>> },
    Decide { who: Caller, ask: AskId, decision: Decision, reply: Answer<Result<(), SessionError>> },
    Answer { who: Caller, ask: AskId, answer: Value, reply: Answer<Result<(), SessionError>> },
    Desire { desired: Desired, reply: Answer<Result<SessionView, SessionError>> },
    Delete { reply: Answer<Result<(), SessionError>> },
    Files { request: Request, reply: Answer<FilesAnswer> },
    // of the gateway
    Connect { epoch: Epoch, hello: Hello, to: ToRunner, reply: Answer<Result<ConnectionId, ConnectError>> },
    Said { connection: ConnectionId, message: Box<FromRunner>, reply: Answer<()> },
    Breach { connection: ConnectionId, message: String, reply: Answer<()> },
    Disconnected { connection: ConnectionId, reply: Answer<()> },
    MayFetch { request: Box<FetchRequest>, reply: Answer<bool> },
    IsBound { artifact: Digest, reply: Answer<bool> },
    // of the broker
    Reserve { charge: Charge, worst: Option<MicroUsd>, reply: Answer<Result<(), ReserveError>> },
    Settle { charge: Charge, settlement: Settlement, reply: Answer<()> },
    // of whoever decides elsewhere
    Decided { decided: Box<Decided>, spec: Option<Box<Accepted>> },
    // of what runs beside
    Launched { epoch: Epoch, result: Result<Vec<Warning>, LaunchError> },
    Exited { epoch: Epoch, message: String },
    Killed { epoch: Epoch },
    Material { connection: ConnectionId, material: Box<Result<Material, Missing>> },
}

/// A connected runner.
struct Link {
    id: ConnectionId,
    to: ToRunner,
    hello: Hello,
    /// It knows who it is.
    bound: bool,
    /// What it was told of since as revoked.
    revoked: Vec<Digest>,
    /// It said that it ends.
    bye: bool,
}

/// A runner on its way out.
struct Drain {
    /// Told to end, after its run was.
    told: bool,
    until: Instant,
}

pub(super) struct Actor {
    registry: Arc<Registry>,
    record: SessionRecord,
    accepted: Accepted,
    story: Story,
    live: Arc<Channel>,
    runner: Runner,
    link: Option<Link>,
    /// What is known of why the runner ended.
    exited: Option<String>,
    killing: Option<Epoch>,
    drain: Option<Drain>,
    /// The snapshot of a run that ended, under way.
    ending: Option<ending::Ending>,
    requests: BTreeMap<u64, Answer<FilesAnswer>>,
    last_id: u64,
    /// Native code that this session's plugins were bound to.
    artifacts: HashSet<Digest>,
    /// Since when active time is not counted in the record.
    active_since: Option<Instant>,
    deleting: Vec<Answer<Result<(), SessionError>>>,
    removed: bool,
    /// Among the sessions that have a runner.
    counted: bool,
    /// What was decided elsewhere, where that is so.
    decided: Option<Decided>,
    /// What whoever decides was told last.
    told: Option<ServerStatus>,
}

impl Actor {
    /// The task's whole life.
    pub(super) async fn run(registry: Arc<Registry>, uid: SessionUid, mut commands: mpsc::Receiver<Command>) {
        let closing = registry.closing.clone();
        let mut actor = match Self::load(Arc::clone(&registry), &uid).await {
            Ok(Some(actor)) => actor,
            Ok(None) => return registry.forget(&uid),
            Err(error) => {
                tracing::error!(%uid, error = %telemetry::field::chain(&error), "cannot take up a session");
                return registry.forget(&uid);
            }
        };
        loop {
            let until = actor.advance().await;
            actor.count_awake();
            actor.report();
            if actor.removed {
                break;
            }
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => actor.handle(command).await,
                    None => break,
                },
                () = wait(until) => {}
                () = closing.cancelled() => break,
            }
        }
        actor.leave().await;
    }

    async fn load(registry: Arc<Registry>, uid: &SessionUid) -> Result<Option<Self>, SessionError> {
        let Some(record) = registry.store().session_by_uid(uid).await? else { return Ok(None) };
        let mut story = Story::default();
        loop {
            let page = registry.store().events(uid, story.last, 1000).await?;
            if page.is_empty() {
                break;
            }
            page.iter().for_each(|event| story.apply(event));
        }
        let live = registry.live(uid);
        let accepted = registry::accepted(&record)?;
        let mut actor = Self {
            registry,
            record,
            accepted,
            story,
            live,
            runner: Runner::None,
            link: None,
            exited: None,
            killing: None,
            drain: None,
            ending: None,
            requests: BTreeMap::new(),
            last_id: 0,
            artifacts: HashSet::new(),
            active_since: None,
            deleting: vec![],
            removed: false,
            counted: false,
            decided: None,
            told: None,
        };
        actor.settle_forgotten().await?;
        actor.adopt().await;
        Ok(Some(actor))
    }

    /// After the server was started again: a runner that may live is waited for.
    async fn adopt(&mut self) {
        let state = &self.record.state;
        let (epoch, fenced) = (state.epoch, state.fence > state.epoch);
        if epoch == Epoch(0) || fenced || state.phase == Phase::Pending && state.token_hash.is_none() {
            return;
        }
        let exited = self.exited_notice(epoch);
        if self.registry.launcher.adopt(self.record.uid.clone(), epoch, exited).await {
            self.runner = Runner::Starting { epoch, since: registry::now() };
        } else if !self.record.state.phase.is_settled() {
            self.exited = Some("it ended while the server was away".to_owned());
            self.runner = Runner::Gone { epoch };
        }
    }

    async fn handle(&mut self, command: Command) {
        match command {
            Command::View { reply } => drop(reply.send(self.view())),
            Command::Pending { reply } => drop(reply.send(self.story.pending.clone())),
            Command::Send { who, content, reply } => drop(reply.send(self.send(&who, content).await)),
            Command::Interrupt { run, reply } => drop(reply.send(self.interrupt(run).await)),
            Command::Decide { who, ask, decision, reply } => {
                drop(reply.send(self.decide(&who, ask, decision).await));
            }
            Command::Answer { who, ask, answer, reply } => {
                drop(reply.send(self.answer(&who, ask, answer).await))
            }
            Command::Desire { desired, reply } => drop(reply.send(self.desire(desired).await)),
            Command::Delete { reply } => self.delete(reply).await,
            Command::Files { request, reply } => self.files(request, reply),
            Command::Reserve { charge, worst, reply } => {
                self.tell_revoked().await;
                drop(reply.send(self.reserve(&charge, worst).await));
            }
            Command::Settle { charge, settlement, reply } => {
                self.settle(&charge, settlement).await;
                let _ = reply.send(());
            }
            other => self.handle_runner(other).await,
        }
    }

    async fn handle_runner(&mut self, command: Command) {
        match command {
            Command::Connect { epoch, hello, to, reply } => drop(reply.send(self.connect(epoch, hello, to))),
            Command::Said { connection, message, reply } => {
                self.said(connection, *message).await;
                let _ = reply.send(());
            }
            Command::Breach { connection, message, reply } => {
                self.breach(connection, message).await;
                let _ = reply.send(());
            }
            Command::Disconnected { connection, reply } => {
                self.disconnected(connection);
                let _ = reply.send(());
            }
            Command::MayFetch { request, reply } => self.may_fetch(&request, reply),
            Command::IsBound { artifact, reply } => drop(reply.send(self.artifacts.contains(&artifact))),
            Command::Decided { decided, spec } => self.decided(*decided, spec.map(|spec| *spec)).await,
            Command::Launched { epoch, result } => self.launched(epoch, result).await,
            Command::Exited { epoch, message } => self.runner_exited(epoch, message),
            Command::Killed { epoch } => self.killed(epoch),
            Command::Material { connection, material } => self.bind(connection, *material).await,
            _ => {}
        }
    }

    fn view(&self) -> SessionView {
        let mut record = self.record.clone();
        record.state.message = self.message();
        self.tell_start(&mut record.state);
        let (connected, pending) = (self.link.is_some(), self.story.pending.len());
        self.registry.view(record, self.accepted.clone(), connected, pending)
    }

    /// A change of the state as it is, with active time counted up to now.
    fn change(&self) -> Change {
        let active = self.active_since.map_or(Duration::ZERO, |since| since.elapsed());
        Change::new(&self.record.state, registry::now(), active)
    }

    /// Writes state and events, or neither. Nobody is told of anything before this returned.
    async fn commit(&mut self, change: Change) -> Result<(), AppendError> {
        let Change { state, events, .. } = change;
        self.live.before(events.iter().map(|new| &new.event));
        let stored = self.registry.store().commit(&self.record.uid, events, state.clone()).await?;
        stored.iter().for_each(|event| self.story.apply(event));
        self.record.state = state;
        self.count_from_now();
        Ok(())
    }

    /// Active is a run that its runner works on, and that does not wait for a person.
    fn count_from_now(&mut self) {
        let working = self.record.state.phase == Phase::Running && self.story.ended.is_none();
        self.active_since = (working && self.link.is_some()).then(Instant::now);
    }

    fn tell(&self, message: FromServer) {
        if let Some(link) = &self.link {
            link.to.send(message);
        }
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn afterwards(&self) -> Afterwards {
        match (self.accepted.interactive, self.accepted.stop_on_run_finished) {
            (true, false) => Afterwards::Idle,
            (true, true) => Afterwards::Stop,
            (false, _) => Afterwards::Complete,
        }
    }

    /// Reports back to this session's queue from beside.
    fn exited_notice(&self, epoch: Epoch) -> super::seams::Exited {
        // A runner may outlive this server, and must not keep its store open.
        let (registry, uid) = (Arc::downgrade(&self.registry), self.record.uid.clone());
        Box::new(move |message| {
            let Some(registry) = registry.upgrade() else { return };
            let inner = Arc::clone(&registry);
            registry.spawn(async move { inner.tell(&uid, Command::Exited { epoch, message }).await });
        })
    }

    async fn leave(mut self) {
        let removed = self.removed;
        self.link = None;
        self.count_awake();
        if removed {
            self.registry.forget(&self.record.uid);
        }
        for reply in self.deleting.drain(..) {
            let _ = reply.send(if removed { Ok(()) } else { Err(SessionError::Closed) });
        }
    }
}

/// Until then; for ever without a time.
async fn wait(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// The moment of a time of day, on the clock that timers use.
fn instant(at: UnixMillis) -> Instant {
    Instant::now() + at.since(registry::now())
}
