//! A session's files, its diff, and archives in and out. What an agent wrote is handed out as an attachment that no
//! browser shows or runs.

use super::{
    Api, UPLOAD_BYTES,
    input::{Path, Session},
    projects::ProjectPath,
};
use crate::{problem::Problem, settings::SettingsError};
use axum::{
    Json,
    body::Body as Stream,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures::StreamExt as _;
use model::id::{Digest, ProjectName, SessionName, SessionRef};
use protocol::control::{Entry, Reply, Request as Ask};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{BlobError, BlobWriter};
use tokio_util::io::ReaderStream;

const BYTES: &str = "application/octet-stream";
const GZIP: &str = "application/gzip";

#[derive(Deserialize)]
pub(super) struct FilePath {
    project: ProjectName,
    session: SessionName,
    path: String,
}

impl FilePath {
    fn split(self) -> (SessionRef, String) {
        (SessionRef { project: self.project, name: self.session }, self.path)
    }
}

/// The workspace's top folder.
#[utoipa::path(get, path = "/api/projects/{project}/agentic-sessions/{session}/workspace", tag = "workspace",
    params(("project" = String, Path), ("session" = String, Path)),
    responses((status = 200, body = Object), (status = 409, body = Problem)))]
pub(crate) async fn root(State(api): State<Api>, Session(session): Session) -> Result<Json<Value>, Problem> {
    match api.sessions.files(&session, Ask::List { path: String::new() }).await? {
        Reply::Entries { entries } => Ok(Json(listing(&entries))),
        _ => Err(unexpected()),
    }
}

/// A file's bytes, or a folder's entries (with a `/` at the end, or where the path is a folder).
#[utoipa::path(get, path = "/api/projects/{project}/agentic-sessions/{session}/workspace/{*path}", tag = "workspace",
    params(("project" = String, Path), ("session" = String, Path), ("path" = String, Path)),
    responses((status = 200, content_type = "application/octet-stream", body = [u8]), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn read(State(api): State<Api>, Path(path): Path<FilePath>) -> Result<Response, Problem> {
    let (session, path) = path.split();
    let folder = path.trim_end_matches('/').to_owned();
    if path.ends_with('/') {
        return match api.sessions.files(&session, Ask::List { path: folder }).await? {
            Reply::Entries { entries } => Ok(Json(listing(&entries)).into_response()),
            _ => Err(unexpected()),
        };
    }
    match api.sessions.files(&session, Ask::Read { path: path.clone() }).await {
        Ok(Reply::Blob { blob, .. }) => {
            let name = path.rsplit('/').next().unwrap_or_default();
            handed_out(&api, &blob, BYTES, name).await
        }
        Ok(_) => Err(unexpected()),
        Err(error) => match api.sessions.files(&session, Ask::List { path: folder }).await {
            Ok(Reply::Entries { entries }) => Ok(Json(listing(&entries)).into_response()),
            _ => Err(error.into()),
        },
    }
}

/// Writes a file. The session must be awake.
#[utoipa::path(put, path = "/api/projects/{project}/agentic-sessions/{session}/workspace/{*path}", tag = "workspace",
    params(("project" = String, Path), ("session" = String, Path), ("path" = String, Path)),
    request_body(content = [u8], content_type = "application/octet-stream"),
    responses((status = 204), (status = 409, body = Problem)))]
pub(crate) async fn write(
    State(api): State<Api>,
    Path(path): Path<FilePath>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let (session, path) = path.split();
    let uid = api.sessions.get(&session).await?.record.uid;
    let (writer, _) = received(&api, request).await?;
    let blob = writer.finish(Some(&uid), None).await?.digest;
    api.sessions.files(&session, Ask::Write { path, blob }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes a file. The session must be awake.
#[utoipa::path(delete, path = "/api/projects/{project}/agentic-sessions/{session}/workspace/{*path}", tag = "workspace",
    params(("project" = String, Path), ("session" = String, Path), ("path" = String, Path)),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn remove(
    State(api): State<Api>,
    Path(path): Path<FilePath>,
) -> Result<StatusCode, Problem> {
    let (session, path) = path.split();
    api.sessions.files(&session, Ask::Delete { path }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the session changed, as a unified diff; with `Accept: application/json`, its numbers.
#[utoipa::path(get, path = "/api/projects/{project}/agentic-sessions/{session}/diff", tag = "workspace",
    params(("project" = String, Path), ("session" = String, Path)),
    responses((status = 200, content_type = "text/x-diff", body = String), (status = 409, body = Problem)))]
pub(crate) async fn diff(
    State(api): State<Api>,
    Session(session): Session,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Reply::Diff { diff, archive, files_changed, added, removed } =
        api.sessions.files(&session, Ask::Diff).await?
    else {
        return Err(unexpected());
    };
    if accepts(&headers, "application/json") {
        let numbers = json!({"filesChanged": files_changed, "added": added, "removed": removed, "diff": diff, "archive": archive});
        return Ok(Json(numbers).into_response());
    }
    handed_out(&api, &diff, "text/x-diff; charset=utf-8", &format!("{}.diff", session.name)).await
}

/// The changed files as a tar (gzip).
#[utoipa::path(get, path = "/api/projects/{project}/agentic-sessions/{session}/diff/archive", tag = "workspace",
    params(("project" = String, Path), ("session" = String, Path)),
    responses((status = 200, content_type = "application/gzip", body = [u8]), (status = 409, body = Problem)))]
pub(crate) async fn changed(State(api): State<Api>, Session(session): Session) -> Result<Response, Problem> {
    match api.sessions.files(&session, Ask::Diff).await? {
        Reply::Diff { archive, .. } => {
            handed_out(&api, &archive, GZIP, &format!("{}-changes.tar.gz", session.name)).await
        }
        _ => Err(unexpected()),
    }
}

/// The whole workspace as a tar (gzip). The session must be awake.
#[utoipa::path(get, path = "/api/projects/{project}/agentic-sessions/{session}/archive", tag = "workspace",
    params(("project" = String, Path), ("session" = String, Path)),
    responses((status = 200, content_type = "application/gzip", body = [u8]), (status = 409, body = Problem)))]
pub(crate) async fn archive(State(api): State<Api>, Session(session): Session) -> Result<Response, Problem> {
    match api.sessions.files(&session, Ask::Archive).await? {
        Reply::Blob { blob, .. } => handed_out(&api, &blob, GZIP, &format!("{}.tar.gz", session.name)).await,
        _ => Err(unexpected()),
    }
}

/// Uploads a tar (gzip) for a session to start from: name the answer's `blob` in `workspace.archive.blob`. It is kept
/// for an hour at least where no session refers to it.
#[utoipa::path(put, path = "/api/projects/{project}/archives", tag = "workspace", params(("project" = String, Path)),
    request_body(content = [u8], content_type = "application/gzip"),
    responses((status = 201, body = Object), (status = 413, body = Problem)))]
pub(crate) async fn upload(
    State(api): State<Api>,
    Path(path): Path<ProjectPath>,
    request: Request,
) -> Result<(StatusCode, Json<Value>), Problem> {
    api.projects.get(&path.project)?;
    let of = api.projects.uid(&path.project).ok_or(SettingsError::NotFound)?;
    let (writer, magic) = received(&api, request).await?;
    if !magic.starts_with(&[0x1f, 0x8b]) {
        return Err(Problem::unsupported("an archive is a tar compressed with gzip"));
    }
    let blob = writer.finish_upload(&of).await?;
    Ok((StatusCode::CREATED, Json(json!({"blob": blob.digest, "size": blob.size}))))
}

/// The body, on the disk as it comes: many of them at once do not have room in memory. And how it begins.
async fn received(api: &Api, request: Request) -> Result<(BlobWriter, Vec<u8>), Problem> {
    let mut writer = api.sessions.store().blob_writer(UPLOAD_BYTES as u64).await?;
    let mut body = request.into_body().into_data_stream();
    let mut magic = Vec::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| Problem::malformed(format!("the body was cut: {error}")))?;
        if magic.len() < 2 {
            magic.extend(chunk.iter().take(2));
        }
        writer.write(chunk).await.map_err(|error| match error {
            BlobError::TooLarge { .. } => Problem::too_large("the body is larger than this route takes"),
            other => other.into(),
        })?;
    }
    Ok((writer, magic))
}

fn listing(entries: &[Entry]) -> Value {
    json!({"items": entries})
}

fn unexpected() -> Problem {
    Problem::internal("the runner gave another kind of answer; the server's log may say more")
}

pub(super) fn accepts(headers: &HeaderMap, kind: &str) -> bool {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|part| part.split(';').next().is_some_and(|part| part.trim() == kind))
}

async fn handed_out(api: &Api, blob: &Digest, kind: &'static str, name: &str) -> Result<Response, Problem> {
    let gone = || Problem::not_found("the content is gone");
    let blob = api.sessions.store().find_blob(blob).await?.ok_or_else(gone)?;
    let file = tokio::fs::File::open(&blob.path).await.map_err(|_| gone())?;
    let mut response = Stream::from_stream(ReaderStream::new(file)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_LENGTH, blob.size.into());
    headers.insert(header::CONTENT_DISPOSITION, attachment(name));
    Ok(response)
}

/// RFC 6266, with nothing of the name that a header or a file system could take for something else.
pub(super) fn attachment(name: &str) -> HeaderValue {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
    HeaderValue::from_str(&format!("attachment; filename=\"{plain}\""))
        .unwrap_or(HeaderValue::from_static("attachment"))
}
