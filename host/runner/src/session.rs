//! One session's life in this process: connects, is bound, works on runs one after the other, ends in order.

mod bound;
mod termination;

use crate::{
    agent::Agent,
    host::processes::Launcher,
    http::{Http, HttpError},
    link::{
        Link,
        connection::{Dialler, Ended},
    },
    settings::{self, Exec, SessionFolder},
    workspace::{UnpackError, Workspace},
};
use confine::Covers;
use engine::Engine;
use model::{
    event::{Event, RunEnd, RunEnded},
    id::RunId,
};
use protocol::control::{FromRunner, FromServer, Request, RequestError, VERSIONS};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use termination::Termination;
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, timeout},
};

/// How long the hello of a session that needs programs waits for the canaries of a launcher that was started beside the
/// runner, and of one that comes when its container does, whose image may have to be pulled. What is not said then is refused.
const CANARIES: Duration = Duration::from_secs(30);
const CONTAINER: Duration = Duration::from_secs(100);
/// Of a drain's time, what is left for the goodbye.
const GOODBYE: Duration = Duration::from_millis(200);

#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Link(#[from] Ended),
    #[error("the launcher's socket cannot be used")]
    Launcher(#[source] std::io::Error),
    #[error("the session's folder cannot be used")]
    Folder(#[source] std::io::Error),
    #[error("the log cannot be read")]
    History(#[source] HttpError),
    #[error("the workspace's archive cannot be fetched")]
    Archive(#[source] HttpError),
    #[error("the workspace cannot be made")]
    Unpack(#[from] UnpackError),
    #[error("the server's artefact key is no key")]
    Key,
    #[error("signals cannot be heard")]
    Signals(#[source] std::io::Error),
    #[error("the runner was asked to end and could not do so in order in the time that there was")]
    Terminated,
}

/// Serves a session until the server has no further use for it. The engine has been started; `covers` lie over git's own
/// where the workspace is a person's folder.
///
/// # Errors
/// When the server cannot be reached, refuses this runner, or what it binds to cannot be had.
pub async fn serve(
    settings: settings::Session,
    engine: Engine,
    covers: Option<Covers>,
) -> Result<(), SessionError> {
    let settings::Session {
        server,
        exec,
        install_launcher: _,
        folder,
        in_place: _,
        orphan_timeout,
        grace,
        dial_at_once,
        log: _,
    } = settings;
    let termination = Termination::heed().map_err(SessionError::Signals)?;
    let patience = if matches!(exec, Some(Exec::At(_))) { CONTAINER } else { CANARIES };
    let launcher = exec.map(Launcher::serve).transpose().map_err(SessionError::Launcher)?;
    let http = Http::new(server.clone(), Handle::current());
    let link = Link::default();
    let (inbox, mut received) = mpsc::unbounded_channel();
    let over = termination.over(inbox.clone(), grace);
    let asked = launcher.clone().filter(|_| !dial_at_once);
    let dialling = link.clone();
    let mut connection = tokio::spawn(async move {
        let hello = hello(asked.as_ref(), patience).await;
        Dialler { server, hello, orphan_timeout, inbox }.run(dialling).await
    });
    let parts = Parts { link, http, launcher, engine, folder, covers: covers.map(Arc::new) };
    let served = tokio::select! {
        served = parts.work(&mut received) => served,
        ended = &mut connection => Err(ended.unwrap_or(Ended::Closed).into()),
        () = over => Err(SessionError::Terminated),
    };
    connection.abort();
    served
}

async fn hello(launcher: Option<&Launcher>, patience: Duration) -> FromRunner {
    let confinement = match launcher {
        Some(launcher) => timeout(patience, launcher.properties()).await.unwrap_or_default(),
        None => vec![],
    };
    FromRunner::Hello {
        versions: VERSIONS,
        runner_version: env!("CARGO_PKG_VERSION").to_owned(),
        engine_id: engine::settings::engine_id(),
        target: engine::settings::target(),
        confinement,
        resumes: None,
    }
}

/// What a session is made of before it is bound.
struct Parts {
    link: Link,
    http: Http,
    launcher: Option<Launcher>,
    engine: Engine,
    folder: SessionFolder,
    /// Where the workspace is a person's own folder.
    covers: Option<Arc<Covers>>,
}

/// A bound session.
struct Session {
    agent: Arc<Agent>,
    workspace: Workspace,
    queue: VecDeque<RunId>,
    current: Option<Current>,
    /// Runs that this process has taken on, ended or not.
    taken: Vec<RunId>,
    /// A run ended, and the server has not asked for its diff yet.
    owes_diff: watch::Sender<bool>,
}

struct Current {
    run: RunId,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Parts {
    async fn work(self, received: &mut mpsc::UnboundedReceiver<FromServer>) -> Result<(), SessionError> {
        let binding = loop {
            match received.recv().await {
                Some(FromServer::Bind { binding }) => break *binding,
                Some(FromServer::Drain { .. }) => return self.goodbye().await,
                Some(_) => {}
                None => return Err(Ended::Closed.into()),
            }
        };
        let epoch = binding.epoch;
        let link = self.link.clone();
        let mut session = match self.bind(binding).await {
            Err(SessionError::Unpack(why)) if why.is_final() => return refuse(&link, received, &why).await,
            bound => bound?,
        };
        session.next();
        loop {
            let message = tokio::select! {
                message = received.recv() => message.ok_or(Ended::Closed)?,
                () = session.finished() => {
                    session.next();
                    continue;
                }
            };
            match message {
                FromServer::Run { run } => session.take(run).await?,
                FromServer::Interrupt { run } => session.interrupt(&run),
                FromServer::Revoked { digests } => session.agent.toolbox.revoke(&digests),
                FromServer::Request { id, request } => session.answer(id, request),
                FromServer::Drain { deadline_ms } => return session.drain(deadline_ms, received).await,
                FromServer::Bind { binding } if binding.epoch != epoch => {
                    return Err(Ended::Refused("the session has another runner now".to_owned()).into());
                }
                _ => {}
            }
        }
    }

    async fn goodbye(&self) -> Result<(), SessionError> {
        goodbye(&self.link).await;
        Ok(())
    }
}

impl Session {
    /// Begins the next run, if there is one and none is under way.
    fn next(&mut self) {
        if self.current.is_some() {
            return;
        }
        let Some(run) = self.queue.pop_front() else { return };
        let (stop, stopped) = watch::channel(false);
        let (agent, of, owes) = (self.agent.clone(), run.clone(), self.owes_diff.clone());
        let task = tokio::spawn(async move {
            agent.run(&of, stopped).await;
            owes.send_replace(true);
        });
        self.current = Some(Current { run, stop, task });
    }

    /// Waits for the end of the run under way; for ever where there is none.
    async fn finished(&mut self) {
        let Some(current) = &mut self.current else { return std::future::pending().await };
        if let Err(error) = (&mut current.task).await {
            tracing::error!(%error, run = %current.run, "a run broke");
            let (run, turns) = (current.run.clone(), 0);
            let message = "the runner broke while it worked on this run".into();
            let end = RunEnd::Internal;
            self.agent.link.record(Event::RunEnded(RunEnded { run, end, message, turns }));
        }
        self.current = None;
    }

    async fn take(&mut self, run: RunId) -> Result<(), SessionError> {
        if self.taken.contains(&run) {
            return Ok(());
        }
        bound::catch_up(&self.agent).await?;
        self.taken.push(run.clone());
        self.queue.push_back(run);
        self.next();
        Ok(())
    }

    fn interrupt(&mut self, run: &RunId) {
        match &self.current {
            Some(current) if current.run == *run => drop(current.stop.send_replace(true)),
            _ if self.queue.contains(run) => {
                self.queue.retain(|queued| queued != run);
                let (run, end) = (run.clone(), RunEnd::Interrupted);
                let ended = RunEnded { run, end, message: "".into(), turns: 0 };
                self.agent.link.record(Event::RunEnded(ended));
            }
            _ => {}
        }
    }

    fn answer(&self, id: u64, request: Request) {
        let (workspace, link, owes) =
            (self.workspace.clone(), self.agent.link.clone(), self.owes_diff.clone());
        tokio::spawn(async move {
            let is_diff = request == Request::Diff;
            let result = workspace.answer(request).await;
            link.respond(id, result);
            if is_diff {
                owes.send_replace(false);
            }
        });
    }

    /// Leaves what is under way as it is, lets the server have everything, and ends. A run that is not ended goes on in the
    /// session's next runner, as after a crash: who wants it ended interrupts it first.
    async fn drain(
        mut self,
        deadline_ms: u64,
        received: &mut mpsc::UnboundedReceiver<FromServer>,
    ) -> Result<(), SessionError> {
        let deadline = Instant::now() + Duration::from_millis(deadline_ms).saturating_sub(GOODBYE);
        if let Some(current) = self.current.take() {
            current.task.abort();
            // Whether it was ended just now or by us: it says nothing more.
            drop(current.task.await);
        }
        let mut owes = self.owes_diff.subscribe();
        let over = async {
            self.agent.link.settled().await;
            loop {
                tokio::select! {
                    biased;
                    _ = owes.wait_for(|owes| !*owes) => return,
                    message = received.recv() => match message {
                        Some(FromServer::Request { id, request }) => self.answer(id, request),
                        Some(_) => {}
                        None => return,
                    },
                }
            }
        };
        if tokio::time::timeout_at(deadline, over).await.is_err() {
            tracing::info!("the drain's time is over");
        }
        goodbye(&self.agent.link).await;
        Ok(())
    }
}

/// What the session is to begin with will never be a workspace: each of its runs ends with that.
async fn refuse(
    link: &Link,
    received: &mut mpsc::UnboundedReceiver<FromServer>,
    why: &UnpackError,
) -> Result<(), SessionError> {
    let why = telemetry::field::chain(why);
    tracing::warn!(why, "the workspace cannot be made");
    let mut ended = Vec::new();
    loop {
        match received.recv().await.ok_or(Ended::Closed)? {
            FromServer::Run { run } if !ended.contains(&run) => {
                let end = RunEnd::WorkspaceInvalid;
                let message = why.as_str().into();
                link.record(Event::RunEnded(RunEnded { run: run.clone(), end, message, turns: 0 }));
                ended.push(run);
            }
            FromServer::Request { id, .. } => link.respond(id, Err(RequestError::Failed(why.clone()))),
            FromServer::Drain { deadline_ms } => {
                drop(timeout(Duration::from_millis(deadline_ms), link.settled()).await);
                goodbye(link).await;
                return Ok(());
            }
            _ => {}
        }
    }
}

async fn goodbye(link: &Link) {
    link.say(FromRunner::Bye { message: "".into() });
    drop(timeout(GOODBYE, link.flushed()).await);
}
