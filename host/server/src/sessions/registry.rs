//! Which session has which task, and what they share.

use super::{
    actor::{Actor, Command},
    error::SessionError,
    live::Channel,
    seams::{Decided, Launcher, Life, Surroundings},
    view::{Caller, NewSession, Object, SessionView, Settings},
};
use model::{
    Untrusted,
    event::{Event, PhaseChanged, SessionCreated},
    id::{Digest, Epoch, ProjectName, SessionName, SessionRef, SessionUid, UnixMillis},
    lifecycle::{Phase, Reason, Trigger},
    message::Block,
    money::Budget,
    plan::Desired,
};
use resources::{Accepted, Source};
use secrecy::SecretString;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use store::{BlobError, Queued, SessionRecord, SessionState, Store, Totals};
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Commands that wait for a session's task.
const QUEUE: usize = 64;

/// Also of an upload to another project: that it exists is nobody's business here.
const NO_UPLOAD: &str = "spec.workspace.archive.blob: there is no such upload: PUT it to …/archives first";

pub(super) struct Registry {
    store: Store,
    pub(super) life: Life,
    pub(super) launcher: Arc<dyn Launcher>,
    pub(super) surroundings: Arc<dyn Surroundings>,
    pub(super) settings: Settings,
    actors: Mutex<HashMap<SessionUid, mpsc::Sender<Command>>>,
    lives: Mutex<HashMap<SessionUid, Arc<Channel>>>,
    pub(super) awake: AtomicUsize,
    tasks: TaskTracker,
    pub(super) closing: CancellationToken,
}

impl Registry {
    pub(super) async fn open(
        store: Store,
        life: Life,
        launcher: Arc<dyn Launcher>,
        surroundings: Arc<dyn Surroundings>,
        settings: Settings,
    ) -> Result<Arc<Self>, SessionError> {
        let registry = Arc::new(Self {
            store,
            life,
            launcher,
            surroundings,
            settings,
            actors: Mutex::default(),
            lives: Mutex::default(),
            awake: AtomicUsize::new(0),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        });
        for record in registry.store.sessions(None).await? {
            let unsettled = !record.state.phase.is_settled() || record.state.desired == Desired::Delete;
            if unsettled || !record.state.reserved.is_empty() || !record.state.queue.is_empty() {
                registry.actor(&record.uid)?;
            }
        }
        Ok(registry)
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn awake(&self) -> usize {
        self.awake.load(Ordering::Relaxed)
    }

    pub(super) async fn uid(&self, session: &SessionRef) -> Result<SessionUid, SessionError> {
        let record = self.store.session(session).await?.filter(|record| self.is_there(record));
        Ok(record.ok_or(SessionError::NotFound)?.uid)
    }

    /// One of a project that is gone, and whose name another one has by now, is on its way out, and nobody's.
    fn is_there(&self, record: &SessionRecord) -> bool {
        let (of, now) = (&record.project_uid, self.surroundings.uid(&record.reference.project));
        of.is_none() || now.is_none() || *of == now
    }

    /// The session's task, started if it was not.
    fn actor(self: &Arc<Self>, uid: &SessionUid) -> Result<mpsc::Sender<Command>, SessionError> {
        if self.closing.is_cancelled() {
            return Err(SessionError::Closed);
        }
        let mut actors = lock(&self.actors);
        if let Some(handle) = actors.get(uid).filter(|handle| !handle.is_closed()) {
            return Ok(handle.clone());
        }
        let (handle, commands) = mpsc::channel(QUEUE);
        actors.insert(uid.clone(), handle.clone());
        self.tasks.spawn(Actor::run(Arc::clone(self), uid.clone(), commands));
        Ok(handle)
    }

    /// For tasks that report back to a session.
    pub(super) async fn tell(self: &Arc<Self>, uid: &SessionUid, command: Command) {
        if let Ok(handle) = self.actor(uid) {
            let _ = handle.send(command).await;
        }
    }

    pub(super) async fn ask<T>(
        self: &Arc<Self>,
        uid: &SessionUid,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, SessionError> {
        let (reply, answer) = oneshot::channel();
        self.tell(uid, command(reply)).await;
        match answer.await {
            Ok(answer) => Ok(answer),
            Err(_) if self.closing.is_cancelled() => Err(SessionError::Closed),
            Err(_) => Err(SessionError::NotFound),
        }
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    pub(super) fn live(&self, uid: &SessionUid) -> Arc<Channel> {
        let mut lives = lock(&self.lives);
        Arc::clone(lives.entry(uid.clone()).or_insert_with(|| Arc::new(Channel::default())))
    }

    /// `None` where the session is gone.
    pub(super) fn still_live(&self, uid: &SessionUid) -> Option<Arc<Channel>> {
        lock(&self.lives).get(uid).cloned()
    }

    /// After a session was removed, or its task has nothing more to do.
    pub(super) fn forget(&self, uid: &SessionUid) {
        lock(&self.actors).remove(uid);
        lock(&self.lives).remove(uid);
    }

    pub(super) async fn create(
        self: &Arc<Self>,
        who: &Caller,
        project: &ProjectName,
        new: NewSession,
    ) -> Result<SessionView, SessionError> {
        let NewSession { name, generate_name, spec } = new;
        let uid = new_uid();
        let by = &who.name;
        self.keep_archive(&uid, project, &spec).await?;
        let (record, events) = loop {
            let generated = name.is_none();
            let name = name.clone().unwrap_or_else(|| generated_name(generate_name.as_deref()));
            let reference = SessionRef { project: project.clone(), name };
            let (record, events) = self.first(by, uid.clone(), reference, &spec, true)?;
            match self.store.create(record.clone(), events).await {
                Err(store::CreateError::Taken) if generated => {}
                result => break (record, result?),
            }
        };
        tracing::info!(session = %record.reference, uid = %record.uid, events = events.len(), "session accepted");
        self.ask(&uid, |reply| Command::View { reply }).await
    }

    /// Makes the session if it is not there, and hands on what was decided about it. Whether it is there then.
    pub(super) async fn take_up(
        self: &Arc<Self>,
        uid: &SessionUid,
        object: Option<Object>,
        decided: Decided,
    ) -> Result<bool, SessionError> {
        if self.store.session_by_uid(uid).await?.is_none() {
            let begins = |object: &Object| !object.ran;
            let Some(Object { reference, created_by, spec, .. }) = object.filter(begins) else {
                return Ok(false);
            };
            let kept = match self.keep_archive(uid, &reference.project, &spec).await {
                Ok(()) => true,
                // Whoever wrote the object is told; trying again would change nothing.
                Err(BlobError::NotFound) => false,
                Err(error) => return Err(error.into()),
            };
            let (record, events) = self.first(&created_by, uid.clone(), reference, &spec, kept)?;
            let session = record.reference.clone();
            match self.store.create(record, events).await {
                // By whoever was told of it at the same time.
                Err(store::CreateError::Taken) if self.store.session_by_uid(uid).await?.is_some() => {}
                created => {
                    created?;
                    tracing::info!(%session, %uid, "session accepted");
                }
            }
            self.tell(uid, Command::Decided { decided: Box::new(decided), spec: None }).await;
            return Ok(true);
        }
        let spec = object.map(|object| Box::new(object.spec));
        self.tell(uid, Command::Decided { decided: Box::new(decided), spec }).await;
        Ok(true)
    }

    /// What the session starts from is kept with it, if it is its project's.
    async fn keep_archive(
        &self,
        uid: &SessionUid,
        project: &ProjectName,
        spec: &Accepted,
    ) -> Result<(), BlobError> {
        match &spec.workspace {
            Source::Archive { blob } => {
                let of = self.surroundings.uid(project).ok_or(BlobError::NotFound)?;
                self.store.keep_blob(uid, (project, &of), blob).await
            }
            Source::Empty | Source::Dir { .. } | Source::InPlace { .. } => Ok(()),
        }
    }

    /// `kept`: what it starts from is there; else it has failed.
    fn first(
        &self,
        created_by: &Untrusted,
        uid: SessionUid,
        reference: SessionRef,
        spec: &Accepted,
        kept: bool,
    ) -> Result<(SessionRecord, Vec<Event>), SessionError> {
        let at = now();
        let accepted =
            serde_json::to_value(spec).map_err(|error| SessionError::Conflict(error.to_string()))?;
        let created = SessionCreated { created_by: created_by.clone(), spec: spec.spec.clone() };
        let phase = PhaseChanged { phase: Phase::Pending, reason: Reason::Accepted, message: "".into() };
        let mut events = vec![Event::SessionCreated(created), Event::PhaseChanged(phase)];
        events.extend(spec.warnings.iter().cloned().map(Event::Warning));
        let mut change = super::change::Change::new(&first_state(spec, at), at, Duration::ZERO);
        if !spec.prompt.is_empty() {
            change.state.queue.push(queued(created_by, vec![Block::text(spec.prompt.as_str())]));
        }
        if spec.desired == Desired::Run {
            change.begin_next();
        }
        if !kept {
            change.state.queue.clear();
            change.step(Trigger::Failed, Reason::Other("WorkspaceMissing".to_owned()), NO_UPLOAD);
        }
        events.extend(change.events.into_iter().map(|new| new.event));
        let record = SessionRecord {
            uid,
            project_uid: self.surroundings.uid(&reference.project),
            reference,
            created_at: at,
            created_by: created_by.clone(),
            labels: spec.labels.clone(),
            spec: accepted,
            event_bytes: self.settings.limits.session.event_bytes,
            state: change.state,
        };
        Ok((record, events))
    }

    pub(super) fn view(
        &self,
        record: SessionRecord,
        accepted: Accepted,
        connected: bool,
        pending: usize,
    ) -> SessionView {
        // One machine keeps every workspace.
        let ends_with_pod = matches!(self.life, Life::Followed(_)) && !accepted.persistent;
        let workspace_gone = ends_with_pod && record.state.was_bound() && record.state.phase.is_settled();
        SessionView { record, accepted, connected, pending, workspace_gone }
    }

    pub(super) async fn list(
        self: &Arc<Self>,
        project: Option<&ProjectName>,
    ) -> Result<Vec<SessionView>, SessionError> {
        let mut views = Vec::new();
        for record in self.store.sessions(project).await? {
            if !self.is_there(&record) {
                continue;
            }
            let handle = lock(&self.actors).get(&record.uid).filter(|handle| !handle.is_closed()).cloned();
            let view = match handle {
                Some(_) => self.ask(&record.uid, |reply| Command::View { reply }).await,
                None => accepted(&record).map(|accepted| self.view(record, accepted, false, 0)),
            };
            match view {
                Ok(view) => views.push(view),
                Err(SessionError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(views)
    }

    pub(super) async fn delete(self: &Arc<Self>, uid: &SessionUid) -> Result<(), SessionError> {
        // The reply comes when everything is gone.
        self.ask(uid, |reply| Command::Delete { reply }).await?
    }

    /// Wakes the sessions whose time is over (their plan then removes them) and removes blobs that nobody refers to.
    pub(super) async fn tidy(self: &Arc<Self>) -> Result<(), SessionError> {
        let now = now();
        for record in self.store.sessions(None).await? {
            let state = &record.state;
            let kept = accepted(&record).ok().and_then(|spec| spec.retention);
            if state.phase.is_settled() && kept.is_some_and(|kept| now.since(state.rests_since()) >= kept) {
                self.actor(&record.uid)?;
            }
        }
        let (blobs, bytes) = self.store.collect_blobs().await?;
        if blobs > 0 {
            tracing::info!(blobs, bytes, "blobs removed that nobody refers to");
        }
        Ok(())
    }

    pub(super) async fn authenticate(&self, token: &str) -> Option<(SessionUid, Epoch)> {
        match &self.life {
            Life::Planned => self.by_own_token(token).await,
            Life::Followed(elsewhere) => elsewhere.prove(SecretString::from(token)).await,
        }
    }

    /// A runner token is `vr1.<uid>.<epoch>.<secret>`; only its hash is kept.
    async fn by_own_token(&self, token: &str) -> Option<(SessionUid, Epoch)> {
        let (rest, _secret) = token.strip_prefix("vr1.")?.rsplit_once('.')?;
        let (uid, epoch) = rest.rsplit_once('.')?;
        let (uid, epoch) = (uid.parse::<SessionUid>().ok()?, Epoch(epoch.parse().ok()?));
        let record = self.store.session_by_uid(&uid).await.ok()??;
        let expected = record.state.token_hash?;
        let given = Digest::of(token.as_bytes());
        // Both are hashes: what their comparison's time tells is of no use.
        (record.state.epoch == epoch && given.hex() == expected).then_some((uid, epoch))
    }

    pub(super) async fn artifact(
        self: &Arc<Self>,
        uid: &SessionUid,
        digest: &Digest,
    ) -> Option<bytes::Bytes> {
        let wanted = digest.clone();
        let bound =
            self.ask(uid, |reply| Command::IsBound { artifact: wanted, reply }).await.unwrap_or(false);
        if bound { self.surroundings.artifact(digest.clone()).await } else { None }
    }

    pub(super) async fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn first_state(spec: &Accepted, at: UnixMillis) -> SessionState {
    SessionState {
        phase: Phase::Pending,
        reason: Reason::Accepted,
        message: "".into(),
        desired: spec.desired,
        updated_at: at,
        settled_at: None,
        epoch: Epoch(0),
        fence: Epoch(0),
        token_hash: None,
        losses: 0,
        lost_at: None,
        run: None,
        run_active_ms: 0,
        idle_since: Some(at),
        queue: vec![],
        budget: Budget { limit: spec.budget, ..Budget::default() },
        reserved: Default::default(),
        settled: vec![],
        totals: Totals::default(),
        pins: vec![],
        pod: None,
        snapshot: None,
    }
}

pub(super) fn queued(sent_by: &Untrusted, content: Vec<Block>) -> Queued {
    let id = || format!("{}", uuid::Uuid::now_v7().simple());
    Queued {
        run: known(&format!("run-{}", id())),
        message: known(&format!("msg-{}", id())),
        content,
        sent_by: sent_by.clone(),
    }
}

pub(super) fn accepted(record: &SessionRecord) -> Result<Accepted, SessionError> {
    let parsed = serde_json::from_value(record.spec.clone());
    parsed.map_err(|error| SessionError::Store(store::StoreError::Failed(error.into())))
}

fn new_uid() -> SessionUid {
    known(&uuid::Uuid::now_v7().simple().to_string())
}

/// Hex digits and dashes are valid in every id.
fn known<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    #[expect(clippy::expect_used, reason = "made here of characters that every id allows")]
    text.parse().expect("an id of hex digits and dashes")
}

fn generated_name(prefix: Option<&str>) -> SessionName {
    let random = uuid::Uuid::new_v4().simple().to_string();
    let random = random.get(..5).unwrap_or("00000");
    let prefix: String = prefix.unwrap_or("session-").chars().take(57).collect();
    format!("{prefix}{random}").parse().unwrap_or_else(|_| known(&format!("session-{random}")))
}

pub(super) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
