//! The server's side of the protocol, with a log in memory and a model that plays a list.

use crate::plugins::{self, Built};
use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, State, WebSocketUpgrade, ws},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::{any, get, post},
};
use futures::StreamExt as _;
use model::{
    approval::Decision,
    event::{
        ApprovalDecided, Event, Live, Origin, QuestionAnswered, RunStarted, RunnerLost, Stored, UserMessage,
    },
    grant::PermissionMode,
    id::{AskId, Digest, Epoch, RunId, Seq, UnixMillis},
    limits::Limits,
    message::Block,
};
use protocol::{
    control::{
        Ask, Binding, FromRunner, FromServer, Purpose, Reply, Request, RequestError, SessionPolicy,
        WorkspaceSource,
    },
    http::{BLOBS, CONTROL, HISTORY, MODEL, ModelCall},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{
    net::UnixListener,
    sync::{Notify, mpsc},
};

pub(crate) const TOKEN: &str = "the-runner-s-token";

#[derive(Clone)]
pub(crate) struct Server(Arc<Shared>);

struct Shared {
    state: Mutex<Inside>,
    news: Notify,
}

#[derive(Default)]
pub(crate) struct Inside {
    pub(crate) log: Vec<Stored>,
    pub(crate) live: Vec<Live>,
    pub(crate) requests: Vec<ModelCall>,
    pub(crate) replies: HashMap<u64, Result<Reply, RequestError>>,
    pub(crate) asks: Vec<Ask>,
    pub(crate) said_bye: bool,
    pub(crate) hellos: usize,
    /// Events that came a second time.
    pub(crate) repeated: usize,
    answers: VecDeque<Play>,
    blobs: HashMap<Digest, Vec<u8>>,
    to: Option<mpsc::UnboundedSender<FromServer>>,
    binding: Option<Binding>,
    next_request: u64,
    /// Events are taken, but not acknowledged.
    pub(crate) deaf: bool,
    /// Events are not even taken.
    pub(crate) mute: bool,
    pub(crate) unheard: Vec<String>,
    /// The token that is good now.
    pub(crate) token: String,
}

/// One answer of the model.
pub(crate) enum Play {
    Whole(Vec<Value>),
    /// The stream stays open after these.
    Hang(Vec<Value>),
    Refuse(u16, Value),
}

pub(crate) fn text(text: &str) -> Vec<Value> {
    vec![
        json!({"type": "start", "model": "played"}),
        json!({"type": "block_start", "index": 0, "block": {"type": "text", "text": ""}}),
        json!({"type": "block_delta", "index": 0, "delta": {"type": "text", "text": text}}),
        json!({"type": "block_stop", "index": 0}),
    ]
}

pub(crate) fn says(said: &str) -> Play {
    Play::Whole([text(said), vec![stop("end_turn")]].concat())
}

pub(crate) fn stop(reason: &str) -> Value {
    json!({"type": "stop", "stop_reason": reason, "usage": {}, "cost": 0})
}

/// Tool uses `t0`, `t1`… with their input as JSON text.
pub(crate) fn calls(uses: &[(&str, &str)]) -> Play {
    let mut events = Vec::new();
    for (at, (name, input)) in uses.iter().enumerate() {
        let block = json!({"type": "tool_use", "id": format!("t{at}"), "name": name, "input": {}});
        events.push(json!({"type": "block_start", "index": at, "block": block}));
        events.push(json!({"type": "block_delta", "index": at, "delta": {"type": "input_json", "partial_json": input}}));
    }
    events.push(stop("tool_use"));
    Play::Whole(events)
}

impl Server {
    /// Listens at `socket`; the first run, `r1`, is there already.
    pub(crate) fn listen(socket: &PathBuf, prompt: &str, adapt: impl FnOnce(&mut Binding)) -> Self {
        let server = Self::new(prompt, adapt);
        server.serve(UnixListener::bind(socket).unwrap());
        server
    }

    pub(crate) fn new(prompt: &str, adapt: impl FnOnce(&mut Binding)) -> Self {
        let server = Self(Arc::new(Shared { state: Mutex::default(), news: Notify::new() }));
        let mut binding = binding(plugins::all());
        adapt(&mut binding);
        server.inside().binding = Some(binding);
        server.inside().token = TOKEN.to_owned();
        for Built { native, .. } in plugins::all() {
            server.inside().blobs.insert(Digest::of(native), native.clone());
        }
        server.begin("r1", prompt);
        server
    }

    pub(crate) fn serve<L: axum::serve::Listener<Addr: std::fmt::Debug>>(&self, listener: L) {
        let router = Router::new()
            .route(CONTROL, any(control))
            .route(MODEL, post(model))
            .route(HISTORY, get(history))
            .route(&format!("{BLOBS}/{{digest}}"), get(blob).put(put_blob))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    }

    pub(crate) fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.state.lock().unwrap()
    }

    pub(crate) fn play(&self, answers: impl IntoIterator<Item = Play>) {
        self.inside().answers.extend(answers);
        self.0.news.notify_waiters();
    }

    /// A run with a message, in the log.
    pub(crate) fn begin(&self, run: &str, prompt: &str) {
        let run: RunId = run.parse().unwrap();
        let message = format!("u-{run}").parse().unwrap();
        let content = vec![Block::text(prompt)];
        self.append(Event::RunStarted(RunStarted { run: run.clone() }));
        self.append(Event::UserMessage(UserMessage { run, message, content, sent_by: "me".into() }));
    }

    pub(crate) fn append(&self, event: Event) {
        self.inside().append(None, event);
        self.0.news.notify_waiters();
    }

    pub(crate) fn tell(&self, message: FromServer) {
        self.inside().to.as_ref().unwrap().send(message).unwrap();
    }

    /// Ends the connection, as a restart does.
    pub(crate) fn hang_up(&self) {
        self.inside().to = None;
    }

    /// The runner of this epoch is gone; the next one is bound to the following epoch.
    pub(crate) fn lose_runner(&self) {
        let epoch = {
            let mut inside = self.inside();
            inside.asks.clear();
            let binding = inside.binding.as_mut().unwrap();
            let epoch = binding.epoch;
            binding.epoch = epoch.next();
            epoch
        };
        self.append(Event::RunnerLost(RunnerLost { epoch, message: "killed".into() }));
    }

    pub(crate) fn decide(&self, id: &AskId, decision: Decision) {
        let decided = ApprovalDecided { id: id.clone(), decision, decided_by: "me".into() };
        self.append(Event::ApprovalDecided(decided.clone()));
        self.tell(FromServer::Decided { decided });
    }

    pub(crate) fn answer(&self, id: &AskId, answer: Value) {
        let answered = QuestionAnswered { id: id.clone(), answer, answered_by: "me".into() };
        self.append(Event::QuestionAnswered(answered.clone()));
        self.tell(FromServer::Answered { answered });
    }

    pub(crate) async fn request(&self, request: Request) -> Result<Reply, RequestError> {
        let id = {
            let mut inside = self.inside();
            inside.next_request += 1;
            inside.next_request
        };
        self.tell(FromServer::Request { id, request });
        self.until("a reply", |inside| inside.replies.remove(&id)).await
    }

    pub(crate) fn blob(&self, digest: &Digest) -> Vec<u8> {
        self.inside().blobs[digest].clone()
    }

    /// Waits for what `look` finds; says what it waited for when it does not come.
    pub(crate) async fn until<T>(&self, what: &str, mut look: impl FnMut(&mut Inside) -> Option<T>) -> T {
        let waiting = async {
            loop {
                let mut news = std::pin::pin!(self.0.news.notified());
                news.as_mut().enable();
                if let Some(found) = look(&mut self.inside()) {
                    return found;
                }
                news.await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(30), waiting).await {
            Ok(found) => found,
            Err(_) => panic!("no {what}; the log: {}", self.inside().told().join("\n")),
        }
    }

    pub(crate) async fn ask(&self) -> Ask {
        self.until("question", |inside| inside.asks.pop()).await
    }

    /// The end of a run, as `end: message`.
    pub(crate) async fn end_of(&self, run: &str) -> String {
        let end = |inside: &mut Inside| {
            inside.log.iter().find_map(|stored| match &stored.event {
                Event::RunEnded(ended) if ended.run.as_str() == run => {
                    Some(format!("{:?}: {}", ended.end, ended.message.raw()))
                }
                _ => None,
            })
        };
        self.until("end of the run", end).await
    }

    /// What each finished call told the model, as `Tool outcome: text`.
    pub(crate) fn finished(&self) -> Vec<String> {
        self.inside().finished()
    }
}

impl Inside {
    fn append(&mut self, origin: Option<Origin>, event: Event) {
        if origin.is_some() && self.log.iter().any(|stored| stored.origin == origin) {
            self.repeated += 1;
            return;
        }
        let seq = Seq(self.log.len() as u64 + 1);
        self.log.push(Stored { seq, at: UnixMillis(0), origin, event });
    }

    pub(crate) fn finished(&self) -> Vec<String> {
        let finished = self.log.iter().filter_map(|stored| match &stored.event {
            Event::CallFinished(call) => {
                let text = call.content.iter().map(|block| match block {
                    Block::Text { text } => text.raw().to_owned(),
                    _ => "?".to_owned(),
                });
                let outcome =
                    serde_json::to_value(&call.outcome).unwrap()["type"].as_str().unwrap().to_owned();
                Some(format!("{} {outcome}: {}", call.tool.raw(), text.collect::<Vec<_>>().join("|")))
            }
            _ => None,
        });
        finished.collect()
    }

    /// One line per event.
    pub(crate) fn told(&self) -> Vec<String> {
        self.log.iter().map(|stored| serde_json::to_string(stored).unwrap()).collect()
    }

    pub(crate) fn kinds(&self) -> Vec<String> {
        self.log.iter().map(|stored| kind(&stored.event)).collect()
    }
}

fn kind(event: &Event) -> String {
    serde_json::to_value(event).unwrap()["kind"].as_str().unwrap().to_owned()
}

fn binding(built: &[Built]) -> Binding {
    Binding {
        session: model::id::SessionRef { project: "p".parse().unwrap(), name: "s".parse().unwrap() },
        uid: "uid".parse().unwrap(),
        epoch: Epoch(1),
        interactive: false,
        mode: PermissionMode::Default,
        purpose: Purpose::Act,
        persona: None,
        model: "played".into(),
        context_tokens: 100_000,
        max_output_tokens: 4096,
        limits: Limits::shipped(),
        plugins: built.iter().map(|built| built.binding.clone()).collect(),
        artifact_key: hex::encode(plugins::key().verifying_key().to_bytes()),
        workspace: WorkspaceSource::Prepared,
        policy: SessionPolicy {
            fetch_hosts: vec![],
            process_network: protocol::exec::Network::None,
            revoked: vec![],
        },
        environment: BTreeMap::new(),
        cursor: Seq(0),
    }
}

fn permitted(server: &Server, headers: &HeaderMap) -> bool {
    let token = server.inside().token.clone();
    headers.get("authorization").is_some_and(|value| value == &format!("Bearer {token}"))
}

async fn control(State(server): State<Server>, headers: HeaderMap, socket: WebSocketUpgrade) -> Response {
    if !permitted(&server, &headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    socket.on_upgrade(move |socket| talk(server, socket))
}

async fn talk(server: Server, mut socket: ws::WebSocket) {
    let (to, mut from) = mpsc::unbounded_channel();
    let Some(Ok(ws::Message::Text(hello))) = socket.recv().await else { return };
    let FromRunner::Hello { resumes, .. } = serde_json::from_str(&hello).unwrap() else { panic!("{hello}") };
    let send = |message: &FromServer| ws::Message::text(serde_json::to_string(message).unwrap());
    socket.send(send(&FromServer::Welcome { version: 1 })).await.unwrap();
    {
        let mut inside = server.inside();
        inside.hellos += 1;
        if resumes.is_none() {
            to.send(FromServer::Bind { binding: Box::new(inside.binding.clone().unwrap()) }).unwrap();
        }
        inside.to = Some(to);
    }
    server.0.news.notify_waiters();
    loop {
        tokio::select! {
            message = from.recv() => match message {
                Some(message) => {
                    if socket.send(send(&message)).await.is_err() {
                        return;
                    }
                }
                None => return,
            },
            said = socket.recv() => match said {
                Some(Ok(ws::Message::Text(said))) => server.hear(serde_json::from_str(&said).unwrap()),
                Some(Ok(_)) => {}
                _ => return,
            },
        }
    }
}

impl Server {
    fn hear(&self, message: FromRunner) {
        let mut inside = self.inside();
        match message {
            FromRunner::Events { events } if inside.mute => {
                inside.unheard.extend(events.iter().map(|event| kind(&event.event)));
            }
            FromRunner::Events { events } => {
                let epoch = inside.binding.as_ref().unwrap().epoch;
                let last = events.last().unwrap().runner_seq;
                for event in events {
                    inside.append(Some(Origin { epoch, runner_seq: event.runner_seq }), event.event);
                }
                if !inside.deaf
                    && let Some(to) = &inside.to
                {
                    let _ = to.send(FromServer::Ack { runner_seq: last });
                }
            }
            FromRunner::Live { live } => inside.live.push(live),
            FromRunner::Ask { ask } => {
                let known = inside.log.iter().any(|stored| match &stored.event {
                    Event::ApprovalRequested(request) => request.id == *ask.id(),
                    Event::QuestionAsked(question) => question.id == *ask.id(),
                    _ => false,
                });
                if !known {
                    let event = match ask.clone() {
                        Ask::Approval(request) => Event::ApprovalRequested(*request),
                        Ask::Question(question) => Event::QuestionAsked(question),
                    };
                    inside.append(None, event);
                }
                inside.asks.push(ask);
            }
            FromRunner::Response { id, result } => drop(inside.replies.insert(id, result)),
            FromRunner::Bye { .. } => inside.said_bye = true,
            other => panic!("{other:?}"),
        }
        drop(inside);
        self.0.news.notify_waiters();
    }
}

async fn model(State(server): State<Server>, headers: HeaderMap, Json(call): Json<ModelCall>) -> Response {
    assert!(permitted(&server, &headers) && headers.contains_key("vteam-epoch"));
    server.inside().requests.push(call);
    server.0.news.notify_waiters();
    // A runner may be quicker than the test that says what is to be played.
    let play = server.until("answer to play", |inside| inside.answers.pop_front()).await;
    let sse = |events: Vec<Value>| events.iter().map(|e| format!("data: {e}\n\n")).collect::<String>();
    match play {
        Play::Whole(events) => sse(events).into_response(),
        Play::Hang(events) => {
            let first = futures::stream::iter([Ok::<_, std::io::Error>(sse(events))]);
            Body::from_stream(first.chain(futures::stream::pending())).into_response()
        }
        Play::Refuse(status, failure) => {
            (StatusCode::from_u16(status).unwrap(), Json(failure)).into_response()
        }
    }
}

async fn history(State(server): State<Server>, Query(query): Query<HashMap<String, u64>>) -> String {
    let inside = server.inside();
    let lines = inside.log.iter().filter(|stored| stored.seq.0 > query["after"]);
    lines.map(|stored| serde_json::to_string(stored).unwrap() + "\n").collect()
}

async fn blob(State(server): State<Server>, Path(digest): Path<Digest>) -> Response {
    let found = server.inside().blobs.get(&digest).cloned();
    found.map_or(StatusCode::NOT_FOUND.into_response(), |bytes| bytes.into_response())
}

async fn put_blob(State(server): State<Server>, Path(digest): Path<Digest>, bytes: bytes::Bytes) {
    assert_eq!(Digest::of(&bytes), digest);
    server.inside().blobs.insert(digest, bytes.to_vec());
}
