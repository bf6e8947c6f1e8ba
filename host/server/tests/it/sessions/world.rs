//! A server without a REST API: store, sessions and the runners' socket, and a launcher whose runners are tasks.

use super::fake::{Fake, Over};
use futures::{StreamExt, future::BoxFuture};
use model::{
    event::{Event, RunEnd, Warning},
    id::{Digest, Epoch, ProjectName, ProjectUid, Seq, SessionRef, SessionUid},
    lifecycle::{Phase, Reason},
    message::Block,
    plan::Desired,
};
use protocol::control::{FromRunner, FromServer, SessionPolicy};
use resources::{Accepted, ProcessNetwork, Source};
use secrecy::ExposeSecret;
use server::{
    broker::{Broker, BrokerConfig, Models, RetryPolicy},
    gateway,
    sessions::{
        Caller, Elsewhere, Exited, Launch, LaunchError, Launcher, Life, Material, Missing, NewSession,
        SessionError, SessionView, Sessions, Settings, Surroundings, Tail, Wanted,
    },
};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use store::{Durability, Store};
use tokio::{net::UnixListener, task::AbortHandle, time::timeout};

/// What a runner of an epoch does. Its process ends when this returns.
pub(crate) type Play = Arc<dyn Fn(Stage) -> BoxFuture<'static, ()> + Send + Sync>;

/// What a runner is given.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) socket: PathBuf,
    pub(crate) token: String,
    pub(crate) epoch: Epoch,
}

/// Longer than anything here takes; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) dir: Arc<tempfile::TempDir>,
    pub(crate) sessions: Sessions,
    pub(crate) socket: PathBuf,
    runners: Runners,
    pub(crate) incarnation: Arc<AtomicUsize>,
    serving: AbortHandle,
}

/// Runners outlive servers, as processes do.
#[derive(Clone, Default)]
pub(crate) struct Runners(Arc<Mutex<HashMap<(SessionUid, Epoch), AbortHandle>>>);

struct FakeLauncher {
    runners: Runners,
    play: Play,
    socket: PathBuf,
}

impl Launcher for FakeLauncher {
    fn refuses(&self, workspace: Source) -> BoxFuture<'_, Option<String>> {
        let why = match &workspace {
            Source::Dir { path, .. } if self.socket.parent() == Some(path) => {
                Some("the server's own folder".to_owned())
            }
            Source::Dir { path, .. } if !path.is_dir() => {
                Some(format!("there is no folder {}", path.display()))
            }
            _ => None,
        };
        Box::pin(async move { why })
    }

    fn start(&self, launch: Launch) -> BoxFuture<'_, Result<Vec<Warning>, LaunchError>> {
        let Launch { uid, epoch, token, workspace, exited, .. } = launch;
        Box::pin(async move {
            if let Source::Dir { path, .. } = workspace {
                let message = format!("{} does not exist", path.display());
                return Err(LaunchError::Hopeless {
                    reason: Reason::Other("WorkspaceMissing".to_owned()),
                    message,
                });
            }
            let token = token.expose_secret().to_owned();
            let task = tokio::spawn((self.play)(Stage { socket: self.socket.clone(), token, epoch }));
            self.runners.0.lock().unwrap().insert((uid, epoch), task.abort_handle());
            tokio::spawn(async move {
                let end = task.await;
                exited(if end.is_ok() { "it ended" } else { "it was killed" }.to_owned());
            });
            Ok(vec![])
        })
    }

    fn adopt(&self, uid: SessionUid, epoch: Epoch, exited: Exited) -> BoxFuture<'_, bool> {
        let task =
            self.runners.0.lock().unwrap().get(&(uid, epoch)).filter(|task| !task.is_finished()).cloned();
        Box::pin(async move {
            let Some(task) = task else { return false };
            tokio::spawn(async move {
                while !task.is_finished() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                exited("it ended".to_owned());
            });
            true
        })
    }

    fn kill(&self, uid: SessionUid, epoch: Epoch) -> BoxFuture<'_, ()> {
        let runners = self.runners.clone();
        Box::pin(async move { runners.kill(&uid, epoch).await })
    }

    fn remove(&self, _uid: SessionUid) -> BoxFuture<'_, std::io::Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

impl Runners {
    pub(crate) async fn kill(&self, uid: &SessionUid, epoch: Epoch) {
        let task = self.0.lock().unwrap().get(&(uid.clone(), epoch)).cloned();
        if let Some(task) = task {
            task.abort();
            while !task.is_finished() {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Which project of its name each is by now.
struct Nothing(Arc<AtomicUsize>);

impl Surroundings for Nothing {
    fn uid(&self, project: &ProjectName) -> Option<ProjectUid> {
        match self.0.load(Ordering::Relaxed) {
            0 => project.as_str().parse().ok(),
            n => format!("{project}-{n}").parse().ok(),
        }
    }

    fn material(&self, wanted: Wanted) -> BoxFuture<'_, Result<Material, Missing>> {
        let missing = wanted.persona.map(|persona| Missing {
            reason: Reason::PersonaMissing,
            message: format!("there is no persona {persona}"),
        });
        let material = Material {
            model: "none".to_owned(),
            context_tokens: 1000,
            max_output_tokens: 100,
            plugins: vec![],
            artifact_key: String::new(),
            policy: policy(),
        };
        Box::pin(async move { missing.map_or(Ok(material), Err) })
    }

    fn artifact(&self, _digest: Digest) -> BoxFuture<'_, Option<bytes::Bytes>> {
        Box::pin(async { None })
    }

    fn policy(&self, _project: ProjectName) -> BoxFuture<'_, SessionPolicy> {
        Box::pin(async { policy() })
    }
}

fn policy() -> SessionPolicy {
    SessionPolicy { fetch_hosts: vec!["named.example".to_owned()], ..SessionPolicy::default() }
}

pub(crate) fn settings() -> Settings {
    Settings {
        start_timeout: Duration::from_secs(5),
        max_losses: 2,
        backoff_base: Duration::from_millis(5),
        backoff_cap: Duration::from_millis(20),
        drain: Duration::from_secs(2),
        ..Settings::shipped()
    }
}

impl World {
    pub(crate) async fn new(play: Play) -> Self {
        Self::with(play, settings()).await
    }

    pub(crate) async fn with(play: Play, settings: Settings) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Self::open(dir, Runners::default(), Life::Planned, play, settings).await
    }

    /// Sessions about which somebody else decides; nobody plays their runners.
    pub(crate) async fn followed(elsewhere: Arc<dyn Elsewhere>) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let idle = play(|_| std::future::pending());
        Self::open(dir, Runners::default(), Life::Followed(elsewhere), idle, settings()).await
    }

    async fn open(
        dir: Arc<tempfile::TempDir>,
        runners: Runners,
        life: Life,
        play: Play,
        settings: Settings,
    ) -> Self {
        let socket = dir.path().join("runner.sock");
        let launcher = Arc::new(FakeLauncher { runners: runners.clone(), play, socket: socket.clone() });
        let store = Store::open(dir.path(), Durability::Process).unwrap();
        let incarnation = Arc::new(AtomicUsize::new(0));
        let around = Arc::new(Nothing(Arc::clone(&incarnation)));
        let sessions = Sessions::open(store, life, launcher, around, settings).await.unwrap();
        let router = gateway::router(sessions.clone(), broker(&sessions));
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let serving =
            tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }).abort_handle();
        Self { dir, sessions, socket, runners, incarnation, serving }
    }

    /// Ends this server in the middle of whatever it does, and starts another one on the same folder. Runners go on.
    pub(crate) async fn restart(self, play: Play) -> Self {
        let Self { dir, sessions, runners, serving, .. } = self;
        serving.abort();
        sessions.close().await;
        drop(sessions);
        // Connections hold the sessions until they notice.
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match Store::open(dir.path(), Durability::Process) {
                Ok(_) => break,
                Err(error) => {
                    assert!(tokio::time::Instant::now() < deadline, "the store is still held: {error}")
                }
            }
            tokio::task::yield_now().await;
        }
        Self::open(dir, runners, Life::Planned, play, settings()).await
    }

    pub(crate) async fn kill_runner(&self, uid: &SessionUid, epoch: u64) {
        self.runners.kill(uid, Epoch(epoch)).await;
    }

    pub(crate) async fn create(&self, spec: Accepted) -> SessionView {
        let new = NewSession { name: None, generate_name: Some("s-".to_owned()), spec };
        self.sessions.create(&me(), &"p".parse().unwrap(), new).await.unwrap()
    }

    /// Follows the log until an event like this, and gives all up to it.
    pub(crate) async fn until(&self, uid: &SessionUid, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut tail = Box::pin(self.sessions.tail(uid, Seq(0)));
        let mut seen = vec![];
        let found = timeout(PATIENCE, async {
            while let Some(next) = tail.next().await {
                let Tail::Stored(stored) = next else { continue };
                assert_eq!(stored.seq.0, seen.len() as u64 + 1, "the tail has a gap");
                seen.push(stored.event);
                if wanted(&seen[seen.len() - 1]) {
                    return true;
                }
            }
            false
        });
        assert!(matches!(found.await, Ok(true)), "it did not come; the log: {:#?}", told(&seen));
        seen
    }

    pub(crate) async fn until_phase(&self, uid: &SessionUid, phase: Phase) -> Vec<Event> {
        self.until(uid, |event| matches!(event, Event::PhaseChanged(changed) if changed.phase == phase)).await
    }

    pub(crate) async fn until_removed(&self, session: &SessionRef) {
        let gone = async {
            while !matches!(self.sessions.get(session).await, Err(SessionError::NotFound)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, gone).await.unwrap();
    }

    pub(crate) async fn view(&self, session: &SessionRef) -> SessionView {
        self.sessions.get(session).await.unwrap()
    }

    pub(crate) fn broker(&self) -> Broker {
        broker(&self.sessions)
    }

    pub(crate) fn verify(&self) {
        verify(self.dir.path());
    }
}

pub(crate) fn verify(dir: &Path) {
    assert_eq!(store::verify(dir).unwrap().problems, []);
}

fn broker(sessions: &Sessions) -> Broker {
    let config = BrokerConfig {
        endpoint: None,
        scripted: None,
        default_model: None,
        models: Models::shipped().unwrap(),
        retry: RetryPolicy::shipped(),
        exceptions: vec![],
    };
    Broker::new(config, Arc::new(sessions.clone())).unwrap()
}

pub(crate) fn me() -> Caller {
    Caller { name: "me".into(), credential: None }
}

pub(crate) fn text(text: &str) -> Vec<Block> {
    vec![Block::text(text)]
}

pub(crate) fn spec() -> Accepted {
    Accepted {
        prompt: "do it".to_owned(),
        desired: Desired::Run,
        persona: None,
        analyse: false,
        model: None,
        max_output_tokens: None,
        mode: Default::default(),
        budget: None,
        interactive: false,
        timeout: Duration::from_secs(60),
        inactivity: None,
        retention: None,
        stop_on_run_finished: false,
        workspace: Source::Empty,
        workspace_bytes: None,
        persistent: false,
        environment: Default::default(),
        max_turns: None,
        process_network: ProcessNetwork::None,
        needs_programs: false,
        plugins: None,
        display_name: None,
        labels: Default::default(),
        warnings: vec![],
        spec: serde_json::json!({"prompt": "do it"}),
    }
}

pub(crate) fn interactive() -> Accepted {
    Accepted { interactive: true, ..spec() }
}

pub(crate) fn play<F: Future<Output = Result<(), Over>> + Send + 'static>(
    part: impl Fn(Stage) -> F + Send + Sync + 'static,
) -> Play {
    Arc::new(move |stage| {
        let part = part(stage);
        Box::pin(async move {
            // How a runner ends is seen in the log.
            let _ = part.await;
        })
    })
}

/// Works on every run until it is drained: one message, and done.
pub(crate) fn diligent() -> Play {
    play(|stage| async move {
        let mut fake = Fake::bound(&stage.socket, &stage.token).await?;
        loop {
            if let Some(run) = fake.open_run().await {
                fake.message(&run, "done").await?;
                fake.end(&run, RunEnd::Done).await?;
            }
            if matches!(next_work(&mut fake).await?, FromServer::Drain { .. }) {
                return fake.say(&FromRunner::Bye { message: "".into() }).await;
            }
        }
    })
}

pub(crate) async fn next_work(fake: &mut Fake) -> Result<FromServer, Over> {
    fake.until(|message| match message {
        FromServer::Run { .. } | FromServer::Drain { .. } => Some(message.clone()),
        _ => None,
    })
    .await
}

/// The log in short.
pub(crate) fn told(events: &[Event]) -> Vec<String> {
    let line = |event: &Event| match event {
        Event::PhaseChanged(changed) => format!("{} {:?}", changed.phase, changed.reason),
        Event::RunFinished(run) => format!("run.finished {:?}", run.outcome),
        Event::RunnerLost(lost) => format!("lost {}", lost.epoch),
        Event::RunnerBound(bound) => format!("bound {}", bound.epoch),
        Event::Warning(warning) => format!("warning {}", warning.reason),
        other => serde_json::to_value(other).unwrap()["kind"].as_str().unwrap_or("?").to_owned(),
    };
    events.iter().map(line).collect()
}
