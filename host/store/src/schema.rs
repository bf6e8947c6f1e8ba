//! Tables, and how a connection is opened.

use crate::{Durability, error::StoreError};
use rusqlite::{Connection, OpenFlags};
use std::{fs::File, path::Path, time::Duration};

/// Format of the database; a reader refuses later ones.
const FORMAT: i64 = 1;

const TABLES: &str = "
CREATE TABLE session (
    uid TEXT PRIMARY KEY,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    record TEXT NOT NULL,
    state TEXT NOT NULL,
    fence INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    stored_bytes INTEGER NOT NULL,
    quota_bytes INTEGER NOT NULL,
    UNIQUE (project, name)
) WITHOUT ROWID;

CREATE TABLE event (
    uid TEXT NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    epoch INTEGER,
    runner_seq INTEGER,
    body TEXT,
    PRIMARY KEY (uid, seq)
) WITHOUT ROWID;
CREATE UNIQUE INDEX event_origin ON event (uid, epoch, runner_seq) WHERE epoch IS NOT NULL;

CREATE TABLE payload (
    uid TEXT NOT NULL,
    seq INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (uid, seq)
);

CREATE TABLE blob (
    digest TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE blob_owner (
    uid TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (uid, digest)
) WITHOUT ROWID;
CREATE INDEX blob_owner_digest ON blob_owner (digest);
";

/// Came within this format: made where it is missing, and an earlier release does not see it. `project` is a uid
/// (a name, on one machine).
const UPLOADS: &str = "
CREATE TABLE IF NOT EXISTS blob_project (
    project TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (project, digest)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS blob_project_digest ON blob_project (digest);
";

pub(crate) const FILE: &str = "vteam.db";

/// Held for as long as the file is open.
pub(crate) fn lock(dir: &Path) -> Result<File, StoreError> {
    let file = File::options().create(true).truncate(false).write(true).open(dir.join("vteam.lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::InUse),
        Err(std::fs::TryLockError::Error(error)) => Err(error.into()),
    }
}

pub(crate) fn open(
    dir: &Path,
    durability: Durability,
    max_pages: Option<u32>,
) -> Result<Connection, StoreError> {
    let mut connection = Connection::open(dir.join(FILE))?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let synchronous = match durability {
        Durability::Full => "FULL",
        Durability::Process => "OFF",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    if let Some(pages) = max_pages {
        connection.pragma_update(None, "max_page_count", pages)?;
    }
    let transaction = connection.transaction()?;
    match format(&transaction)? {
        0 => {
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "user_version", FORMAT)?;
        }
        FORMAT => {}
        found => return Err(StoreError::Newer { found, known: FORMAT }),
    }
    transaction.execute_batch(UPLOADS)?;
    transaction.commit()?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

pub(crate) fn open_reader(dir: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(dir.join(FILE), flags)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    match format(&connection)? {
        FORMAT => Ok(connection),
        found => Err(StoreError::Newer { found, known: FORMAT }),
    }
}

fn format(connection: &Connection) -> Result<i64, StoreError> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

/// SQLite's integers are signed; ours stay below 2^63.
pub(crate) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn number(integer: i64) -> u64 {
    u64::try_from(integer).unwrap_or(0)
}
