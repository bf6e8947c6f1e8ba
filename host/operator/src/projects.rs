//! Projects: namespaces with a label, and the ProjectSettings in each.

use crate::sessions::{Project, Wake};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt,
    core::DynamicObject,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use resources::{ProjectPolicy, ProjectSettingsSpec, project};
use serde_json::json;
use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};
use telemetry::{Shutdown, field::chain};
use tokio::sync::{mpsc, watch};

pub(crate) struct Projects {
    seen: Mutex<Seen>,
    /// Whether namespaces and settings were read once.
    read: watch::Sender<(bool, bool)>,
    wake: mpsc::UnboundedSender<Wake>,
}

#[derive(Default)]
struct Seen {
    labelled: HashSet<String>,
    settings: HashMap<String, Project>,
}

impl Projects {
    pub(crate) fn new(wake: mpsc::UnboundedSender<Wake>) -> Self {
        Self { seen: Mutex::default(), read: watch::Sender::new((false, false)), wake }
    }

    pub(crate) fn of(&self, namespace: &str) -> Project {
        let seen = self.seen();
        if !seen.labelled.contains(namespace) {
            return Project::None;
        }
        seen.settings.get(namespace).cloned().unwrap_or_else(unset)
    }

    /// Until both were read once: nothing is judged by half of it.
    pub(crate) async fn until_read(&self) {
        // The sender is ours, so it is never closed.
        let _ = self.read.subscribe().wait_for(|read| *read == (true, true)).await;
    }

    pub(crate) async fn follow_namespaces(&self, client: Client, shutdown: Shutdown) {
        let config = watcher::Config::default().labels(&format!("{}=true", kinds::PROJECT_LABEL));
        let mut events = kinds::watch::<Namespace>(Api::all(client), config).default_backoff().boxed();
        let mut listed = HashSet::new();
        while let Some(Some(event)) = shutdown.or(events.next()).await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(namespace)) => drop(listed.insert(namespace.name_any())),
                Ok(Event::InitDone) => {
                    self.seen().labelled = std::mem::take(&mut listed);
                    self.read.send_modify(|read| read.0 = true);
                    self.wake(Wake::All);
                }
                Ok(Event::Apply(namespace)) => {
                    if self.seen().labelled.insert(namespace.name_any()) {
                        self.wake(Wake::Namespace(namespace.name_any()));
                    }
                }
                Ok(Event::Delete(namespace)) => {
                    self.seen().labelled.remove(&namespace.name_any());
                    self.wake(Wake::Namespace(namespace.name_any()));
                }
                Err(error) => tracing::warn!(error = %chain(&error), "projects are not followed for now"),
            }
        }
    }

    pub(crate) async fn follow_settings(&self, client: Client, shutdown: Shutdown) {
        let api = Api::all_with(client, &kinds::settings());
        let events = kinds::watch::<DynamicObject>(api, watcher::Config::default());
        let mut events = events.default_backoff().boxed();
        let mut listed = Vec::new();
        while let Some(Some(event)) = shutdown.or(events.next()).await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(object)) => listed.push(object),
                Ok(Event::InitDone) => {
                    let there: HashSet<String> = listed.iter().filter_map(of).collect();
                    self.seen().settings.retain(|namespace, _| there.contains(namespace));
                    listed.drain(..).for_each(|object| self.take(&object));
                    self.read.send_modify(|read| read.1 = true);
                    self.wake(Wake::All);
                }
                Ok(Event::Apply(object)) => {
                    self.take(&object);
                    of(&object).into_iter().for_each(|namespace| self.wake(Wake::Namespace(namespace)));
                }
                Ok(Event::Delete(object)) => {
                    if let Some(namespace) = of(&object) {
                        self.seen().settings.remove(&namespace);
                        self.wake(Wake::Namespace(namespace));
                    }
                }
                Err(error) => tracing::warn!(error = %chain(&error), "settings are not followed for now"),
            }
        }
    }

    fn take(&self, object: &DynamicObject) {
        let Some(namespace) = of(object) else { return };
        let mut seen = self.seen();
        match settings(object).and_then(policy) {
            Ok(policy) => drop(seen.settings.insert(namespace, Project::Policy(Box::new(policy)))),
            // The last valid ones stay in force, as they do for the server.
            Err(why) => drop(seen.settings.entry(namespace).or_insert(Project::Unreadable(why))),
        }
    }

    fn wake(&self, wake: Wake) {
        // Nobody listens only at the end.
        let _ = self.wake.send(wake);
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose settings these are.
fn of(object: &DynamicObject) -> Option<String> {
    (object.name_any() == project::NAME).then(|| object.namespace())?
}

/// What the settings say.
///
/// # Errors
/// Each field that is wrong.
pub(crate) fn settings(object: &DynamicObject) -> Result<ProjectSettingsSpec, String> {
    let spec = object.data.get("spec").cloned().unwrap_or_else(|| json!({}));
    let document = json!({"apiVersion": resources::API_VERSION, "kind": "ProjectSettings", "spec": spec});
    Ok(project::read(&document).map_err(|error| error.to_string())?.spec)
}

/// What they mean.
///
/// # Errors
/// As [`settings`].
pub(crate) fn policy(spec: ProjectSettingsSpec) -> Result<ProjectPolicy, String> {
    ProjectPolicy::try_from(spec).map_err(|error| error.to_string())
}

/// Of a project without settings.
fn unset() -> Project {
    match policy(ProjectSettingsSpec::default()) {
        Ok(policy) => Project::Policy(Box::new(policy)),
        Err(why) => Project::Unreadable(why),
    }
}
