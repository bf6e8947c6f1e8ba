//! Blobs, to and from a runner: its own session's, and the native code that it was bound to.

use super::Runner;
use crate::sessions::Sessions;
use axum::{
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use futures::StreamExt;
use http::{StatusCode, header::CONTENT_LENGTH};
use model::id::Digest;
use protocol::http::MAX_BLOB_BYTES;
use store::BlobError;
use tokio_util::io::ReaderStream;

/// Blobs of a session may have this many times the bytes of its workspace.
const WORKSPACES: u64 = 2;

pub(super) async fn read(
    State(sessions): State<Sessions>,
    runner: Runner,
    Path(digest): Path<Digest>,
) -> Result<Response, Response> {
    if let Some(native) = sessions.artifact(&runner.uid, &digest).await {
        return Ok(native.into_response());
    }
    let store = sessions.store();
    // Another session's blob is not there, for this one.
    if !store.owns_blob(&runner.uid, &digest).await.map_err(internal)? {
        return Err(StatusCode::NOT_FOUND.into_response());
    }
    let blob = store.find_blob(&digest).await.map_err(internal)?;
    let blob = blob.ok_or_else(|| StatusCode::NOT_FOUND.into_response())?;
    let file = tokio::fs::File::open(&blob.path).await.map_err(internal)?;
    let body = Body::from_stream(ReaderStream::with_capacity(file, 64 << 10));
    Ok(([(CONTENT_LENGTH, blob.size)], body).into_response())
}

pub(super) async fn write(
    State(sessions): State<Sessions>,
    runner: Runner,
    Path(digest): Path<Digest>,
    body: Body,
) -> Result<StatusCode, Response> {
    let store = sessions.store();
    let quota = sessions.limits().session.workspace_bytes.saturating_mul(WORKSPACES);
    let used = store.blob_bytes(&runner.uid).await.map_err(internal)?;
    let room = quota.saturating_sub(used).min(MAX_BLOB_BYTES as u64);
    let mut blob = store.blob_writer(room).await.map_err(|error| refused(&error))?;
    let mut bytes = body.into_data_stream();
    while let Some(piece) = bytes.next().await {
        let piece = piece.map_err(|_| StatusCode::BAD_REQUEST.into_response())?;
        blob.write(piece).await.map_err(|error| refused(&error))?;
    }
    blob.finish(Some(&runner.uid), Some(&digest)).await.map_err(|error| refused(&error))?;
    Ok(StatusCode::NO_CONTENT)
}

fn refused(error: &BlobError) -> Response {
    let status = match error {
        BlobError::NotFound => StatusCode::NOT_FOUND,
        BlobError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        BlobError::WrongDigest => StatusCode::UNPROCESSABLE_ENTITY,
        BlobError::Store(store::StoreError::Full(_)) => StatusCode::INSUFFICIENT_STORAGE,
        BlobError::Store(error) => return internal(error),
    };
    (status, error.to_string()).into_response()
}

fn internal(error: impl std::fmt::Display) -> Response {
    tracing::error!(%error, "a blob cannot be served");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}
