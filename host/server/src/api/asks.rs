//! What waits for a person, and the person's word on it.

use super::{
    Api,
    input::{Document, Path, Session},
};
use crate::{agui::rendered, problem::Problem, sessions::Caller};
use axum::{Extension, Json, extract::State, http::StatusCode};
use model::{
    approval::Decision,
    id::{AskId, ProjectName, SessionName, SessionRef},
};
use protocol::control::Ask;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

#[derive(Deserialize)]
pub(super) struct AskPath {
    project: ProjectName,
    session: SessionName,
    ask: AskId,
}

/// The answer to a tool's question.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Answer {
    /// As the question asks for it.
    #[schema(value_type = Object)]
    answer: Value,
}

/// Approvals and questions that wait, oldest first. `rendered` is what the host saw and will let run, for people.
#[utoipa::path(get, path = "/api/projects/{project}/agentic-sessions/{session}/approvals", tag = "approvals",
    params(("project" = String, Path), ("session" = String, Path)),
    responses((status = 200, body = Object), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn pending(
    State(api): State<Api>,
    Session(session): Session,
) -> Result<Json<Value>, Problem> {
    let asks = api.sessions.pending(&session).await?;
    let items: Vec<Value> = asks.iter().map(shown).collect();
    Ok(Json(json!({"items": items})))
}

fn shown(ask: &Ask) -> Value {
    let mut value = json!(ask);
    if let (Ask::Approval(request), Some(fields)) = (ask, value.as_object_mut()) {
        fields.insert("rendered".to_owned(), rendered(&request.subject).into());
    }
    value
}

/// Decides an approval: `{"decision": "once" | "session"}` or `{"decision": "deny", "reason": …}`; the model is told the
/// reason.
#[utoipa::path(post, path = "/api/projects/{project}/agentic-sessions/{session}/approvals/{ask}", tag = "approvals",
    params(("project" = String, Path), ("session" = String, Path), ("ask" = String, Path)), request_body = Object,
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn decide(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(AskPath { project, session, ask }): Path<AskPath>,
    Document(document): Document,
) -> Result<StatusCode, Problem> {
    let decision = decision(document)?;
    api.sessions.decide(&caller, &SessionRef { project, name: session }, &ask, decision).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) fn decision(document: Value) -> Result<Decision, Problem> {
    // A field that nobody reads could be taken for a condition.
    let known = ["decision", "reason"];
    let unknown =
        document.as_object().and_then(|fields| fields.keys().find(|name| !known.contains(&name.as_str())));
    if let Some(name) = unknown {
        return Err(Problem::invalid(format!(
            "a decision has no field {:?}",
            model::render::line(&name.as_str().into(), 100)
        )));
    }
    serde_json::from_value(document).map_err(|error| {
        Problem::invalid(format!("{error}; send {{\"decision\": \"once\" | \"session\"}} or {{\"decision\": \"deny\", \"reason\": …}}"))
    })
}

/// Answers a tool's question.
#[utoipa::path(post, path = "/api/projects/{project}/agentic-sessions/{session}/questions/{ask}", tag = "approvals",
    params(("project" = String, Path), ("session" = String, Path), ("ask" = String, Path)), request_body = Answer,
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn answer(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(AskPath { project, session, ask }): Path<AskPath>,
    Document(document): Document,
) -> Result<StatusCode, Problem> {
    let Answer { answer } =
        serde_json::from_value(document).map_err(|error| Problem::invalid(error.to_string()))?;
    api.sessions.answer(&caller, &SessionRef { project, name: session }, &ask, answer).await?;
    Ok(StatusCode::NO_CONTENT)
}
