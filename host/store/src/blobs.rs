//! Blobs: files named by their digest, `blobs/ab/<hex>`. Written beside, synced, then renamed, so one that has its name
//! is whole. The database only says who refers to them.

use crate::{
    Store,
    error::{BlobError, StoreError},
    schema,
    writer::Owner,
};
use model::id::{Digest, ProjectUid, SessionUid};
use rusqlite::Connection;
use sha2::{Digest as _, Sha256};
use std::{
    io::Write,
    path::{Path, PathBuf},
};
use tokio::task::spawn_blocking;

const UNFINISHED: &str = "unfinished";

/// A blob that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    pub digest: Digest,
    pub size: u64,
    /// Its file; never changes, may be removed once no session refers to it.
    pub path: PathBuf,
}

/// Takes a blob in pieces. Dropped before [`BlobWriter::finish`], it leaves nothing.
pub struct BlobWriter {
    store: Store,
    file: Option<File>,
    size: u64,
    max: u64,
}

struct File {
    file: std::fs::File,
    path: PathBuf,
    hash: Sha256,
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl BlobWriter {
    pub(crate) async fn new(store: Store, max: u64) -> Result<Self, BlobError> {
        let dir = store.0.dir.join("blobs").join(UNFINISHED);
        let file = blocking(move || {
            std::fs::create_dir_all(&dir)?;
            let path = dir.join(uuid::Uuid::new_v4().to_string());
            let file = std::fs::File::create_new(&path)?;
            Ok(File { file, path, hash: Sha256::new() })
        })
        .await?;
        Ok(Self { store, file: Some(file), size: 0, max })
    }

    /// # Errors
    /// When it gets larger than was allowed, or the disk refuses.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]> + Send + 'static) -> Result<(), BlobError> {
        self.size = self.size.saturating_add(bytes.as_ref().len() as u64);
        if self.size > self.max {
            return Err(BlobError::TooLarge { max: self.max });
        }
        let mut file = self.file.take().ok_or(StoreError::Closed)?;
        let work = move || {
            file.hash.update(bytes.as_ref());
            file.file.write_all(bytes.as_ref())?;
            Ok(file)
        };
        self.file = Some(blocking(work).await?);
        Ok(())
    }

    /// Makes it durable and gives it its name.
    ///
    /// # Errors
    /// When the bytes are not those of `expected`, or the disk refuses.
    pub async fn finish(
        self,
        owner: Option<&SessionUid>,
        expected: Option<&Digest>,
    ) -> Result<Blob, BlobError> {
        self.end(owner.into(), expected).await
    }

    /// [`BlobWriter::finish`] of an upload that sessions of this project may keep. It lasts for an hour at least where
    /// none does.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn finish_upload(self, project: &ProjectUid) -> Result<Blob, BlobError> {
        self.end(Owner::Project(project.clone()), None).await
    }

    async fn end(mut self, owner: Owner, expected: Option<&Digest>) -> Result<Blob, BlobError> {
        let file = self.file.take().ok_or(StoreError::Closed)?;
        let hex = hex::encode(file.hash.clone().finalize());
        let digest: Digest = format!("sha256:{hex}").parse().map_err(|_| BlobError::WrongDigest)?;
        if expected.is_some_and(|expected| *expected != digest) {
            return Err(BlobError::WrongDigest);
        }
        let blob = Blob { path: path(&self.store.0.dir, &digest), digest, size: self.size };
        // Indexed first: a file without a row would never be collected, a row without a file is collected as one.
        self.store.index_blob(owner, &blob).await?;
        let to = blob.path.clone();
        blocking(move || publish(&file, &to)).await?;
        Ok(blob)
    }
}

fn publish(file: &File, to: &Path) -> std::io::Result<()> {
    file.file.sync_data()?;
    let folder = to.parent().unwrap_or(to);
    std::fs::create_dir_all(folder)?;
    std::fs::rename(&file.path, to)?;
    std::fs::File::open(folder)?.sync_all()
}

pub(crate) fn path(dir: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    dir.join("blobs").join(hex.get(..2).unwrap_or("00")).join(hex)
}

/// What an earlier process did not finish.
pub(crate) fn clear_unfinished(dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(dir.join("blobs").join(UNFINISHED)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(crate) async fn find(dir: &Path, digest: &Digest) -> Result<Option<Blob>, StoreError> {
    let path = path(dir, digest);
    match tokio::fs::metadata(&path).await {
        Ok(data) => Ok(Some(Blob { digest: digest.clone(), size: data.len(), path })),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn get(dir: &Path, digest: &Digest, max: u64) -> Result<Vec<u8>, BlobError> {
    let blob = find(dir, digest).await?.ok_or(BlobError::NotFound)?;
    if blob.size > max {
        return Err(BlobError::TooLarge { max });
    }
    Ok(tokio::fs::read(&blob.path).await?)
}

pub(crate) fn backup(connection: &Connection, from: &Path, to: &Path) -> Result<(), StoreError> {
    std::fs::create_dir_all(to)?;
    if std::fs::read_dir(to)?.next().is_some() {
        return Err(StoreError::NotEmpty(to.to_owned()));
    }
    connection.backup(rusqlite::MAIN_DB, to.join(schema::FILE), None::<fn(rusqlite::backup::Progress)>)?;
    for folder in std::fs::read_dir(from.join("blobs"))? {
        let folder = folder?;
        if folder.file_name() == UNFINISHED {
            continue;
        }
        let target = to.join("blobs").join(folder.file_name());
        std::fs::create_dir_all(&target)?;
        for file in std::fs::read_dir(folder.path())? {
            let file = file?;
            std::fs::copy(file.path(), target.join(file.file_name()))?;
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    let result = spawn_blocking(work).await.map_err(|error| StoreError::Failed(error.into()))?;
    Ok(result?)
}
