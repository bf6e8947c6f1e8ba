//! The control channel's WebSocket: one task per connection.

use super::{Runner, meter::Meter};
use crate::sessions::{ConnectError, ConnectionId, Hello, Sessions, ToRunner};
use axum::{
    extract::{
        State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    response::Response,
};
use futures::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use protocol::control::{FromRunner, FromServer, MAX_FRAME_BYTES};
use std::time::Duration;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

/// Time for the hello.
const HELLO: Duration = Duration::from_secs(10);

pub(super) async fn upgrade(
    State(sessions): State<Sessions>,
    runner: Runner,
    socket: WebSocketUpgrade,
) -> Response {
    socket
        .max_frame_size(MAX_FRAME_BYTES)
        .max_message_size(MAX_FRAME_BYTES)
        .on_upgrade(move |socket| serve(sessions, runner, socket))
}

async fn serve(sessions: Sessions, runner: Runner, socket: WebSocket) {
    let (mut sink, mut stream) = socket.split();
    let hello = match timeout(HELLO, receive(&mut stream)).await {
        Ok(Received::Said(
            FromRunner::Hello { versions, runner_version, engine_id, target, confinement, resumes },
            _,
        )) => Hello { versions, runner_version, engine_id, target, confinement, resumes },
        _ => return refuse(&mut sink, "a hello comes first".to_owned(), false).await,
    };
    let (to, from, overflown) = ToRunner::channel();
    match sessions.connect(&runner.uid, runner.epoch, hello, to).await {
        Ok(connection) => {
            tokio::select! {
                () = write(from, sink) => {}
                () = read(&sessions, &runner, connection, stream) => {}
                () = overflown.cancelled() => {
                    tracing::warn!(uid = %runner.uid, epoch = %runner.epoch, "a runner does not read what it is told");
                }
            }
            sessions.disconnected(&runner.uid, connection).await;
        }
        Err(error) => {
            // The store may be well again later; anything else stays as it is.
            let retry = matches!(error, ConnectError::Session(_) | ConnectError::NotYet);
            tracing::warn!(uid = %runner.uid, epoch = %runner.epoch, %error, "a runner is sent away");
            refuse(&mut sink, error.to_string(), retry).await;
        }
    }
}

/// Until the session drops its side or the runner is gone.
async fn write(mut from: mpsc::Receiver<FromServer>, mut sink: SplitSink<WebSocket, Message>) {
    while let Some(message) = from.recv().await {
        if send(&mut sink, &message).await.is_err() {
            return;
        }
    }
    let _ = sink.close().await;
}

async fn read(
    sessions: &Sessions,
    runner: &Runner,
    connection: ConnectionId,
    mut stream: SplitStream<WebSocket>,
) {
    let (mut meter, mut counted) = (Meter::default(), Instant::now());
    loop {
        let breach = match receive(&mut stream).await {
            Received::Said(message, bytes) => {
                let pause = meter.count(bytes, counted.elapsed());
                counted = Instant::now();
                sessions.said(&runner.uid, connection, message).await;
                sleep(pause).await;
                continue;
            }
            Received::End => return,
            Received::Breach(breach) => breach,
        };
        sessions.breach(&runner.uid, connection, breach).await;
    }
}

enum Received {
    Said(FromRunner, usize),
    Breach(String),
    End,
}

async fn receive(stream: &mut SplitStream<WebSocket>) -> Received {
    loop {
        match stream.next().await {
            Some(Ok(Message::Text(text))) => {
                return match serde_json::from_str(&text) {
                    Ok(message) => Received::Said(message, text.len()),
                    Err(_) => Received::Breach("a message that is not JSON".to_owned()),
                };
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Binary(_))) => return Received::Breach("a binary message".to_owned()),
            Some(Ok(Message::Close(_))) | None => return Received::End,
            Some(Err(error)) if is_too_long(&error) => {
                return Received::Breach(format!("a message above {MAX_FRAME_BYTES} bytes"));
            }
            Some(Err(_)) => return Received::End,
        }
    }
}

/// The WebSocket library's own type is not part of axum's interface; its text is (a test holds it).
fn is_too_long(error: &axum::Error) -> bool {
    error.to_string().contains("too long")
}

async fn refuse(sink: &mut SplitSink<WebSocket, Message>, message: String, retry: bool) {
    let _ = send(sink, &FromServer::Refused { message, retry }).await;
    let _ = sink.close().await;
}

async fn send(sink: &mut SplitSink<WebSocket, Message>, message: &FromServer) -> Result<(), axum::Error> {
    let text = serde_json::to_string(message).map_err(axum::Error::new)?;
    sink.send(Message::text(text)).await
}
