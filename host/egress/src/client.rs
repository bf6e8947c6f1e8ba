//! One request out, one capped answer back.

use crate::{
    exception::{Exception, host_of},
    resolver::{Filter, Permit, ResolveError},
};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream::BoxStream};
use http::{HeaderMap, Method, StatusCode};
use std::{
    pin::Pin,
    sync::OnceLock,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

const CONNECT: Duration = Duration::from_secs(15);
const USER_AGENT: &str = concat!("vteam/", env!("CARGO_PKG_VERSION"));

/// What may leave. Headers as given: who calls for a stranger scrubs them first ([`crate::headers`]).
#[derive(Debug, Clone)]
pub struct Request {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What one answer may take.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// From sending to the answer's head.
    pub head: Duration,
    /// Between two parts of the body.
    pub idle: Duration,
    /// From sending to the body's end.
    pub total: Duration,
    pub body_bytes: u64,
}

#[derive(Debug)]
pub struct Response {
    pub status: StatusCode,
    /// As they came.
    pub headers: HeaderMap,
    pub body: Body,
}

/// The answer's bytes; fails at the first cap that it meets.
pub struct Body(BoxStream<'static, Result<Bytes, EgressError>>);

/// Messages name the host at most: a path or a query may hold what a log must not.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    #[error("this URL cannot be fetched: {0}")]
    Invalid(&'static str),
    #[error(
        "{host} leads to an address that is not permitted: only public ones are, and what the administrator excepts"
    )]
    Prohibited { host: String },
    #[error("there is no host {host}: check its spelling and this machine's DNS")]
    NotFound { host: String },
    #[error("cannot reach {host}: check that it is up and that this machine's network lets it through")]
    Unreachable {
        host: String,
        #[source]
        source: reqwest::Error,
    },
    /// Nothing is known of what the other side has done.
    #[error("the connection to {host} was cut")]
    Cut {
        host: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("{host} took longer than {seconds} s")]
    Timeout { host: String, seconds: u64 },
    #[error("the answer is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("no TLS client could be made: install this system's CA certificates (package ca-certificates)")]
    Tls(#[source] reqwest::Error),
}

/// Clients by where they may lead: connections are pooled, so an exception has its own pool.
#[derive(Debug)]
pub struct Egress {
    public: Lane,
    exceptions: Vec<(Exception, Lane)>,
}

impl Egress {
    #[must_use]
    pub fn new(exceptions: Vec<Exception>) -> Self {
        let lane = |exception: Exception| (exception.clone(), Lane::new(Permit::Exactly(exception)));
        Self { public: Lane::new(Permit::Public), exceptions: exceptions.into_iter().map(lane).collect() }
    }

    /// Sends and waits for the answer's head. A redirect is an answer like any other.
    ///
    /// # Errors
    /// When nothing was sent (`Invalid`, `Prohibited`, `NotFound`, `Unreachable`, `Tls`) or no head came.
    pub async fn send(&self, request: Request, caps: Caps) -> Result<Response, EgressError> {
        let host = checked(&request.url)?;
        let lane = self.exceptions.iter().find(|(exception, _)| exception.covers(&request.url));
        let lane = lane.map_or(&self.public, |(_, lane)| lane);
        lane.check_literal(&request.url, &host)?;
        tracing::debug!(host, method = %request.method, "outgoing request");
        let end = Instant::now() + caps.total;
        let sent = lane
            .client(&request.url)?
            .request(request.method, request.url)
            .headers(request.headers)
            .body(request.body)
            .send();
        let slow = || EgressError::Timeout { host: host.clone(), seconds: caps.head.as_secs() };
        let answer = timeout(caps.head, sent).await.map_err(|_| slow())?;
        let answer = answer.map_err(|error| classify(error, &host))?;
        Ok(Response {
            status: answer.status(),
            headers: answer.headers().clone(),
            body: Body(capped(answer, host, caps, end).boxed()),
        })
    }
}

fn checked(url: &Url) -> Result<String, EgressError> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(EgressError::Invalid("only http and https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(EgressError::Invalid("it has a user name or password in it"));
    }
    host_of(url).ok_or(EgressError::Invalid("it has no host"))
}

/// The causes as `reqwest` nests them: the resolver's own word first, then whether a connection ever stood.
fn classify(error: reqwest::Error, host: &str) -> EgressError {
    let host = host.to_owned();
    let error = error.without_url();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(current) = cause {
        match current.downcast_ref::<ResolveError>() {
            Some(ResolveError::NotFound) => return EgressError::NotFound { host },
            Some(ResolveError::Prohibited) => return EgressError::Prohibited { host },
            None => cause = current.source(),
        }
    }
    if error.is_builder() {
        EgressError::Invalid("it is not a URL that HTTP can carry")
    } else if error.is_connect() {
        EgressError::Unreachable { host, source: error }
    } else {
        EgressError::Cut { host, source: error }
    }
}

fn capped(
    answer: reqwest::Response,
    host: String,
    caps: Caps,
    end: Instant,
) -> impl Stream<Item = Result<Bytes, EgressError>> + Send {
    let state = Some((answer, caps.body_bytes));
    futures::stream::unfold(state, move |state| {
        let host = host.clone();
        async move {
            let (mut answer, left) = state?;
            let soonest = end.min(Instant::now() + caps.idle);
            let limit = if soonest == end { caps.total } else { caps.idle };
            match timeout_at(soonest, answer.chunk()).await {
                Err(_) => Some((Err(EgressError::Timeout { host, seconds: limit.as_secs() }), None)),
                Ok(Err(error)) => Some((Err(classify(error, &host)), None)),
                Ok(Ok(None)) => None,
                Ok(Ok(Some(part))) => match left.checked_sub(part.len() as u64) {
                    Some(left) => Some((Ok(part), Some((answer, left)))),
                    None => Some((Err(EgressError::TooLarge { limit: caps.body_bytes }), None)),
                },
            }
        }
    })
}

impl Stream for Body {
    type Item = Result<Bytes, EgressError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(context)
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Body")
    }
}

/// The clients of one permit, made when first needed: loading the system's certificates takes time and may fail, and
/// who only speaks plain HTTP to loopback needs none.
#[derive(Debug)]
struct Lane {
    permit: Permit,
    plain: OnceLock<reqwest::Client>,
    tls: OnceLock<reqwest::Client>,
}

impl Lane {
    const fn new(permit: Permit) -> Self {
        Self { permit, plain: OnceLock::new(), tls: OnceLock::new() }
    }

    /// A literal address never reaches the resolver.
    fn check_literal(&self, url: &Url, host: &str) -> Result<(), EgressError> {
        let address = match url.host() {
            Some(url::Host::Ipv4(address)) => address.into(),
            Some(url::Host::Ipv6(address)) => address.into(),
            _ => return Ok(()),
        };
        let permitted = self.permit.permits(address);
        permitted.then_some(()).ok_or_else(|| EgressError::Prohibited { host: host.to_owned() })
    }

    fn client(&self, url: &Url) -> Result<reqwest::Client, EgressError> {
        let secure = url.scheme() == "https";
        let slot = if secure { &self.tls } else { &self.plain };
        if let Some(client) = slot.get() {
            return Ok(client.clone());
        }
        let builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .connect_timeout(CONNECT)
            .dns_resolver(std::sync::Arc::new(Filter(self.permit.clone())));
        let builder = if secure { builder } else { builder.tls_certs_only([]) };
        let client = builder.build().map_err(EgressError::Tls)?;
        Ok(slot.get_or_init(|| client).clone())
    }
}
