//! Which namespaces are projects, and their policies: read from copies that watches keep.

use crate::kinds;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    core::DynamicObject,
    runtime::{
        WatchStreamExt as _, reflector,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use resources::{ProjectPolicy, ProjectSettingsSpec, project};
use serde_json::json;
use std::io;
use telemetry::Shutdown;

#[derive(Clone)]
pub(crate) struct Projects {
    namespaces: Store<Namespace>,
    settings: Store<DynamicObject>,
}

/// Why a session cannot be judged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoPolicy {
    #[error(
        "the namespace {0} is no project: kubectl label namespace {0} {label}=true",
        label = kinds::PROJECT_LABEL
    )]
    NoProject(String),
    #[error("the project's ProjectSettings are not valid: {0}")]
    Invalid(String),
}

impl NoPolicy {
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::NoProject(_) => "NoProject",
            Self::Invalid(_) => "SettingsInvalid",
        }
    }
}

impl Projects {
    /// The copies, and the task that keeps them.
    pub(crate) fn follow(
        client: Client,
        shutdown: Shutdown,
    ) -> (Self, impl Future<Output = io::Result<()>> + Send + 'static) {
        let (namespaces, of_namespaces) = reflector::store();
        let kind = kinds::settings();
        let of_settings = reflector::store::Writer::new(kind.clone());
        let settings = of_settings.as_reader();
        let label = format!("{}=true", kinds::PROJECT_LABEL);
        let config = watcher::Config::default().labels(&label);
        let follow_namespaces = watcher(Api::<Namespace>::all(client.clone()), config)
            .default_backoff()
            .reflect(of_namespaces)
            .for_each(|event| async move { complain(event.err()) });
        let all = Api::<DynamicObject>::all_with(client, &kind);
        let follow_settings = watcher(all, watcher::Config::default())
            .default_backoff()
            .reflect(of_settings)
            .for_each(|event| async move { complain(event.err()) });
        let follow = async move {
            tokio::select! {
                () = follow_namespaces => {}
                () = follow_settings => {}
                () = shutdown.requested() => {}
            }
            Ok(())
        };
        (Self { namespaces, settings }, follow)
    }

    /// Waits until both were read once.
    pub(crate) async fn read(&self) {
        let _ = tokio::join!(self.namespaces.wait_until_ready(), self.settings.wait_until_ready());
    }

    pub(crate) fn policy(&self, namespace: &str) -> Result<ProjectPolicy, NoPolicy> {
        if self.namespaces.get(&ObjectRef::new(namespace)).is_none() {
            return Err(NoPolicy::NoProject(namespace.to_owned()));
        }
        let invalid = |error: resources::Invalid| NoPolicy::Invalid(error.to_string());
        let reference = ObjectRef::new_with(project::NAME, kinds::settings()).within(namespace);
        let spec = match self.settings.get(&reference) {
            Some(object) => {
                let spec = object.data.get("spec").cloned().unwrap_or_else(|| json!({}));
                project::read(&spec).map_err(invalid)?.spec
            }
            None => ProjectSettingsSpec::default(),
        };
        ProjectPolicy::try_from(spec).map_err(invalid)
    }
}

fn complain(error: Option<watcher::Error>) {
    if let Some(error) = error {
        tracing::warn!(error = %telemetry::field::chain(&error), "projects are not followed for now");
    }
}
