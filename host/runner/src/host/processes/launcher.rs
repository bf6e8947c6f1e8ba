//! The socket to `vteam-exec`: one that was given, or one that is dialled again whenever it breaks.
//!
//! Invariant: when a connection breaks, everything that ran over it has ended, because the launcher ends it.

use crate::settings::Exec;
use model::id::PluginId;
use protocol::{
    exec::{Exit, FromExec, Program, Property, Refusal, Stream, ToExec},
    frame,
};
use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Notify, mpsc, watch},
    time::{sleep, timeout},
};

/// Detached programs that have ended and whose output nobody took: the oldest are forgotten.
const REMEMBERED: usize = 64;
/// How long a program waits for a launcher that starts.
const ARRIVAL: Duration = Duration::from_secs(30);
/// How long a launcher is gone before what ran in it has ended. A pod that is deleted loses it first: the session then hears that it is to
/// end, and does not begin another turn on the news of a program that was killed.
const GONE: Duration = Duration::from_millis(500);
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

const ENDED: &str = "the launcher of native programs has ended";
const RESTARTED: &str = "the launcher of native programs was restarted; what ran has ended";
const ABSENT: &str =
    "the launcher of native programs is not there: its container has not started yet, or starts again";

#[derive(Clone)]
pub struct Launcher(Arc<Shared>);

struct Shared {
    /// To the launcher that is there.
    to: watch::Sender<Option<mpsc::UnboundedSender<Vec<u8>>>>,
    /// Whether one that is not there may come.
    redials: bool,
    next: AtomicU64,
    running: Mutex<HashMap<u64, Arc<Running>>>,
    ready: watch::Sender<Option<Vec<Property>>>,
    /// Programs of the launcher that is there, by name.
    programs: watch::Sender<Option<BTreeSet<String>>>,
}

/// One program.
pub(super) struct Running {
    pub(super) id: u64,
    plugin: PluginId,
    state: Mutex<State>,
    news: Notify,
}

pub(super) struct State {
    pub(super) output: VecDeque<(Stream, Vec<u8>)>,
    pub(super) sort: Sort,
}

pub(super) enum Sort {
    Starting,
    Refused(Refusal),
    Started,
    Ended(Ended),
}

enum Change {
    Sort(Sort),
    Output(Stream, Vec<u8>),
}

pub(super) struct Ended {
    pub(super) exit: Exit,
    pub(super) dropped_bytes: u64,
    pub(super) cwd: Option<String>,
    pub(super) duration_ms: u64,
}

impl Launcher {
    /// Serves it on the current runtime.
    ///
    /// # Errors
    /// When what was given is no socket.
    pub fn serve(exec: Exec) -> io::Result<Self> {
        let launcher = Self(Arc::new(Shared {
            to: watch::Sender::new(None),
            redials: matches!(exec, Exec::At(_)),
            next: AtomicU64::new(1),
            running: Mutex::default(),
            ready: watch::Sender::new(None),
            programs: watch::Sender::new(None),
        }));
        match exec {
            Exec::Given(socket) => {
                socket.set_nonblocking(true)?;
                let talk = launcher.meet(UnixStream::from_std(socket)?);
                let launcher = launcher.clone();
                tokio::spawn(async move {
                    talk.await;
                    // Whoever still waits for what holds learns nothing more.
                    launcher.0.ready.send_if_modified(|ready| ready.replace(vec![]).is_none());
                });
            }
            Exec::At(path) => drop(tokio::spawn(launcher.clone().keep(path))),
        }
        Ok(launcher)
    }

    /// Dials for as long as the session lasts.
    async fn keep(self, path: PathBuf) {
        let mut pause = FIRST_PAUSE;
        loop {
            match UnixStream::connect(&path).await {
                Ok(socket) => {
                    if self.meet(socket).await {
                        pause = FIRST_PAUSE;
                    }
                }
                Err(error) => tracing::debug!(%error, "no launcher of native programs yet"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// From here on programs are asked of the launcher at the other end. What is returned lasts until it is gone, and says
    /// whether it ever spoke.
    fn meet(&self, socket: UnixStream) -> impl Future<Output = bool> + use<> {
        let (mut from, write) = socket.into_split();
        let (to, wanted) = mpsc::unbounded_channel();
        self.0.to.send_replace(Some(to));
        tokio::spawn(send(wanted, write));
        let launcher = self.clone();
        async move {
            let mut spoke = false;
            let broken = loop {
                match next(&mut from).await {
                    Ok(message) => launcher.sort(message),
                    Err(error) => break error,
                }
                spoke = true;
            };
            tracing::info!(error = &broken as &dyn std::error::Error, "{ENDED}");
            launcher.end().await;
            spoke
        }
    }

    /// The connection is gone, and with it what ran.
    async fn end(&self) {
        self.0.to.send_replace(None);
        self.0.programs.send_replace(None);
        if self.0.redials {
            sleep(GONE).await;
        }
        let why = if self.0.redials { RESTARTED } else { ENDED };
        for running in self.running().values() {
            running.change(|state| match state.sort {
                Sort::Starting => state.sort = Sort::Refused(Refusal::Failed { message: why.to_owned() }),
                Sort::Started => {
                    state.output.push_back((Stream::Stderr, format!("\n[ended: {why}]\n").into_bytes()));
                    state.sort = Sort::Ended(Ended::killed());
                }
                Sort::Refused(_) | Sort::Ended(_) => {}
            });
        }
    }

    /// To the launcher that is there, or comes soon.
    async fn line(&self) -> Result<mpsc::UnboundedSender<Vec<u8>>, Refusal> {
        let mut to = self.0.to.subscribe();
        if !self.0.redials {
            return to.borrow().clone().ok_or_else(|| failed(ENDED));
        }
        let there = timeout(ARRIVAL, to.wait_for(Option::is_some)).await;
        there.ok().and_then(Result::ok).and_then(|to| to.clone()).ok_or_else(|| failed(ABSENT))
    }

    fn is_there(&self, line: &mpsc::UnboundedSender<Vec<u8>>) -> bool {
        self.0.to.borrow().as_ref().is_some_and(|now| now.same_channel(line))
    }

    /// What the launcher can keep; waits until its canaries have run.
    pub async fn properties(&self) -> Vec<Property> {
        let mut ready = self.0.ready.subscribe();
        let seen = ready.wait_for(Option::is_some).await;
        seen.map(|ready| ready.clone().unwrap_or_default()).unwrap_or_default()
    }

    /// By its name; what is given as a path is the launcher's to judge.
    pub(super) async fn find_program(&self, program: &str) -> Result<(), Refusal> {
        self.line().await?;
        let mut programs = self.0.programs.subscribe();
        let known = timeout(ARRIVAL, programs.wait_for(Option::is_some)).await;
        let known = known.ok().and_then(Result::ok);
        let lacks = |known: &BTreeSet<String>| !program.contains('/') && !known.contains(program);
        match known.as_deref() {
            Some(Some(known)) if lacks(known) => Err(Refusal::NotFound { program: program.to_owned() }),
            _ => Ok(()),
        }
    }

    pub(super) async fn start(&self, plugin: &PluginId, program: Program) -> Result<Arc<Running>, Refusal> {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let frame = frame::encode(&ToExec::Start { id, program });
        let frame =
            frame.map_err(|error| Refusal::Invalid { message: format!("the program's input: {error}") })?;
        let line = self.line().await?;
        let state = Mutex::new(State { output: VecDeque::new(), sort: Sort::Starting });
        let running = Arc::new(Running { id, plugin: plugin.clone(), state, news: Notify::new() });
        self.running().insert(id, running.clone());
        // Once it is among those that run, the end of the connection is its end; before, it may have gone unseen.
        if line.send(frame).is_err() || !self.is_there(&line) {
            self.forget(id);
            return Err(failed(if self.0.redials { RESTARTED } else { ENDED }));
        }
        Ok(running)
    }

    pub(super) fn find(&self, plugin: &PluginId, id: u64) -> Option<Arc<Running>> {
        self.running().get(&id).filter(|running| running.plugin == *plugin).cloned()
    }

    pub(super) fn kill(&self, id: u64) {
        if self.running().get(&id).is_some_and(|running| running.is_under_way()) {
            // A launcher that is gone has ended everything.
            let line = self.0.to.borrow().clone();
            drop(frame::encode(&ToExec::Kill { id }).map(|frame| line.map(|line| line.send(frame))));
        }
    }

    /// Whether programs run, in the background too.
    pub fn is_busy(&self) -> bool {
        self.running().values().any(|running| running.is_under_way())
    }

    /// Kills what runs and waits until it is gone, but not for ever.
    pub async fn end_all(&self) {
        const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);
        const STEP: std::time::Duration = std::time::Duration::from_millis(5);
        self.kill_all();
        let gone = async {
            while self.is_busy() {
                tokio::time::sleep(STEP).await;
            }
        };
        if tokio::time::timeout(PATIENCE, gone).await.is_err() {
            tracing::warn!("programs are still there after they were killed");
        }
    }

    pub fn kill_all(&self) {
        let all: Vec<u64> = self.running().keys().copied().collect();
        all.into_iter().for_each(|id| self.kill(id));
    }

    pub(super) fn forget(&self, id: u64) {
        self.running().remove(&id);
    }

    fn sort(&self, message: FromExec) {
        let (id, change) = match message {
            FromExec::Ready { confinement, programs } => {
                self.0.programs.send_replace(Some(programs.into_keys().collect()));
                self.0.ready.send_replace(Some(confinement.properties));
                return;
            }
            FromExec::Started { id } => (id, Change::Sort(Sort::Started)),
            FromExec::Refused { id, refusal } => (id, Change::Sort(Sort::Refused(refusal))),
            FromExec::Output { id, stream, bytes } => (id, Change::Output(stream, bytes)),
            FromExec::Exited { id, exit, dropped_bytes, cwd, duration_ms } => {
                (id, Change::Sort(Sort::Ended(Ended { exit, dropped_bytes, cwd, duration_ms })))
            }
        };
        let running = self.running().get(&id).cloned();
        if let Some(running) = running {
            running.change(|state| match change {
                Change::Sort(sort) => state.sort = sort,
                Change::Output(stream, bytes) => state.output.push_back((stream, bytes)),
            });
            self.forget_oldest();
        }
    }

    fn forget_oldest(&self) {
        let mut running = self.running();
        if running.len() > REMEMBERED {
            let ended = running
                .values()
                .filter(|r| r.look(|state| matches!(state.sort, Sort::Ended(_))))
                .map(|r| r.id);
            if let Some(oldest) = ended.min() {
                running.remove(&oldest);
            }
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<u64, Arc<Running>>> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(message: &str) -> Refusal {
    Refusal::Failed { message: message.to_owned() }
}

impl Ended {
    fn killed() -> Self {
        Self { exit: Exit::Killed, dropped_bytes: 0, cwd: None, duration_ms: 0 }
    }
}

impl Running {
    fn is_under_way(&self) -> bool {
        self.look(|state| !matches!(state.sort, Sort::Ended(_) | Sort::Refused(_)))
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.news.notify_waiters();
    }

    /// Waits until `look` finds something.
    pub(super) async fn wait<T>(&self, mut look: impl FnMut(&mut State) -> Option<T> + Send) -> T {
        loop {
            let mut news = std::pin::pin!(self.news.notified());
            news.as_mut().enable();
            let found = look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
            if let Some(found) = found {
                return found;
            }
            news.await;
        }
    }
}

async fn send(mut wanted: mpsc::UnboundedReceiver<Vec<u8>>, mut to: OwnedWriteHalf) {
    while let Some(frame) = wanted.recv().await {
        if to.write_all(&frame).await.is_err() {
            return;
        }
    }
}

async fn next(from: &mut OwnedReadHalf) -> io::Result<FromExec> {
    let length = from.read_u32().await? as usize;
    if length > frame::MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "frame too large"));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).await?;
    serde_json::from_slice(&body).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
