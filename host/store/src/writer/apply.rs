//! One operation within a transaction. Invariant: refused before the first write, or done.

use super::{Answer, Op, Outcome, Owner, Rejected};
use crate::{
    INLINE_BYTES, NewEvent,
    error::StoreError,
    reader::Fixed,
    record::{SessionRecord, SessionState},
    schema::{integer, number},
};
use model::{
    event::{Event, Origin, Stored},
    id::{Digest, Epoch, Seq, SessionUid, UnixMillis},
};
use rusqlite::{Connection, OptionalExtension, params};
use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Where the logs end: what the transactions so far have left, kept to spare a read for each append.
#[derive(Default)]
pub(super) struct Heads(HashMap<SessionUid, Head>);

#[derive(Clone, Copy)]
struct Head {
    last: Seq,
    bytes: u64,
    quota: u64,
    fence: Epoch,
}

impl Heads {
    /// After a rollback.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

pub(super) fn apply(connection: &Connection, heads: &mut Heads, op: &Op) -> Answer {
    match op {
        Op::Create { record, events } => create(connection, heads, record, events),
        Op::Append { uid, events, state } => append(connection, heads, uid, events, state.as_deref()),
        Op::Delete { uid } => {
            heads.0.remove(uid);
            for table in ["session", "event", "payload", "blob_owner"] {
                connection.execute(&format!("DELETE FROM {table} WHERE uid = ?1"), [uid.as_str()])?;
            }
            Ok(Outcome::Done)
        }
        Op::IndexBlob { owner, digest, size } => index_blob(connection, owner, digest, *size),
        Op::Collect { dir } => collect(connection, dir),
    }
}

fn create(connection: &Connection, heads: &mut Heads, record: &SessionRecord, events: &[Event]) -> Answer {
    let SessionRecord {
        uid,
        reference,
        project_uid,
        created_at,
        created_by,
        labels,
        spec,
        event_bytes,
        state,
    } = record.clone();
    let taken = connection
        .prepare_cached("SELECT 1 FROM session WHERE uid = ?1 OR (project = ?2 AND name = ?3)")?
        .exists([uid.as_str(), reference.project.as_str(), reference.name.as_str()])?;
    if taken {
        return Err(Rejected::Taken);
    }
    let (project, name) = (reference.project.clone(), reference.name.clone());
    let fixed =
        Fixed { uid: uid.clone(), reference, project_uid, created_at, created_by, labels, spec, event_bytes };
    connection.execute(
        "INSERT INTO session (uid, project, name, created_at, record, state, fence, last_seq, stored_bytes, quota_bytes)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, 0, ?8)",
        params![
            uid.as_str(),
            project.as_str(),
            name.as_str(),
            integer(created_at.0),
            serde_json::to_string(&fixed)?,
            serde_json::to_string(&state)?,
            integer(state.fence.0),
            integer(event_bytes),
        ],
    )?;
    let events: Vec<NewEvent> = events.iter().cloned().map(NewEvent::from).collect();
    append(connection, heads, &uid, &events, None)
}

fn append(
    connection: &Connection,
    heads: &mut Heads,
    uid: &SessionUid,
    events: &[NewEvent],
    state: Option<&SessionState>,
) -> Answer {
    let mut head = match heads.0.get(uid) {
        Some(head) => *head,
        None => load_head(connection, uid)?.ok_or(Rejected::Gone)?,
    };
    let fresh = admissible(connection, uid, &mut head, events)?;
    let at = now();
    let mut stored = Vec::with_capacity(fresh.len());
    for (new, body) in fresh {
        head.last = head.last.next();
        insert(connection, uid, head.last, at, new.origin, &body)?;
        stored.push(Stored { seq: head.last, at, origin: new.origin, event: new.event.clone() });
    }
    if let Some(state) = state {
        head.fence = state.fence;
        connection
            .prepare_cached("UPDATE session SET state = ?2, fence = ?3 WHERE uid = ?1")?
            .execute(params![uid.as_str(), serde_json::to_string(state)?, integer(state.fence.0)])?;
    }
    connection
        .prepare_cached("UPDATE session SET last_seq = ?2, stored_bytes = ?3 WHERE uid = ?1")?
        .execute(params![uid.as_str(), integer(head.last.0), integer(head.bytes)])?;
    heads.0.insert(uid.clone(), head);
    Ok(Outcome::Stored(stored))
}

/// The events that are new, as JSON, after fence and quota agreed to all of them; their bytes are counted in `head`.
fn admissible<'a>(
    connection: &Connection,
    uid: &SessionUid,
    head: &mut Head,
    events: &'a [NewEvent],
) -> Result<Vec<(&'a NewEvent, String)>, Rejected> {
    let mut fresh = Vec::with_capacity(events.len());
    for new in events {
        if let Some(origin) = new.origin {
            if origin.epoch < head.fence {
                return Err(Rejected::Fenced(origin.epoch));
            }
            let twice = fresh.iter().any(|(earlier, _): &(&NewEvent, _)| earlier.origin == new.origin);
            if twice || is_stored(connection, uid, origin)? {
                continue;
            }
        }
        let body = serde_json::to_string(&new.event)?;
        head.bytes = head.bytes.saturating_add(body.len() as u64);
        if is_metered(new) && head.bytes > head.quota {
            return Err(Rejected::Quota(head.quota));
        }
        fresh.push((new, body));
    }
    Ok(fresh)
}

/// What runners and people make happen. The server's own events always have room: a session over its quota must still
/// be able to say so and end.
fn is_metered(new: &NewEvent) -> bool {
    let asked = matches!(
        new.event,
        Event::UserMessage(_)
            | Event::ApprovalRequested(_)
            | Event::QuestionAsked(_)
            | Event::QuestionAnswered(_)
    );
    asked || new.origin.is_some()
}

fn is_stored(connection: &Connection, uid: &SessionUid, origin: Origin) -> Result<bool, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT 1 FROM event WHERE uid = ?1 AND epoch = ?2 AND runner_seq = ?3")?;
    Ok(statement.exists(params![uid.as_str(), integer(origin.epoch.0), integer(origin.runner_seq.0)])?)
}

fn insert(
    connection: &Connection,
    uid: &SessionUid,
    seq: Seq,
    at: UnixMillis,
    origin: Option<Origin>,
    body: &str,
) -> Result<(), StoreError> {
    let inline = (body.len() <= INLINE_BYTES).then_some(body);
    connection
        .prepare_cached(
            "INSERT INTO event (uid, seq, at, epoch, runner_seq, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            uid.as_str(),
            integer(seq.0),
            integer(at.0),
            origin.map(|o| integer(o.epoch.0)),
            origin.map(|o| integer(o.runner_seq.0)),
            inline,
        ])?;
    if inline.is_none() {
        connection
            .prepare_cached("INSERT INTO payload (uid, seq, body) VALUES (?1, ?2, ?3)")?
            .execute(params![uid.as_str(), integer(seq.0), body])?;
    }
    Ok(())
}

fn load_head(connection: &Connection, uid: &SessionUid) -> Result<Option<Head>, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT last_seq, stored_bytes, quota_bytes, fence FROM session WHERE uid = ?1")?;
    let head = statement.query_row([uid.as_str()], |row| {
        Ok(Head {
            last: Seq(number(row.get(0)?)),
            bytes: number(row.get(1)?),
            quota: number(row.get(2)?),
            fence: Epoch(number(row.get(3)?)),
        })
    });
    Ok(head.optional()?)
}

fn index_blob(connection: &Connection, owner: &Owner, digest: &Digest, size: u64) -> Answer {
    connection.execute(
        "INSERT INTO blob (digest, size, at) VALUES (?1, ?2, ?3) ON CONFLICT (digest) DO UPDATE SET at = ?3",
        params![digest.as_str(), integer(size), integer(now().0)],
    )?;
    let (table, owner) = match owner {
        Owner::Session(uid) => ("blob_owner (uid, digest)", uid.as_str()),
        Owner::Project(project) => ("blob_project (project, digest)", project.as_str()),
        Owner::Nobody => return Ok(Outcome::Done),
    };
    let insert = format!("INSERT OR IGNORE INTO {table} VALUES (?1, ?2)");
    connection.execute(&insert, [owner, digest.as_str()])?;
    Ok(Outcome::Done)
}

/// Blobs that nobody refers to are kept this long: somebody may be about to.
const UNOWNED: Duration = Duration::from_secs(60 * 60);

fn collect(connection: &Connection, dir: &Path) -> Answer {
    let before = now().0.saturating_sub(u64::try_from(UNOWNED.as_millis()).unwrap_or(u64::MAX));
    let mut statement = connection.prepare_cached(
        "DELETE FROM blob WHERE at < ?1 AND NOT EXISTS (SELECT 1 FROM blob_owner o WHERE o.digest = blob.digest)
         RETURNING digest, size",
    )?;
    let mut rows = statement.query([integer(before)])?;
    let (mut blobs, mut bytes) = (0, 0);
    while let Some(row) = rows.next()? {
        if let Ok(digest) = row.get::<_, String>(0)?.parse::<Digest>() {
            connection.execute("DELETE FROM blob_project WHERE digest = ?1", [digest.as_str()])?;
            let _ = std::fs::remove_file(crate::blobs::path(dir, &digest));
        }
        blobs += 1;
        bytes += number(row.get(1)?);
    }
    Ok(Outcome::Collected { blobs, bytes })
}

fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
