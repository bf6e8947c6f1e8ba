//! The engine's own threads, and how a call comes onto them.

use crate::settings::TICK_MS;
use futures::FutureExt as _;
use model::grant::EffectSet;
use std::{
    future::{Future, poll_fn},
    io,
    panic::AssertUnwindSafe,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Poll,
    thread::{self, Thread},
    time::Duration,
};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::JoinHandle,
};

/// Where the first poll of a call happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// Where it is awaited. A short call then wakes no other thread, which costs more than the call itself.
    Here,
    /// On the engine's threads.
    Away,
}

impl Begin {
    /// Who may reach nothing waits for nothing: it holds up its caller for one epoch at most.
    pub(crate) fn of(grants: &EffectSet) -> Self {
        if grants.is_empty() { Self::Here } else { Self::Away }
    }
}

pub(crate) struct Workers {
    handle: Handle,
    runtime: Option<Runtime>,
    ticker: Arc<Ticker>,
}

impl Workers {
    /// # Errors
    /// When threads cannot be started.
    pub(crate) fn start(engine: wasmtime::Engine, calls: u32) -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let runtime = Builder::new_multi_thread()
            .thread_name("vteam-engine")
            .worker_threads(cores.min(calls.max(1) as usize))
            // A guest runs for a whole epoch between two events: with the default of 61 a 5 ms timer fired after 299 ms.
            .event_interval(1)
            // Implementations of the host traits may use sockets where they are polled.
            .enable_all()
            .build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime), ticker: Ticker::start(engine)? })
    }

    /// `None` where `work` panicked. Wherever it begins, it goes on on the engine's threads as soon as it waits or its first
    /// epoch is over. Dropping the future stops it.
    pub(crate) async fn run<T, F>(&self, begin: Begin, work: F) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let active = self.ticker.clone().activate();
        let work = async move {
            let done = work.await;
            drop(active);
            done
        };
        let mut work = Box::pin(AssertUnwindSafe(work).catch_unwind());
        if begin == Begin::Here {
            let first = poll_fn(|context| {
                // Timers of a call are the engine's, whoever polls it.
                let _engine = self.handle.enter();
                Poll::Ready(work.poll_unpin(context))
            });
            if let Poll::Ready(done) = first.await {
                return done.ok();
            }
        }
        (&mut Task(self.handle.spawn(work)).0).await.ok()?.ok()
    }
}

/// Stops its task when dropped.
struct Task<T>(JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.ticker.stop();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Advances the epoch while calls are under way; sleeps otherwise.
struct Ticker {
    active: AtomicUsize,
    stopped: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Ticker {
    fn start(engine: wasmtime::Engine) -> Result<Arc<Self>, io::Error> {
        let ticker = Arc::new(Self {
            active: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            thread: OnceLock::new(),
        });
        let ticking = ticker.clone();
        let handle =
            thread::Builder::new().name("vteam-epoch".to_owned()).spawn(move || ticking.tick(&engine))?;
        let _ = ticker.thread.set(handle.thread().clone());
        Ok(ticker)
    }

    fn tick(&self, engine: &wasmtime::Engine) {
        while !self.stopped.load(Ordering::Acquire) {
            if self.active.load(Ordering::Acquire) == 0 {
                thread::park();
            } else {
                thread::sleep(Duration::from_millis(TICK_MS));
                engine.increment_epoch();
            }
        }
    }

    fn activate(self: Arc<Self>) -> Active {
        if self.active.fetch_add(1, Ordering::AcqRel) == 0 {
            self.wake();
        }
        Active(self)
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

struct Active(Arc<Ticker>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::AcqRel);
    }
}
