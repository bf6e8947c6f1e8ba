//! Sessions: made, listed, shown, stopped, started again, copied and deleted.

use super::{
    Api,
    input::{Document, Page, Path, Query, Session},
    projects::ProjectPath,
    view,
};
use crate::{
    access, audit,
    problem::Problem,
    records::{Record, Refused},
    sessions::{Caller, NewSession, SessionView},
    settings::{Project, SettingsError},
};
use axum::{Extension, Json, extract::State, http::StatusCode};
use model::{
    id::{ProjectName, SessionName, SessionUid, UnixMillis},
    lifecycle::Phase,
    plan::Desired,
};
use resources::{Accepted, AgenticSession, AgenticSessionSpec, Source, authority::SESSIONS, session::Posted};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

/// Sessions of a project, newest first.
#[utoipa::path(get, path = "/api/projects/{project}/agentic-sessions", tag = "sessions",
    params(("project" = String, Path), Page), responses((status = 200, body = Object)))]
pub(crate) async fn list(
    State(api): State<Api>,
    Path(path): Path<ProjectPath>,
    Query(page): Query<Page>,
) -> Result<Json<Value>, Problem> {
    api.projects.get(&path.project)?;
    let mut refused = api.records.refused(&path.project);
    let taken = api.sessions.list(&path.project).await?;
    // One may have been taken up in between.
    refused.retain(|refused| taken.iter().all(|view| view.record.uid != refused.uid));
    let mut rows: Vec<Row> = taken.into_iter().map(|view| Row::Taken(Box::new(view))).collect();
    if !refused.is_empty() {
        rows.extend(refused.into_iter().map(Row::Refused));
        rows.sort_by(|one, other| {
            (other.created_at(), other.uid().as_str()).cmp(&(one.created_at(), one.uid().as_str()))
        });
    }
    Ok(Json(page.cut(rows, |row| row.uid().to_string(), |row| row.show())?))
}

/// A session of a list.
enum Row {
    Taken(Box<SessionView>),
    Refused(Refused),
}

impl Row {
    fn uid(&self) -> &SessionUid {
        match self {
            Self::Taken(view) => &view.record.uid,
            Self::Refused(refused) => &refused.uid,
        }
    }

    fn created_at(&self) -> UnixMillis {
        match self {
            Self::Taken(view) => view.record.created_at,
            Self::Refused(refused) => refused.created_at,
        }
    }

    fn show(&self) -> Value {
        match self {
            Self::Taken(view) => view::session(view),
            Self::Refused(refused) => view::refused(refused),
        }
    }
}

/// Starts a session: an AgenticSession, or its `spec` alone.
#[utoipa::path(post, path = "/api/projects/{project}/agentic-sessions", tag = "sessions",
    params(("project" = String, Path)), request_body = AgenticSession,
    responses((status = 201, body = AgenticSession), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(path): Path<ProjectPath>,
    Document(document): Document,
) -> Result<New, Problem> {
    let project = api.projects.get(&path.project)?;
    let posted = resources::session::read(&document)?;
    let (name, generate_name) = named(&posted, &path.project)?;
    access::fields(&*api.callers, &caller, (SESSIONS, &path.project), None, &posted.raw).await?;
    let spec = posted.accept(&project.policy)?;
    possible(&api, &project, &spec).await?;
    let generate_name = generate_name.or_else(|| name.is_none().then(|| "session-".to_owned()));
    let new = NewSession { name, generate_name, spec };
    Ok(created(&api.records.create(&api.sessions, &caller, &path.project, new).await?))
}

/// The answer about a session that was made.
type New = (StatusCode, Extension<audit::Made>, Json<Value>);

fn created(view: &SessionView) -> New {
    let made = audit::Made(view.record.reference.name.clone());
    (StatusCode::CREATED, Extension(made), Json(view::session(view)))
}

fn named(posted: &Posted, project: &ProjectName) -> Result<(Option<SessionName>, Option<String>), Problem> {
    let invalid = |field: &str, message: String| {
        Problem::from(resources::Invalid(vec![resources::Problem { field: field.to_owned(), message }]))
    };
    let metadata = &posted.metadata;
    if metadata.namespace.as_ref().is_some_and(|namespace| namespace != project.as_str()) {
        return Err(invalid("metadata.namespace", format!("the path names the project {project}")));
    }
    if let Some(prefix) = &metadata.generate_name {
        // Checked as it will be: with characters behind it.
        format!("{prefix}aaaaa")
            .parse::<SessionName>()
            .map_err(|error| invalid("metadata.generateName", error.to_string()))?;
    }
    let name = metadata.name.as_ref().map(|name| name.parse()).transpose();
    Ok((
        name.map_err(|error: model::id::InvalidId| invalid("metadata.name", error.to_string()))?,
        metadata.generate_name.clone(),
    ))
}

/// What can be known now to fail later is said now.
async fn possible(api: &Api, project: &Project, spec: &Accepted) -> Result<(), Problem> {
    let mut errors = Vec::new();
    let mut wrong =
        |field: &str, message: String| errors.push(resources::Problem { field: field.to_owned(), message });
    if let Some(key) = &spec.persona
        && api.catalogue.persona(project, key).is_none()
    {
        let personas = api.catalogue.personas(&project.name, &project.policy);
        let known = personas.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        wrong("spec.persona", format!("there is no persona {key} here; there are: {known}"));
    }
    for id in spec.plugins.iter().flatten() {
        if api.catalogue.plugin(&project.name, id).is_none() {
            wrong("spec.plugins", format!("there is no plugin {id} here"));
        }
    }
    match &spec.workspace {
        Source::Empty => {}
        Source::Dir { .. } | Source::InPlace { .. } => {
            if let Some(why) = api.sessions.refuses(&spec.workspace).await {
                wrong("spec.workspace.dir.path", why);
            }
        }
        Source::Archive { blob } => {
            let of = api.projects.uid(&project.name).ok_or(SettingsError::NotFound)?;
            if !api.sessions.store().has_blob((&project.name, &of), blob).await? {
                wrong(
                    "spec.workspace.archive.blob",
                    "there is no such upload: PUT it to …/archives first".to_owned(),
                );
            }
        }
    }
    if let (Source::InPlace { .. }, Some(why)) = (&spec.workspace, &api.confinement.without_namespaces) {
        let text = format!(
            "working in a folder itself needs mount namespaces, which this host does not allow ({why}): leave it out \
             to work on a private copy, or allow unprivileged user namespaces; see `vteam doctor`"
        );
        wrong("spec.workspace.dir.inPlace", text);
    }
    let mut properties = api.confinement.properties.iter();
    if let Some(broken) = properties.find(|property| spec.needs_programs && !property.holds) {
        let text = format!(
            "native programs cannot be confined here: {} does not hold ({}); see `vteam doctor`",
            broken.name, broken.detail
        );
        wrong("spec.needsPrograms", text);
    }
    if errors.is_empty() { Ok(()) } else { Err(resources::Invalid(errors).into()) }
}

/// One session with its status.
#[utoipa::path(get, path = "/api/projects/{project}/agentic-sessions/{session}", tag = "sessions",
    params(("project" = String, Path), ("session" = String, Path)),
    responses((status = 200, body = AgenticSession), (status = 404, body = Problem)))]
pub(crate) async fn get(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Session(session): Session,
) -> Result<Json<Value>, Problem> {
    Ok(Json(match api.records.read(&api.sessions, &caller, &session).await? {
        Record::Taken(view, warnings) => {
            let mut shown = view::session(&view);
            if let Some(Value::Array(conditions)) = shown.pointer_mut("/status/conditions") {
                let told: Vec<Value> = conditions.iter().map(|one| one["type"].clone()).collect();
                conditions.extend(warnings.into_iter().filter(|one| !told.contains(&one["type"])));
            }
            shown
        }
        Record::Object(object) => object,
    }))
}

/// Ends the session's runner and removes everything of it.
#[utoipa::path(delete, path = "/api/projects/{project}/agentic-sessions/{session}", tag = "sessions",
    params(("project" = String, Path), ("session" = String, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
pub(crate) async fn remove(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Session(session): Session,
) -> Result<StatusCode, Problem> {
    api.records.remove(&api.sessions, &caller, &session).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Stops what is under way and ends the runner: 202. A session that is at rest stays as it is: 200. A further message wakes it.
#[utoipa::path(post, path = "/api/projects/{project}/agentic-sessions/{session}/stop", tag = "sessions",
    params(("project" = String, Path), ("session" = String, Path)),
    responses((status = 200, body = AgenticSession), (status = 202, body = AgenticSession), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn stop(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Session(session): Session,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let before = api.sessions.get(&session).await?;
    let phase = before.record.state.phase;
    if phase.is_settled() && phase != Phase::Suspended {
        return Ok((StatusCode::OK, Json(view::session(&before))));
    }
    steered(api.records.want(&api.sessions, &caller, &session, Desired::Stop).await?)
}

/// Goes on with what a stopped session had left to do: 202. One that ended and has nothing left stays as it is: 200.
#[utoipa::path(post, path = "/api/projects/{project}/agentic-sessions/{session}/start", tag = "sessions",
    params(("project" = String, Path), ("session" = String, Path)),
    responses((status = 200, body = AgenticSession), (status = 202, body = AgenticSession), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn start(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Session(session): Session,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let before = api.sessions.get(&session).await?;
    let state = &before.record.state;
    if matches!(state.phase, Phase::Completed | Phase::Failed) && !state.has_work() {
        return Ok((StatusCode::OK, Json(view::session(&before))));
    }
    steered(api.records.want(&api.sessions, &caller, &session, Desired::Run).await?)
}

fn steered(view: SessionView) -> Result<(StatusCode, Json<Value>), Problem> {
    Ok((StatusCode::ACCEPTED, Json(view::session(&view))))
}

/// How a copy is named.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Copy {
    /// Absent: made from the name of the original.
    #[schema(value_type = Option<String>)]
    name: Option<SessionName>,
}

/// A new session with the specification of this one, checked again against the project's settings as they are now.
#[utoipa::path(post, path = "/api/projects/{project}/agentic-sessions/{session}/clone", tag = "sessions",
    params(("project" = String, Path), ("session" = String, Path)), request_body = Option<Copy>,
    responses((status = 201, body = AgenticSession), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn copy(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Session(session): Session,
    Document(document): Document,
) -> Result<New, Problem> {
    let asked: Option<Copy> =
        serde_json::from_value(document).map_err(|error| Problem::invalid(error.to_string()))?;
    let Copy { name } = asked.unwrap_or_default();
    access::reads(&*api.callers, &caller, &session).await?;
    let of = api.sessions.get(&session).await?.accepted;
    let project = api.projects.get(&session.project)?;
    let spec: AgenticSessionSpec = resources::session::read(&of.spec)?.spec;
    access::fields(&*api.callers, &caller, (SESSIONS, &session.project), None, &of.spec).await?;
    let metadata = resources::session::Metadata { labels: of.labels, ..Default::default() };
    let accepted = Posted { metadata, spec, raw: of.spec }.accept(&project.policy)?;
    possible(&api, &project, &accepted).await?;
    let generate_name = Some(format!("{:.50}-", session.name.as_str()));
    let new = NewSession { name, generate_name, spec: accepted };
    Ok(created(&api.records.create(&api.sessions, &caller, &session.project, new).await?))
}
