//! Reading: connections of their own, work on blocking threads. As many at a time as there are connections: opening one
//! costs more than waiting for one.

use crate::{
    error::StoreError,
    record::{SessionRecord, SessionState},
    schema::{self, integer, number},
};
use model::{
    event::{Event, Origin, Stored},
    id::{Digest, Epoch, ProjectName, ProjectUid, RunnerSeq, Seq, SessionRef, SessionUid, UnixMillis},
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Deserialize;
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::Semaphore;

/// Connections, opened when first needed and kept.
const CONNECTIONS: usize = 8;
/// A page of events ends after this many bytes.
const PAGE_BYTES: usize = 8 << 20;

pub(crate) struct Readers {
    dir: PathBuf,
    idle: Mutex<Vec<Connection>>,
    turns: Semaphore,
}

impl Readers {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), idle: Mutex::default(), turns: Semaphore::new(CONNECTIONS) }
    }

    fn with<T>(&self, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = kept.map_or_else(|| schema::open_reader(&self.dir), Ok)?;
        let result = work(&connection);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // A caller that went away gave its turn back before its work was done.
        if idle.len() < CONNECTIONS {
            idle.push(connection);
        }
        result
    }
}

pub(crate) async fn run<T: Send + 'static>(
    readers: Arc<Readers>,
    work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    // Never closed.
    let _turn = readers.turns.acquire().await;
    let reading = Arc::clone(&readers);
    tokio::task::spawn_blocking(move || reading.with(work))
        .await
        .map_err(|error| StoreError::Failed(error.into()))?
}

pub(crate) fn events(
    connection: &Connection,
    uid: &SessionUid,
    after: Seq,
    limit: usize,
) -> Result<Vec<Stored>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT e.seq, e.at, e.epoch, e.runner_seq, coalesce(e.body, p.body)
         FROM event e LEFT JOIN payload p ON p.uid = e.uid AND p.seq = e.seq
         WHERE e.uid = ?1 AND e.seq > ?2 ORDER BY e.seq LIMIT ?3",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![uid.as_str(), integer(after.0), limit])?;
    let (mut events, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let body = row.get_ref(4)?.as_str().map_err(|error| StoreError::Failed(error.into()))?;
        bytes += body.len();
        events.push(stored(row, body)?);
        if bytes > PAGE_BYTES {
            break;
        }
    }
    Ok(events)
}

fn stored(row: &Row<'_>, body: &str) -> Result<Stored, StoreError> {
    let origin = match (row.get::<_, Option<i64>>(2)?, row.get::<_, Option<i64>>(3)?) {
        (Some(epoch), Some(seq)) => {
            Some(Origin { epoch: Epoch(number(epoch)), runner_seq: RunnerSeq(number(seq)) })
        }
        _ => None,
    };
    Ok(Stored {
        seq: Seq(number(row.get(0)?)),
        at: UnixMillis(number(row.get(1)?)),
        origin,
        event: serde_json::from_str::<Event>(body)?,
    })
}

pub(crate) fn last_seq(connection: &Connection, uid: &SessionUid) -> Result<Seq, StoreError> {
    let mut statement = connection.prepare_cached("SELECT last_seq FROM session WHERE uid = ?1")?;
    let last: Option<i64> = statement.query_row([uid.as_str()], |row| row.get(0)).optional()?;
    Ok(Seq(number(last.unwrap_or(0))))
}

pub(crate) fn session(
    connection: &Connection,
    reference: &SessionRef,
) -> Result<Option<SessionRecord>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT record, state FROM session WHERE project = ?1 AND name = ?2")?;
    let mut rows = statement.query(params![reference.project.as_str(), reference.name.as_str()])?;
    rows.next()?.map(record).transpose()
}

pub(crate) fn session_by_uid(
    connection: &Connection,
    uid: &SessionUid,
) -> Result<Option<SessionRecord>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT record, state FROM session WHERE uid = ?1")?;
    let mut rows = statement.query([uid.as_str()])?;
    rows.next()?.map(record).transpose()
}

pub(crate) fn sessions(
    connection: &Connection,
    project: Option<&ProjectName>,
) -> Result<Vec<SessionRecord>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT record, state FROM session WHERE ?1 IS NULL OR project = ?1 ORDER BY created_at DESC, uid DESC",
    )?;
    let mut rows = statement.query([project.map(ProjectName::as_str)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(record(row)?);
    }
    Ok(found)
}

/// Everything of a [`SessionRecord`] that never changes, as the `record` column holds it.
#[derive(serde::Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Fixed {
    pub(crate) uid: SessionUid,
    pub(crate) reference: SessionRef,
    #[serde(default)]
    pub(crate) project_uid: Option<ProjectUid>,
    pub(crate) created_at: UnixMillis,
    pub(crate) created_by: model::Untrusted,
    pub(crate) labels: std::collections::BTreeMap<String, String>,
    pub(crate) spec: serde_json::Value,
    pub(crate) event_bytes: u64,
}

pub(crate) fn record(row: &Row<'_>) -> Result<SessionRecord, StoreError> {
    let text = |index| row.get_ref(index)?.as_str().map_err(|error| StoreError::Failed(error.into()));
    let Fixed { uid, reference, project_uid, created_at, created_by, labels, spec, event_bytes } =
        serde_json::from_str(text(0)?)?;
    let state: SessionState = serde_json::from_str(text(1)?)?;
    Ok(SessionRecord {
        uid,
        reference,
        project_uid,
        created_at,
        created_by,
        labels,
        spec,
        event_bytes,
        state,
    })
}

pub(crate) fn owns_blob(
    connection: &Connection,
    owner: &SessionUid,
    digest: &Digest,
) -> Result<bool, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT 1 FROM blob_owner WHERE uid = ?1 AND digest = ?2")?;
    Ok(statement.exists([owner.as_str(), digest.as_str()])?)
}

/// Uploaded to the project, or referred to by a session of it.
pub(crate) fn has_blob(
    connection: &Connection,
    (project, uid): (&ProjectName, &ProjectUid),
    digest: &Digest,
) -> Result<bool, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT 1 FROM blob_project WHERE project = ?2 AND digest = ?3
         UNION ALL SELECT 1 FROM blob_owner o JOIN session s ON s.uid = o.uid
         WHERE s.project = ?1 AND o.digest = ?3 AND coalesce(json_extract(s.record, '$.projectUid'), ?2) = ?2",
    )?;
    Ok(statement.exists([project.as_str(), uid.as_str(), digest.as_str()])?)
}

pub(crate) fn blob_bytes(connection: &Connection, owner: &SessionUid) -> Result<u64, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT coalesce(sum(b.size), 0) FROM blob_owner o JOIN blob b ON b.digest = o.digest WHERE o.uid = ?1",
    )?;
    Ok(number(statement.query_row([owner.as_str()], |row| row.get(0))?))
}
