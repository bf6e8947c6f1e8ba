//! Projects: namespaces with a label, and the ProjectSettings in each.

use crate::{MANAGER, callers::Clients};
use futures::{StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, PostParams},
    core::DynamicObject,
    runtime::{WatchStreamExt as _, watcher},
};
use model::id::{ProjectName, ProjectUid};
use resources::{ProjectPolicy, ProjectSettings, ProjectSettingsSpec, authority::SESSIONS, project};
use serde_json::{Value, json};
use server::{
    access::Access,
    problem::Problem,
    sessions::Caller,
    settings::{Project, Projects, SettingsError},
};
use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use telemetry::Shutdown;
use tokio::sync::Notify;

/// What makes a namespace a project.
pub(crate) const LABEL: &str = "vteam.ambient-code/project";

/// Of a write, where somebody else writes to the same object.
const TRIES: u32 = 4;

/// Projects that a caller is reviewed for at once, where all are listed.
const AT_ONCE: usize = 16;

pub(crate) struct Namespaces {
    clients: Arc<Clients>,
    seen: Mutex<Seen>,
    /// A project, or its settings, changed.
    pub(crate) news: Notify,
}

#[derive(Default)]
struct Seen {
    labelled: HashMap<ProjectName, ProjectUid>,
    settings: HashMap<ProjectName, Arc<Project>>,
    /// Of settings that are not valid and never were.
    invalid: HashMap<ProjectName, String>,
    /// Which of the two lists were read.
    read: (bool, bool),
}

impl Namespaces {
    pub(crate) fn new(clients: Arc<Clients>) -> Self {
        Self { clients, seen: Mutex::default(), news: Notify::new() }
    }

    /// Which projects there are, before anybody asks: what is stored may be of others that had their names.
    pub(crate) async fn look(&self, client: &Client) -> kube::Result<()> {
        let labelled = ListParams::default().labels(&format!("{LABEL}=true"));
        let there = Api::<Namespace>::all(client.clone()).list(&labelled).await?;
        self.seen().labelled = there.iter().filter_map(project_of).collect();
        Ok(())
    }

    /// Waits until all projects and settings were read once.
    pub(crate) async fn read(&self) {
        loop {
            let news = self.news.notified();
            if self.seen().read == (true, true) {
                return;
            }
            news.await;
        }
    }

    /// Which namespaces are projects now.
    pub(crate) fn labelled(&self) -> HashSet<ProjectName> {
        self.seen().labelled.keys().cloned().collect()
    }

    pub(crate) async fn follow(self: Arc<Self>, client: Client, shutdown: Shutdown) -> io::Result<()> {
        tokio::select! {
            () = self.follow_namespaces(client.clone()) => {}
            () = self.follow_settings(client) => {}
            () = shutdown.requested() => {}
        }
        Ok(())
    }

    async fn follow_namespaces(&self, client: Client) {
        let config = watcher::Config::default().labels(&format!("{LABEL}=true"));
        let mut events = kinds::watch::<Namespace>(Api::all(client), config).default_backoff().boxed();
        let mut listed = HashMap::new();
        while let Some(event) = events.next().await {
            let mut seen = self.seen();
            match event {
                Ok(watcher::Event::Init) => listed.clear(),
                Ok(watcher::Event::InitApply(namespace)) => listed.extend(project_of(&namespace)),
                Ok(watcher::Event::InitDone) => {
                    seen.labelled = std::mem::take(&mut listed);
                    seen.read.0 = true;
                }
                Ok(watcher::Event::Apply(namespace)) => seen.labelled.extend(project_of(&namespace)),
                Ok(watcher::Event::Delete(namespace)) => {
                    if let Ok(name) = namespace.name_any().parse() {
                        seen.labelled.remove::<ProjectName>(&name);
                    }
                }
                Err(error) => {
                    tracing::warn!(error = %telemetry::field::chain(&error), "projects are not followed for now")
                }
            }
            drop(seen);
            self.news.notify_waiters();
        }
    }

    async fn follow_settings(&self, client: Client) {
        let kind = kinds::settings();
        let api = Api::all_with(client, &kind);
        let events = kinds::watch::<DynamicObject>(api, watcher::Config::default());
        let mut events = events.default_backoff().boxed();
        let mut listed = Vec::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => listed.clear(),
                Ok(watcher::Event::InitApply(object)) => listed.push(object),
                Ok(watcher::Event::InitDone) => {
                    let there: HashSet<ProjectName> = listed.iter().filter_map(of).collect();
                    let mut seen = self.seen();
                    seen.settings.retain(|name, _| there.contains(name));
                    seen.invalid.retain(|name, _| there.contains(name));
                    listed.drain(..).for_each(|object| seen.take(&object));
                    seen.read.1 = true;
                }
                Ok(watcher::Event::Apply(object)) => self.seen().take(&object),
                Ok(watcher::Event::Delete(object)) => {
                    if let Some(name) = of(&object) {
                        let mut seen = self.seen();
                        seen.settings.remove(&name);
                        seen.invalid.remove(&name);
                    }
                }
                Err(error) => {
                    tracing::warn!(error = %telemetry::field::chain(&error), "settings are not followed for now")
                }
            }
            self.news.notify_waiters();
        }
    }

    /// What is written was made of what was seen: a grant does not undo what somebody else changed a moment ago.
    fn same_as_seen(&self, name: &ProjectName, present: &DynamicObject) -> Result<(), SettingsError> {
        // What is not valid may be repaired.
        let Ok(present) = read(name, present) else { return Ok(()) };
        let seen = self.seen().settings.get(name).map(|project| project.settings.spec.clone());
        if seen.unwrap_or_default() == present.settings.spec {
            return Ok(());
        }
        let text = "the project's settings were changed just now: look at them again, then repeat it";
        Err(SettingsError::Elsewhere(text.to_owned()))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(
        &self,
        caller: &Caller,
        name: &ProjectName,
        spec: ProjectSettingsSpec,
    ) -> Result<Arc<Project>, SettingsError> {
        let policy = policy_of(spec.clone())?;
        let client = self.clients.of(caller).map_err(answered)?;
        let kind = kinds::settings();
        let api = kinds::api(client, name.as_str(), &kind);
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        for left in (0..TRIES).rev() {
            let written = match api.get_opt(project::NAME).await.map_err(said)? {
                Some(mut present) => {
                    self.same_as_seen(name, &present)?;
                    let mut written = present.data.get("spec").cloned().unwrap_or_default();
                    carry(&mut written, &written_as(name, &present), &json!(spec));
                    present.data = json!({"spec": written});
                    api.replace(project::NAME, &params, &present).await
                }
                None => {
                    let mut object = DynamicObject::new(project::NAME, &kind).within(name.as_str());
                    let mut written = json!({});
                    carry(&mut written, &json!(ProjectSettingsSpec::default()), &json!(spec));
                    object.data = json!({"spec": written});
                    api.create(&params, &object).await
                }
            };
            match written {
                // Its status was written in between, for one: what it says was not.
                Err(kube::Error::Api(answer)) if answer.code == 409 && left > 0 => {}
                written => {
                    written.map_err(said)?;
                    break;
                }
            }
        }
        let project = Arc::new(Project { name: name.clone(), settings: ProjectSettings::new(spec), policy });
        self.seen().settings.insert(name.clone(), Arc::clone(&project));
        Ok(project)
    }
}

impl Seen {
    fn take(&mut self, object: &DynamicObject) {
        let Some(name) = of(object) else { return };
        match read(&name, object) {
            Ok(project) => {
                self.invalid.remove(&name);
                self.settings.insert(name, Arc::new(project));
            }
            Err(why) => {
                // The last valid ones stay in force. Its people are told by its conditions; it is nobody else's matter.
                tracing::warn!(project = %name, why, "a project's settings are not valid");
                if !self.settings.contains_key(&name) {
                    self.invalid.insert(name, why);
                }
            }
        }
    }
}

/// What the object says, in the form in which settings are written; as it is where it cannot be read.
fn written_as(name: &ProjectName, object: &DynamicObject) -> Value {
    match read(name, object) {
        Ok(project) => json!(project.settings.spec),
        Err(_) => object.data.get("spec").cloned().unwrap_or_else(|| json!({})),
    }
}

/// Carries over into `present` what differs: a field that stays is left as somebody wrote it, and so not ours.
fn carry(present: &mut Value, before: &Value, after: &Value) {
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        present.clone_from(after);
        return;
    };
    if !present.is_object() {
        *present = json!({});
    }
    let Some(fields) = present.as_object_mut() else { return };
    fields.retain(|field, _| new.contains_key(field) || !old.contains_key(field));
    for (field, value) in new.iter().filter(|(field, value)| old.get(*field) != Some(*value)) {
        carry(fields.entry(field).or_insert(Value::Null), old.get(field).unwrap_or(&Value::Null), value);
    }
}

fn project_of(namespace: &Namespace) -> Option<(ProjectName, ProjectUid)> {
    Some((namespace.name_any().parse().ok()?, namespace.uid()?.parse().ok()?))
}

/// Whose settings these are.
fn of(object: &DynamicObject) -> Option<ProjectName> {
    if object.name_any() != project::NAME {
        return None;
    }
    object.namespace()?.parse().ok()
}

fn read(name: &ProjectName, object: &DynamicObject) -> Result<Project, String> {
    let spec = object.data.get("spec").cloned().unwrap_or_else(|| json!({}));
    let document = json!({"apiVersion": resources::API_VERSION, "kind": "ProjectSettings", "spec": spec});
    let settings = project::read(&document).map_err(|error| error.to_string())?;
    let policy = policy_of(settings.spec.clone()).map_err(|error| error.to_string())?;
    Ok(Project { name: name.clone(), settings, policy })
}

/// A project of which nobody wrote settings.
fn unwritten(name: &ProjectName) -> Result<Project, SettingsError> {
    let spec = ProjectSettingsSpec::default();
    let policy = policy_of(spec.clone())?;
    Ok(Project { name: name.clone(), settings: ProjectSettings::new(spec), policy })
}

fn said(error: kube::Error) -> SettingsError {
    let problem = crate::callers::refused(&error);
    if problem.status == 404 { SettingsError::NotFound } else { answered(problem) }
}

fn answered(problem: Problem) -> SettingsError {
    SettingsError::Answered(Box::new(problem))
}

impl Projects for Namespaces {
    fn get(&self, name: &ProjectName) -> Result<Arc<Project>, SettingsError> {
        let seen = self.seen();
        if !seen.labelled.contains_key(name) {
            return Err(SettingsError::NotFound);
        }
        if let Some(project) = seen.settings.get(name) {
            return Ok(Arc::clone(project));
        }
        if let Some(why) = seen.invalid.get(name) {
            let path = format!("{name}/{}", project::NAME).into();
            return Err(SettingsError::Unreadable { path, why: why.clone() });
        }
        unwritten(name).map(Arc::new)
    }

    fn uid(&self, name: &ProjectName) -> Option<ProjectUid> {
        self.seen().labelled.get(name).cloned()
    }

    fn read<'a>(
        &'a self,
        caller: &'a Caller,
        name: &'a ProjectName,
    ) -> BoxFuture<'a, Result<Arc<Project>, SettingsError>> {
        Box::pin(async move {
            let in_force = self.get(name)?;
            let api =
                kinds::api(self.clients.of(caller).map_err(answered)?, name.as_str(), &kinds::settings());
            let written = api.get_opt(project::NAME).await.map_err(said)?;
            match written.map(|object| read(name, &object)) {
                None => unwritten(name).map(Arc::new),
                Some(Ok(project)) => Ok(Arc::new(project)),
                // Not in force: the last valid ones are.
                Some(Err(_)) => Ok(in_force),
            }
        })
    }

    fn list<'a>(&'a self, caller: &'a Caller) -> BoxFuture<'a, Result<Vec<ProjectName>, SettingsError>> {
        Box::pin(async move {
            let mut names: Vec<ProjectName> = self.seen().labelled.keys().cloned().collect();
            names.sort();
            let asked = names.into_iter().map(async |name| {
                let access = Access { verb: "list", resource: SESSIONS, project: name.clone(), name: None };
                let may = self.clients.may(caller, &access).await;
                may.map(|may| may.then_some(name)).map_err(answered)
            });
            let mine = stream::iter(asked).buffered(AT_ONCE);
            mine.try_filter_map(async |name| Ok(name)).try_collect().await
        })
    }

    fn create<'a>(
        &'a self,
        _caller: &'a Caller,
        name: &'a ProjectName,
        _spec: ProjectSettingsSpec,
    ) -> BoxFuture<'a, Result<Arc<Project>, SettingsError>> {
        let text = format!(
            "a project is a namespace here: kubectl create namespace {name} && kubectl label namespace {name} {LABEL}=true"
        );
        Box::pin(async move { Err(SettingsError::Elsewhere(text)) })
    }

    fn put<'a>(
        &'a self,
        caller: &'a Caller,
        name: &'a ProjectName,
        spec: ProjectSettingsSpec,
    ) -> BoxFuture<'a, Result<Arc<Project>, SettingsError>> {
        Box::pin(self.write(caller, name, spec))
    }

    fn remove<'a>(
        &'a self,
        _caller: &'a Caller,
        name: &'a ProjectName,
    ) -> BoxFuture<'a, Result<(), SettingsError>> {
        let text = format!("a project is a namespace here: kubectl label namespace {name} {LABEL}-");
        Box::pin(async move { Err(SettingsError::Elsewhere(text)) })
    }
}

/// What has no effect on one machine alone has one here.
fn policy_of(
    spec: ProjectSettingsSpec,
) -> Result<ProjectPolicy, <ProjectPolicy as TryFrom<ProjectSettingsSpec>>::Error> {
    let mut policy = ProjectPolicy::try_from(spec)?;
    policy.warnings.retain(|warning| !project::OF_ONE_MACHINE.contains(&warning.reason.as_str()));
    Ok(policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_is_left_as_it_is() {
        let check = |present: Value, before: Value, after: Value, expected: Value| {
            let mut carried = present.clone();
            carry(&mut carried, &before, &after);
            assert_eq!(carried, expected, "{present} {before} {after}");
        };
        // As somebody wrote it, and in the form in which settings are written.
        let present = json!({"displayName": "P", "plugins": {"revoked": ["x"]}, "maxBudget": 1});
        let before =
            json!({"displayName": "P", "plugins": {"grants": [], "revoked": ["x"]}, "maxBudget": 1.0});
        check(present.clone(), before.clone(), before.clone(), present.clone());
        check(
            present.clone(),
            before.clone(),
            json!({"displayName": "P", "plugins": {"grants": ["g"], "revoked": ["x"]}}),
            json!({"displayName": "P", "plugins": {"grants": ["g"], "revoked": ["x"]}}),
        );
        let settings = json!({"plugins": {"settings": {"acme.a": {"proxy": null}}}});
        check(json!({}), json!({"plugins": {}}), settings.clone(), settings.clone());
        check(Value::Null, json!({}), settings.clone(), settings);
        check(present, json!(7), before.clone(), before);
    }

    // A client of kube wants a runtime.
    #[tokio::test]
    async fn what_somebody_else_changed_meanwhile_is_not_undone() {
        let config = kube::Config::new("http://localhost".parse().unwrap());
        let namespaces = Namespaces::new(Arc::new(Clients::new(config).unwrap()));
        let name: ProjectName = "p".parse().unwrap();
        let object = |spec: serde_json::Value| {
            let mut object = DynamicObject::new(project::NAME, &kinds::settings()).within("p");
            object.data = json!({"spec": spec});
            object
        };
        let check = |what: &str, present: serde_json::Value, fine: bool| {
            assert_eq!(namespaces.same_as_seen(&name, &object(present)).is_ok(), fine, "{what}");
        };
        check("nobody saw any", json!({}), true);
        let revoked = json!({"plugins": {"revoked": [model::id::Digest::of(b"a")]}});
        check("made meanwhile", revoked.clone(), false);
        namespaces.seen().take(&object(json!({"displayName": "P", "plugins": {}})));
        check("as it was seen", json!({"displayName": "P"}), true);
        check("changed meanwhile", revoked, false);
        check("not valid: it may be repaired", json!({"displayName": 7}), true);
    }
}
