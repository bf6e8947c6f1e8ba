//! Plugins by digest: the first-party ones beside the binaries, and those of the drop folder, where uploads go too.
//!
//! Presence is not capability. A first-party plugin is granted what it asks; any other one that asks for something
//! runs with nothing until the project's settings grant its digest. What is refused or kept at its last good version is shown.

mod folder;
mod material;
mod native;
mod rules;

pub use material::{Around, Models};
pub use native::{CompileError, Key, KeyError};

use bytes::Bytes;
use folder::Folder;
use manifest::Manifest;
use model::{
    grant::EffectSet,
    id::{Digest, PersonaKey, PluginId},
};
use native::Native;
use resources::ProjectPolicy;
use rules::Ruled;
use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use telemetry::{Health, Shutdown};

/// Bytes of one component.
pub const MAX_COMPONENT_BYTES: usize = 16 << 20;

/// How often the drop folder is looked at.
const POLL: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    FirstParty,
    Dropped,
}

/// An admitted plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    pub digest: Digest,
    pub manifest: Manifest,
    pub origin: Origin,
    pub component: Bytes,
}

/// Whether sessions of a project use a plugin, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    Granted(EffectSet),
    /// It asks for something that nobody granted this digest: it runs with nothing.
    Waiting,
    Revoked,
}

impl Plugin {
    #[must_use]
    pub fn standing(&self, policy: &ProjectPolicy) -> Standing {
        let asked = self.manifest.asked();
        if policy.revoked.contains(&self.digest) {
            return Standing::Revoked;
        }
        match (self.origin, policy.grants.get(&self.digest)) {
            (Origin::FirstParty, _) => Standing::Granted(asked),
            (Origin::Dropped, Some(grant)) => Standing::Granted(asked.intersection(grant).cloned().collect()),
            (Origin::Dropped, None) if asked.is_empty() => Standing::Granted(asked),
            (Origin::Dropped, None) => Standing::Waiting,
        }
    }
}

/// A file of the drop folder that is not in use as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub file: String,
    pub why: String,
    /// The last good version of this file, which stays in use.
    pub kept: Option<Digest>,
}

#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error(transparent)]
    NotAdmissible(#[from] manifest::NotAdmissible),
    #[error("{0}")]
    Against(String),
    #[error("the plugin folder cannot be written")]
    Io(#[from] io::Error),
}

#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    #[error("there is no such plugin")]
    NotFound,
    #[error(
        "it is a first-party plugin: it comes with the binaries; revoke its digest in the project's settings instead"
    )]
    FirstParty,
    #[error("the plugin folder cannot be written")]
    Io(#[from] io::Error),
}

/// Where the catalogue finds and keeps things.
#[derive(Debug, Clone)]
pub struct Places {
    /// First-party components, read once.
    pub first_party: PathBuf,
    pub dropped: PathBuf,
    /// Native code, and copies of admitted components.
    pub native: PathBuf,
    /// The compiler's executable.
    pub compiler: PathBuf,
}

/// Clones share one catalogue.
#[derive(Clone)]
pub struct Catalogue(Arc<Inner>);

struct Inner {
    first: Vec<Arc<Plugin>>,
    folder: Mutex<Folder>,
    ruled: Mutex<Arc<Ruled>>,
    native: Native,
    health: Health,
}

impl Catalogue {
    /// Reads both folders.
    ///
    /// # Errors
    /// When a folder cannot be read or made. A missing or bad plugin is no error.
    pub fn open(places: Places, key: Key, health: Health) -> io::Result<Self> {
        let Places { first_party, dropped, native, compiler } = places;
        let native = Native::open(native, compiler, key)?;
        let (first, bad) = folder::first_party(&first_party)?;
        if first.is_empty() {
            health.degrade(
                "plugins",
                format!("there is no first-party plugin in {}: build or install them", first_party.display()),
            );
        }
        for (file, why) in bad {
            health.degrade(format!("plugin {file}"), why);
        }
        let folder = Mutex::new(Folder::open(dropped, native.dir().to_owned())?);
        let catalogue = Self(Arc::new(Inner { first, folder, ruled: Mutex::default(), native, health }));
        catalogue.look(true)?;
        Ok(catalogue)
    }

    /// Follows the drop folder and compiles what is not compiled yet, until shutdown.
    pub async fn follow(self, shutdown: Shutdown) {
        self.compile_ahead().await;
        while shutdown.or(tokio::time::sleep(POLL)).await.is_some() {
            let catalogue = self.clone();
            match tokio::task::spawn_blocking(move || catalogue.look(false)).await {
                Ok(Ok(true)) => self.compile_ahead().await,
                Ok(Ok(false)) | Err(_) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the plugin folder cannot be read"),
            }
        }
    }

    /// All plugins in use, first-party ones first.
    #[must_use]
    pub fn plugins(&self) -> Vec<Arc<Plugin>> {
        self.0.first.iter().chain(self.ruled().plugins.values()).cloned().collect()
    }

    #[must_use]
    pub fn refused(&self) -> Vec<Refused> {
        self.ruled().refused.clone()
    }

    #[must_use]
    pub fn plugin(&self, id: &PluginId) -> Option<Arc<Plugin>> {
        self.plugins().into_iter().find(|plugin| plugin.manifest.id == *id)
    }

    /// The plugin of this digest: in use, or of an earlier version that a session is pinned to.
    #[must_use]
    pub fn by_digest(&self, digest: &Digest) -> Option<Arc<Plugin>> {
        let now = self.plugins().into_iter().find(|plugin| plugin.digest == *digest);
        now.or_else(|| folder::kept(self.0.native.dir(), digest).map(Arc::new))
    }

    /// The persona of this key that sessions of the project may use.
    #[must_use]
    pub fn persona(&self, policy: &ProjectPolicy, key: &PersonaKey) -> Option<Arc<Plugin>> {
        self.personas(policy).remove(key)
    }

    /// The personas that sessions of the project may use.
    #[must_use]
    pub fn personas(&self, policy: &ProjectPolicy) -> BTreeMap<PersonaKey, Arc<Plugin>> {
        let usable = |plugin: &Arc<Plugin>| matches!(plugin.standing(policy), Standing::Granted(_));
        let keyed = |plugin: Arc<Plugin>| Some((plugin.manifest.persona.as_ref()?.key.clone(), plugin));
        self.plugins().into_iter().filter(usable).filter_map(keyed).collect()
    }

    /// Adds a component to the drop folder, if it may be there.
    ///
    /// # Errors
    /// When it is not admissible, against the rules, or cannot be written. Nothing changes then.
    pub fn upload(&self, component: &[u8]) -> Result<Arc<Plugin>, UploadError> {
        let plugin = Arc::new(folder::admit(component, Origin::Dropped)?);
        let folder = self.folder();
        let mut files = folder.files();
        let file = files
            .iter()
            .find(|file| file.good.as_ref().is_some_and(|good| good.manifest.id == plugin.manifest.id))
            .map_or_else(|| format!("{}.wasm", plugin.manifest.id), |file| file.name.clone());
        files.retain(|other| other.name != file);
        rules::against(&self.0.first, &files, &plugin)
            .map_or(Ok(()), |why| Err(UploadError::Against(why)))?;
        if let Some(why) = folder.older(&file, &plugin) {
            return Err(UploadError::Against(why));
        }
        folder.write(&file, component)?;
        drop(folder);
        self.look(true)?;
        Ok(plugin)
    }

    /// Takes a plugin out of the drop folder. Sessions that are pinned to it keep it until its digest is revoked.
    ///
    /// # Errors
    /// When there is none in the drop folder.
    pub fn remove(&self, id: &PluginId) -> Result<(), RemoveError> {
        if self.0.first.iter().any(|plugin| plugin.manifest.id == *id) {
            return Err(RemoveError::FirstParty);
        }
        let mut folder = self.folder();
        let named = |file: &folder::File| file.good.as_ref().is_some_and(|good| good.manifest.id == *id);
        let file = folder.files().into_iter().find(named).ok_or(RemoveError::NotFound)?;
        folder.remove(&file.name)?;
        drop(folder);
        self.look(true)?;
        Ok(())
    }

    /// Looks at the drop folder; whether something changed. `now`: also files that may still be written to.
    fn look(&self, now: bool) -> io::Result<bool> {
        let mut folder = self.folder();
        if !folder.look(now)? {
            return Ok(false);
        }
        let ruled = Arc::new(rules::rule(&self.0.first, folder.files()));
        drop(folder);
        let before =
            std::mem::replace(&mut *self.0.ruled.lock().unwrap_or_else(PoisonError::into_inner), ruled);
        for Refused { file, .. } in &before.refused {
            self.0.health.recover(&format!("plugin {file}"));
        }
        for Refused { file, why, kept } in self.refused() {
            let kept = if kept.is_some() { "; its last good version stays in use" } else { "" };
            tracing::warn!(file, why, "a plugin is refused");
            self.0.health.degrade(format!("plugin {file}"), format!("{why}{kept}"));
        }
        Ok(true)
    }

    async fn compile_ahead(&self) {
        for plugin in self.plugins() {
            let part = format!("compiling {}", plugin.manifest.id);
            match self.0.native.artifact(&plugin, None).await {
                Ok(_) => self.0.health.recover(&part),
                Err(error) => {
                    tracing::warn!(plugin = %plugin.manifest.id, digest = %plugin.digest, %error, "cannot compile");
                    self.0.health.degrade(part, error.to_string());
                }
            }
        }
    }

    fn folder(&self) -> MutexGuard<'_, Folder> {
        self.0.folder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ruled(&self) -> Arc<Ruled> {
        Arc::clone(&self.0.ruled.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
