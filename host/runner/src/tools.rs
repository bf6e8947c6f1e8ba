//! The plugins that a session was bound to, and the tools that they offer.
//!
//! Native code is fetched and loaded when it is first needed (or earlier, in the background): a manifest is enough to
//! tell the model of a tool.

use crate::http::Http;
use ed25519_dalek::VerifyingKey;
use engine::{CallFailure, Engine, Plugin};
use jsonschema::Validator;
use manifest::Manifest;
use model::{
    event::Blame,
    grant::{self, EffectSet, effects},
    id::{Digest, PersonaKey, ToolName},
    message::ToolSpec,
};
use protocol::control::{Binding, PluginBinding};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::{Notify, OnceCell};

pub struct Toolbox {
    tools: BTreeMap<String, Arc<Tool>>,
    personas: Vec<Arc<Bound>>,
    spare_time: Notify,
}

pub struct Tool {
    pub declared: manifest::Tool,
    pub bound: Arc<Bound>,
    /// What one call of it may do at all.
    pub grants: EffectSet,
    validator: OnceLock<Result<Validator, String>>,
}

/// A plugin of this session.
pub struct Bound {
    pub binding: PluginBinding,
    pub manifest: Manifest,
    /// Once true, for good.
    revoked: AtomicBool,
    loader: Loader,
    plugin: OnceCell<Plugin>,
}

/// Where native code comes from and what it is checked with.
#[derive(Clone)]
pub struct Loader {
    pub http: Http,
    pub engine: Engine,
    pub key: VerifyingKey,
}

impl Toolbox {
    /// A plugin whose manifest this runner cannot read offers nothing; a tool that two plugins offer is the first one's.
    #[must_use]
    pub fn new(binding: &Binding, loader: &Loader) -> Self {
        let mut toolbox = Self { tools: BTreeMap::new(), personas: Vec::new(), spare_time: Notify::new() };
        for plugin in &binding.plugins {
            let manifest: Manifest = match serde_json::from_value(plugin.manifest.clone()) {
                Ok(manifest) => manifest,
                Err(error) => {
                    tracing::warn!(plugin = %plugin.id, %error, "a manifest cannot be read; its plugin is left out");
                    continue;
                }
            };
            let revoked = AtomicBool::new(binding.policy.revoked.contains(&plugin.digest));
            let (binding, loader) = (plugin.clone(), loader.clone());
            toolbox.add(Arc::new(Bound { binding, manifest, revoked, loader, plugin: OnceCell::new() }));
        }
        toolbox
    }

    fn add(&mut self, bound: Arc<Bound>) {
        let asked: EffectSet = bound.manifest.asks.iter().map(|ask| ask.effect.clone()).collect();
        for tool in &bound.manifest.tools {
            let grants = grant::grant(&tool.effects, &asked, &bound.binding.granted);
            let (declared, bound, validator) = (tool.clone(), bound.clone(), OnceLock::new());
            let tool = Tool { declared, bound, grants, validator };
            self.tools.entry(tool.declared.name.to_string()).or_insert_with(|| Arc::new(tool));
        }
        if bound.manifest.persona.is_some() {
            self.personas.push(bound);
        }
    }

    /// The model is at work, and this process has nothing to do.
    pub fn has_spare_time(&self) {
        self.spare_time.notify_one();
    }

    /// Fetches and loads everything in the first spare time, so that the first calls need not wait and the first request
    /// of the model does not either. What fails is told by the call that needs it.
    pub async fn load(&self) {
        self.spare_time.notified().await;
        let bound = self.tools.values().map(|tool| &tool.bound).chain(&self.personas);
        futures::future::join_all(bound.map(|bound| bound.plugin())).await;
    }

    /// Nothing of these runs any more; a call under way ends as it would.
    pub fn revoke(&self, digests: &[Digest]) {
        let all = self.tools.values().map(|tool| &tool.bound).chain(&self.personas);
        for bound in all.filter(|bound| digests.contains(&bound.binding.digest)) {
            bound.revoked.store(true, Ordering::Relaxed);
        }
    }

    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Arc<Tool>> {
        self.tools.get(name)
    }

    #[must_use]
    pub fn persona(&self, key: &PersonaKey) -> Option<&Arc<Bound>> {
        self.personas.iter().find(|bound| bound.manifest.persona.as_ref().is_some_and(|p| p.key == *key))
    }

    /// What the model is told of, in a fixed order. `wanted: None` is all.
    #[must_use]
    pub fn specs(&self, wanted: Option<&[ToolName]>, only_reading: bool) -> Vec<ToolSpec> {
        let is_wanted = |tool: &Tool| {
            wanted.is_none_or(|wanted| wanted.contains(&tool.declared.name))
                && (!only_reading || tool.only_reads())
        };
        let spec = |tool: &Arc<Tool>| ToolSpec {
            name: tool.declared.name.to_string(),
            description: tool.declared.description.clone(),
            input_schema: tool.declared.input_schema.clone(),
        };
        self.tools.values().filter(|tool| is_wanted(tool)).map(spec).collect()
    }
}

impl Tool {
    /// Why a call failed, with what it was not given: a tool that finds no folder cannot know that it was kept from it.
    #[must_use]
    pub fn explained(&self, message: &str) -> String {
        let missing: Vec<&str> =
            self.declared.effects.difference(&self.grants).map(|effect| effect.as_str()).collect();
        if missing.is_empty() {
            return message.to_owned();
        }
        let (id, missing) = (&self.bound.binding.id, missing.join(", "));
        format!(
            "{message}\n(not granted to the plugin {id}: {missing}. Somebody may look at what it asks for: vteam plugins approve {id})"
        )
    }

    /// Whether a call of it leaves anything behind that a repetition would double.
    #[must_use]
    pub fn has_effects(&self) -> bool {
        self.grants.iter().any(|effect| ![effects::FS_READ, effects::STATE].contains(&effect.as_str()))
    }

    #[must_use]
    pub fn runs_programs(&self) -> bool {
        self.grants.iter().any(|effect| effect.as_str() == effects::PROCESS)
    }

    fn only_reads(&self) -> bool {
        self.declared.effects.iter().all(|effect| effect.as_str() == effects::FS_READ)
    }

    /// Checks input against the tool's schema.
    ///
    /// # Errors
    /// What the model has to mend.
    pub fn check(&self, input: &Value) -> Result<(), String> {
        let compile =
            || jsonschema::validator_for(&self.declared.input_schema).map_err(|error| error.to_string());
        let validator = self.validator.get_or_init(compile);
        match validator {
            Ok(validator) => check(validator, input),
            Err(error) => Err(format!("The schema of this tool cannot be used: {error}")),
        }
    }
}

/// All that is wrong with a value, each with its place.
///
/// # Errors
/// The list, one line each, at most ten.
pub fn check(validator: &Validator, value: &Value) -> Result<(), String> {
    let wrong: Vec<String> = validator
        .iter_errors(value)
        .take(10)
        .map(|error| {
            let place = error.instance_path().to_string();
            if place.is_empty() { format!("- {error}") } else { format!("- {place}: {error}") }
        })
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

impl Bound {
    /// The loaded plugin.
    ///
    /// # Errors
    /// When it is revoked, cannot be fetched, or is not what was signed.
    pub async fn plugin(&self) -> Result<&Plugin, CallFailure> {
        let setup = |message: String| CallFailure { blame: Blame::Setup, message };
        if self.revoked.load(Ordering::Relaxed) {
            let message = format!("the plugin {} was revoked: do without its tools", self.binding.id);
            return Err(setup(message));
        }
        self.plugin
            .get_or_try_init(|| async {
                let Loader { http, engine, key } = &self.loader;
                let native = http.blob(&self.binding.artifact.statement.artifact).await;
                let native = native
                    .map_err(|e| setup(format!("the plugin {} cannot be fetched: {e}", self.binding.id)))?;
                let PluginBinding { artifact, digest, .. } = &self.binding;
                let loaded = engine.load(&native, artifact, key, digest, self.manifest.clone());
                loaded.map_err(|e| setup(format!("the plugin {} cannot be loaded: {e}", self.binding.id)))
            })
            .await
    }
}

/// Names for an error message.
#[must_use]
pub fn names(specs: &[ToolSpec]) -> String {
    let names: BTreeSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}
