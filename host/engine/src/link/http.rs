//! `wasi:http`: GET and HEAD without credentials, checked here and carried out by whoever implements [`Fetch`].

use crate::{
    host::{Fetch, Fetched, Gate, Host, Level, Verdict},
    stdio::CallLog,
    store::Witness,
};
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use model::{
    Untrusted,
    approval::Subject,
    grant::{EffectSet, effects},
    id::Effect,
    limits::CallLimits,
};
use protocol::http::{FetchFailure, FetchFailureKind};
use serde_json::json;
use std::{future::Future, sync::Arc};
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, Result, WasiBody, WasiHttpHooks,
};

const MAX_URL_BYTES: usize = 8 << 10;

/// Names by which credentials travel; a guest neither sends nor sees them.
const CREDENTIALS: [&str; 9] = [
    "authorization",
    "cookie",
    "set-cookie",
    "proxy-authorization",
    "www-authenticate",
    "x-api-key",
    "api-key",
    "x-auth-token",
    "x-csrf-token",
];

type Io = Box<dyn Future<Output = Result<()>> + Send>;
type Answer = Result<(Response<WasiBody>, Io)>;

pub(crate) struct FetchHooks(Arc<Inner>);

struct Inner {
    fetch: Option<Arc<dyn Fetch>>,
    gate: Arc<dyn Gate>,
    log: Arc<CallLog>,
    witness: Witness,
    max_bytes: u64,
}

impl FetchHooks {
    pub(crate) fn new(
        host: &Host,
        grants: &EffectSet,
        limits: &CallLimits,
        log: &Arc<CallLog>,
        witness: &Witness,
    ) -> Self {
        let granted = grants.iter().any(|effect| effect.as_str() == effects::NET_FETCH);
        Self(Arc::new(Inner {
            fetch: host.fetch.clone().filter(|_| granted),
            gate: host.gate.clone(),
            log: log.clone(),
            witness: witness.clone(),
            max_bytes: limits.hostcall_bytes,
        }))
    }
}

impl WasiHttpHooks for FetchHooks {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(forbidden)
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Io,
    ) -> Box<dyn Future<Output = Answer> + Send> {
        let inner = self.0.clone();
        Box::new(async move { inner.send(request).await })
    }
}

fn forbidden(name: &HeaderName) -> bool {
    DEFAULT_FORBIDDEN_HEADERS.contains(name) || CREDENTIALS.contains(&name.as_str())
}

impl Inner {
    async fn send(&self, request: Request<WasiBody>) -> Answer {
        let Some(fetch) = &self.fetch else {
            self.log.note(Level::Warn, super::not_granted(effects::NET_FETCH).message);
            return Err(Error::HttpRequestDenied);
        };
        let (parts, _) = request.into_parts();
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            self.log.note(Level::Warn, "only GET and HEAD requests leave the sandbox".to_owned());
            return Err(Error::HttpRequestMethodInvalid);
        }
        let url = url(&parts.uri)?;
        let subject = Subject::Fetch { method: parts.method.to_string(), url: Untrusted::new(&url) };
        self.permit(subject).await?;
        let answer = fetch.fetch(parts.method.as_str(), &url, plain(&parts.headers)).await;
        let status = answer.as_ref().map(|fetched| fetched.status).ok();
        self.witness.saw("fetch", json!({ "method": parts.method.as_str(), "url": url, "status": status }));
        match answer {
            Ok(fetched) => self.response(fetched),
            Err(failure) => Err(self.failed(&failure)),
        }
    }

    async fn permit(&self, subject: Subject) -> Result<()> {
        let effect: Effect = effects::NET_FETCH.parse().map_err(|_| Error::InternalError(None))?;
        match self.gate.check(&effect, &subject).await {
            Verdict::Allow => Ok(()),
            Verdict::Refuse(reason) => {
                self.log.note(Level::Warn, reason);
                Err(Error::HttpRequestDenied)
            }
            Verdict::Ask => match self.witness.ask(effect, subject).await {},
        }
    }

    fn failed(&self, failure: &FetchFailure) -> Error {
        self.log.note(Level::Warn, failure.message.clone());
        error(failure)
    }

    fn response(&self, fetched: Fetched) -> Answer {
        let max = self.max_bytes;
        let mut left = max;
        let frames = fetched.body.map(move |chunk| {
            let chunk = chunk.map_err(|failure| error(&failure))?;
            left = left.checked_sub(chunk.len() as u64).ok_or(Error::HttpResponseBodySize(Some(max)))?;
            Ok::<_, Error>(Frame::<Bytes>::data(chunk))
        });
        let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
        *response.status_mut() = fetched.status.try_into().map_err(|_| Error::HttpProtocolError)?;
        for (name, value) in fetched.headers {
            let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else {
                continue;
            };
            if !forbidden(&name) {
                response.headers_mut().append(name, value);
            }
        }
        Ok((response, Box::new(async { Ok(()) })))
    }
}

/// As a person should see it: no user info, no fragment (a guest cannot send one).
fn url(uri: &http::Uri) -> Result<String> {
    let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return Err(Error::HttpRequestUriInvalid);
    }
    let url = uri.to_string();
    if url.len() > MAX_URL_BYTES { Err(Error::HttpRequestUriTooLong) } else { Ok(url) }
}

fn plain(headers: &HeaderMap) -> Vec<(String, String)> {
    let kept = headers.iter().filter(|(name, _)| !forbidden(name) && **name != header::CONTENT_LENGTH);
    kept.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned()))).collect()
}

fn error(failure: &FetchFailure) -> Error {
    match failure.kind {
        FetchFailureKind::Denied => Error::HttpRequestDenied,
        FetchFailureKind::Prohibited => Error::DestinationIpProhibited,
        FetchFailureKind::Invalid => Error::HttpRequestUriInvalid,
        FetchFailureKind::NotFound => Error::DestinationNotFound,
        FetchFailureKind::Unreachable => Error::DestinationUnavailable,
        FetchFailureKind::TooLarge => Error::HttpResponseBodySize(None),
        FetchFailureKind::Timeout => Error::HttpResponseTimeout,
        FetchFailureKind::Unknown => Error::InternalError(None),
    }
}
