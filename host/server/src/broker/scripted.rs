//! The scripted model: an endpoint in Anthropic's protocol that plays a YAML script, for demos and tests without a key.
//! Deterministic: what it answers depends on the request alone. Its model is named `scripted/<name>`, and every answer
//! carries the header `vteam-scripted`, so that nobody takes it for a model.
//!
//! It deliberately shares nothing with the broker's client but the protocol: each checks the other.

mod play;
mod script;
mod wire;

pub use script::{InvalidScript, Script};

use super::upstream::{Api, Endpoint};
use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use futures::StreamExt;
use play::{Played, Player};
use serde_json::{Value, json};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, time::sleep};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

/// What names of scripted models begin with.
pub const PREFIX: &str = "scripted/";

const BODY_BYTES: usize = 32 << 20;

/// A scripted endpoint under way; dropping it ends it.
#[derive(Debug)]
pub struct Scripted {
    address: SocketAddr,
    model: String,
    base: Url,
    _server: AbortOnDropHandle<()>,
}

impl Scripted {
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `scripted/<name>`.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        Endpoint { url_setting: "the script", ..Endpoint::new(Api::Anthropic, self.base.clone(), None) }
    }
}

/// Plays a script on a listener, which should be one of loopback: there is no credential.
///
/// # Errors
/// When the listener has no address.
pub fn serve(script: Script, listener: TcpListener) -> io::Result<Scripted> {
    let address = listener.local_addr()?;
    let base = Url::parse(&format!("http://{address}")).map_err(io::Error::other)?;
    let model = script.model();
    let app = router(script);
    let server = tokio::spawn(async move {
        if let Err(error) = axum::serve(crate::listen::prompt(listener), app).await {
            tracing::error!(%error, "the scripted model's endpoint ended");
        }
    });
    Ok(Scripted { address, model, base, _server: AbortOnDropHandle::new(server) })
}

fn router(script: Script) -> Router {
    Router::new()
        .route("/v1/messages", post(messages))
        .route("/v1/messages/count_tokens", post(count_tokens))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(Arc::new(Player::new(script)))
}

async fn messages(State(player): State<Arc<Player>>, Json(request): Json<Value>) -> Response {
    let played = match player.play(&request) {
        Ok(played) => played,
        Err(why) => {
            return marked(&player, error(StatusCode::BAD_REQUEST, "invalid_request_error", &why, None));
        }
    };
    if let Some(refusal) = played.fault.as_ref().and_then(script::Fault::refusal) {
        let mut response = error(refusal.status, &refusal.kind, "scripted fault", refusal.code.as_deref());
        response.headers_mut().extend(refusal.headers);
        return marked(&player, response);
    }
    sleep(Duration::from_millis(played.pace.first_ms)).await;
    let response = if request.get("stream").and_then(Value::as_bool) == Some(true) {
        streamed(played)
    } else {
        Json(wire::message(&played)).into_response()
    };
    marked(&player, response)
}

async fn count_tokens(State(player): State<Arc<Player>>, Json(request): Json<Value>) -> Response {
    marked(&player, Json(json!({"input_tokens": play::input_tokens(&request)})).into_response())
}

/// The frames of the answer with the script's pauses between them.
fn streamed(played: Played) -> Response {
    let pause = Duration::from_millis(played.pace.delta_ms);
    let frames = futures::stream::iter(wire::frames(&played)).then(move |frame| async move {
        match frame {
            wire::Frame::Data(bytes) => {
                sleep(pause).await;
                Ok(bytes)
            }
            wire::Frame::Stall => std::future::pending().await,
            wire::Frame::Drop => {
                // What was written before has to leave first, or it is dropped too.
                sleep(pause.max(Duration::from_millis(20))).await;
                Err(io::Error::other("scripted fault: connection dropped"))
            }
        }
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(frames)).into_response()
}

fn error(status: StatusCode, kind: &str, message: &str, code: Option<&str>) -> Response {
    let mut error = json!({"type": kind, "message": message});
    if let (Some(code), Some(fields)) = (code, error.as_object_mut()) {
        fields.insert("details".to_owned(), json!({"error_code": code}));
    }
    (status, Json(json!({"type": "error", "error": error}))).into_response()
}

fn marked(player: &Player, mut response: Response) -> Response {
    let mut headers = HeaderMap::new();
    if let Ok(name) = HeaderValue::from_str(player.name()) {
        headers.insert("vteam-scripted", name);
    }
    response.headers_mut().extend(headers);
    response
}
