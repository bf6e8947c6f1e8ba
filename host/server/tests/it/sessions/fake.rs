//! A runner without an agent: the control channel and blobs, as `vteam-runner` speaks them.

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use model::{
    event::{AssistantMessage, CallFinished, CallIntended, CallOutcome, Event, RunEnd, RunEnded},
    id::{Digest, Epoch, RunId, RunnerSeq},
    message::{Block, StopReason},
};
use protocol::{
    control::{Binding, FromRunner, FromServer, Reply, Request, Resume, Sequenced, VERSIONS},
    http::{BLOBS, CONTROL, EPOCH_HEADER, HISTORY},
};
use std::path::{Path, PathBuf};
use tokio::net::UnixStream;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

pub(crate) struct Fake {
    pub(crate) socket: PathBuf,
    pub(crate) token: String,
    pub(crate) stream: WebSocketStream<UnixStream>,
    pub(crate) seq: u64,
    pub(crate) acked: u64,
    pub(crate) binding: Option<Binding>,
}

/// The connection ended: the server hung up, or refused.
#[derive(Debug)]
pub(crate) struct Over(pub(crate) String);

impl Fake {
    pub(crate) async fn dial(socket: &Path, token: &str) -> Result<Self, Over> {
        let over = |error: &dyn std::fmt::Display| Over(error.to_string());
        let connection = UnixStream::connect(socket).await.map_err(|error| over(&error))?;
        let request = http::Request::builder()
            .uri(format!("ws://server{CONTROL}"))
            .header("host", "server")
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("authorization", format!("Bearer {token}"))
            .body(())
            .unwrap();
        let (stream, _) = client_async(request, connection).await.map_err(|error| over(&error))?;
        let (socket, token) = (socket.to_owned(), token.to_owned());
        Ok(Self { socket, token, stream, seq: 0, acked: 0, binding: None })
    }

    /// Dials and gets as far as being bound.
    pub(crate) async fn bound(socket: &Path, token: &str) -> Result<Self, Over> {
        let mut fake = Self::dial(socket, token).await?;
        fake.hello(None).await?;
        while fake.binding.is_none() {
            fake.next().await?;
        }
        Ok(fake)
    }

    pub(crate) async fn hello(&mut self, resumes: Option<Resume>) -> Result<(), Over> {
        let hello = FromRunner::Hello {
            versions: VERSIONS,
            runner_version: "fake".to_owned(),
            engine_id: "none".to_owned(),
            target: "none".to_owned(),
            confinement: vec![],
            resumes,
        };
        self.say(&hello).await?;
        match self.next().await? {
            FromServer::Welcome { .. } => Ok(()),
            other => Err(Over(format!("{other:?}"))),
        }
    }

    pub(crate) async fn say(&mut self, message: &FromRunner) -> Result<(), Over> {
        self.raw(serde_json::to_string(message).unwrap()).await
    }

    pub(crate) async fn raw(&mut self, text: String) -> Result<(), Over> {
        self.stream.send(Message::text(text)).await.map_err(|error| Over(error.to_string()))
    }

    /// The next message, once what it asks for without choice is done.
    pub(crate) async fn next(&mut self) -> Result<FromServer, Over> {
        loop {
            let message = match self.stream.next().await {
                Some(Ok(Message::Text(text))) => serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Close(_))) | None => return Err(Over("closed".to_owned())),
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Err(Over(error.to_string())),
            };
            match &message {
                FromServer::Ack { runner_seq } => self.acked = runner_seq.0,
                FromServer::Bind { binding } => self.binding = Some((**binding).clone()),
                FromServer::Refused { message, .. } => return Err(Over(message.clone())),
                FromServer::Request { id, request: Request::Diff } => self.diff(*id).await?,
                _ => {}
            }
            return Ok(message);
        }
    }

    /// Waits for a message like this.
    pub(crate) async fn until<T>(&mut self, wanted: impl Fn(&FromServer) -> Option<T>) -> Result<T, Over> {
        loop {
            if let Some(found) = wanted(&self.next().await?) {
                return Ok(found);
            }
        }
    }

    /// Says events and waits until they are committed.
    pub(crate) async fn record(&mut self, events: Vec<Event>) -> Result<(), Over> {
        let mut numbered = vec![];
        for event in events {
            self.seq += 1;
            numbered.push(Sequenced { runner_seq: RunnerSeq(self.seq), event });
        }
        self.say(&FromRunner::Events { events: numbered }).await?;
        while self.acked < self.seq {
            self.next().await?;
        }
        Ok(())
    }

    pub(crate) async fn message(&mut self, run: &RunId, text: &str) -> Result<(), Over> {
        let message = AssistantMessage {
            run: run.clone(),
            message: format!("said-{}-{}", self.epoch().0, self.seq).parse().unwrap(),
            model: "none".to_owned(),
            content: vec![Block::text(text)],
            stop_reason: StopReason::EndTurn,
        };
        self.record(vec![Event::AssistantMessage(message)]).await
    }

    pub(crate) async fn end(&mut self, run: &RunId, end: RunEnd) -> Result<(), Over> {
        let ended = RunEnded { run: run.clone(), end, message: "".into(), turns: 1 };
        self.record(vec![Event::RunEnded(ended)]).await
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.binding.as_ref().map_or(Epoch(0), |binding| binding.epoch)
    }

    /// The run under way, by the log.
    pub(crate) async fn open_run(&mut self) -> Option<RunId> {
        let mut open = None;
        for event in self.history().await {
            match event.event {
                Event::RunStarted(run) => open = Some(run.run),
                Event::RunFinished(_) | Event::RunEnded(_) => open = None,
                _ => {}
            }
        }
        open
    }

    pub(crate) async fn history(&self) -> Vec<model::event::Stored> {
        let (status, body) = self.http("GET", &format!("{HISTORY}?after=0"), vec![]).await;
        assert_eq!(status, 200);
        body.split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    pub(crate) async fn upload(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let (status, _) = self.http("PUT", &format!("{BLOBS}/{digest}"), bytes.to_vec()).await;
        assert_eq!(status, 204);
        digest
    }

    async fn diff(&mut self, id: u64) -> Result<(), Over> {
        let (diff, archive) = (self.upload(b"the diff").await, self.upload(&archive()).await);
        let reply = Reply::Diff { diff, archive, files_changed: 1, added: 1, removed: 0 };
        self.say(&FromRunner::Response { id, result: Ok(reply) }).await
    }

    pub(crate) async fn http(&self, method: &str, path: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
        let epoch = self.binding.as_ref().map(|binding| binding.epoch.to_string());
        http(&self.socket, Some(&self.token), epoch.as_deref(), method, path, body).await
    }
}

/// A server that is being started again is waited for, as a runner does.
async fn connected(socket: &Path) -> UnixStream {
    let mut refusals = 0;
    loop {
        match UnixStream::connect(socket).await {
            Ok(connection) => return connection,
            Err(error) => assert!(refusals < 2000, "{error}"),
        }
        refusals += 1;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

pub(crate) async fn http(
    socket: &Path,
    token: Option<&str>,
    epoch: Option<&str>,
    method: &str,
    path: &str,
    body: Vec<u8>,
) -> (u16, Vec<u8>) {
    let connection = connected(socket).await;
    let (mut sender, task) = hyper::client::conn::http1::handshake(TokioIo::new(connection)).await.unwrap();
    tokio::spawn(task);
    let mut request = http::Request::builder().method(method).uri(path).header("host", "server");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    if let Some(epoch) = epoch {
        request = request.header(EPOCH_HEADER, epoch);
    }
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.into_body().collect().await.unwrap().to_bytes().to_vec())
}

/// One changed file.
fn archive() -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o644);
    tar.append_data(&mut header, "src/new.txt", b"new".as_slice()).unwrap();
    tar.into_inner().unwrap().finish().unwrap()
}

pub(crate) fn intended(run: &RunId, call: &str) -> Event {
    Event::CallIntended(CallIntended {
        run: run.clone(),
        call: call.parse().unwrap(),
        message: "m".parse().unwrap(),
        tool_use_id: "t".to_owned(),
        tool: "Bash".parse().unwrap(),
        plugin: "vteam.shell".parse().unwrap(),
        plugin_digest: Digest::of(b"plugin"),
        input: serde_json::json!({}),
        effects: vec![],
    })
}

pub(crate) fn finished(run: &RunId, call: &str, outcome: CallOutcome) -> Event {
    Event::CallFinished(CallFinished {
        run: run.clone(),
        call: call.parse().unwrap(),
        message: "m".parse().unwrap(),
        tool_use_id: "t".to_owned(),
        tool: "Bash".into(),
        outcome,
        content: vec![],
        observations: vec![],
        duration_ms: 1,
    })
}
