//! The socket to `vteam-exec`.

use model::id::PluginId;
use protocol::{
    exec::{Exit, FromExec, Program, Property, Refusal, Stream, ToExec},
    frame,
};
use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Notify, mpsc, watch},
};

/// Detached programs that have ended and whose output nobody took: the oldest are forgotten.
const REMEMBERED: usize = 64;

#[derive(Clone)]
pub struct Launcher(Arc<Shared>);

struct Shared {
    to: mpsc::UnboundedSender<Vec<u8>>,
    next: AtomicU64,
    running: Mutex<HashMap<u64, Arc<Running>>>,
    ready: watch::Sender<Option<Vec<Property>>>,
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
    /// Serves the socket on the current runtime.
    ///
    /// # Errors
    /// When it is no socket.
    pub fn serve(socket: std::os::unix::net::UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let (read, write) = UnixStream::from_std(socket)?.into_split();
        let (to, wanted) = mpsc::unbounded_channel();
        let launcher = Self(Arc::new(Shared {
            to,
            next: AtomicU64::new(1),
            running: Mutex::default(),
            ready: watch::Sender::new(None),
        }));
        tokio::spawn(send(wanted, write));
        tokio::spawn(launcher.clone().receive(read));
        Ok(launcher)
    }

    /// What the launcher can keep; waits until its canaries have run.
    pub async fn properties(&self) -> Vec<Property> {
        let mut ready = self.0.ready.subscribe();
        let seen = ready.wait_for(Option::is_some).await;
        seen.map(|ready| ready.clone().unwrap_or_default()).unwrap_or_default()
    }

    pub(super) fn start(&self, plugin: &PluginId, program: Program) -> Result<Arc<Running>, Refusal> {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let frame = frame::encode(&ToExec::Start { id, program });
        let frame =
            frame.map_err(|error| Refusal::Invalid { message: format!("the program's input: {error}") })?;
        let state = Mutex::new(State { output: VecDeque::new(), sort: Sort::Starting });
        let running = Arc::new(Running { id, plugin: plugin.clone(), state, news: Notify::new() });
        self.running().insert(id, running.clone());
        if self.0.to.send(frame).is_err() {
            self.forget(id);
            return Err(Refusal::Failed { message: "the launcher of native programs has ended".to_owned() });
        }
        Ok(running)
    }

    pub(super) fn find(&self, plugin: &PluginId, id: u64) -> Option<Arc<Running>> {
        self.running().get(&id).filter(|running| running.plugin == *plugin).cloned()
    }

    pub(super) fn kill(&self, id: u64) {
        if self.running().get(&id).is_some_and(|running| running.is_under_way()) {
            // A launcher that is gone has ended everything.
            drop(frame::encode(&ToExec::Kill { id }).map(|frame| self.0.to.send(frame)));
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

    async fn receive(self, mut from: OwnedReadHalf) {
        let broken = loop {
            match next(&mut from).await {
                Ok(message) => self.sort(message),
                Err(error) => break error,
            }
        };
        tracing::info!(
            error = &broken as &dyn std::error::Error,
            "the launcher of native programs has ended"
        );
        self.0.ready.send_if_modified(|ready| ready.replace(vec![]).is_none());
        for (_, running) in self.running().drain() {
            let gone = || Refusal::Failed { message: "the launcher of native programs has ended".to_owned() };
            running.change(|state| match state.sort {
                Sort::Starting => state.sort = Sort::Refused(gone()),
                Sort::Started => state.sort = Sort::Ended(Ended::killed()),
                Sort::Refused(_) | Sort::Ended(_) => {}
            });
        }
    }

    fn sort(&self, message: FromExec) {
        let (id, change) = match message {
            FromExec::Ready { confinement, programs: _ } => {
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
