//! The log itself, raw: pages, lines, or a stream.

use super::{
    Api,
    files::{accepts, attachment},
    input::{Query, Session},
    view,
};
use crate::{
    access::Leave,
    problem::Problem,
    sessions::{Sessions, Tail},
};
use axum::{
    Extension, Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use model::{
    event::Stored,
    id::{Seq, SessionRef},
};
use serde::Deserialize;
use serde_json::json;
use std::convert::Infallible;
use utoipa::IntoParams;

const NDJSON: &str = "application/x-ndjson";
const PAGE: usize = 256;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Range {
    /// Only events after this one.
    #[param(value_type = Option<u64>)]
    after: Option<Seq>,
    /// `metadata.continue` of the page before.
    #[serde(rename = "continue")]
    #[param(value_type = Option<u64>)]
    next: Option<Seq>,
    /// Events of one page, at most 1000.
    limit: Option<usize>,
}

/// Events as the log holds them: a page of JSON; all of them with `Accept: application/x-ndjson`; and with
/// `Accept: text/event-stream` for ever, `id:` being the place in the log. There, what is only live comes as event `live`.
#[utoipa::path(get, path = "/api/projects/{project}/agentic-sessions/{session}/events", tag = "events",
    params(("project" = String, Path), ("session" = String, Path), Range),
    responses((status = 200, body = Object), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn events(
    State(api): State<Api>,
    Extension(leave): Extension<Leave>,
    Session(session): Session,
    Query(Range { after, next, limit }): Query<Range>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let uid = api.sessions.get(&session).await?.record.uid;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok()).map(Seq);
    let after = last.or(next).or(after).unwrap_or_default();
    if accepts(&headers, "text/event-stream") {
        let shutdown = api.shutdown.clone();
        let events =
            api.sessions.tail(&uid, after).take_until(async move { shutdown.requested().await }).map(sent);
        let events = api.permitted(leave, events);
        return Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response());
    }
    if accepts(&headers, NDJSON) {
        return Ok(lines(stored(api.sessions.clone(), session, after)));
    }
    let limit = limit.unwrap_or(500).clamp(1, 1000);
    let items = api.sessions.events(&session, after, limit).await?;
    // A short page is not the end: the next one is empty there.
    let next = items.last().map(|event| event.seq.to_string()).unwrap_or_default();
    Ok(Json(json!({"items": items, "metadata": {"continue": next}})).into_response())
}

/// The session and its whole log, one JSON object per line, as a file.
#[utoipa::path(get, path = "/api/projects/{project}/agentic-sessions/{session}/export", tag = "events",
    params(("project" = String, Path), ("session" = String, Path)),
    responses((status = 200, content_type = "application/x-ndjson", body = String), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn export(State(api): State<Api>, Session(session): Session) -> Result<Response, Problem> {
    let view = api.sessions.get(&session).await?;
    let first = stream::once(async move { Ok(format!("{}\n", view::session(&view))) });
    let name = format!("{}.ndjson", session.name);
    let mut response = lines(first.chain(stored(api.sessions.clone(), session, Seq(0))));
    response.headers_mut().insert(header::CONTENT_DISPOSITION, attachment(&name));
    Ok(response)
}

fn sent(tail: Tail) -> Result<Event, Infallible> {
    let (event, json) = match &tail {
        Tail::Stored(stored) => (Event::default().id(stored.seq.to_string()), serde_json::to_string(stored)),
        Tail::Live(live) => (Event::default().event("live"), serde_json::to_string(live)),
    };
    Ok(event.data(json.unwrap_or_default()))
}

/// The log up to its end.
fn stored(
    sessions: Sessions,
    session: SessionRef,
    after: Seq,
) -> impl Stream<Item = Result<String, std::io::Error>> + Send {
    stream::try_unfold(after, move |after| {
        let (sessions, session) = (sessions.clone(), session.clone());
        async move {
            let page = sessions.events(&session, after, PAGE).await.map_err(std::io::Error::other)?;
            let Some(last) = page.last().map(|event| event.seq) else { return Ok(None) };
            Ok(Some((page.iter().map(line).collect::<String>(), last)))
        }
    })
}

fn line(event: &Stored) -> String {
    serde_json::to_string(event).unwrap_or_default() + "\n"
}

fn lines(text: impl Stream<Item = Result<String, std::io::Error>> + Send + 'static) -> Response {
    let mut response = Body::from_stream(text.map_ok(bytes::Bytes::from)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    response
}
