//! Problem details (RFC 9457): what every refused request is answered with.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

/// A refusal. `detail` is for people and says what to do; nothing of a cause beyond that leaves the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// `urn:vteam:problem:` and a stable name.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: &'static str,
    pub status: u16,
    pub detail: String,
    /// The fields that are wrong, where it is the document's fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<resources::Problem>,
}

macro_rules! kinds {
    ($($name:ident $status:ident $slug:literal $title:literal;)*) => {
        impl Problem {
            $(#[must_use]
            pub fn $name(detail: impl Into<String>) -> Self {
                Self::new(StatusCode::$status, $slug, $title, detail.into())
            })*
        }
    };
}

kinds! {
    malformed BAD_REQUEST "malformed" "The request cannot be read";
    unauthorized UNAUTHORIZED "unauthorized" "The token is missing or wrong";
    forbidden FORBIDDEN "forbidden" "Not permitted";
    not_found NOT_FOUND "not-found" "There is no such thing";
    method_not_allowed METHOD_NOT_ALLOWED "method-not-allowed" "This method means nothing here";
    gone GONE "gone" "It is not there any more";
    timed_out REQUEST_TIMEOUT "timed-out" "The request took too long";
    conflict CONFLICT "conflict" "This is not possible in the present state";
    not_awake CONFLICT "not-awake" "The session is not awake";
    too_large PAYLOAD_TOO_LARGE "too-large" "The body is too large";
    unsupported UNSUPPORTED_MEDIA_TYPE "unsupported-media-type" "The body has another type";
    misdirected MISDIRECTED_REQUEST "misdirected" "This is not the host that you named";
    invalid UNPROCESSABLE_ENTITY "invalid" "The document is not valid";
    not_admissible UNPROCESSABLE_ENTITY "not-admissible" "The plugin is refused";
    internal INTERNAL_SERVER_ERROR "internal" "The server failed";
    unavailable SERVICE_UNAVAILABLE "unavailable" "The server cannot do this now";
    store_full INSUFFICIENT_STORAGE "store-full" "The disk is full";
}

impl Problem {
    fn new(status: StatusCode, slug: &str, title: &'static str, detail: String) -> Self {
        let kind = format!("urn:vteam:problem:{slug}");
        Self { kind, title, status: status.as_u16(), detail, errors: Vec::new() }
    }

    /// A file of ours: the caller is told when the disk is full.
    #[must_use]
    pub fn io(what: &'static str, error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::store_full(
                "the disk of the data folder is full: free space there, or remove old sessions (`vteam sessions rm`), \
                 then try again",
            ),
            _ => Self::failed(what, error),
        }
    }

    /// Our own failure: the cause goes to the log, once and with its chain; the caller is told where to look.
    #[must_use]
    pub fn failed(what: &'static str, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut chain = error.to_string();
        let mut cause = error.source();
        while let Some(next) = cause {
            chain.push_str(": ");
            chain.push_str(&next.to_string());
            cause = next.source();
        }
        tracing::error!(error = %chain, "{what}");
        Self::internal(format!("{what}; the server's log says why"))
    }
}

impl From<resources::Invalid> for Problem {
    fn from(invalid: resources::Invalid) -> Self {
        let detail = invalid.to_string();
        Self { errors: invalid.0, ..Self::invalid(detail) }
    }
}

impl From<model::id::InvalidId> for Problem {
    fn from(error: model::id::InvalidId) -> Self {
        Self::malformed(error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
