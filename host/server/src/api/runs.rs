//! AG-UI over HTTP: run, interrupt, follow.

use super::{
    Api,
    asks::decision,
    files::accepts,
    input::{Document, Query, Session},
};
use crate::{
    access::Leave,
    agui::{Cursor, Event as AgUi, Frame, Projection, View},
    problem::Problem,
    sessions::{Caller, SessionError, Tail},
};
use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{Stream, StreamExt as _, stream};
use model::{
    id::{AskId, RunId, Seq, SessionRef, SessionUid},
    message::Block,
};
use protocol::control::Ask;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{collections::VecDeque, convert::Infallible, pin::Pin};
use utoipa::{IntoParams, ToSchema};

/// AG-UI's `RunAgentInput`, or `{"message": "…"}`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunInput {
    /// A further message, in place of `messages`.
    message: Option<String>,
    thread_id: Option<String>,
    run_id: Option<String>,
    /// The last one is sent, if it is the user's.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    messages: Vec<InputMessage>,
    /// Tools of the caller: none can be offered.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    tools: Vec<Value>,
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    context: Vec<Value>,
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    resume: Vec<Resume>,
}

#[derive(Debug, Deserialize)]
struct InputMessage {
    role: String,
    #[serde(default)]
    content: Value,
}

/// The answer to an interrupt.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resume {
    interrupt_id: AskId,
    status: String,
    #[serde(default)]
    payload: Value,
}

/// Sends a message (or answers interrupts) and begins a run. With `Accept: text/event-stream` the answer is that run's
/// AG-UI stream, which ends with the run or with an interrupt; else 202 with the run's id.
#[utoipa::path(post, path = "/api/projects/{project}/agentic-sessions/{session}/agui/run", tag = "agui",
    params(("project" = String, Path), ("session" = String, Path)), request_body = RunInput,
    responses((status = 202, body = Object), (status = 200, content_type = "text/event-stream", body = String),
        (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn run(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Extension(leave): Extension<Leave>,
    Session(session): Session,
    headers: HeaderMap,
    Document(document): Document,
) -> Result<Response, Problem> {
    let mut input: RunInput =
        serde_json::from_value(document).map_err(|error| Problem::invalid(error.to_string()))?;
    if !input.tools.is_empty() || !input.context.is_empty() {
        return Err(Problem::invalid(
            "tools and context of the caller are not supported: send them empty, and write what matters into the message",
        ));
    }
    let view = api.sessions.get(&session).await?;
    let before = *api.sessions.store().tail(&view.record.uid).await?.borrow();
    let answered: Vec<AskId> = input.resume.iter().map(|entry| entry.interrupt_id.clone()).collect();
    let (run, message) = if input.resume.is_empty() {
        if view.workspace_gone {
            // Before anything is written; the session itself says it again.
            return Err(SessionError::WorkspaceGone.into());
        }
        api.records.wake(&api.sessions, &caller, &session).await?;
        let (run, message) = api.sessions.send(&caller, &session, content(&input)?).await?;
        (run, Some(message))
    } else {
        let none = || Problem::conflict("no run is under way: send a message");
        let run = view.record.state.run.clone().ok_or_else(none)?;
        for entry in std::mem::take(&mut input.resume) {
            resume(&api, &caller, &session, entry).await?;
        }
        (run, None)
    };
    if !accepts(&headers, "text/event-stream") {
        return Ok((StatusCode::ACCEPTED, Json(json!({"runId": run, "messageId": message}))).into_response());
    }
    let shown_as = input.run_id.unwrap_or_else(|| run.to_string());
    let thread = input.thread_id.unwrap_or_else(|| view.record.uid.to_string());
    let projection = Projection::new(thread, View::Run { run, shown_as }, answered);
    Ok(sse(&api, leave, &view.record.uid, projection, Cursor { seq: before, within: None }).into_response())
}

fn content(input: &RunInput) -> Result<Vec<Block>, Problem> {
    let wrong =
        || Problem::invalid("send {\"message\": \"…\"}, or messages whose last one is the user's, as text");
    if let Some(message) = &input.message {
        return if message.trim().is_empty() {
            Err(wrong())
        } else {
            Ok(vec![Block::text(message.as_str())])
        };
    }
    let last = input.messages.last().filter(|message| message.role == "user").ok_or_else(wrong)?;
    let part = |part: &Value| match part.get("type").and_then(Value::as_str) {
        Some("text") => part.get("text").and_then(Value::as_str).map(Block::text).ok_or_else(wrong),
        _ => Err(wrong()),
    };
    match &last.content {
        Value::String(text) if !text.trim().is_empty() => Ok(vec![Block::text(text.as_str())]),
        Value::Array(parts) if !parts.is_empty() => parts.iter().map(part).collect(),
        _ => Err(wrong()),
    }
}

async fn resume(api: &Api, caller: &Caller, session: &SessionRef, entry: Resume) -> Result<(), Problem> {
    let Resume { interrupt_id, status, payload } = entry;
    let asks = api.sessions.pending(session).await?;
    let approval = match asks.iter().find(|ask| *ask.id() == interrupt_id) {
        Some(ask) => matches!(ask, Ask::Approval(_)),
        None => return Err(Problem::not_found(format!("nothing of the id {interrupt_id} waits"))),
    };
    match (approval, status.as_str()) {
        (true, "cancelled") => {
            let denied = decision(json!({"decision": "deny", "reason": "cancelled"}))?;
            api.sessions.decide(caller, session, &interrupt_id, denied).await?;
        }
        (true, "resolved") => {
            let decided = decision(if payload.is_null() { json!({"decision": "once"}) } else { payload })?;
            api.sessions.decide(caller, session, &interrupt_id, decided).await?;
        }
        (false, "cancelled") => {
            api.sessions.answer(caller, session, &interrupt_id, json!({"cancelled": true})).await?;
        }
        (false, "resolved") => api.sessions.answer(caller, session, &interrupt_id, payload).await?,
        _ => return Err(Problem::invalid("status is \"resolved\" or \"cancelled\"")),
    }
    Ok(())
}

/// What to interrupt.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Interrupt {
    /// Absent: whatever is under way.
    #[schema(value_type = Option<String>)]
    run_id: Option<RunId>,
}

/// Stops the run under way, in mid-call and in mid-stream. The session stays.
#[utoipa::path(post, path = "/api/projects/{project}/agentic-sessions/{session}/agui/interrupt", tag = "agui",
    params(("project" = String, Path), ("session" = String, Path)), request_body = Option<Interrupt>,
    responses((status = 202, body = Object), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn interrupt(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Session(session): Session,
    Document(document): Document,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let asked: Option<Interrupt> =
        serde_json::from_value(document).map_err(|error| Problem::invalid(error.to_string()))?;
    let run = api.sessions.interrupt(&caller, &session, asked.unwrap_or_default().run_id).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"runId": run}))))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct From {
    /// As the header `Last-Event-ID`: the `id` of the last event that was read.
    after: Option<String>,
}

/// The session as AG-UI 1.0, run after run: its history, then what happens. `id:` is the place in the log, followed in
/// mid-message by the place within it; a reader that comes back with it gets the rest and nothing twice.
#[utoipa::path(get, path = "/api/projects/{project}/agentic-sessions/{session}/agui/events", tag = "agui",
    params(("project" = String, Path), ("session" = String, Path), From),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn follow(
    State(api): State<Api>,
    Extension(leave): Extension<Leave>,
    Session(session): Session,
    Query(From { after }): Query<From>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let uid = api.sessions.get(&session).await?.record.uid;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let cursor = last.or(after).filter(|id| !id.is_empty()).map(|id| id.parse::<Cursor>()).transpose();
    let mut cursor = cursor.map_err(|error| Problem::malformed(error.to_string()))?.unwrap_or_default();
    let end = *api.sessions.store().tail(&uid).await?.borrow();
    if cursor.seq > end {
        cursor = Cursor { seq: end, within: None };
    }
    let projection = Projection::new(uid.to_string(), View::Watch, Vec::new());
    Ok(sse(&api, leave, &uid, projection, cursor).into_response())
}

/// What AG-UI clients may expect here.
#[utoipa::path(get, path = "/api/projects/{project}/agentic-sessions/{session}/agui/capabilities", tag = "agui",
    params(("project" = String, Path), ("session" = String, Path)),
    responses((status = 200, body = Object), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn capabilities(
    State(api): State<Api>,
    Session(session): Session,
) -> Result<Json<Value>, Problem> {
    let view = api.sessions.get(&session).await?;
    Ok(Json(json!({
        "protocolVersion": "1.0",
        "identity": {"name": "vteam", "version": env!("CARGO_PKG_VERSION"), "provider": "vteam"},
        "transport": {"streaming": true, "resumable": true, "websocket": false},
        "reasoning": {"supported": true, "streaming": true},
        "tools": {"supported": true, "clientProvided": false, "parallelCalls": true},
        "humanInTheLoop": {"supported": true, "approvals": true, "interrupts": true},
        "multimodal": {"input": {"image": false}},
        "custom": {"persona": view.accepted.persona, "permissionMode": view.accepted.mode},
    })))
}

struct Reader {
    tail: Pin<Box<dyn Stream<Item = Tail> + Send>>,
    projection: Projection,
    /// Where the reader is taken up; `None` once it was.
    from: Option<Cursor>,
    ready: VecDeque<Frame>,
    over: bool,
}

impl Reader {
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            if self.over || self.projection.ended() {
                return None;
            }
            let frames = match self.tail.next().await {
                Some(tail) => self.take(&tail),
                None => {
                    self.over = true;
                    self.projection.gone()
                }
            };
            self.ready.extend(frames);
        }
    }

    fn take(&mut self, tail: &Tail) -> Vec<Frame> {
        match (tail, &self.from) {
            (Tail::Stored(stored), Some(from)) if stored.seq <= from.seq => {
                self.projection.unseen(stored);
                let reached = stored.seq == from.seq;
                let from = if reached { self.from.take() } else { None };
                from.map(|from| self.projection.resume(&from)).unwrap_or_default()
            }
            (Tail::Stored(stored), _) => self.projection.stored(stored),
            (Tail::Live(_), Some(_)) => Vec::new(),
            (Tail::Live(live), None) => self.projection.live(live),
        }
    }
}

fn sse(
    api: &Api,
    leave: Leave,
    uid: &SessionUid,
    projection: Projection,
    cursor: Cursor,
) -> Sse<impl Stream<Item = Result<Event, Infallible>> + Send + 'static + use<>> {
    let shutdown = api.shutdown.clone();
    // From the beginning: what the reader knows already still says which run and message it is in.
    let tail = api.sessions.tail(uid, Seq(0)).take_until(async move { shutdown.requested().await });
    let from = (cursor.seq > Seq(0)).then_some(cursor);
    let reader = Reader { tail: Box::pin(tail), projection, from, ready: VecDeque::new(), over: false };
    let frames = stream::unfold(reader, async |mut reader| Some((reader.next().await?, reader)));
    let frames = api.permitted(leave, frames);
    Sse::new(frames.map(|frame| Ok(sent(&frame)))).keep_alive(KeepAlive::default())
}

fn sent(Frame { cursor, event }: &Frame) -> Event {
    let sent = Event::default().data(json::<AgUi>(event));
    match cursor {
        Some(cursor) => sent.id(cursor.to_string()),
        None => sent,
    }
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
