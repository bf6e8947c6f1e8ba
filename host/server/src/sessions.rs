//! Sessions: the only door to them, for the REST API, the runners' gateway and the schedulers alike.
//!
//! One task per session ([`actor`]) owns its record and is the only one that changes it. What is to happen next is
//! decided by `model::plan`; what happened is in the log before anybody is told. It knows neither HTTP nor how a runner
//! is started ([`Launcher`]) nor where plugins and policy come from ([`Surroundings`]).

mod actor;
mod change;
mod error;
mod files;
mod follow;
mod ledger;
mod link;
mod live;
mod registry;
mod seams;
mod story;
mod tail;
mod view;

pub use error::{ConnectError, FilesError, SessionError};
pub use link::{ConnectionId, Hello, ToRunner};
pub use seams::{
    Decided, Elsewhere, Exited, Launch, LaunchError, Launcher, Life, Material, Missing, Surroundings, Wanted,
};
pub use tail::Tail;
pub use view::{Caller, NewSession, Object, SessionView, Settings};

use actor::Command;
use futures::Stream;
use model::{
    approval::Decision,
    event::Stored,
    id::{AskId, Digest, Epoch, MessageId, ProjectName, RunId, Seq, SessionRef, SessionUid},
    message::Block,
    plan::Desired,
};
use protocol::{
    control::{Ask, FromRunner, Reply, Request},
    http::FetchRequest,
};
use registry::Registry;
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use store::Store;
use telemetry::Shutdown;

/// Clones are handles of the same sessions.
#[derive(Clone)]
pub struct Sessions(Arc<Registry>);

impl Sessions {
    /// Takes up all sessions of the store where they were left.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open(
        store: Store,
        life: Life,
        launcher: Arc<dyn Launcher>,
        surroundings: Arc<dyn Surroundings>,
        settings: Settings,
    ) -> Result<Self, SessionError> {
        Ok(Self(Registry::open(store, life, launcher, surroundings, settings).await?))
    }

    /// Accepts a session; its first run begins with the prompt, if there is one.
    ///
    /// # Errors
    /// When the name is taken or the store is full.
    pub async fn create(
        &self,
        who: &Caller,
        project: &ProjectName,
        new: NewSession,
    ) -> Result<SessionView, SessionError> {
        self.0.create(who, project, new).await
    }

    /// What was decided elsewhere about a session; makes it, of its object, where it is not there. Whether it is there then.
    ///
    /// # Errors
    /// When the name is taken by one that is on its way out, or the store is full.
    pub async fn take_up(
        &self,
        uid: &SessionUid,
        object: Option<Object>,
        decided: Decided,
    ) -> Result<bool, SessionError> {
        self.0.take_up(uid, object, decided).await
    }

    /// What speaks against a workspace before there is a session, for people.
    pub async fn refuses(&self, workspace: &resources::Source) -> Option<String> {
        self.0.launcher.refuses(workspace.clone()).await
    }

    /// A new session of the same specification.
    ///
    /// # Errors
    /// When there is no such session, the name is taken or the store is full.
    pub async fn duplicate(
        &self,
        who: &Caller,
        of: &SessionRef,
        name: Option<model::id::SessionName>,
    ) -> Result<SessionView, SessionError> {
        let SessionView { accepted, .. } = self.get(of).await?;
        let generate_name = Some(format!("{}-", of.name));
        self.create(who, &of.project, NewSession { name, generate_name, spec: accepted }).await
    }

    /// # Errors
    /// When there is no such session.
    pub async fn get(&self, session: &SessionRef) -> Result<SessionView, SessionError> {
        let uid = self.0.uid(session).await?;
        self.0.ask(&uid, |reply| Command::View { reply }).await
    }

    /// Newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list(&self, project: &ProjectName) -> Result<Vec<SessionView>, SessionError> {
        self.0.list(Some(project)).await
    }

    /// What a person wants of it from now on. `Run` wakes a settled session that has something left to do.
    ///
    /// # Errors
    /// When there is no such session or the store is full.
    pub async fn set_desired(
        &self,
        session: &SessionRef,
        desired: Desired,
    ) -> Result<SessionView, SessionError> {
        let uid = self.0.uid(session).await?;
        self.0.ask(&uid, |reply| Command::Desire { desired, reply }).await?
    }

    /// Interrupts what is under way and ends the runner; a further message wakes the session.
    ///
    /// # Errors
    /// As [`Sessions::set_desired`].
    pub async fn stop(&self, session: &SessionRef) -> Result<SessionView, SessionError> {
        self.set_desired(session, Desired::Stop).await
    }

    /// Ends the runner and removes everything of the session. Returns when it is gone.
    ///
    /// # Errors
    /// When there is no such session or it cannot be removed.
    pub async fn delete(&self, session: &SessionRef) -> Result<(), SessionError> {
        let uid = self.0.uid(session).await?;
        self.0.delete(&uid).await
    }

    /// A further message: begins a run now or after the one under way, and wakes a settled session.
    ///
    /// # Errors
    /// When there is no such session, it is being deleted, its quota is used up or the store is full.
    pub async fn send(
        &self,
        who: &Caller,
        session: &SessionRef,
        content: Vec<Block>,
    ) -> Result<(RunId, MessageId), SessionError> {
        let uid = self.0.uid(session).await?;
        let who = who.clone();
        self.0.ask(&uid, |reply| Command::Send { who, content, reply }).await?
    }

    /// Stops the run under way (if it is `run`), in mid-call and in mid-stream. Returns the run that it stops.
    ///
    /// # Errors
    /// When there is no such session or no such run under way.
    pub async fn interrupt(
        &self,
        _who: &Caller,
        session: &SessionRef,
        run: Option<RunId>,
    ) -> Result<RunId, SessionError> {
        let uid = self.0.uid(session).await?;
        self.0.ask(&uid, |reply| Command::Interrupt { run, reply }).await?
    }

    /// Decides a pending approval. Idempotent for the same decision.
    ///
    /// # Errors
    /// When nothing of that id waits, or it was decided otherwise.
    pub async fn decide(
        &self,
        who: &Caller,
        session: &SessionRef,
        ask: &AskId,
        decision: Decision,
    ) -> Result<(), SessionError> {
        let uid = self.0.uid(session).await?;
        let (who, ask) = (who.clone(), ask.clone());
        self.0.ask(&uid, |reply| Command::Decide { who, ask, decision, reply }).await?
    }

    /// Answers a tool's question.
    ///
    /// # Errors
    /// When nothing of that id waits.
    pub async fn answer(
        &self,
        who: &Caller,
        session: &SessionRef,
        ask: &AskId,
        answer: Value,
    ) -> Result<(), SessionError> {
        let uid = self.0.uid(session).await?;
        let (who, ask) = (who.clone(), ask.clone());
        self.0.ask(&uid, |reply| Command::Answer { who, ask, answer, reply }).await?
    }

    /// What waits for a person, oldest first.
    ///
    /// # Errors
    /// When there is no such session.
    pub async fn pending(&self, session: &SessionRef) -> Result<Vec<Ask>, SessionError> {
        let uid = self.0.uid(session).await?;
        self.0.ask(&uid, |reply| Command::Pending { reply }).await
    }

    /// A page of the log: events after this one, fewer than `limit` where they are large, none at its end.
    ///
    /// # Errors
    /// When there is no such session.
    pub async fn events(
        &self,
        session: &SessionRef,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<Stored>, SessionError> {
        let uid = self.0.uid(session).await?;
        Ok(self.0.store().events(&uid, after, limit).await?)
    }

    /// Everything after `after`: the log without gaps, then what happens, live. A [`Tail::Live`] comes after the events
    /// that were stored before it happened and before those that were stored later. Ends when the session is deleted.
    pub fn tail(&self, uid: &SessionUid, after: Seq) -> impl Stream<Item = Tail> + Send + 'static + use<> {
        tail::tail(Arc::clone(&self.0), uid.clone(), after)
    }

    /// Something about the session's files: by its runner while it is connected, else from the snapshot of its last run.
    ///
    /// # Errors
    /// When there is no such file, or the session would have to be awake for it.
    pub async fn files(&self, session: &SessionRef, request: Request) -> Result<Reply, FilesError> {
        let uid = self.0.uid(session).await?;
        files::files(&self.0, &uid, request).await
    }

    /// Removes, now and then and until shutdown, settled sessions whose time is over and blobs that nobody refers to.
    pub async fn housekeeping(self, every: Duration, shutdown: Shutdown) {
        let mut times = tokio::time::interval(every);
        while shutdown.or(times.tick()).await.is_some() {
            if let Err(error) = self.0.tidy().await {
                tracing::warn!(error = %telemetry::field::chain(&error), "housekeeping failed, and tries again");
            }
        }
    }

    /// The store behind, for blobs, backup and metrics. Its sessions are changed only through here.
    #[must_use]
    pub fn store(&self) -> &Store {
        self.0.store()
    }

    /// Sessions that have a runner.
    #[must_use]
    pub fn awake(&self) -> usize {
        self.0.awake()
    }

    /// Ends all tasks. Runners keep running: they find the next server, or end by themselves.
    pub async fn close(&self) {
        self.0.close().await;
    }

    /// What a session may use where its specification does not say less.
    #[must_use]
    pub fn limits(&self) -> model::limits::Limits {
        self.0.settings.limits
    }

    // -- for the gateway

    /// Which session and epoch this runner token is of, if it is a current one.
    pub async fn authenticate(&self, token: &str) -> Option<(SessionUid, Epoch)> {
        self.0.authenticate(token).await
    }

    /// A runner dials in. What it is to be told comes through `to`, until that is dropped or the connection replaced.
    ///
    /// # Errors
    /// When this runner has no business here; see [`ConnectError`].
    pub async fn connect(
        &self,
        uid: &SessionUid,
        epoch: Epoch,
        hello: Hello,
        to: ToRunner,
    ) -> Result<ConnectionId, ConnectError> {
        self.0.ask(uid, |reply| Command::Connect { epoch, hello, to, reply }).await?
    }

    /// What a connected runner says. Waits until it is dealt with: the connection's only back-pressure.
    pub async fn said(&self, uid: &SessionUid, connection: ConnectionId, message: FromRunner) {
        let _ =
            self.0.ask(uid, |reply| Command::Said { connection, message: Box::new(message), reply }).await;
    }

    /// The connection broke the protocol or its limits: the session fails with this.
    pub async fn breach(&self, uid: &SessionUid, connection: ConnectionId, message: String) {
        let _ = self.0.ask(uid, |reply| Command::Breach { connection, message, reply }).await;
    }

    pub async fn disconnected(&self, uid: &SessionUid, connection: ConnectionId) {
        let _ = self.0.ask(uid, |reply| Command::Disconnected { connection, reply }).await;
    }

    /// Whether policy or an approval lets this call of this session fetch this URL.
    pub async fn may_fetch(&self, uid: &SessionUid, request: &FetchRequest) -> bool {
        let request = request.clone();
        self.0
            .ask(uid, |reply| Command::MayFetch { request: Box::new(request), reply })
            .await
            .unwrap_or(false)
    }

    /// Native code that this session's plugins were bound to.
    pub async fn artifact(&self, uid: &SessionUid, digest: &Digest) -> Option<bytes::Bytes> {
        self.0.artifact(uid, digest).await
    }
}
