//! Pages for components: GET and HEAD without credentials, to hosts that policy or an approval names.

use super::{Broker, SessionKey};
use bytes::Bytes;
use egress::{Caps, EgressError, headers};
use futures::{Stream, StreamExt};
use http::Method;
use model::Untrusted;
use protocol::http::{FetchFailure, FetchFailureKind as Kind, FetchHead, FetchRequest};
use std::time::Duration;
use url::Url;

const CAPS: Caps = Caps {
    head: Duration::from_secs(30),
    idle: Duration::from_secs(30),
    total: Duration::from_secs(90),
    body_bytes: 10 << 20,
};
const URL_BYTES: usize = 8192;

impl Broker {
    /// Fetches one page. `allow` decides from the server's own records whether this URL may be fetched; it is asked
    /// once, before anything leaves. Redirects come back as answers: their target is another URL to decide on.
    ///
    /// # Errors
    /// Why there is no answer, in words for the model and the person.
    pub async fn fetch(
        &self,
        who: SessionKey,
        request: FetchRequest,
        allow: &(dyn Fn(&Url) -> bool + Sync),
    ) -> Result<(FetchHead, impl Stream<Item = Result<Bytes, FetchFailure>> + Send + use<>), FetchFailure>
    {
        let FetchRequest { run, call, method, url, headers: asked } = request;
        let method = match method.as_str() {
            "GET" => Method::GET,
            "HEAD" => Method::HEAD,
            _ => return Err(fail(Kind::Invalid, "only GET and HEAD leave this host")),
        };
        let mut url = parse(&url)?;
        url.set_fragment(None);
        let host = url.host_str().unwrap_or_default().to_owned();
        if self.is_model_host(&url) {
            return Err(fail(Kind::Denied, format!("{host} is a model endpoint, which is not fetched from")));
        }
        if !allow(&url) {
            return Err(fail(
                Kind::Denied,
                format!("neither settings nor an approval permit fetching from {host}"),
            ));
        }
        tracing::info!(session = %who.uid, %run, %call, host, "fetch");
        let headers = headers::of_request(asked);
        let outgoing = egress::Request { method, url, headers, body: Bytes::new() };
        let response = self.0.pages.send(outgoing, CAPS).await.map_err(|error| failure_of(&error))?;
        let head = FetchHead { status: response.status.as_u16(), headers: shown(&response.headers) };
        Ok((head, response.body.map(|part| part.map_err(|error| failure_of(&error)))))
    }

    /// A host that is reached with a credential is not reached without.
    fn is_model_host(&self, url: &Url) -> bool {
        let endpoints = self.0.config.endpoint.iter().chain(&self.0.scripted);
        endpoints.into_iter().any(|endpoint| {
            let base = &endpoint.base;
            let host = |url: &Url| url.host_str().map(|host| host.trim_end_matches('.').to_ascii_lowercase());
            host(base) == host(url) && base.port_or_known_default() == url.port_or_known_default()
        })
    }
}

fn parse(text: &str) -> Result<Url, FetchFailure> {
    if text.len() > URL_BYTES {
        return Err(fail(Kind::Invalid, "the URL is longer than 8192 bytes"));
    }
    Url::parse(text).map_err(|error| fail(Kind::Invalid, format!("not a URL: {error}")))
}

fn shown(headers: &http::HeaderMap) -> Vec<(String, Untrusted)> {
    let text = |value: &http::HeaderValue| Untrusted::new(String::from_utf8_lossy(value.as_bytes()));
    headers::of_response(headers)
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), text(value)))
        .collect()
}

fn fail(kind: Kind, message: impl Into<String>) -> FetchFailure {
    FetchFailure { kind, message: message.into() }
}

fn failure_of(error: &EgressError) -> FetchFailure {
    let kind = match error {
        EgressError::Invalid(_) => Kind::Invalid,
        EgressError::Prohibited { .. } => Kind::Prohibited,
        EgressError::NotFound { .. } => Kind::NotFound,
        EgressError::Unreachable { .. } | EgressError::Cut { .. } | EgressError::Tls(_) => Kind::Unreachable,
        EgressError::Timeout { .. } => Kind::Timeout,
        EgressError::TooLarge { .. } => Kind::TooLarge,
    };
    fail(kind, error.to_string())
}
