//! An independent reader: what must be true of a log, read from the file by itself, whatever wrote it.

use crate::{error::StoreError, reader, schema};
use model::{
    event::{Event, Stored},
    id::{CallId, Epoch, RunId, Seq, SessionUid},
    lifecycle::Phase,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    pub sessions: u64,
    pub events: u64,
    /// Empty when all is well.
    pub problems: Vec<Problem>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("session {session}: {what}")]
pub struct Problem {
    pub session: SessionUid,
    pub what: String,
}

/// Reads the store in this folder, also while a server uses it.
///
/// # Errors
/// When it cannot be read at all.
pub fn verify(dir: &Path) -> Result<Verified, StoreError> {
    let connection = schema::open_reader(dir)?;
    // One transaction: a server may be writing meanwhile.
    connection.execute_batch("BEGIN")?;
    let mut verified = Verified { sessions: 0, events: 0, problems: vec![] };
    if !connection.query_row("PRAGMA quick_check", [], |row| row.get::<_, String>(0))?.eq("ok") {
        return Err(StoreError::Failed("the database file is damaged".into()));
    }
    for record in reader::sessions(&connection, None)? {
        let mut walk = Walk::default();
        loop {
            let page = reader::events(&connection, &record.uid, walk.last, 1000)?;
            if page.is_empty() {
                break;
            }
            page.iter().for_each(|event| walk.event(event));
        }
        walk.end(reader::last_seq(&connection, &record.uid)?, record.state.phase, record.state.run.as_ref());
        verified.sessions += 1;
        verified.events += walk.last.0;
        let session = record.uid;
        verified
            .problems
            .extend(walk.problems.into_iter().map(|what| Problem { session: session.clone(), what }));
    }
    Ok(verified)
}

#[derive(Default)]
struct Walk {
    last: Seq,
    said: BTreeMap<Epoch, u64>,
    lost: BTreeSet<Epoch>,
    phase: Option<Phase>,
    open: Option<RunId>,
    started: BTreeSet<RunId>,
    intended: BTreeSet<CallId>,
    finished: BTreeSet<CallId>,
    problems: Vec<String>,
}

impl Walk {
    fn event(&mut self, stored: &Stored) {
        if stored.seq != self.last.next() {
            self.note(format!("event {} follows event {}", stored.seq, self.last));
        }
        self.last = stored.seq;
        if let Some(origin) = stored.origin {
            let said = self.said.entry(origin.epoch).or_default();
            let expected = *said + 1;
            *said = origin.runner_seq.0;
            if origin.runner_seq.0 != expected {
                self.note(format!(
                    "epoch {} said {} where {expected} was due",
                    origin.epoch, origin.runner_seq
                ));
            }
            if self.lost.contains(&origin.epoch) {
                self.note(format!(
                    "event {} is of epoch {}, which was lost before",
                    stored.seq, origin.epoch
                ));
            }
        }
        self.meaning(stored);
    }

    fn meaning(&mut self, stored: &Stored) {
        match &stored.event {
            Event::PhaseChanged(changed) => self.phase = Some(changed.phase),
            Event::RunnerLost(lost) => {
                self.lost.insert(lost.epoch);
            }
            Event::RunStarted(run) => {
                if let Some(open) = self.open.replace(run.run.clone()) {
                    self.note(format!("run {} started while {open} was under way", run.run));
                }
                if !self.started.insert(run.run.clone()) {
                    self.note(format!("run {} started twice", run.run));
                }
            }
            Event::RunFinished(run) => {
                let open = self.open.take();
                let known = open.as_ref() == Some(&run.run);
                self.expect(known, || format!("run {} finished without being under way", run.run));
            }
            Event::CallIntended(call) => {
                let first = self.intended.insert(call.call.clone());
                self.expect(first, || format!("call {} was begun twice", call.call));
            }
            Event::CallFinished(call) => {
                let first = self.finished.insert(call.call.clone());
                self.expect(first, || format!("call {} finished twice", call.call));
            }
            _ => {}
        }
    }

    fn end(&mut self, last: Seq, phase: Phase, run: Option<&RunId>) {
        if last != self.last {
            self.note(format!("the record says that {last} is the last event, the log has {}", self.last));
        }
        if self.phase.is_some_and(|logged| logged != phase) {
            self.note(format!("the record says {phase}, the log says {:?}", self.phase));
        }
        if self.open.as_ref() != run {
            self.note(format!("the record says that run {run:?} is under way, the log says {:?}", self.open));
        }
    }

    fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.note(what());
        }
    }

    fn note(&mut self, what: String) {
        self.problems.push(what);
    }
}
