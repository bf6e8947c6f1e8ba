//! The event log, blobs and session records of one server, in SQLite.
//!
//! One writer thread commits everything that is queued in one transaction (group commit) and only then answers and
//! publishes; readers have connections of their own. A session's record and its events change in one transaction, so
//! they never disagree. It does not know what an event means, nor who may write it.

mod blobs;
mod error;
mod reader;
mod record;
mod schema;
mod tails;
mod verify;
mod writer;

pub use blobs::{Blob, BlobWriter};
pub use error::{AppendError, BlobError, CreateError, StoreError};
pub use record::{Queued, Reserved, SessionRecord, SessionState, Totals};
pub use verify::{Problem, Verified, verify};

use model::{
    event::{Event, Origin, Stored},
    id::{Digest, ProjectName, ProjectUid, Seq, SessionRef, SessionUid},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::watch;
use writer::{Op, Outcome, Owner};

/// Events larger than this, as JSON, lie in a table of their own.
pub const INLINE_BYTES: usize = 64 << 10;

/// What a commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Power loss: each commit is on the disk before it is answered.
    Full,
    /// The end of the process, not of the machine. For tests and benchmarks.
    Process,
}

/// An event to be written. Its place and time are given at commit.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// Set for a runner's event.
    pub origin: Option<Origin>,
    pub event: Event,
}

impl From<Event> for NewEvent {
    fn from(event: Event) -> Self {
        Self { origin: None, event }
    }
}

/// [`Store::backup`] of the store in a folder that another process may hold.
///
/// # Errors
/// As [`Store::backup`].
pub fn backup(dir: &Path, to: &Path) -> Result<(), StoreError> {
    blobs::backup(&schema::open_reader(dir)?, dir, to)
}

/// Clones share one store.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    writer: writer::Writer,
    readers: Arc<reader::Readers>,
    tails: Arc<tails::Tails>,
}

impl Store {
    /// Opens or makes the store in this folder. One process holds it at a time.
    ///
    /// # Errors
    /// When another process holds it, it was written by a later release, or the disk refuses.
    pub fn open(dir: &Path, durability: Durability) -> Result<Self, StoreError> {
        Self::open_with(dir, durability, None)
    }

    fn open_with(dir: &Path, durability: Durability, max_pages: Option<u32>) -> Result<Self, StoreError> {
        std::fs::create_dir_all(dir.join("blobs"))?;
        let lock = schema::lock(dir)?;
        let connection = schema::open(dir, durability, max_pages)?;
        blobs::clear_unfinished(dir)?;
        let tails = Arc::new(tails::Tails::default());
        let readers = Arc::new(reader::Readers::new(dir));
        let writer = writer::Writer::start(connection, lock, Arc::clone(&tails))?;
        Ok(Self(Arc::new(Inner { dir: dir.to_owned(), writer, readers, tails })))
    }

    /// Makes a session with its first events.
    ///
    /// # Errors
    /// When the name is taken in its project, or the store cannot write.
    pub async fn create(
        &self,
        record: SessionRecord,
        events: Vec<Event>,
    ) -> Result<Vec<Stored>, CreateError> {
        let outcome = self.write(Op::Create { record: Box::new(record), events }).await?;
        Ok(outcome.stored())
    }

    /// Appends events. Durable and published when this returns; a runner's event that is there already is dropped and
    /// not among the result.
    ///
    /// # Errors
    /// When the session is gone, the runner's epoch is revoked, its quota is used up, or the store cannot write.
    /// Nothing is written then.
    pub async fn append(&self, uid: &SessionUid, events: Vec<NewEvent>) -> Result<Vec<Stored>, AppendError> {
        let op = Op::Append { uid: uid.clone(), events, state: None };
        Ok(self.write(op).await?.stored())
    }

    /// [`Store::append`], and the session's new state in the same transaction.
    ///
    /// # Errors
    /// As [`Store::append`].
    pub async fn commit(
        &self,
        uid: &SessionUid,
        events: Vec<NewEvent>,
        state: SessionState,
    ) -> Result<Vec<Stored>, AppendError> {
        let op = Op::Append { uid: uid.clone(), events, state: Some(Box::new(state)) };
        Ok(self.write(op).await?.stored())
    }

    /// Removes a session with its events; blobs that nobody refers to go with [`Store::collect_blobs`].
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn delete(&self, uid: &SessionUid) -> Result<(), StoreError> {
        self.write(Op::Delete { uid: uid.clone() }).await.map_err(writer::Rejected::into_store)?;
        self.0.tails.close(uid);
        Ok(())
    }

    /// Events after this one, in order, at most `limit` of them and fewer where they are large: the log's end is
    /// reached when none come.
    ///
    /// # Errors
    /// When the store cannot read.
    pub async fn events(
        &self,
        uid: &SessionUid,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<Stored>, StoreError> {
        let uid = uid.clone();
        self.read(move |connection| reader::events(connection, &uid, after, limit)).await
    }

    /// Seq of the last committed event; changes once per flush. Closed when the session is deleted.
    ///
    /// # Errors
    /// When the store cannot read.
    pub async fn tail(&self, uid: &SessionUid) -> Result<watch::Receiver<Seq>, StoreError> {
        let receiver = self.0.tails.subscribe(uid);
        let id = uid.clone();
        let last = self.read(move |connection| reader::last_seq(connection, &id)).await?;
        self.0.tails.raise(uid, last);
        Ok(receiver)
    }

    /// # Errors
    /// When the store cannot read.
    pub async fn session(&self, reference: &SessionRef) -> Result<Option<SessionRecord>, StoreError> {
        let reference = reference.clone();
        self.read(move |connection| reader::session(connection, &reference)).await
    }

    /// # Errors
    /// When the store cannot read.
    pub async fn session_by_uid(&self, uid: &SessionUid) -> Result<Option<SessionRecord>, StoreError> {
        let uid = uid.clone();
        self.read(move |connection| reader::session_by_uid(connection, &uid)).await
    }

    /// All sessions, or those of one project, newest first.
    ///
    /// # Errors
    /// When the store cannot read.
    pub async fn sessions(&self, project: Option<&ProjectName>) -> Result<Vec<SessionRecord>, StoreError> {
        let project = project.cloned();
        self.read(move |connection| reader::sessions(connection, project.as_ref())).await
    }

    /// Keeps these bytes for a session, or for nobody yet (then they last for an hour at least).
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn put_blob(&self, owner: Option<&SessionUid>, bytes: Vec<u8>) -> Result<Digest, BlobError> {
        let mut writer = self.blob_writer(u64::MAX).await?;
        writer.write(bytes).await?;
        Ok(writer.finish(owner, None).await?.digest)
    }

    /// For bytes that come in pieces; refuses above `max` bytes.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn blob_writer(&self, max: u64) -> Result<BlobWriter, BlobError> {
        BlobWriter::new(self.clone(), max).await
    }

    /// Refers to a blob of the session's project, see [`Store::has_blob`]; it is kept as long as the session is.
    ///
    /// # Errors
    /// When the project has no such blob or the store cannot write.
    pub async fn keep_blob(
        &self,
        owner: &SessionUid,
        project: (&ProjectName, &ProjectUid),
        digest: &Digest,
    ) -> Result<(), BlobError> {
        if !self.has_blob(project, digest).await? {
            return Err(BlobError::NotFound);
        }
        let blob = self.find_blob(digest).await?.ok_or(BlobError::NotFound)?;
        self.index_blob(Owner::Session(owner.clone()), &blob).await
    }

    /// Whether there is this blob and it is this project's: uploaded to this incarnation of it, or of one of its sessions.
    /// A digest alone opens nothing.
    ///
    /// # Errors
    /// When the store cannot read.
    pub async fn has_blob(
        &self,
        (project, uid): (&ProjectName, &ProjectUid),
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let (name, uid, wanted) = (project.clone(), uid.clone(), digest.clone());
        let known = self.read(move |connection| reader::has_blob(connection, (&name, &uid), &wanted)).await?;
        Ok(known && self.find_blob(digest).await?.is_some())
    }

    /// Whether this session refers to this blob.
    ///
    /// # Errors
    /// When the store cannot read.
    pub async fn owns_blob(&self, owner: &SessionUid, digest: &Digest) -> Result<bool, StoreError> {
        let (owner, digest) = (owner.clone(), digest.clone());
        self.read(move |connection| reader::owns_blob(connection, &owner, &digest)).await
    }

    /// Bytes of all blobs that this session refers to.
    ///
    /// # Errors
    /// When the store cannot read.
    pub async fn blob_bytes(&self, owner: &SessionUid) -> Result<u64, StoreError> {
        let owner = owner.clone();
        self.read(move |connection| reader::blob_bytes(connection, &owner)).await
    }

    /// # Errors
    /// When the store cannot read.
    pub async fn find_blob(&self, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        blobs::find(&self.0.dir, digest).await
    }

    /// The whole of a blob.
    ///
    /// # Errors
    /// When there is none, it is larger than `max`, or the store cannot read.
    pub async fn get_blob(&self, digest: &Digest, max: u64) -> Result<Vec<u8>, BlobError> {
        blobs::get(&self.0.dir, digest, max).await
    }

    /// Removes blobs that no session refers to and that are older than an hour. Returns how many and their bytes.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn collect_blobs(&self) -> Result<(u64, u64), StoreError> {
        let dir = self.0.dir.clone();
        let outcome = self.write(Op::Collect { dir }).await.map_err(writer::Rejected::into_store)?;
        Ok(outcome.collected())
    }

    /// A consistent copy of the database and all blobs into an empty or new folder, while the store is in use.
    /// To restore, open that folder.
    ///
    /// # Errors
    /// When the folder is not empty or the disk refuses.
    pub async fn backup(&self, to: &Path) -> Result<(), StoreError> {
        let (from, to) = (self.0.dir.clone(), to.to_owned());
        self.read(move |connection| blobs::backup(connection, &from, &to)).await
    }

    async fn index_blob(&self, owner: Owner, blob: &Blob) -> Result<(), BlobError> {
        let op = Op::IndexBlob { owner, digest: blob.digest.clone(), size: blob.size };
        self.write(op).await.map_err(writer::Rejected::into_store)?;
        Ok(())
    }

    async fn write(&self, op: Op) -> Result<Outcome, writer::Rejected> {
        self.0.writer.write(op).await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&rusqlite::Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        reader::run(Arc::clone(&self.0.readers), work).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{event::Unknown, id::UnixMillis, lifecycle::Phase, plan::Desired};

    fn record() -> SessionRecord {
        let state = serde_json::json!({
            "phase": Phase::Pending, "reason": "Accepted", "desired": Desired::Run, "updatedAt": 1, "epoch": 0, "fence": 0,
        });
        SessionRecord {
            uid: "a".parse().unwrap(),
            reference: SessionRef { project: "p".parse().unwrap(), name: "a".parse().unwrap() },
            project_uid: None,
            created_at: UnixMillis(1),
            created_by: "me".into(),
            labels: Default::default(),
            spec: serde_json::Value::Null,
            event_bytes: 1 << 30,
            state: serde_json::from_value(state).unwrap(),
        }
    }

    #[tokio::test]
    async fn a_full_disk_is_told_and_survived() {
        let dir = tempfile::tempdir().unwrap();
        let uid: SessionUid = "a".parse().unwrap();
        let event = |bytes: usize| {
            NewEvent::from(Event::Unknown(Unknown { kind: "test".into(), data: "x".repeat(bytes).into() }))
        };
        let store = Store::open_with(dir.path(), Durability::Process, Some(60)).unwrap();
        store.create(record(), vec![]).await.unwrap();
        store.append(&uid, vec![event(10)]).await.unwrap();
        let full = store.append(&uid, vec![event(1 << 20)]).await.unwrap_err();
        assert!(matches!(full, AppendError::Store(StoreError::Full(_))), "{full:?}");
        assert!(full.to_string().contains("free space"), "{full}");
        // What fits is still written, and what did not left no gap.
        assert_eq!(store.append(&uid, vec![event(10)]).await.unwrap().last().unwrap().seq, Seq(2));
        assert_eq!(verify(dir.path()).unwrap().problems, []);
    }
}
