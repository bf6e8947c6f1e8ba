//! A session's files: by its runner, or from the snapshot of its last run.

use super::{actor::Command, error::FilesError, registry::Registry};
use flate2::read::GzDecoder;
use model::{event::Snapshot, id::SessionUid};
use protocol::{
    control::{Reply, Request, RequestError},
    http::MAX_BLOB_BYTES,
};
use std::{io::Read, path::Path, sync::Arc, time::Duration};

/// How long a runner may take for one request.
const TIMEOUT: Duration = Duration::from_secs(60);

pub(super) async fn files(
    registry: &Arc<Registry>,
    uid: &SessionUid,
    request: Request,
) -> Result<Reply, FilesError> {
    let asked = request.clone();
    let answer = registry.ask(uid, |reply| Command::Files { request: asked, reply });
    match tokio::time::timeout(TIMEOUT, answer).await.map_err(|_| FilesError::Timeout)?? {
        Ok(answer) => of_the_session(registry, uid, answer?).await,
        Err(None) => Err(FilesError::NotAwake),
        Err(Some(snapshot)) => asleep(registry, uid, request, &snapshot).await,
    }
}

/// A runner names what it uploaded for this session. Whatever else it names is another session's, and not handed out.
async fn of_the_session(registry: &Registry, uid: &SessionUid, reply: Reply) -> Result<Reply, FilesError> {
    let named = match &reply {
        Reply::Blob { blob, .. } => vec![blob],
        Reply::Diff { diff, archive, .. } => vec![diff, archive],
        _ => vec![],
    };
    for blob in named {
        if !registry.store().owns_blob(uid, blob).await? {
            let why = format!("the runner named {blob}, which it did not upload");
            return Err(RequestError::Failed(why).into());
        }
    }
    Ok(reply)
}

async fn asleep(
    registry: &Arc<Registry>,
    uid: &SessionUid,
    request: Request,
    snapshot: &Snapshot,
) -> Result<Reply, FilesError> {
    match request {
        Request::Diff => Ok(Reply::Diff {
            diff: snapshot.diff.clone(),
            archive: snapshot.archive.clone(),
            files_changed: snapshot.files_changed,
            added: snapshot.added,
            removed: snapshot.removed,
        }),
        Request::Read { path } => {
            let store = registry.store();
            let blob = store.find_blob(&snapshot.archive).await?.ok_or(FilesError::NotAwake)?;
            let found = tokio::task::spawn_blocking(move || extract(&blob.path, &path)).await;
            let found = found.map_err(|error| RequestError::Failed(error.to_string()))?;
            let bytes = found
                .map_err(|error| RequestError::Failed(error.to_string()))?
                .ok_or(FilesError::NotAwake)?;
            let size = bytes.len() as u64;
            let blob = store.put_blob(Some(uid), bytes).await.map_err(super::SessionError::from)?;
            Ok(Reply::Blob { blob, size })
        }
        _ => Err(FilesError::NotAwake),
    }
}

/// A regular file's bytes out of an archive of changed files.
fn extract(archive: &Path, wanted: &str) -> std::io::Result<Option<Vec<u8>>> {
    let wanted = wanted.trim_start_matches("/workspace").trim_start_matches('/');
    // A runner made it, and names and attributes are read into memory: what it unpacks to has an end.
    let packed = GzDecoder::new(std::fs::File::open(archive)?);
    let mut archive = tar::Archive::new(packed.take(MAX_BLOB_BYTES as u64));
    for entry in archive.entries()? {
        let entry = entry?;
        let path = entry.path()?;
        let path = path.strip_prefix("./").unwrap_or(&path);
        if path == Path::new(wanted) && entry.header().entry_type().is_file() {
            let mut bytes = Vec::new();
            entry.take(MAX_BLOB_BYTES as u64).read_to_end(&mut bytes)?;
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}
