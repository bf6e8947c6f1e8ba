//! Plain requests to the server: model, egress, blobs, history.
//!
//! One connection per request: on a Unix socket it costs less than keeping a pool, and TLS resumes its session. All I/O runs on the runtime that
//! this was made on, whoever calls.

mod sse;

use crate::dial::Server;
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream::BoxStream};
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, StatusCode, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use model::{
    event::Stored,
    id::{Digest, Epoch, Seq},
    message::{ModelEvent, ModelFailure, ModelFailureKind},
};
use protocol::http::{
    BLOBS, EGRESS, EPOCH_HEADER, FetchFailure, FetchFailureKind, FetchHead, FetchRequest, HISTORY,
    MAX_BLOB_BYTES, MODEL, ModelCall,
};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{runtime::Handle, time::timeout};

/// Until the head of an answer is there. A model may think for long before it streams.
const HEAD: Duration = Duration::from_secs(120);
const MODEL_HEAD: Duration = Duration::from_secs(600);
/// Between two pieces of a body.
const PIECE: Duration = Duration::from_secs(300);
/// A line of the history or of a stream's events above this is a breach of the protocol.
const MAX_LINE_BYTES: usize = 64 << 20;

#[derive(Clone)]
pub struct Http(Arc<Shared>);

struct Shared {
    server: Server,
    io: Handle,
    epoch: OnceLock<Epoch>,
}

#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("the runner's token cannot be read")]
    Token(#[source] std::io::Error),
    #[error("the server cannot be reached")]
    Connect(#[from] std::io::Error),
    #[error("the connection to the server failed")]
    Connection(#[from] hyper::Error),
    #[error("the server did not answer in time")]
    Slow,
    #[error("the server answered {status}: {message}")]
    Refused { status: StatusCode, message: String },
    #[error("the server's answer cannot be read")]
    Unreadable(#[source] serde_json::Error),
    #[error("the server sent bytes that do not have the digest {0}")]
    Digest(Digest),
    #[error("the server's answer is too large")]
    TooLarge,
    #[error("the request could not be made")]
    Request(#[from] http::Error),
    #[error("the runner ends")]
    Ending,
}

type Body = BoxStream<'static, Result<Bytes, HttpError>>;

impl Http {
    /// Requests run on `io`.
    #[must_use]
    pub fn new(server: Server, io: Handle) -> Self {
        Self(Arc::new(Shared { server, io, epoch: OnceLock::new() }))
    }

    /// From here on requests carry this epoch.
    pub fn bind(&self, epoch: Epoch) {
        // A second binding of the same process is refused before it comes here.
        let _ = self.0.epoch.set(epoch);
    }

    /// # Errors
    /// When the blob is not there, or is not what its digest says.
    pub async fn blob(&self, digest: &Digest) -> Result<Vec<u8>, HttpError> {
        let request = self.request(Method::GET, &format!("{BLOBS}/{digest}"), "", Bytes::new())?;
        let bytes = collect(self.good(request, HEAD).await?, MAX_BLOB_BYTES).await?;
        if Digest::of(&bytes) == *digest { Ok(bytes) } else { Err(HttpError::Digest(digest.clone())) }
    }

    /// Stores bytes at the server.
    ///
    /// # Errors
    /// When the server refuses them.
    pub async fn put_blob(&self, bytes: Vec<u8>) -> Result<Digest, HttpError> {
        let digest = Digest::of(&bytes);
        let path = format!("{BLOBS}/{digest}");
        let request = self.request(Method::PUT, &path, "application/octet-stream", bytes.into())?;
        collect(self.good(request, HEAD).await?, MAX_LINE_BYTES).await?;
        Ok(digest)
    }

    /// The log after `after`, up to its end.
    ///
    /// # Errors
    /// When it cannot be read as a whole.
    pub async fn history(&self, after: Seq) -> Result<Vec<Stored>, HttpError> {
        let request = self.request(Method::GET, &format!("{HISTORY}?after={after}"), "", Bytes::new())?;
        let mut lines = std::pin::pin!(lines(self.good(request, HEAD).await?));
        let mut events = Vec::new();
        while let Some(line) = lines.next().await {
            let line = line?;
            if !line.is_empty() {
                events.push(serde_json::from_slice(&line).map_err(HttpError::Unreadable)?);
            }
        }
        Ok(events)
    }

    /// Asks the model; the answer streams.
    ///
    /// # Errors
    /// What the broker says, or that it cannot be reached (retryable).
    pub async fn model(
        &self,
        call: &ModelCall,
    ) -> Result<BoxStream<'static, Result<ModelEvent, ModelFailure>>, ModelFailure> {
        let unreachable = |error: HttpError| model_failure(&error, true);
        let body = serde_json::to_vec(call).map_err(|e| model_failure(&HttpError::Unreadable(e), false))?;
        let request =
            self.request(Method::POST, MODEL, "application/json", body.into()).map_err(unreachable)?;
        let (status, body) = self.send(request, MODEL_HEAD).await.map_err(unreachable)?;
        if status.is_success() {
            let events = sse::data(body).map(|data| match data {
                Ok(data) => {
                    Ok(serde_json::from_slice(&data).unwrap_or(ModelEvent::Other(serde_json::Value::Null)))
                }
                Err(error) => {
                    Err(ModelFailure { kind: ModelFailureKind::Truncated, ..model_failure(&error, true) })
                }
            });
            return Ok(events.boxed());
        }
        let said = collect(body, MAX_LINE_BYTES).await.map_err(unreachable)?;
        Err(serde_json::from_slice(&said)
            .unwrap_or_else(|_| model_failure(&refused(status, &said), status.is_server_error())))
    }

    /// Fetches for a component.
    ///
    /// # Errors
    /// What the broker says, or that it cannot be reached.
    pub async fn fetch(&self, fetch: &FetchRequest) -> Result<(FetchHead, Body), FetchFailure> {
        let body = serde_json::to_vec(fetch).map_err(|e| fetch_failure(&HttpError::Unreadable(e)))?;
        let request = self.request(Method::POST, EGRESS, "application/json", body.into());
        let request = request.map_err(|e| fetch_failure(&e))?;
        let (status, body) = self.send(request, HEAD).await.map_err(|e| fetch_failure(&e))?;
        if !status.is_success() {
            let said = collect(body, MAX_LINE_BYTES).await.map_err(|e| fetch_failure(&e))?;
            return Err(
                serde_json::from_slice(&said).unwrap_or_else(|_| fetch_failure(&refused(status, &said)))
            );
        }
        let (line, rest) = first_line(body).await.map_err(|e| fetch_failure(&e))?;
        let head = serde_json::from_slice(&line).map_err(|e| fetch_failure(&HttpError::Unreadable(e)))?;
        Ok((head, rest))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, HttpError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.0.server.authority())
            .header(header::AUTHORIZATION, self.0.server.bearer().map_err(HttpError::Token)?);
        if !kind.is_empty() {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        if let Some(epoch) = self.0.epoch.get() {
            request = request.header(EPOCH_HEADER, epoch.to_string());
        }
        Ok(request.body(Full::new(body))?)
    }

    async fn good(&self, request: Request<Full<Bytes>>, head: Duration) -> Result<Body, HttpError> {
        let (status, body) = self.send(request, head).await?;
        if status.is_success() {
            return Ok(body);
        }
        let said = collect(body, MAX_LINE_BYTES).await?;
        Err(refused(status, &said))
    }

    async fn send(
        &self,
        request: Request<Full<Bytes>>,
        head: Duration,
    ) -> Result<(StatusCode, Body), HttpError> {
        let server = self.0.server.clone();
        let sent = self.0.io.spawn(async move {
            let exchange = async {
                let socket = TokioIo::new(server.connect().await?);
                let (mut sender, connection) = http1::handshake(socket).await?;
                tokio::spawn(connection);
                Ok::<_, HttpError>(sender.send_request(request).await?)
            };
            timeout(head, exchange).await.unwrap_or(Err(HttpError::Slow))
        });
        let response = sent.await.map_err(|_| HttpError::Ending)??;
        let status = response.status();
        Ok((status, pieces(response.into_body())))
    }
}

fn pieces(body: Incoming) -> Body {
    let next = |mut body: Incoming| async move {
        loop {
            match timeout(PIECE, body.frame()).await {
                Err(_) => return Some((Err(HttpError::Slow), body)),
                Ok(None) => return None,
                Ok(Some(Err(error))) => return Some((Err(error.into()), body)),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Some((Ok(data), body));
                    }
                }
            }
        }
    };
    futures::stream::unfold(body, next).boxed()
}

async fn collect(mut body: Body, max: usize) -> Result<Vec<u8>, HttpError> {
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await {
        bytes.extend_from_slice(&piece?);
        if bytes.len() > max {
            return Err(HttpError::TooLarge);
        }
    }
    Ok(bytes)
}

/// The body line by line; also a last line without an end.
fn lines(body: Body) -> impl Stream<Item = Result<Vec<u8>, HttpError>> {
    futures::stream::unfold((body, Vec::new(), false), |(mut body, mut rest, ended)| async move {
        let mut searched = 0;
        loop {
            if let Some(at) = rest.iter().skip(searched).position(|b| *b == b'\n') {
                let tail = rest.split_off(searched + at + 1);
                rest.pop();
                return Some((Ok(rest), (body, tail, ended)));
            }
            searched = rest.len();
            match body.next().await {
                None if rest.is_empty() || ended => return None,
                None => return Some((Ok(std::mem::take(&mut rest)), (body, rest, true))),
                Some(Err(error)) => return Some((Err(error), (body, Vec::new(), true))),
                Some(Ok(_)) if searched > MAX_LINE_BYTES => {
                    return Some((Err(HttpError::TooLarge), (body, Vec::new(), true)));
                }
                Some(Ok(piece)) => rest.extend_from_slice(&piece),
            }
        }
    })
}

async fn first_line(mut body: Body) -> Result<(Vec<u8>, Body), HttpError> {
    let mut line = Vec::new();
    while line.len() <= MAX_LINE_BYTES {
        let Some(piece) = body.next().await else { break };
        let piece = piece?;
        if let Some(at) = piece.iter().position(|b| *b == b'\n') {
            line.extend_from_slice(&piece.slice(..at));
            let rest = piece.slice(at + 1..);
            return Ok((line, futures::stream::once(async { Ok(rest) }).chain(body).boxed()));
        }
        line.extend_from_slice(&piece);
    }
    Err(HttpError::TooLarge)
}

/// The server's own words: the `detail` of a problem document, or the text, one line of it.
fn refused(status: StatusCode, said: &[u8]) -> HttpError {
    let json: Option<serde_json::Value> = serde_json::from_slice(said).ok();
    let detail =
        json.as_ref().and_then(|j| j.get("detail").or_else(|| j.get("message"))).and_then(|d| d.as_str());
    let text = detail.map_or_else(|| String::from_utf8_lossy(said).into_owned(), str::to_owned);
    HttpError::Refused { status, message: model::render::line(&text.into(), 500) }
}

fn model_failure(error: &HttpError, retryable: bool) -> ModelFailure {
    ModelFailure { kind: ModelFailureKind::Unavailable, message: told(error), retryable }
}

fn fetch_failure(error: &HttpError) -> FetchFailure {
    FetchFailure { kind: FetchFailureKind::Unreachable, message: told(error) }
}

fn told(error: &HttpError) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}
