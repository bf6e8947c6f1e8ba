//! The one thread that writes: takes everything that is queued, commits it in one transaction, then publishes and
//! answers. Each operation is checked before it writes anything, so one that is refused leaves no trace in the batch.

mod apply;

use crate::{
    NewEvent,
    error::{AppendError, CreateError, StoreError},
    record::{SessionRecord, SessionState},
    tails::Tails,
};
use apply::Heads;
use model::{
    event::{Event, Stored},
    id::{Digest, Epoch, ProjectUid, SessionUid},
};
use rusqlite::{Connection, TransactionBehavior};
use std::{fs::File, path::PathBuf, sync::Arc, thread::JoinHandle};
use tokio::sync::{mpsc, oneshot};

/// Operations of one transaction.
const BATCH: usize = 512;
/// Operations that wait; more of them make their senders wait.
const QUEUE: usize = 1024;

pub(crate) enum Op {
    Create { record: Box<SessionRecord>, events: Vec<Event> },
    Append { uid: SessionUid, events: Vec<NewEvent>, state: Option<Box<SessionState>> },
    Delete { uid: SessionUid },
    IndexBlob { owner: Owner, digest: Digest, size: u64 },
    Collect { dir: PathBuf },
}

/// Who refers to a blob.
pub(crate) enum Owner {
    Session(SessionUid),
    /// It was uploaded there. Does not keep it.
    Project(ProjectUid),
    Nobody,
}

impl From<Option<&SessionUid>> for Owner {
    fn from(session: Option<&SessionUid>) -> Self {
        session.cloned().map_or(Self::Nobody, Self::Session)
    }
}

pub(crate) enum Outcome {
    Stored(Vec<Stored>),
    Collected { blobs: u64, bytes: u64 },
    Done,
}

impl Outcome {
    pub(crate) fn stored(self) -> Vec<Stored> {
        if let Self::Stored(events) = self { events } else { vec![] }
    }

    pub(crate) fn collected(self) -> (u64, u64) {
        if let Self::Collected { blobs, bytes } = self { (blobs, bytes) } else { (0, 0) }
    }
}

/// Why an operation was not done.
pub(crate) enum Rejected {
    Gone,
    Taken,
    Fenced(Epoch),
    Quota(u64),
    Store(StoreError),
}

impl Rejected {
    pub(crate) fn into_store(self) -> StoreError {
        match self {
            Self::Store(error) => error,
            _ => StoreError::Failed("an operation without conditions was refused".into()),
        }
    }
}

impl<E: Into<StoreError>> From<E> for Rejected {
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}

impl From<Rejected> for AppendError {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::Gone => Self::Gone,
            Rejected::Fenced(epoch) => Self::Fenced { epoch },
            Rejected::Quota(limit) => Self::Quota { limit },
            other => Self::Store(other.into_store()),
        }
    }
}

impl From<Rejected> for CreateError {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::Taken => Self::Taken,
            other => Self::Store(other.into_store()),
        }
    }
}

type Answer = Result<Outcome, Rejected>;

struct Job {
    op: Op,
    answer: oneshot::Sender<Answer>,
}

pub(crate) struct Writer {
    queue: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn start(connection: Connection, lock: File, tails: Arc<Tails>) -> Result<Self, StoreError> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let work = move || {
            Thread { connection, heads: Heads::default(), tails }.run(jobs);
            drop(lock);
        };
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(work)?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    pub(crate) async fn write(&self, op: Op) -> Answer {
        let (answer, answered) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(StoreError::Closed)?;
        queue.send(Job { op, answer }).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }
}

impl Drop for Writer {
    /// What was queued is committed before the last handle is gone.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Thread {
    connection: Connection,
    heads: Heads,
    tails: Arc<Tails>,
}

impl Thread {
    fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut batch = Vec::new();
        while jobs.blocking_recv_many(&mut batch, BATCH) > 0 {
            let (ops, answers): (Vec<_>, Vec<_>) = batch.drain(..).map(|job| (job.op, job.answer)).unzip();
            let results = self.commit(&ops).unwrap_or_else(|_| self.one_by_one(&ops));
            self.publish(&ops, &results);
            for (answer, result) in answers.into_iter().zip(results) {
                let _ = answer.send(result);
            }
        }
    }

    /// All in one transaction; an error is the store's own, and nothing was written.
    fn commit(&mut self, ops: &[Op]) -> Result<Vec<Answer>, StoreError> {
        let done = self.try_commit(ops);
        if done.is_err() {
            self.heads.forget();
        }
        done
    }

    fn try_commit(&mut self, ops: &[Op]) -> Result<Vec<Answer>, StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut results = Vec::with_capacity(ops.len());
        for op in ops {
            match apply::apply(&transaction, &mut self.heads, op) {
                Err(Rejected::Store(error)) => return Err(error),
                result => results.push(result),
            }
        }
        transaction.commit()?;
        Ok(results)
    }

    /// After a batch failed: what can be written is, and each of the others learns its own reason.
    fn one_by_one(&mut self, ops: &[Op]) -> Vec<Answer> {
        let one = |op| match self.commit(std::slice::from_ref(op)) {
            Ok(mut results) => results.pop().unwrap_or(Ok(Outcome::Done)),
            Err(error) => Err(Rejected::Store(error)),
        };
        ops.iter().map(one).collect()
    }

    fn publish(&self, ops: &[Op], results: &[Answer]) {
        for (op, result) in ops.iter().zip(results) {
            let uid = match op {
                Op::Create { record, .. } => &record.uid,
                Op::Append { uid, .. } => uid,
                Op::Delete { .. } | Op::IndexBlob { .. } | Op::Collect { .. } => continue,
            };
            if let Ok(Outcome::Stored(events)) = result
                && let Some(last) = events.last()
            {
                self.tails.raise(uid, last.seq);
            }
        }
    }
}
