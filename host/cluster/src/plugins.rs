//! Plugins of the cluster: ConfigMaps with a label, in a project's namespace for that project, in the system's for all.
//!
//! The catalogue decides; this tells it what there is, and tells the ConfigMaps what it decided.

mod packages;
mod verdict;

use crate::projects::Namespaces;
use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::ListParams,
    runtime::{WatchStreamExt as _, watcher},
};
use model::id::ProjectName;
use packages::{Map, Maps, Value};
use server::catalogue::{Catalogue, Scope};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    io,
    sync::Arc,
    time::Duration,
};
use telemetry::{Health, Shutdown};
use tokio::{sync::watch, time::Instant};
use verdict::{ANNOTATION, Said};

/// For people who would add one through the API.
pub(crate) const ADDED: &str = "plugins are ConfigMaps here: in the project's namespace, labelled vteam.ambient-code/plugins=true, with the component under a key that ends in .wasm; see docs/plugins.md";

const LABEL: &str = "vteam.ambient-code/plugins=true";
/// Each may have more than a mebibyte.
const PAGE: u32 = 16;
/// What is applied in one go is judged once.
const TOGETHER: Duration = Duration::from_millis(200);
/// The longest that a change waits for others.
const PATIENCE: Duration = Duration::from_secs(1);
/// Before what could not be said is said again.
const AGAIN: Duration = Duration::from_secs(5);
const AT_ONCE: usize = 8;
const PART: &str = "plugins of the cluster";

pub(crate) struct Follower {
    client: Client,
    catalogue: Catalogue,
    namespaces: Arc<Namespaces>,
    /// The namespace of the system.
    system: String,
    health: Health,
    /// Of projects and of the system.
    found: BTreeMap<String, Maps>,
    projects: HashSet<ProjectName>,
    pending: Pending,
    /// All were listed once: of what is missing before that nobody knows whether it is gone.
    listed: bool,
    /// Nobody has to wait for the catalogue any more.
    read: watch::Sender<bool>,
}

/// What is still to be judged.
#[derive(Default)]
struct Pending {
    namespaces: BTreeSet<String>,
    since: Option<Instant>,
    due: Option<Instant>,
}

impl Pending {
    fn add(&mut self, namespace: &str) {
        self.namespaces.insert(namespace.to_owned());
        self.in_time(TOGETHER);
    }

    /// Each further change puts it off, up to a limit.
    fn in_time(&mut self, pause: Duration) {
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        self.due = Some((now + pause).min(since + pause.max(PATIENCE)));
    }

    fn take(&mut self) -> BTreeSet<String> {
        std::mem::take(self).namespaces
    }
}

impl Follower {
    pub(crate) fn new(
        client: Client,
        catalogue: Catalogue,
        namespaces: Arc<Namespaces>,
        system: String,
        health: Health,
    ) -> Self {
        Self {
            client,
            catalogue,
            namespaces,
            system,
            health,
            found: BTreeMap::new(),
            projects: HashSet::new(),
            pending: Pending::default(),
            listed: false,
            read: watch::Sender::new(false),
        }
    }

    /// True once the catalogue knows what there is, or will not be told.
    pub(crate) fn read(&self) -> watch::Receiver<bool> {
        self.read.subscribe()
    }

    pub(crate) async fn follow(mut self, shutdown: Shutdown) -> io::Result<()> {
        if shutdown.or(self.namespaces.read()).await.is_none() {
            return Ok(());
        }
        self.projects = self.namespaces.labelled();
        let namespaces = Arc::clone(&self.namespaces);
        let config = watcher::Config::default().labels(LABEL).page_size(PAGE);
        let api = Api::all(self.client.clone());
        let mut events = kinds::watch::<ConfigMap>(api, config).default_backoff().boxed();
        let mut listed = HashSet::new();
        let mut changes = self.catalogue.changes();
        loop {
            // Before the look at them: none that come in between are missed.
            let news = namespaces.news.notified();
            self.follow_projects().await;
            let due = self.pending.due.filter(|_| self.listed);
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => self.heed(event, &mut listed).await,
                    None => return Err(io::Error::other("the watch of plugins ended")),
                },
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.judge().await;
                    self.say().await;
                }
                // What the compiler found, say.
                _ = changes.changed() => self.pending.in_time(TOGETHER),
                () = news => {}
                () = shutdown.requested() => return Ok(()),
            }
        }
    }

    async fn heed(
        &mut self,
        event: watcher::Result<watcher::Event<ConfigMap>>,
        listed: &mut HashSet<(String, String)>,
    ) {
        match event {
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(map)) => listed.extend(self.take(map)),
            Ok(watcher::Event::InitDone) => {
                self.listed = true;
                // Also where there is nothing: what was last good there is forgotten.
                self.found.entry(self.system.clone()).or_default();
                for (namespace, maps) in &mut self.found {
                    maps.retain(|name| listed.contains(&(namespace.clone(), name.to_owned())));
                    self.pending.add(namespace);
                }
                self.judge().await;
                let catalogue = self.catalogue.clone();
                let projects = self.found.keys().filter_map(|namespace| namespace.parse().ok()).collect();
                let forget = tokio::task::spawn_blocking(move || catalogue.keep_projects(&projects));
                self.health.recover(PART);
                if forget.await.is_ok() {
                    self.read.send_replace(true);
                }
                self.say().await;
            }
            Ok(watcher::Event::Apply(map)) => drop(self.take(map)),
            Ok(watcher::Event::Delete(map)) => self.gone(&map).await,
            Err(error) => self.not_told(&error),
        }
    }

    fn not_told(&self, error: &watcher::Error) {
        let text = telemetry::field::chain(error);
        tracing::warn!(error = text, "plugins are not followed for now");
        self.health.degrade(PART, format!("the API server does not tell of them: {text}"));
        // Sessions do not wait for what will not come.
        if let watcher::Error::InitialListFailed(kube::Error::Api(answer)) = error
            && answer.code == 403
        {
            self.read.send_replace(true);
        }
    }

    /// Where it was found; nowhere where nobody looks.
    fn take(&mut self, map: ConfigMap) -> Option<(String, String)> {
        let namespace = map.metadata.namespace?;
        self.scope(&namespace)?;
        let name = map.metadata.name?;
        let binary = map.binary_data.into_iter().flatten().map(|(key, value)| (key, Value::new(value.0)));
        // kubectl puts what happens to be valid UTF-8 there.
        let text = map.data.into_iter().flatten().map(|(key, value)| (key, Value::new(value)));
        let known = Map {
            uid: map.metadata.uid.unwrap_or_default(),
            said: map.metadata.annotations.and_then(|mut all| all.remove(ANNOTATION)),
            keys: binary.chain(text).collect(),
        };
        self.pending.add(&namespace);
        self.found.entry(namespace.clone()).or_default().take(&name, known);
        Some((namespace, name))
    }

    async fn gone(&mut self, map: &ConfigMap) {
        let (Some(namespace), Some(name)) = (&map.metadata.namespace, &map.metadata.name) else { return };
        let Some(maps) = self.found.get_mut(namespace) else { return };
        if maps.remove(name) {
            self.list(namespace).await;
        }
        self.pending.add(namespace);
    }

    /// Whom a namespace's plugins reach; `None`: nobody.
    fn scope(&self, namespace: &str) -> Option<Scope> {
        if namespace == self.system {
            return Some(Scope::System);
        }
        let project: ProjectName = namespace.parse().ok()?;
        self.projects.contains(&project).then_some(Scope::Project(project))
    }

    /// What lies in a namespace counts from when it becomes a project, and until it ceases to be one.
    async fn follow_projects(&mut self) {
        let now = self.namespaces.labelled();
        if now == self.projects {
            return;
        }
        let before = std::mem::replace(&mut self.projects, now.clone());
        for project in before.difference(&now) {
            if self.scope(project.as_str()).is_none() && self.found.remove(project.as_str()).is_some() {
                let (catalogue, scope) = (self.catalogue.clone(), Scope::Project(project.clone()));
                let _ = tokio::task::spawn_blocking(move || catalogue.stock(&scope, vec![])).await;
            }
        }
        for project in now.difference(&before) {
            self.list(project.as_str()).await;
        }
    }

    async fn list(&mut self, namespace: &str) {
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), namespace);
        let mut page = ListParams::default().labels(LABEL).limit(PAGE);
        loop {
            match api.list(&page).await {
                Ok(maps) => {
                    page.continue_token = maps.metadata.continue_.filter(|token| !token.is_empty());
                    maps.items.into_iter().for_each(|map| drop(self.take(map)));
                    if page.continue_token.is_none() {
                        return;
                    }
                }
                Err(error) => {
                    let error = telemetry::field::chain(&error);
                    tracing::warn!(namespace, error, "plugins of a namespace cannot be read");
                    return;
                }
            }
        }
    }

    /// Lets the catalogue decide about what changed.
    async fn judge(&mut self) {
        for namespace in self.pending.take() {
            let Some(scope) = self.scope(&namespace) else { continue };
            // Nothing is an answer, too.
            let packages = self.found.get(&namespace).map(Maps::packages).unwrap_or_default();
            let catalogue = self.catalogue.clone();
            let judged = tokio::task::spawn_blocking(move || catalogue.stock(&scope, packages)).await;
            if let Err(error) = judged {
                tracing::error!(namespace, %error, "plugins cannot be judged");
            }
        }
        self.found.retain(|_, maps| !maps.is_empty());
    }

    /// Tells each ConfigMap what it does not say of itself yet.
    async fn say(&mut self) {
        let mut news = Vec::new();
        for (namespace, maps) in &self.found {
            let Some(scope) = self.scope(namespace) else { continue };
            let verdicts = self.catalogue.verdicts(&scope);
            for (name, map) in maps.iter() {
                let said =
                    verdict::said(name, map, &verdicts, |plugin| self.catalogue.unusable(&plugin.digest));
                if map.said.as_deref() != Some(&said.text) {
                    news.push((namespace.clone(), name.clone(), map.uid.clone(), said));
                }
            }
        }
        let client = &self.client;
        let done: Vec<_> = stream::iter(news)
            .map(|(namespace, name, uid, said)| async move {
                let result = verdict::say(client, &namespace, &name, &uid, &said).await;
                (namespace, name, said, result)
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for (namespace, name, said, result) in done {
            self.was_said(&namespace, &name, said, result);
        }
    }

    fn was_said(&mut self, namespace: &str, name: &str, said: Said, result: Result<(), kube::Error>) {
        match result {
            // Gone, or another one by now.
            Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => {}
            Err(error) => {
                let error = telemetry::field::chain(&error);
                tracing::warn!(namespace, name, error, "a verdict is not written yet");
                self.pending.in_time(AGAIN);
                return;
            }
            Ok(()) if said.refused => {
                tracing::info!(namespace, name, verdict = said.text, "plugins are refused")
            }
            Ok(()) => {}
        }
        if let Some(map) = self.found.get_mut(namespace).and_then(|maps| maps.get_mut(name)) {
            map.said = Some(said.text);
        }
    }
}
