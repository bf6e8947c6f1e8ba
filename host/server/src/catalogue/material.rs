//! What a session is bound to: the one answer to what its runner loads, talks to and may do.

use super::{Catalogue, Origin, Plugin, Standing, native::EngineOf};
use crate::{
    broker::{Broker, SET_UP},
    sessions::{Material, Missing, Surroundings, Wanted},
    settings::{Project, Projects},
};
use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use manifest::Kind;
use model::{
    grant::EffectSet,
    id::{Digest, ProjectName, ProjectUid},
    lifecycle::Reason,
};
use protocol::{
    control::{PluginBinding, SessionPolicy},
    exec::Network,
};
use resources::ProcessNetwork;
use std::sync::Arc;
use tokio::sync::watch;

/// The broker, once it is there and until the server closes: sessions are taken up before it, because it keeps its
/// accounts in them.
pub type Models = watch::Receiver<Option<Broker>>;

/// Everything around sessions.
pub struct Around {
    pub catalogue: Catalogue,
    pub projects: Arc<dyn Projects>,
    pub models: Models,
}

impl Surroundings for Around {
    fn material(&self, wanted: Wanted) -> BoxFuture<'_, Result<Material, Missing>> {
        self.gather(wanted).boxed()
    }

    fn uid(&self, project: &ProjectName) -> Option<ProjectUid> {
        self.projects.uid(project)
    }

    fn artifact(&self, digest: Digest) -> BoxFuture<'_, Option<Bytes>> {
        let catalogue = self.catalogue.clone();
        let read = tokio::task::spawn_blocking(move || catalogue.0.native.read(&digest));
        async move { read.await.ok().flatten() }.boxed()
    }

    fn policy(&self, project: ProjectName) -> BoxFuture<'_, SessionPolicy> {
        // Without settings nothing is permitted.
        let policy = self.projects.get(&project).map(|project| session_policy(&project)).unwrap_or_default();
        async move { policy }.boxed()
    }
}

impl Around {
    async fn gather(&self, wanted: Wanted) -> Result<Material, Missing> {
        let project = self
            .projects
            .get(&wanted.project)
            .map_err(|error| missing(Reason::Internal, format!("the project's settings: {error}")))?;
        let mut plugins = Vec::new();
        for (plugin, granted) in self.chosen(&wanted, &project)? {
            plugins.extend(self.binding(&wanted, &project, &plugin, granted).await?);
        }
        let mut models = self.models.clone();
        let there = models.wait_for(Option::is_some).await.ok().and_then(|broker| broker.clone());
        let broker = there.ok_or_else(|| missing(Reason::Internal, "the server is shutting down"))?;
        let model = wanted.model.or_else(|| broker.default_model()).ok_or_else(|| {
            let what = format!(
                "no model is set up: set {SET_UP}, or name one in the project's settings (defaults.model)"
            );
            missing(Reason::ModelUnavailable, what)
        })?;
        broker.reaches(&model).map_err(|failure| missing(Reason::ModelUnavailable, failure.message))?;
        let card = broker.card(&model);
        Ok(Material {
            model,
            context_tokens: card.context_tokens,
            max_output_tokens: wanted.max_output_tokens.unwrap_or(u32::MAX).min(card.max_output_tokens),
            plugins,
            artifact_key: self.catalogue.0.native.public_key(),
            policy: session_policy(&project),
        })
    }

    /// What the session is pinned to; at its first binding, what the project's sessions use now.
    fn chosen(&self, wanted: &Wanted, project: &Project) -> Result<Vec<(Arc<Plugin>, EffectSet)>, Missing> {
        let known: Vec<Arc<Plugin>> = if wanted.pins.is_empty() {
            self.asked_for(wanted, project)?
        } else {
            let pinned = |pin: &model::event::PinnedPlugin| {
                self.catalogue.by_digest(&wanted.project, &pin.digest).ok_or_else(|| {
                    let text = format!(
                        "the plugin {} {} of this session is gone: put it back, or start a new session",
                        pin.id, pin.version
                    );
                    missing(Reason::PluginMissing, text)
                })
            };
            wanted.pins.iter().map(pinned).collect::<Result<_, _>>()?
        };
        known.iter().for_each(|plugin| self.catalogue.give(&plugin.digest));
        let standing = |plugin: Arc<Plugin>| match plugin.standing(&project.policy) {
            Standing::Granted(granted) => Some((plugin, granted)),
            // Presence is not capability: it runs with none, and what it tries is refused where everybody sees it.
            Standing::Waiting => Some((plugin, EffectSet::new())),
            Standing::Revoked => None,
        };
        Ok(known.into_iter().filter_map(standing).collect())
    }

    fn asked_for(&self, wanted: &Wanted, project: &Project) -> Result<Vec<Arc<Plugin>>, Missing> {
        let mut chosen = Vec::new();
        if let Some(key) = &wanted.persona {
            let personas = self.catalogue.personas(&project.name, &project.policy);
            let Some(persona) = personas.get(key) else {
                let known = personas.keys().map(|key| key.as_str()).collect::<Vec<_>>().join(", ");
                return Err(missing(
                    Reason::PersonaMissing,
                    format!("there is no persona {key} here; there are: {known}"),
                ));
            };
            chosen.push(Arc::clone(persona));
        }
        let plugins = self.catalogue.plugins(&project.name);
        for id in wanted.plugins.iter().flatten() {
            if !plugins.iter().any(|plugin| plugin.manifest.id == *id) {
                return Err(missing(
                    Reason::PluginMissing,
                    format!("there is no plugin {id} here: add it, or leave it out of spec.plugins"),
                ));
            }
        }
        let named = |plugin: &Arc<Plugin>| {
            wanted.plugins.as_ref().is_none_or(|ids| ids.contains(&plugin.manifest.id))
        };
        chosen
            .extend(plugins.into_iter().filter(|plugin| plugin.manifest.kind == Kind::Tool && named(plugin)));
        Ok(chosen)
    }

    /// `None`: a plugin of somebody else that does not compile. It is left out and shown as degraded.
    async fn binding(
        &self,
        wanted: &Wanted,
        project: &Project,
        plugin: &Plugin,
        granted: EffectSet,
    ) -> Result<Option<PluginBinding>, Missing> {
        let engine = EngineOf { id: &wanted.engine_id, target: &wanted.target };
        let id = &plugin.manifest.id;
        let artifact = match self.catalogue.0.native.artifact(plugin, Some(engine)).await {
            Ok(artifact) => artifact,
            Err(error) if plugin.origin == Origin::Dropped && wanted.pins.is_empty() => {
                tracing::warn!(plugin = %id, digest = %plugin.digest, %error, "left out of a session");
                return Ok(None);
            }
            Err(error) => return Err(missing(Reason::PluginMissing, format!("the plugin {id}: {error}"))),
        };
        let manifest = serde_json::to_value(&plugin.manifest)
            .map_err(|error| missing(Reason::Internal, format!("the plugin {id}: {error}")))?;
        Ok(Some(PluginBinding {
            id: id.clone(),
            version: plugin.manifest.version.clone(),
            digest: plugin.digest.clone(),
            manifest,
            artifact,
            granted,
            config: project.policy.plugin_settings.get(id).cloned().unwrap_or_else(|| serde_json::json!({})),
        }))
    }
}

fn session_policy(project: &Project) -> SessionPolicy {
    let policy = &project.policy;
    SessionPolicy {
        fetch_hosts: policy.fetch_hosts.clone(),
        process_network: match policy.process_network {
            ProcessNetwork::None => Network::None,
            ProcessNetwork::Loopback => Network::Loopback,
        },
        revoked: policy.revoked.iter().cloned().collect(),
    }
}

fn missing(reason: Reason, message: impl Into<String>) -> Missing {
    Missing { reason, message: message.into() }
}
