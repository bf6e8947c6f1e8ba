//! What the server asks of the workspace, done by the host: no link is followed, no native tool runs.

mod archive;
mod compare;
mod gits;
mod usage;
mod walk;

pub use archive::{UnpackError, unpack};
pub use usage::{NoRoom, Usage};

use crate::{
    beneath::{FileError, Kind, Pending, Regular, Root},
    http::{Http, HttpError},
};
use confine::Covers;
use protocol::control::{Entry, EntryKind, Reply, Request, RequestError};
use std::{path::PathBuf, sync::Arc};

/// A file above this is fetched with the archive.
const MAX_READ_BYTES: u64 = 64 << 20;

#[derive(Clone)]
pub struct Workspace {
    pub root: Root,
    pub baseline: Root,
    pub http: Http,
    pub usage: Usage,
    pub folder: PathBuf,
    /// Where a person's folder is worked on itself: what lies over git's files.
    pub covers: Option<Arc<Covers>>,
}

impl Workspace {
    /// # Errors
    /// For whoever asked.
    pub async fn answer(&self, request: Request) -> Result<Reply, RequestError> {
        match request {
            Request::List { path } => {
                let (root, path) = (self.root.clone(), folder(&path)?);
                Ok(Reply::Entries { entries: blocking(move || list(&root, &path)).await? })
            }
            Request::Read { path } => {
                let (root, path) = (self.root.clone(), file(&path)?);
                let read = move || root.read(&path, MAX_READ_BYTES)?.ok_or(FileError::NotFound(path));
                self.upload(blocking(read).await?.bytes).await
            }
            Request::Write { path, blob } => {
                let path = file(&path)?;
                self.write(path, self.http.blob(&blob).await.map_err(from_http)?).await
            }
            Request::Delete { path } => {
                let (root, path) = (self.root.clone(), file(&path)?);
                blocking(move || root.remove(&path)).await?;
                self.usage.look().await;
                Ok(Reply::Done)
            }
            Request::Archive => {
                let root = self.root.clone();
                self.upload(blocking(move || archive::whole(&root)).await?).await
            }
            Request::Diff => self.diff().await,
            Request::Unknown => {
                Err(RequestError::Invalid("this runner does not know the request".to_owned()))
            }
        }
    }

    async fn write(&self, path: String, bytes: Vec<u8>) -> Result<Reply, RequestError> {
        let (root, usage) = (self.root.clone(), self.usage.clone());
        let write = move || {
            let before = root.read(&path, MAX_READ_BYTES)?;
            let executable = before.as_ref().is_some_and(|file| file.executable);
            let more = growth(before.as_ref(), bytes.len());
            if let Err(no_room) = usage.take(more) {
                return Ok(Err(RequestError::TooLarge(no_room.to_string())));
            }
            let written = root.write(&path, &Regular { bytes, executable }).and_then(Pending::commit);
            if written.is_err() {
                usage.give_back(more);
            }
            written.map(|()| Ok(Reply::Done))
        };
        blocking(write).await?
    }

    async fn diff(&self) -> Result<Reply, RequestError> {
        let (root, baseline) = (self.root.clone(), self.baseline.clone());
        let (folder, covers) = (self.folder.clone(), self.covers.clone());
        let compare = move || match covers {
            None => compare::compare(&baseline, &root, None),
            Some(covers) => {
                let failed = |source| FileError::Failed { path: folder.display().to_string(), source };
                let remarks = gits::remarks(&covers, &folder).map_err(failed)?;
                let hidden = covers.paths().filter_map(|path| path.to_str().map(str::to_owned)).collect();
                // What is in the folder is there, whether it can be shown or not.
                let mut found = compare::compare(&baseline, &root, Some(&hidden))
                    .unwrap_or_else(|error| compare::Comparison::unknown(&error));
                found.patch.push_str(&remarks);
                Ok(found)
            }
        };
        let compare::Comparison { patch, archive, files_changed, added, removed } = blocking(compare).await?;
        let diff = self.http.put_blob(patch.into_bytes()).await.map_err(from_http)?;
        let archive = self.http.put_blob(archive).await.map_err(from_http)?;
        Ok(Reply::Diff { diff, archive, files_changed, added, removed })
    }

    async fn upload(&self, bytes: Vec<u8>) -> Result<Reply, RequestError> {
        let size = bytes.len() as u64;
        let blob = self.http.put_blob(bytes).await.map_err(from_http)?;
        Ok(Reply::Blob { blob, size })
    }
}

/// Bytes that a file of `after` bytes takes in the place of what is there.
pub(crate) fn growth(before: Option<&Regular>, after: usize) -> i64 {
    let bytes = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
    bytes(after) - bytes(before.map_or(0, |file| file.bytes.len()))
}

fn list(root: &Root, path: &str) -> Result<Vec<Entry>, FileError> {
    let entry = |(name, kind): (String, Kind)| {
        let (kind, size) = match kind {
            Kind::File { size, .. } => (EntryKind::File, size),
            Kind::Folder => (EntryKind::Directory, 0),
            Kind::Link { target } => (EntryKind::Link, target.len() as u64),
            Kind::Other => (EntryKind::Other, 0),
        };
        Entry { name: name.into(), kind, size }
    };
    Ok(root.list(path)?.0.into_iter().map(entry).collect())
}

fn folder(path: &str) -> Result<String, RequestError> {
    let path = engine::path::guest_folder(path).map_err(|e| RequestError::Invalid(e.to_string()))?;
    Ok(path.strip_prefix(engine::path::GUEST_ROOT).unwrap_or(&path).trim_start_matches('/').to_owned())
}

fn file(path: &str) -> Result<String, RequestError> {
    let path = engine::WorkspacePath::parse(path).map_err(|e| RequestError::Invalid(e.to_string()))?;
    Ok(path.as_str().to_owned())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, RequestError> {
    let done = tokio::task::spawn_blocking(work).await;
    let done =
        done.map_err(|_| RequestError::Failed("the runner broke while it worked on files".to_owned()))?;
    done.map_err(|error| match error {
        FileError::NotFound(_) => RequestError::NotFound(error.to_string()),
        FileError::Invalid { .. } => RequestError::Invalid(error.to_string()),
        FileError::TooLarge { .. } => RequestError::TooLarge(error.to_string()),
        FileError::Full | FileError::Failed { .. } => RequestError::Failed(error.to_string()),
    })
}

fn from_http(error: HttpError) -> RequestError {
    RequestError::Failed(error.to_string())
}
