//! Plugins as a project sees them, and personas.

use super::{
    Api,
    input::{Body, Document, Page, Path, Query},
    projects::{ProjectPath, may_change},
};
use crate::{
    catalogue::{Origin, Plugin, RemoveError, Standing, UploadError},
    problem::Problem,
    sessions::Caller,
    settings::Project,
};
use axum::{Extension, Json, extract::State, http::StatusCode};
use model::id::{Digest, Effect, PluginId, ProjectName};
use resources::project::Grant;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc};
use utoipa::ToSchema;

#[derive(Deserialize)]
pub(super) struct PluginPath {
    project: ProjectName,
    plugin: PluginId,
}

/// Plugins in use, with what this project grants each; and what was added and is refused.
#[utoipa::path(get, path = "/api/projects/{project}/plugins", tag = "plugins", params(("project" = String, Path), Page),
    responses((status = 200, body = Object)))]
pub(crate) async fn list(
    State(api): State<Api>,
    Path(path): Path<ProjectPath>,
    Query(page): Query<Page>,
) -> Result<Json<Value>, Problem> {
    let project = api.projects.get(&path.project)?;
    let name = |plugin: &Arc<Plugin>| plugin.manifest.id.to_string();
    let mut list =
        page.cut(api.catalogue.plugins(&project.name), name, |plugin| shown(&api, &plugin, &project))?;
    let refused = api.catalogue.refused(&project.name).into_iter();
    let refused: Vec<Value> =
        refused.map(|r| json!({"file": r.file, "why": r.why, "kept": r.kept})).collect();
    if let Some(fields) = list.as_object_mut() {
        fields.insert("refused".to_owned(), refused.into());
    }
    Ok(Json(list))
}

/// Adds a component. It can do nothing until its digest is approved, unless it asks for nothing.
#[utoipa::path(post, path = "/api/projects/{project}/plugins", tag = "plugins", params(("project" = String, Path)),
    request_body(content = [u8], content_type = "application/wasm"),
    responses((status = 201, body = Object), (status = 422, body = Problem)))]
pub(crate) async fn upload(
    State(api): State<Api>,
    Path(path): Path<ProjectPath>,
    Body(component): Body,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let project = api.projects.get(&path.project)?;
    let catalogue = api.catalogue.clone();
    let uploaded = tokio::task::spawn_blocking(move || catalogue.upload(&component)).await;
    let plugin =
        uploaded.map_err(|error| Problem::failed("the upload failed", &error))?.map_err(|e| match e {
            UploadError::NotAdmissible(why) => Problem::not_admissible(why.to_string()),
            UploadError::Against(why) | UploadError::Elsewhere(why) => Problem::conflict(why),
            UploadError::Io(error) => Problem::io("the plugin cannot be kept", &error),
        })?;
    Ok((StatusCode::CREATED, Json(shown(&api, &plugin, &project))))
}

/// One plugin with its manifest.
#[utoipa::path(get, path = "/api/projects/{project}/plugins/{plugin}", tag = "plugins",
    params(("project" = String, Path), ("plugin" = String, Path)),
    responses((status = 200, body = Object), (status = 404, body = Problem)))]
pub(crate) async fn inspect(
    State(api): State<Api>,
    Path(path): Path<PluginPath>,
) -> Result<Json<Value>, Problem> {
    let project = api.projects.get(&path.project)?;
    Ok(Json(shown(&api, &*found(&api, &path)?, &project)))
}

/// What to grant.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Approval {
    /// Of the component that was looked at: another one of this id is not granted anything.
    #[schema(value_type = String)]
    digest: Digest,
    /// Absent: what it asks for.
    #[schema(value_type = Option<Vec<String>>)]
    effects: Option<BTreeSet<Effect>>,
}

/// Grants effects to a plugin's digest in this project's settings.
#[utoipa::path(post, path = "/api/projects/{project}/plugins/{plugin}/approve", tag = "plugins",
    params(("project" = String, Path), ("plugin" = String, Path)), request_body = Approval,
    responses((status = 200, body = Object), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn approve(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(path): Path<PluginPath>,
    Document(document): Document,
) -> Result<Json<Value>, Problem> {
    let Approval { digest, effects } =
        serde_json::from_value(document).map_err(|error| Problem::invalid(error.to_string()))?;
    let plugin = found(&api, &path)?;
    if plugin.digest != digest {
        return Err(Problem::conflict(format!(
            "the plugin is now {}: look at it again, then approve that",
            plugin.digest
        )));
    }
    if plugin.origin == Origin::FirstParty {
        return Err(Problem::conflict(
            "a first-party plugin is granted what it asks; revoke its digest to withdraw it",
        ));
    }
    let asked = plugin.manifest.asked();
    let effects = effects.unwrap_or_else(|| asked.clone());
    if let Some(more) = effects.iter().find(|effect| !asked.contains(*effect)) {
        return Err(Problem::invalid(format!("the plugin does not ask for {more}")));
    }
    let before = api.projects.get(&path.project)?;
    let mut spec = before.settings.spec.clone();
    spec.plugins.grants.retain(|grant| grant.digest != digest.as_str());
    spec.plugins.grants.push(Grant {
        digest: digest.to_string(),
        plugin: Some(path.plugin.to_string()),
        effects: effects.iter().map(ToString::to_string).collect(),
    });
    may_change(&api, &caller, &before, &spec).await?;
    let project = api.projects.put(&caller, &path.project, spec).await?;
    Ok(Json(shown(&api, &plugin, &project)))
}

/// Takes a plugin out of the drop folder, where there is one.
#[utoipa::path(delete, path = "/api/projects/{project}/plugins/{plugin}", tag = "plugins",
    params(("project" = String, Path), ("plugin" = String, Path)),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn remove(
    State(api): State<Api>,
    Path(path): Path<PluginPath>,
) -> Result<StatusCode, Problem> {
    api.projects.get(&path.project)?;
    api.catalogue.remove(&path.plugin).map_err(|error| match error {
        RemoveError::NotFound => Problem::not_found(error.to_string()),
        RemoveError::FirstParty | RemoveError::Elsewhere(_) => Problem::conflict(error.to_string()),
        RemoveError::Io(error) => Problem::io("the plugin cannot be removed", &error),
    })?;
    Ok(StatusCode::NO_CONTENT)
}

/// Personas that sessions of this project may use.
#[utoipa::path(get, path = "/api/projects/{project}/personas", tag = "plugins", params(("project" = String, Path), Page),
    responses((status = 200, body = Object)))]
pub(crate) async fn personas(
    State(api): State<Api>,
    Path(path): Path<ProjectPath>,
    Query(page): Query<Page>,
) -> Result<Json<Value>, Problem> {
    let project = api.projects.get(&path.project)?;
    let personas: Vec<_> = api.catalogue.personas(&project.name, &project.policy).into_values().collect();
    let key = |plugin: &Arc<Plugin>| {
        plugin.manifest.persona.as_ref().map(|p| p.key.to_string()).unwrap_or_default()
    };
    Ok(Json(page.cut(personas, key, |plugin| {
        let manifest = &plugin.manifest;
        let mut value = json!(manifest.persona);
        if let Some(fields) = value.as_object_mut() {
            fields.insert("plugin".to_owned(), json!(manifest.id));
            fields.insert("digest".to_owned(), json!(plugin.digest));
            fields.insert("description".to_owned(), json!(manifest.description));
        }
        value
    })?))
}

fn found(api: &Api, path: &PluginPath) -> Result<Arc<Plugin>, Problem> {
    let id = &path.plugin;
    api.catalogue.plugin(&path.project, id).ok_or_else(|| {
        Problem::not_found(format!(
            "there is no plugin {id}; see …/plugins for what there is and what is refused"
        ))
    })
}

fn shown(api: &Api, plugin: &Plugin, project: &Project) -> Value {
    let manifest = &plugin.manifest;
    let (state, granted) = match plugin.standing(&project.policy) {
        Standing::Granted(effects) => ("granted", effects),
        Standing::Waiting => ("waiting", BTreeSet::new()),
        Standing::Revoked => ("revoked", BTreeSet::new()),
    };
    let mut value = json!({
        "id": manifest.id,
        "version": manifest.version,
        "kind": manifest.kind,
        "description": manifest.description,
        "digest": plugin.digest,
        "size": plugin.component.len(),
        "origin": match plugin.origin { Origin::FirstParty => "first-party", Origin::Dropped => "added" },
        "state": state,
        "granted": granted,
        "asked": manifest.asked(),
        "manifest": manifest,
    });
    // In use, but no session can load it.
    if let (Some(problem), Some(fields)) = (api.catalogue.unusable(&plugin.digest), value.as_object_mut()) {
        fields.insert("problem".to_owned(), problem.into());
    }
    value
}
