//! Plain HTTP between runner and server, on the same socket as the control channel. Every request carries
//! `Authorization: Bearer <runner token>` and, once bound, `vteam-epoch: <n>`; a stale epoch is answered 409.

use model::{Untrusted, id::RunId, message::ModelRequest};
use serde::{Deserialize, Serialize};

/// WebSocket upgrade.
pub const CONTROL: &str = "/runner/v1/control";
/// POST [`ModelCall`]; the answer is `text/event-stream`, one [`model::message::ModelEvent`] per `data:` line.
/// A refusal before the stream is an HTTP error with a [`model::message::ModelFailure`] as JSON.
pub const MODEL: &str = "/runner/v1/model";
/// POST [`FetchRequest`]; the answer is a [`FetchHead`] as one JSON line, then the body's bytes.
/// A refusal is an HTTP error with a [`FetchFailure`] as JSON.
pub const EGRESS: &str = "/runner/v1/egress";
/// GET `/runner/v1/blobs/{digest}`; PUT the same with the bytes, which are checked against the digest.
pub const BLOBS: &str = "/runner/v1/blobs";
/// GET with `?after=<seq>`; the answer is one [`crate::control::HistoryLine`] per line up to the log's end.
pub const HISTORY: &str = "/runner/v1/history";

pub const EPOCH_HEADER: &str = "vteam-epoch";

/// Bytes of a request to [`MODEL`].
pub const MAX_MODEL_REQUEST_BYTES: usize = 32 << 20;
/// Bytes of one blob.
pub const MAX_BLOB_BYTES: usize = 512 << 20;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelCall {
    pub run: RunId,
    /// Unique per call: a request that is sent again with it is not charged twice.
    pub idempotency_key: String,
    pub request: ModelRequest,
}

/// A GET or HEAD without credentials, for a component. The server decides from its own records whether it may leave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FetchRequest {
    pub run: RunId,
    pub call: model::id::CallId,
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FetchHead {
    pub status: u16,
    pub headers: Vec<(String, Untrusted)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error("{message}")]
pub struct FetchFailure {
    pub kind: FetchFailureKind,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FetchFailureKind {
    /// Neither policy nor an approval names this host.
    Denied,
    /// Its address is not a public one.
    Prohibited,
    Invalid,
    NotFound,
    Unreachable,
    TooLarge,
    Timeout,
    #[serde(other)]
    Unknown,
}
