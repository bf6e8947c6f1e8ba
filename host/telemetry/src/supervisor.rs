//! Tasks have an owner: the one place that spawns what a process lives on, notices when it stops, and ends it in order.

use std::{fmt::Display, future::Future, time::Duration};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Tells everybody that the process is ending.
///
/// Cheap to clone. A task that sees [`Shutdown::requested`] finishes what it has begun and returns.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub fn request(&self) {
        self.0.cancel();
    }

    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Ends when shutdown was requested; at once if it already was. Cancel-safe.
    pub async fn requested(&self) {
        self.0.cancelled().await;
    }

    /// Runs `work` unless shutdown comes first, which drops it.
    pub async fn or<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.0.run_until_cancelled(work).await
    }
}

/// Why the whole came to an end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    #[error("the task {name:?} stopped: {why}")]
    Task { name: &'static str, why: String },
    #[error("not all tasks ended within {0:?}")]
    DrainDeadline(Duration),
}

/// Spawns and owns tasks. Cheap to clone; the one that calls [`Supervisor::wait`] is the owner.
#[derive(Debug, Clone)]
pub struct Supervisor {
    shutdown: Shutdown,
    tasks: TaskTracker,
    ended: mpsc::UnboundedSender<Stopped>,
}

/// Receives what ended; kept by the owner.
#[derive(Debug)]
pub struct Ended(mpsc::UnboundedReceiver<Stopped>);

impl Supervisor {
    #[must_use]
    pub fn new() -> (Self, Ended) {
        let (ended, receiver) = mpsc::unbounded_channel();
        (Self { shutdown: Shutdown::new(), tasks: TaskTracker::new(), ended }, Ended(receiver))
    }

    #[must_use]
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// A task that the process cannot do without: when it ends before shutdown, well, badly or by a panic, the process
    /// ends.
    pub fn critical<E: Display + Send + 'static>(
        &self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let inner = tokio::spawn(task);
        let (ended, shutdown) = (self.ended.clone(), self.shutdown.clone());
        self.tasks.spawn(async move {
            let why = match inner.await {
                Ok(Ok(())) if shutdown.is_requested() => return,
                Ok(Ok(())) => "it returned".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(error) if error.is_panic() => "it panicked".to_owned(),
                Err(_) => "it was cancelled".to_owned(),
            };
            tracing::error!(task = name, error = %why, "critical task stopped");
            // Nobody listens only when the owner is already gone.
            let _ = ended.send(Stopped::Task { name, why });
        });
    }

    /// A task that may end by itself, such as one connection. It is waited for at the end.
    pub fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.tasks.spawn(task)
    }

    /// Waits until a critical task stops or shutdown is requested, requests shutdown, and gives all tasks `drain` to end.
    ///
    /// # Errors
    /// The first cause: a stopped task, or else that draining took too long.
    pub async fn wait(self, mut ended: Ended, drain: Duration) -> Result<(), Stopped> {
        let cause = tokio::select! {
            stopped = ended.0.recv() => stopped,
            () = self.shutdown.requested() => None,
        };
        self.shutdown.request();
        self.tasks.close();
        let drained = tokio::time::timeout(drain, self.tasks.wait()).await;
        match (cause, drained) {
            (Some(stopped), _) => Err(stopped),
            (None, Err(_)) => Err(Stopped::DrainDeadline(drain)),
            // A critical task may have failed while draining.
            (None, Ok(())) => ended.0.try_recv().map_or(Ok(()), Err),
        }
    }
}

/// Requests shutdown at the first SIGINT or SIGTERM.
///
/// # Errors
/// When the process cannot listen for signals.
pub fn on_signals(shutdown: &Shutdown) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = shutdown.requested() => {}
        }
        shutdown.request();
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(
        task: impl Future<Output = Result<(), String>> + Send + 'static,
        expected: Result<(), &str>,
    ) {
        let (supervisor, ended) = Supervisor::new();
        let shutdown = supervisor.shutdown().clone();
        supervisor.spawn(async move { shutdown.requested().await });
        supervisor.critical("part", task);
        let got = supervisor.wait(ended, Duration::from_secs(5)).await.map_err(|s| s.to_string());
        assert_eq!(got, expected.map_err(str::to_owned));
    }

    #[tokio::test]
    async fn a_stopped_task_ends_the_whole() {
        check(async { Ok(()) }, Err("the task \"part\" stopped: it returned")).await;
        check(async { Err("no disk".to_owned()) }, Err("the task \"part\" stopped: no disk")).await;
        check(async { panic!("boom") }, Err("the task \"part\" stopped: it panicked")).await;
    }

    #[tokio::test]
    async fn shutdown_drains_in_order() {
        let (supervisor, ended) = Supervisor::new();
        let shutdown = supervisor.shutdown().clone();
        let seen = shutdown.clone();
        supervisor.critical("part", async move {
            seen.requested().await;
            Ok::<(), String>(())
        });
        shutdown.request();
        assert_eq!(supervisor.wait(ended, Duration::from_secs(5)).await, Ok(()));
    }

    #[tokio::test]
    async fn draining_has_a_deadline() {
        let (supervisor, ended) = Supervisor::new();
        supervisor.shutdown().request();
        supervisor.spawn(std::future::pending::<()>());
        let deadline = Duration::from_millis(10);
        assert_eq!(supervisor.wait(ended, deadline).await, Err(Stopped::DrainDeadline(deadline)));
    }
}
