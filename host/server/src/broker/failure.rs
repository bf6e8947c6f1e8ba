//! What people read when a model call fails. Upstream's own words stay out: they may quote a prompt or a key.

use super::{ledger::ReserveError, upstream::Endpoint};
use egress::EgressError;
use http::StatusCode;
use model::message::{ModelFailure, ModelFailureKind as Kind};

/// A failure before the stream begins, with the status of the HTTP answer.
pub type Refusal = (StatusCode, ModelFailure);

pub(super) fn failure(kind: Kind, retryable: bool, message: impl Into<String>) -> ModelFailure {
    ModelFailure { kind, message: message.into(), retryable }
}

pub(super) fn invalid(message: impl Into<String>) -> ModelFailure {
    failure(Kind::Invalid, false, message)
}

pub(super) fn refused_by_ledger(error: &ReserveError, model: &str) -> Refusal {
    match error {
        ReserveError::Overspent(overspent) => (
            StatusCode::PAYMENT_REQUIRED,
            failure(Kind::Budget, false, format!("{overspent}: begin another session with a larger one")),
        ),
        ReserveError::Unpriced => (
            StatusCode::PAYMENT_REQUIRED,
            failure(
                Kind::Budget,
                false,
                format!(
                    "the price of {model} is not known, so no budget can cover it: add it to prices.yaml, or run the session without a budget"
                ),
            ),
        ),
        ReserveError::Duplicate => {
            (StatusCode::CONFLICT, invalid("this call was made already: a repeat needs a key of its own"))
        }
        ReserveError::Stale => {
            (StatusCode::CONFLICT, invalid("the session has ended or another runner has taken over"))
        }
        ReserveError::Unavailable(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            failure(
                Kind::Unavailable,
                true,
                "the account cannot be written: look at the server's disk and log",
            ),
        ),
    }
}

/// The endpoint could not be reached or fell silent before its answer began.
pub(super) fn unreachable(error: &EgressError, endpoint: &Endpoint) -> ModelFailure {
    let setting = endpoint.url_setting;
    match error {
        EgressError::Cut { .. } | EgressError::Timeout { .. } => {
            failure(Kind::Truncated, true, format!("{error} before the model answered"))
        }
        EgressError::Prohibited { host } if endpoint.base.scheme() == "http" => {
            let message = format!(
                "{host} is not on this machine or its own network: nothing is sent there over plain HTTP, use https ({setting})"
            );
            failure(Kind::Unavailable, false, message)
        }
        EgressError::Unreachable { .. } => failure(Kind::Unavailable, true, format!("{error} ({setting})")),
        _ => failure(Kind::Unavailable, false, format!("{error} ({setting})")),
    }
}

/// The answer began and did not end.
pub(super) fn truncated(why: &str) -> ModelFailure {
    failure(Kind::Truncated, true, format!("the model's answer was cut off: {why}"))
}

/// The endpoint answered with an error, after all retries.
pub(super) fn status(status: StatusCode, told: &Told, endpoint: &Endpoint, model: &str) -> ModelFailure {
    let (key, url, code) = (endpoint.key_setting, endpoint.url_setting, status.as_u16());
    match code {
        401 => failure(
            Kind::Unauthorized,
            false,
            format!("the key was refused (401): set {key} to a valid key and start the server again"),
        ),
        402 => failure(
            Kind::Unauthorized,
            false,
            "the model's provider wants to be paid (402): see its billing page",
        ),
        403 => failure(Kind::Unauthorized, false, format!("the key in {key} may not use {model} (403)")),
        404 => invalid(format!(
            "the endpoint does not know the model {model} or the path (404): check the model and {url}"
        )),
        413 => failure(Kind::TooLong, false, "the request is larger than the model's endpoint takes (413)"),
        _ if told.too_long => {
            failure(Kind::TooLong, false, format!("the conversation does not fit the window of {model}"))
        }
        429 if told.spend_limit => failure(
            Kind::Unavailable,
            false,
            format!("the spend limit of the key in {key} is reached (429): raise it at the provider"),
        ),
        429 => {
            failure(Kind::Unavailable, true, format!("{} limits the rate of requests (429)", endpoint.host()))
        }
        408 | 409 | 500.. => {
            failure(Kind::Unavailable, true, format!("{} is overloaded or failing ({code})", endpoint.host()))
        }
        _ => invalid(format!(
            "the endpoint refused the request ({code}{}): what it said is in the server's log at level debug",
            told.kind.as_ref().map(|kind| format!(", {kind}")).unwrap_or_default()
        )),
    }
}

/// What of an error's body is used: its class, never its words.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) kind: Option<String>,
    pub(super) too_long: bool,
    pub(super) spend_limit: bool,
}

impl Told {
    pub(super) fn read(body: &[u8]) -> Self {
        let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let error = body.get("error").unwrap_or(&body);
        let text =
            |pointer: &str| error.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default();
        let words = text("/message").to_ascii_lowercase();
        let long = ["prompt is too long", "context length", "context window", "context_length_exceeded"];
        Self {
            kind: Some(text("/type")).filter(|kind| is_plain(kind)).map(str::to_owned),
            too_long: text("/code") == "context_length_exceeded"
                || long.iter().any(|sign| words.contains(sign)),
            spend_limit: text("/details/error_code") == "enforced_spend_limit_reached"
                || text("/code") == "insufficient_quota",
        }
    }
}

fn is_plain(kind: &str) -> bool {
    !kind.is_empty() && kind.len() <= 64 && kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_classified_and_not_quoted() {
        let check = |body: &str, kind: Option<&str>, too_long: bool, spend_limit: bool| {
            assert_eq!(
                Told::read(body.as_bytes()),
                Told { kind: kind.map(str::to_owned), too_long, spend_limit },
                "{body}"
            );
        };
        check("", None, false, false);
        check("<html>", None, false, false);
        check(
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 9 > 8"}}"#,
            Some("invalid_request_error"),
            true,
            false,
        );
        check(
            r#"{"error":{"type":"rate_limit_error","details":{"error_code":"enforced_spend_limit_reached"}}}"#,
            Some("rate_limit_error"),
            false,
            true,
        );
        check(r#"{"error":{"type":"Evil \u001b[2J","code":"context_length_exceeded"}}"#, None, true, false);
        check(
            r#"{"error":{"type":"insufficient_quota","code":"insufficient_quota"}}"#,
            Some("insufficient_quota"),
            false,
            true,
        );
    }
}
