//! Plugins by digest: the first-party ones beside the binaries, and what others add: in the drop folder of one machine,
//! where uploads go too, or wherever somebody says so with [`Catalogue::stock`].
//!
//! Presence is not capability. A first-party plugin is granted what it asks; any other one that asks for something
//! runs with nothing until the project's settings grant its digest. What is refused or kept at its last good version is shown.

mod added;
mod folder;
mod kept;
mod material;
mod native;
mod rules;
mod shelf;
mod sweep;

pub use added::{Added, RemoveError, UploadError};
pub use material::{Around, Models};
pub use native::{CompileError, Key, KeyError};
pub use rules::Verdict;
pub use shelf::{Package, Read, Scope};

use crate::settings::Project;
use bytes::Bytes;
use folder::Folder;
use kept::Kept;
use manifest::Manifest;
use model::{
    grant::EffectSet,
    id::{Digest, PersonaKey, PluginId, ProjectName},
};
use native::Native;
use resources::ProjectPolicy;
use rules::Ruled;
use shelf::Shelf;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use telemetry::{Health, Shutdown};
use tokio::sync::{Notify, watch};

/// Bytes of one component.
pub const MAX_COMPONENT_BYTES: usize = 16 << 20;

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

/// A package that is not in use as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub file: String,
    pub why: String,
    /// The last good version of it, which stays in use.
    pub kept: Option<Digest>,
}

/// Where the catalogue finds and keeps things.
#[derive(Debug, Clone)]
pub struct Places {
    /// First-party components, read once.
    pub first_party: PathBuf,
    pub added: Added,
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
    added: Result<Mutex<Folder>, &'static str>,
    shelf: Mutex<Shelf>,
    ruled: Mutex<Arc<Ruled>>,
    kept: Arc<Kept>,
    native: Native,
    /// What sessions were given of late.
    given: Mutex<HashMap<Digest, Instant>>,
    /// Parts of the health that are ours, of what is added.
    parts: Mutex<BTreeMap<String, String>>,
    health: Health,
    /// Something is to be compiled.
    stocked: Notify,
    /// Counts what changed.
    changes: watch::Sender<u64>,
}

impl Catalogue {
    /// Reads the folders.
    ///
    /// # Errors
    /// When a folder cannot be read or made. A missing or bad plugin is no error.
    pub fn open(places: Places, key: Key, health: Health) -> io::Result<Self> {
        let Places { first_party, added, native, compiler } = places;
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
        let kept = Arc::new(Kept::open(native.dir().to_owned(), &first)?);
        let catalogue = Self(Arc::new(Inner {
            added: match added {
                Added::Folder(dir) => Ok(Mutex::new(Folder::open(dir)?)),
                Added::Elsewhere(text) => Err(text),
            },
            shelf: Mutex::new(Shelf::open(Arc::clone(&kept))),
            ruled: Mutex::new(Arc::new(rules::rule(&first, vec![]))),
            first,
            kept,
            native,
            given: Mutex::default(),
            parts: Mutex::default(),
            health,
            stocked: Notify::new(),
            changes: watch::Sender::new(0),
        }));
        catalogue.look(true)?;
        Ok(catalogue)
    }

    /// Follows the drop folder, and compiles what is not compiled yet, until shutdown.
    pub async fn follow(self, shutdown: Shutdown) {
        shutdown.or(async { tokio::join!(self.keep_looking(), self.keep_compiling()) }).await;
    }

    async fn keep_compiling(&self) {
        loop {
            let stocked = self.0.stocked.notified();
            self.compile_ahead().await;
            stocked.await;
        }
    }

    /// Counts on when what is in use changed, or what is known of it.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// All that there is in a scope now. What has the same stamp as before is not read again. Blocks.
    pub fn stock(&self, scope: &Scope, packages: Vec<Package>) {
        let mut shelf = lock(&self.0.shelf);
        if shelf.stock(scope, packages) {
            self.rule(shelf);
        }
    }

    /// Forgets what there was in other projects than these. Blocks.
    pub fn keep_projects(&self, projects: &BTreeSet<ProjectName>) {
        let mut shelf = lock(&self.0.shelf);
        if shelf.keep_projects(projects) {
            self.rule(shelf);
        }
    }

    /// What became of the packages of a scope, by name.
    #[must_use]
    pub fn verdicts(&self, scope: &Scope) -> BTreeMap<String, Verdict> {
        let ruled = self.ruled();
        let here = ruled.verdicts.iter().filter(|(slot, _)| slot.scope == *scope);
        here.map(|(slot, verdict)| (slot.name.clone(), verdict.clone())).collect()
    }

    /// Why a plugin in use has no native code, where it never will have any.
    #[must_use]
    pub fn unusable(&self, digest: &Digest) -> Option<String> {
        self.0.native.hopeless(digest)
    }

    /// All plugins that are in use somewhere.
    #[must_use]
    pub fn count(&self) -> usize {
        let ruled = self.ruled();
        ruled.common.len() + ruled.projects.values().map(Vec::len).sum::<usize>()
    }

    /// All plugins in use in a project, first-party ones first.
    #[must_use]
    pub fn plugins(&self, project: &ProjectName) -> Vec<Arc<Plugin>> {
        let ruled = self.ruled();
        let own = ruled.projects.get(project).into_iter().flatten();
        ruled.common.iter().chain(own).cloned().collect()
    }

    /// What the project sees of packages that are not in use as they are.
    #[must_use]
    pub fn refused(&self, project: &ProjectName) -> Vec<Refused> {
        let ruled = self.ruled();
        let seen = ruled.verdicts.iter().filter(|(slot, _)| slot.scope.reaches(project));
        let refused = seen.filter_map(|(slot, verdict)| {
            let kept = verdict.used.as_ref().map(|plugin| plugin.digest.clone());
            Some(Refused { file: slot.name.clone(), why: verdict.refused.clone()?, kept })
        });
        refused.collect()
    }

    #[must_use]
    pub fn plugin(&self, project: &ProjectName, id: &PluginId) -> Option<Arc<Plugin>> {
        self.plugins(project).into_iter().find(|plugin| plugin.manifest.id == *id)
    }

    /// The plugin of this digest: in use in the project, or of an earlier version that a session is pinned to.
    #[must_use]
    pub fn by_digest(&self, project: &ProjectName, digest: &Digest) -> Option<Arc<Plugin>> {
        let now = self.plugins(project).into_iter().chain(self.0.first.iter().cloned());
        let now = now.into_iter().find(|plugin| plugin.digest == *digest);
        now.or_else(|| self.0.kept.read(digest).map(Arc::new))
    }

    /// The persona of this key that sessions of the project may use.
    #[must_use]
    pub fn persona(&self, project: &Project, key: &PersonaKey) -> Option<Arc<Plugin>> {
        self.personas(&project.name, &project.policy).remove(key)
    }

    /// The personas that sessions of the project may use under this policy.
    #[must_use]
    pub fn personas(
        &self,
        project: &ProjectName,
        policy: &ProjectPolicy,
    ) -> BTreeMap<PersonaKey, Arc<Plugin>> {
        let usable = |plugin: &Arc<Plugin>| matches!(plugin.standing(policy), Standing::Granted(_));
        let keyed = |plugin: Arc<Plugin>| Some((plugin.manifest.persona.as_ref()?.key.clone(), plugin));
        self.plugins(project).into_iter().filter(usable).filter_map(keyed).collect()
    }

    fn rule(&self, shelf: MutexGuard<'_, Shelf>) {
        let ruled = Arc::new(rules::rule(&self.0.first, shelf.offers()));
        *lock(&self.0.ruled) = Arc::clone(&ruled);
        self.tell(&ruled);
        drop(shelf);
        self.0.stocked.notify_one();
        self.0.changes.send_modify(|count| *count += 1);
    }

    /// Health names what all see; of a project's own its list of plugins tells.
    fn tell(&self, ruled: &Ruled) {
        let mut parts = BTreeMap::new();
        for (slot, verdict) in &ruled.verdicts {
            let Some(why) = verdict.refused.as_ref().filter(|_| !matches!(slot.scope, Scope::Project(_)))
            else {
                continue;
            };
            let kept = if verdict.used.is_some() { "; its last good version stays in use" } else { "" };
            parts.insert(format!("plugin {}", slot.name), format!("{why}{kept}"));
        }
        let mut before = lock(&self.0.parts);
        for gone in before.keys().filter(|part| !parts.contains_key(*part)) {
            self.0.health.recover(gone);
        }
        for (part, why) in parts.iter().filter(|(part, why)| before.get(*part) != Some(*why)) {
            tracing::warn!(part, why, "a plugin is refused");
            self.0.health.degrade(part, why);
        }
        *before = parts;
    }

    async fn compile_ahead(&self) {
        let ruled = self.ruled();
        let own = ruled.projects.values().flatten().map(|plugin| (plugin, false));
        for (plugin, told) in ruled.common.iter().map(|plugin| (plugin, true)).chain(own) {
            // Each may take long, and another has come in its place meanwhile.
            if !self.is_used(&plugin.digest) {
                continue;
            }
            let part = format!("compiling {}", plugin.manifest.id);
            match self.0.native.artifact(plugin, None).await {
                Ok(_) if told => self.0.health.recover(&part),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(plugin = %plugin.manifest.id, digest = %plugin.digest, %error, "cannot compile");
                    self.0.changes.send_modify(|count| *count += 1);
                    if told {
                        self.0.health.degrade(part, error.to_string());
                    }
                }
            }
        }
    }

    fn is_used(&self, digest: &Digest) -> bool {
        let ruled = self.ruled();
        ruled.common.iter().chain(ruled.projects.values().flatten()).any(|plugin| plugin.digest == *digest)
    }

    fn ruled(&self) -> Arc<Ruled> {
        Arc::clone(&lock(&self.0.ruled))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
