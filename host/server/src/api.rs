//! The REST API: what people and programs ask of the server. Each request is identified, bounded in size and time, and
//! handed to `sessions`, `catalogue` or `settings`; what is refused is answered with problem details.

mod asks;
mod files;
mod input;
mod log;
mod plugins;
mod projects;
mod runs;
mod sessions;
mod system;
mod view;

use crate::{
    access::{self, Access, Callers, Leave},
    audit::Record,
    broker::Broker,
    catalogue::Catalogue,
    problem::Problem,
    records::Records,
    sessions::{Caller, FilesError, SessionError, Sessions},
    settings::{Projects, SettingsError},
};
use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse as _, Response},
};
use futures::{Stream, StreamExt as _};
use model::{id::SessionRef, render};
use protocol::control::RequestError;
use std::{sync::Arc, time::Duration};
use store::{BlobError, StoreError};
use telemetry::{Health, Metrics, Shutdown};
use tokio::time::timeout;
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Bytes of a JSON or YAML document.
const DOCUMENT_BYTES: usize = 2 << 20;
/// Bytes of a file or archive.
const UPLOAD_BYTES: usize = protocol::http::MAX_BLOB_BYTES;
/// How long the answer to a request may take to begin.
const DEADLINE: Duration = Duration::from_secs(120);
/// Of a request that is refused, so much is read before the answer, and for so long.
const DRAINED_BYTES: usize = 16 << 20;
const DRAINED_WITHIN: Duration = Duration::from_secs(5);

/// What the API acts on.
pub struct Parts {
    pub sessions: Sessions,
    pub broker: Broker,
    pub catalogue: Catalogue,
    pub projects: Arc<dyn Projects>,
    pub records: Arc<dyn Records>,
    pub callers: Arc<dyn Callers>,
    pub health: Health,
    pub metrics: Metrics,
    pub shutdown: Shutdown,
    /// How often a stream that lasts asks again for leave.
    pub again: Duration,
    pub confinement: protocol::exec::Confinement,
}

/// Clones share everything.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    parts: Parts,
    gauges: system::Gauges,
}

impl std::ops::Deref for Api {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0.parts
    }
}

impl Api {
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let gauges = system::Gauges::new(&parts.metrics);
        Self(Arc::new(Inner { parts, gauges }))
    }

    fn gauges(&self) -> &system::Gauges {
        &self.0.gauges
    }

    /// Ends with the leave to read it, in mid-sentence: who may comes again, and who may not is told so then.
    fn permitted<S: Stream>(&self, leave: Leave, stream: S) -> impl Stream<Item = S::Item> + use<S> {
        stream.take_until(leave.taken_back(Arc::clone(&self.callers), self.again))
    }

    /// All routes, with everything that holds for each of them.
    pub fn router(&self) -> Router {
        let (router, _) = documented();
        router
            .fallback(async || Problem::not_found("see /openapi.json for what there is"))
            .method_not_allowed_fallback(async || {
                Problem::method_not_allowed("see /openapi.json for what there is")
            })
            .layer(from_fn_with_state(self.clone(), admit))
            .layer(from_fn(within_deadline))
            .layer(from_fn(headers))
            .with_state(self.clone())
    }
}

/// The routes and what they say of themselves.
pub(crate) fn documented() -> (Router<Api>, OpenApi) {
    let documents = OpenApiRouter::new()
        .routes(routes!(projects::list, projects::create))
        .routes(routes!(projects::get, projects::remove))
        .routes(routes!(projects::settings, projects::put_settings))
        .routes(routes!(sessions::list, sessions::create))
        .routes(routes!(sessions::get, sessions::remove))
        .routes(routes!(sessions::stop))
        .routes(routes!(sessions::start))
        .routes(routes!(sessions::copy))
        .routes(routes!(runs::run))
        .routes(routes!(runs::interrupt))
        .routes(routes!(runs::follow))
        .routes(routes!(runs::capabilities))
        .routes(routes!(asks::pending))
        .routes(routes!(asks::decide))
        .routes(routes!(asks::answer))
        .routes(routes!(files::root))
        .routes(routes!(files::diff))
        .routes(routes!(files::changed))
        .routes(routes!(files::archive))
        .routes(routes!(log::events))
        .routes(routes!(log::export))
        .routes(routes!(plugins::inspect, plugins::remove))
        .routes(routes!(plugins::approve))
        .routes(routes!(plugins::personas))
        .routes(routes!(system::health))
        .routes(routes!(system::ready))
        .routes(routes!(system::metrics))
        .routes(routes!(system::version))
        .routes(routes!(system::openapi))
        .layer(DefaultBodyLimit::max(DOCUMENT_BYTES));
    let uploads = OpenApiRouter::new()
        .routes(routes!(files::read, files::write, files::remove))
        .routes(routes!(files::upload))
        .routes(routes!(plugins::list, plugins::upload))
        .layer(DefaultBodyLimit::max(UPLOAD_BYTES));
    documents.merge(uploads).split_for_parts()
}

/// Everything but the health check is for callers who are known, and may do what the route does.
async fn admit(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    if request.uri().path() == system::HEALTH {
        return next.run(request).await;
    }
    let route = request.extensions().get::<MatchedPath>().map(|route| route.as_str().to_owned());
    let access =
        route.as_deref().map_or(Ok(None), |route| access::of(request.method(), route, request.uri().path()));
    let known = access.as_ref().ok().cloned().flatten();
    let session = session_of(route.as_deref(), request.uri().path());
    let mut record = Record::new(request.method().clone(), route.as_deref(), known);
    let response = match admitted(&api, request.headers().clone(), access, &mut record).await {
        Ok((caller, leave)) => {
            if let Some(session) = &session {
                api.records.heard_of(&api.sessions, &caller, session).await;
            }
            request.extensions_mut().insert::<Caller>(caller);
            request.extensions_mut().insert::<Leave>(leave);
            let response = next.run(request).await;
            let missing = session.filter(|_| response.status() == StatusCode::NOT_FOUND);
            match missing.and_then(|session| not_accepted(&api, &session)) {
                Some(problem) => problem.into_response(),
                None => response,
            }
        }
        Err(problem) => {
            // Whoever is still sending would find the connection closed, and not the answer. A stranger may.
            if problem.status != StatusCode::UNAUTHORIZED {
                drop(timeout(DRAINED_WITHIN, drained(request.into_body())).await);
            }
            problem.into_response()
        }
    };
    record.answered(&response);
    response
}

async fn drained(body: Body) {
    let (mut parts, mut left) = (body.into_data_stream(), DRAINED_BYTES);
    while let Some(Ok(part)) = parts.next().await {
        left = left.saturating_sub(part.len());
        if left == 0 {
            return;
        }
    }
}

async fn admitted(
    api: &Api,
    headers: HeaderMap,
    access: Result<Option<Access>, Problem>,
    record: &mut Record,
) -> Result<(Caller, Leave), Problem> {
    let (caller, leave) = match &access {
        Ok(Some(access)) => api.callers.admit(&headers, access).await?,
        _ => (api.callers.identify(&headers).await?, Ok(())),
    };
    record.by(&caller);
    let access = access?;
    leave?;
    Ok((caller, Leave { headers, access }))
}

/// The session of which something more is asked than its record, which whoever shows or removes it looks at by itself.
fn session_of(route: Option<&str>, path: &str) -> Option<SessionRef> {
    route?.strip_prefix("/api/projects/{project}/agentic-sessions/{session}/")?;
    let (project, name) = access::named(path);
    Some(SessionRef { project: project.parse().ok()?, name: name?.parse().ok()? })
}

/// There is more to say of a session that is on record and does not run than that there is none.
fn not_accepted(api: &Api, session: &SessionRef) -> Option<Problem> {
    let refused = api.records.refused(&session.project);
    let decided = refused.into_iter().find(|refused| refused.reference == *session)?.decided;
    let (reason, why) = (decided.reason.word(), render::line(&decided.message, 2000));
    let colon = if why.is_empty() { "" } else { ": " };
    Some(Problem::conflict(format!("this session does not run ({reason}){colon}{why}")))
}

async fn within_deadline(request: Request, next: Next) -> Response {
    match tokio::time::timeout(DEADLINE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::timed_out("the server had no answer in time; try again").into_response(),
    }
}

async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full(_) => Self::store_full(error.to_string()),
            StoreError::Closed => Self::unavailable("the server is shutting down"),
            other => Self::failed("the store failed", &other),
        }
    }
}

impl From<SessionError> for Problem {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::NotFound | SessionError::NothingPending => Self::not_found(error.to_string()),
            SessionError::NameTaken
            | SessionError::Conflict(_)
            | SessionError::WorkspaceGone
            | SessionError::Quota { .. } => Self::conflict(error.to_string()),
            SessionError::Store(error) => error.into(),
            SessionError::Closed => Self::unavailable(error.to_string()),
        }
    }
}

impl From<FilesError> for Problem {
    fn from(error: FilesError) -> Self {
        match error {
            FilesError::Session(error) => error.into(),
            FilesError::NotAwake => Self::not_awake(error.to_string()),
            FilesError::Request(RequestError::NotFound(why)) => Self::not_found(why),
            FilesError::Request(RequestError::Invalid(why)) => Self::malformed(why),
            FilesError::Request(RequestError::TooLarge(why)) => Self::too_large(why),
            FilesError::Request(RequestError::Failed(why)) => Self::conflict(why),
            FilesError::Timeout => Self::unavailable(error.to_string()),
        }
    }
}

impl From<BlobError> for Problem {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::NotFound => Self::not_found(error.to_string()),
            BlobError::TooLarge { .. } => Self::too_large(error.to_string()),
            BlobError::WrongDigest => Self::malformed(error.to_string()),
            BlobError::Store(error) => error.into(),
        }
    }
}

impl From<SettingsError> for Problem {
    fn from(error: SettingsError) -> Self {
        match error {
            SettingsError::NotFound => Self::not_found(error.to_string()),
            SettingsError::Exists | SettingsError::Default | SettingsError::Elsewhere(_) => {
                Self::conflict(error.to_string())
            }
            SettingsError::Answered(problem) => *problem,
            SettingsError::Invalid(invalid) => invalid.into(),
            SettingsError::Unreadable { .. } => Self::conflict(error.to_string()),
            SettingsError::Io(io) => Self::io("the settings cannot be used", &io),
        }
    }
}
