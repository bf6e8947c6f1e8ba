//! The broker's two routes as HTTP answers, for whoever has authenticated a runner.

use super::{Broker, Refusal, SessionKey, check::parse};
use axum::{
    Json,
    body::Body,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use http::{StatusCode, header};
use protocol::http::{FetchFailure, FetchFailureKind, FetchRequest};
use std::{io, time::Duration};
use url::Url;

const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Answers a request to [`protocol::http::MODEL`].
pub async fn answer_model(broker: &Broker, who: SessionKey, body: &[u8]) -> Response {
    let refused = |(status, failure): Refusal| (status, Json(failure)).into_response();
    let call = match parse(body) {
        Ok(call) => call,
        Err(refusal) => return refused(refusal),
    };
    match broker.model(who, call).await {
        Ok(events) => {
            let events = events.map(|event| Event::default().json_data(&event));
            Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
        }
        Err(refusal) => refused(refusal),
    }
}

/// Answers a request to [`protocol::http::EGRESS`].
pub async fn answer_fetch(
    broker: &Broker,
    who: SessionKey,
    request: FetchRequest,
    allow: &(dyn Fn(&Url) -> bool + Sync),
) -> Response {
    let (head, body) = match broker.fetch(who, request, allow).await {
        Ok(answer) => answer,
        Err(failure) => return (status(&failure), Json(failure)).into_response(),
    };
    let mut line = match serde_json::to_vec(&head) {
        Ok(line) => line,
        Err(error) => return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    };
    line.push(b'\n');
    let head = stream::once(async { Ok::<_, io::Error>(Bytes::from(line)) });
    let body = Body::from_stream(head.chain(body.map_err(io::Error::other)));
    ([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response()
}

fn status(failure: &FetchFailure) -> StatusCode {
    match failure.kind {
        FetchFailureKind::Denied | FetchFailureKind::Prohibited => StatusCode::FORBIDDEN,
        FetchFailureKind::Invalid => StatusCode::BAD_REQUEST,
        FetchFailureKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    }
}
