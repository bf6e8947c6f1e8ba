//! Where runners dial in: the control channel, history and blobs, and the broker's two endpoints.
//!
//! A runner's token says whose it is; what the runner itself says of its identity counts for nothing. This module meters
//! and frames; what the messages mean is decided in `sessions`.

mod blobs;
mod control;
mod meter;
mod outgoing;

use crate::{broker::Broker, sessions::Sessions};
use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, FromRef, FromRequestParts, Query, State},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use bytes::Bytes;
use futures::{Stream, TryStreamExt, stream};
use http::{HeaderMap, StatusCode, header::AUTHORIZATION, request::Parts};
use model::id::{Epoch, Seq, SessionUid};
use protocol::http as paths;
use serde::Deserialize;

/// Everything that runners may ask for. To be served on the runners' socket and nowhere else.
pub fn router(sessions: Sessions, broker: Broker) -> Router {
    Router::new()
        .route(paths::CONTROL, any(control::upgrade))
        .route(paths::HISTORY, get(history))
        .route(&format!("{}/{{digest}}", paths::BLOBS), get(blobs::read).put(blobs::write))
        .route(paths::MODEL, post(outgoing::model))
        .route(paths::EGRESS, post(outgoing::fetch))
        .layer(DefaultBodyLimit::max(paths::MAX_MODEL_REQUEST_BYTES))
        .with_state(Gateway { sessions, broker })
}

#[derive(Clone, FromRef)]
struct Gateway {
    sessions: Sessions,
    broker: Broker,
}

/// An authenticated runner.
struct Runner {
    uid: SessionUid,
    epoch: Epoch,
}

impl<S> FromRequestParts<S> for Runner
where
    Sessions: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let sessions = Sessions::from_ref(state);
        let token = bearer(&parts.headers);
        let known = match token {
            Some(token) => sessions.authenticate(token).await,
            None => None,
        };
        let (uid, epoch) = known.ok_or_else(|| StatusCode::UNAUTHORIZED.into_response())?;
        match parts.headers.get(paths::EPOCH_HEADER) {
            Some(said) if said.to_str().ok() != Some(&epoch.to_string()) => {
                Err(StatusCode::CONFLICT.into_response())
            }
            _ => Ok(Self { uid, epoch }),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

#[derive(Deserialize)]
struct After {
    #[serde(default)]
    after: Seq,
}

async fn history(
    State(sessions): State<Sessions>,
    runner: Runner,
    Query(After { after }): Query<After>,
) -> Response {
    Body::from_stream(lines(sessions, runner.uid, after)).into_response()
}

/// The log after this event up to its end, one JSON object per line.
fn lines(
    sessions: Sessions,
    uid: SessionUid,
    after: Seq,
) -> impl Stream<Item = Result<Bytes, store::StoreError>> {
    stream::try_unfold((sessions, uid, after), |(sessions, uid, after)| async move {
        let page = sessions.store().events(&uid, after, 500).await?;
        let Some(last) = page.last().map(|event| event.seq) else { return Ok(None) };
        let mut lines = Vec::new();
        for event in &page {
            serde_json::to_writer(&mut lines, event)?;
            lines.push(b'\n');
        }
        Ok::<_, store::StoreError>(Some((Bytes::from(lines), (sessions, uid, last))))
    })
    .inspect_err(|error| tracing::error!(error = %telemetry::field::chain(error), "history is cut short"))
}
