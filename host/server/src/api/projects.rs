//! Projects and their settings.

use super::{
    Api,
    input::{Document, Page, Path, Query},
    view,
};
use crate::{access, problem::Problem, sessions::Caller, settings::Project};
use axum::{Extension, Json, extract::State, http::StatusCode};
use model::id::{ProjectName, UnixMillis};
use resources::{ProjectPolicy, ProjectSettings, ProjectSettingsSpec, authority::SETTINGS, project};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

#[derive(Deserialize)]
pub(super) struct ProjectPath {
    pub(super) project: ProjectName,
}

/// A new project.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewProject {
    /// A DNS label.
    #[schema(value_type = String)]
    name: ProjectName,
    #[serde(default)]
    display_name: Option<String>,
}

/// All projects.
#[utoipa::path(get, path = "/api/projects", tag = "projects", params(Page), responses((status = 200, body = Object)))]
pub(crate) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(page): Query<Page>,
) -> Result<Json<Value>, Problem> {
    let names = api.projects.list(&caller).await?;
    Ok(Json(page.cut(names, ToString::to_string, |name| json!({"name": name}))?))
}

/// Makes a project.
#[utoipa::path(post, path = "/api/projects", tag = "projects", request_body = NewProject,
    responses((status = 201, body = Object), (status = 409, body = Problem)))]
pub(crate) async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Document(document): Document,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let NewProject { name, display_name } =
        serde_json::from_value(document).map_err(|error| Problem::invalid(error.to_string()))?;
    let project = api
        .projects
        .create(&caller, &name, ProjectSettingsSpec { display_name, ..Default::default() })
        .await?;
    Ok((StatusCode::CREATED, Json(shown(&project))))
}

/// One project.
#[utoipa::path(get, path = "/api/projects/{project}", tag = "projects", params(("project" = String, Path)),
    responses((status = 200, body = Object), (status = 404, body = Problem)))]
pub(crate) async fn get(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(path): Path<ProjectPath>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(shown(&*api.projects.read(&caller, &path.project).await?)))
}

/// Forgets a project that has no sessions.
#[utoipa::path(delete, path = "/api/projects/{project}", tag = "projects", params(("project" = String, Path)),
    responses((status = 204), (status = 409, body = Problem)))]
pub(crate) async fn remove(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(path): Path<ProjectPath>,
) -> Result<StatusCode, Problem> {
    let sessions = api.sessions.list(&path.project).await?.len();
    if sessions > 0 {
        return Err(Problem::conflict(format!("the project has {sessions} sessions: delete them first")));
    }
    api.projects.remove(&caller, &path.project).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The project's settings.
#[utoipa::path(get, path = "/api/projects/{project}/settings", tag = "projects", params(("project" = String, Path)),
    responses((status = 200, body = ProjectSettings), (status = 404, body = Problem)))]
pub(crate) async fn settings(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(path): Path<ProjectPath>,
) -> Result<Json<Value>, Problem> {
    let project = api.projects.read(&caller, &path.project).await?;
    Ok(Json(with_status(&project)?))
}

/// Replaces the project's settings: a ProjectSettings, or its `spec` alone.
#[utoipa::path(put, path = "/api/projects/{project}/settings", tag = "projects", params(("project" = String, Path)),
    request_body = ProjectSettings, responses((status = 200, body = ProjectSettings), (status = 422, body = Problem)))]
pub(crate) async fn put_settings(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(path): Path<ProjectPath>,
    Document(document): Document,
) -> Result<Json<Value>, Problem> {
    let before = api.projects.get(&path.project)?;
    let settings = project::read(&document)?;
    may_change(&api, &caller, &before, &settings.spec).await?;
    check_plugin_settings(&api, &path.project, &settings.spec)?;
    check_persona(&api, &path.project, &settings.spec)?;
    let project = api.projects.put(&caller, &path.project, settings.spec).await?;
    Ok(Json(with_status(&project)?))
}

/// The caller has the verbs of the settings that are changed.
pub(super) async fn may_change(
    api: &Api,
    caller: &Caller,
    before: &Project,
    now: &ProjectSettingsSpec,
) -> Result<(), Problem> {
    let json = |spec: &ProjectSettingsSpec| {
        serde_json::to_value(spec).map_err(|error| Problem::failed("the settings cannot be compared", &error))
    };
    let (old, new) = (json(&before.settings.spec)?, json(now)?);
    access::fields(&*api.callers, caller, (SETTINGS, &before.name), Some(&old), &new).await
}

/// Each plugin's settings fit the schema that it brings.
fn check_plugin_settings(
    api: &Api,
    project: &ProjectName,
    spec: &ProjectSettingsSpec,
) -> Result<(), Problem> {
    let mut errors = Vec::new();
    for (id, value) in &spec.plugins.settings {
        let field = format!("spec.plugins.settings.{id}");
        let plugin = id.parse().ok().and_then(|id| api.catalogue.plugin(project, &id));
        let Some(schema) = plugin.as_ref().and_then(|plugin| plugin.manifest.settings.as_ref()) else {
            continue;
        };
        let message = match jsonschema::validator_for(schema) {
            Ok(validator) => validator.validate(value).err().map(|error| error.to_string()),
            Err(error) => Some(format!("the plugin's schema cannot be used: {error}")),
        };
        errors.extend(message.map(|message| resources::Problem { field, message }));
    }
    if errors.is_empty() { Ok(()) } else { Err(resources::Invalid(errors).into()) }
}

/// The default persona is one that the project's sessions may use.
fn check_persona(api: &Api, project: &ProjectName, spec: &ProjectSettingsSpec) -> Result<(), Problem> {
    let policy = ProjectPolicy::try_from(spec.clone())?;
    let personas = api.catalogue.personas(project, &policy);
    let Some(key) = policy.default_persona.filter(|key| !personas.contains_key(key)) else { return Ok(()) };
    let known = personas.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let field = "spec.defaults.persona".to_owned();
    let message = format!("there is no persona {key} here; there are: {known}");
    Err(resources::Invalid(vec![resources::Problem { field, message }]).into())
}

fn shown(project: &Project) -> Value {
    json!({"name": project.name, "displayName": project.settings.spec.display_name})
}

fn with_status(project: &Project) -> Result<Value, Problem> {
    let settings = ProjectSettings {
        status: Some(json!({
            "conditions": project.policy.warnings.iter().map(|w| view::condition(w, UnixMillis(0))).collect::<Vec<_>>(),
        })),
        ..project.settings.clone()
    };
    serde_json::to_value(settings).map_err(|error| Problem::failed("the settings cannot be shown", &error))
}
