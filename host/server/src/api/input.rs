//! Reading requests: what does not parse is refused with problem details.

use crate::problem::Problem;
use axum::{
    body::Bytes,
    extract::{
        FromRequest, FromRequestParts, Request,
        rejection::{BytesRejection, PathRejection, QueryRejection},
    },
    http::{header, request::Parts},
};
use model::id::{ProjectName, SessionName, SessionRef};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

/// Parts of the path.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Problem))]
pub(super) struct Path<T>(pub(super) T);

#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Problem))]
pub(super) struct Query<T>(pub(super) T);

/// The session that the path names.
pub(super) struct Session(pub(super) SessionRef);

#[derive(Deserialize)]
struct SessionPath {
    project: ProjectName,
    session: SessionName,
}

impl<S: Send + Sync> FromRequestParts<S> for Session {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(SessionPath { project, session }) =
            <Path<SessionPath> as FromRequestParts<S>>::from_request_parts(parts, state).await?;
        Ok(Self(SessionRef { project, name: session }))
    }
}

/// A JSON document, or YAML where the content type says so; `null` where the body is empty.
pub(super) struct Document(pub(super) Value);

impl<S: Send + Sync> FromRequest<S> for Document {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let Body(bytes) = Body::from_request(request, state).await?;
        let text = std::str::from_utf8(&bytes).map_err(|_| Problem::malformed("the body is not UTF-8"))?;
        if text.trim().is_empty() {
            return Ok(Self(Value::Null));
        }
        let value = match kind.as_str() {
            "application/json" | "" => serde_json::from_str(text).map_err(|e| e.to_string()),
            "application/yaml" | "application/x-yaml" | "text/yaml" => {
                serde_saphyr::from_str(text).map_err(|e| e.to_string())
            }
            other => {
                return Err(Problem::unsupported(format!(
                    "send application/json or application/yaml, not {other}"
                )));
            }
        };
        let problem = |error: String| Problem::malformed(model::render::line(&error.into(), 500));
        value.map(Self).map_err(problem)
    }
}

/// The body's bytes, within the route's limit.
pub(super) struct Body(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        Ok(Self(Bytes::from_request(request, state).await?))
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::malformed(rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::malformed(rejection.body_text())
    }
}

impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Self {
        match rejection.status().as_u16() {
            413 => Self::too_large("the body is larger than this route takes"),
            _ => Self::malformed(rejection.body_text()),
        }
    }
}

/// Which part of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// Items of one page, at most 500.
    limit: Option<usize>,
    /// `metadata.continue` of the page before.
    #[serde(rename = "continue")]
    after: Option<String>,
}

impl Page {
    /// This page of items that are named uniquely, and the list around it.
    pub(super) fn cut<T>(
        self,
        items: Vec<T>,
        name: impl Fn(&T) -> String,
        show: impl Fn(T) -> Value,
    ) -> Result<Value, Problem> {
        let limit = self.limit.unwrap_or(100).clamp(1, 500);
        let skip = match &self.after {
            Some(last) => match items.iter().position(|item| name(item) == *last) {
                Some(at) => at + 1,
                None => {
                    return Err(Problem::gone(
                        "what `continue` names is not in the list any more: list again from the start",
                    ));
                }
            },
            None => 0,
        };
        let total = items.len();
        let page: Vec<T> = items.into_iter().skip(skip).take(limit).collect();
        let more = skip + page.len() < total;
        let next = page.last().filter(|_| more).map(&name).unwrap_or_default();
        let items: Vec<Value> = page.into_iter().map(show).collect();
        Ok(serde_json::json!({"items": items, "metadata": {"continue": next}}))
    }
}
