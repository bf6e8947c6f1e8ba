//! The WebSocket of the control channel: dials, says hello, reconnects with a pause, gives up as an orphan.

use super::{Answer, Link};
use crate::dial::Server;
use futures::{Sink, SinkExt as _, Stream, StreamExt as _};
use model::id::Epoch;
use protocol::{
    control::{FromRunner, FromServer, MAX_FRAME_BYTES, Resume},
    http::CONTROL,
};
use std::time::Duration;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{
    client_async_with_config,
    tungstenite::{
        self, Message, client::IntoClientRequest as _, http::header::AUTHORIZATION, protocol::WebSocketConfig,
    },
};

const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// How long a new runner's pauses stay the first one where nobody listens, which costs next to nothing to find out: whatever
/// makes NetworkPolicies hold lets a new pod through only once it has heard of it.
const EAGER: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const DIAL: Duration = Duration::from_secs(10);

/// Why there will be no further connection.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    #[error("the server could not be reached for {} s", .0.as_secs())]
    Orphaned(Duration),
    #[error("the server refused this runner: {0}")]
    Refused(String),
    /// Whoever received the messages is gone.
    #[error("the runner ends")]
    Closed,
}

/// Why one connection ended.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the server did not answer in time")]
    Slow,
    #[error("the runner's token cannot be read")]
    Token(#[source] std::io::Error),
    #[error("the connection failed")]
    Socket(#[from] std::io::Error),
    #[error("the connection failed")]
    WebSocket(#[from] tungstenite::Error),
    #[error("the server closed the connection")]
    End,
    #[error("the server says: {message}")]
    Refused { message: String, retry: bool },
    #[error("the runner ends")]
    Closed,
}

impl Broken {
    fn is_nobody_there(&self) -> bool {
        matches!(self, Self::Socket(error) if error.kind() == std::io::ErrorKind::ConnectionRefused)
    }
}

pub struct Dialler {
    pub server: Server,
    /// The hello without `resumes`.
    pub hello: FromRunner,
    pub orphan_timeout: Duration,
    /// Everything that is not about events and asks.
    pub inbox: mpsc::UnboundedSender<FromServer>,
}

impl Dialler {
    /// Keeps the link connected until there is no use in it.
    pub async fn run(self, link: Link) -> Ended {
        let mut epoch = None;
        let mut last_seen = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut told = String::new();
        loop {
            let broken = self.connection(&link, &mut epoch).await;
            if link.0.connected.send_replace(false) {
                (last_seen, pause) = (Instant::now(), FIRST_PAUSE);
                told.clear();
            }
            match &broken {
                Broken::Refused { message, retry: false } => return Ended::Refused(message.clone()),
                Broken::Closed => return Ended::Closed,
                broken => {
                    let error = telemetry::field::chain(broken);
                    if error != told {
                        tracing::info!(error, "not connected");
                        told = error;
                    }
                }
            }
            if last_seen.elapsed() >= self.orphan_timeout {
                return Ended::Orphaned(self.orphan_timeout);
            }
            sleep(pause).await;
            let eager = epoch.is_none() && last_seen.elapsed() < EAGER;
            if !(eager && broken.is_nobody_there()) {
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    async fn connection(&self, link: &Link, epoch: &mut Option<Epoch>) -> Broken {
        match self.connect(link, *epoch).await {
            Ok((sink, stream)) => {
                link.rewind();
                link.0.connected.send_replace(true);
                tokio::select! {
                    broken = write(link, sink) => broken,
                    broken = self.read(link, stream, epoch) => broken,
                }
            }
            Err(broken) => broken,
        }
    }

    async fn connect(
        &self,
        link: &Link,
        epoch: Option<Epoch>,
    ) -> Result<(impl Sending, impl Receiving), Broken> {
        let dialled = timeout(DIAL, async {
            let bearer = self.server.bearer().map_err(Broken::Token)?;
            let socket = self.server.connect().await?;
            let mut request = format!("ws://{}{CONTROL}", self.server.authority()).into_client_request()?;
            request.headers_mut().insert(AUTHORIZATION, bearer);
            let config = WebSocketConfig::default()
                .read_buffer_size(16 << 10)
                .max_message_size(Some(MAX_FRAME_BYTES))
                .max_frame_size(Some(MAX_FRAME_BYTES));
            let (socket, _) = client_async_with_config(request, socket, Some(config)).await?;
            let (mut sink, mut stream) = socket.split();
            let hello = self.hello(epoch.map(|epoch| Resume { epoch, runner_seq: link.state().last }));
            sink.send(text(&hello)).await?;
            match receive(&mut stream).await? {
                FromServer::Refused { message, retry } => Err(Broken::Refused { message, retry }),
                FromServer::Welcome { .. } => Ok((sink, stream)),
                _ => Err(Broken::Refused {
                    message: "the server did not answer the hello".into(),
                    retry: true,
                }),
            }
        });
        dialled.await.unwrap_or(Err(Broken::Slow))
    }

    fn hello(&self, resume: Option<Resume>) -> FromRunner {
        let mut hello = self.hello.clone();
        if let FromRunner::Hello { resumes, .. } = &mut hello {
            *resumes = resume;
        }
        hello
    }

    async fn read(&self, link: &Link, mut stream: impl Receiving, epoch: &mut Option<Epoch>) -> Broken {
        loop {
            let message = match receive(&mut stream).await {
                Ok(message) => message,
                Err(broken) => return broken,
            };
            match message {
                FromServer::Ack { runner_seq } => link.acknowledge(runner_seq),
                FromServer::Decided { decided } => link.answer(&decided.id.clone(), Answer::Decided(decided)),
                FromServer::Answered { answered } => {
                    link.answer(&answered.id.clone(), Answer::Answered(answered))
                }
                FromServer::Refused { message, retry } => return Broken::Refused { message, retry },
                message => {
                    if let FromServer::Bind { binding } = &message {
                        *epoch = Some(binding.epoch);
                    }
                    if self.inbox.send(message).is_err() {
                        return Broken::Closed;
                    }
                }
            }
        }
    }
}

trait Sending: Sink<Message, Error = tungstenite::Error> + Unpin {}
impl<T: Sink<Message, Error = tungstenite::Error> + Unpin> Sending for T {}
trait Receiving: Stream<Item = Result<Message, tungstenite::Error>> + Unpin {}
impl<T: Stream<Item = Result<Message, tungstenite::Error>> + Unpin> Receiving for T {}

async fn write(link: &Link, mut sink: impl Sending) -> Broken {
    loop {
        let sent = async {
            while let Some(message) = link.next_message() {
                sink.feed(text(&message)).await?;
            }
            sink.flush().await
        };
        if let Err(error) = sent.await {
            return error.into();
        }
        link.sent();
        link.0.wake.notified().await;
    }
}

fn text(message: &FromRunner) -> Message {
    // A message of ours is always representable: its maps have string keys.
    Message::text(serde_json::to_string(message).unwrap_or_default())
}

async fn receive(stream: &mut impl Receiving) -> Result<FromServer, Broken> {
    loop {
        let message = stream.next().await.ok_or(Broken::End)??;
        match message {
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(FromServer::Unknown(_)) | Err(_) => {
                    tracing::warn!("a message that is not known was ignored")
                }
                Ok(message) => return Ok(message),
            },
            Message::Close(_) => return Err(Broken::End),
            _ => {}
        }
    }
}
