//! What others than ourselves offer: the last good version of each, and what is wrong with what is offered now.
//!
//! It does not know where things come from: a source says what there is, with a stamp for each and a way to read it.

use super::{
    Origin, Plugin,
    kept::{Kept, admit},
};
use crate::settings::write;
use bytes::Bytes;
use manifest::{VersionChange, compare};
use model::id::{Digest, ProjectName};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    sync::Arc,
};

/// Survives the server: of each scope, name to the digest of its last good version.
const LAST_GOOD: &str = "last-good.json";

/// Whom a plugin reaches. In this order they are ruled: who comes first has a name that two want.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Where the system itself is installed: all projects. A newer first-party plugin may come this way.
    System,
    /// The drop folder of one machine: all projects.
    Folder,
    /// This project and no other.
    Project(ProjectName),
}

impl Scope {
    /// Whether sessions of this project see what is in it.
    #[must_use]
    pub fn reaches(&self, project: &ProjectName) -> bool {
        match self {
            Self::System | Self::Folder => true,
            Self::Project(only) => only == project,
        }
    }

    fn key(&self) -> String {
        match self {
            Self::System => "system".to_owned(),
            Self::Folder => "folder".to_owned(),
            Self::Project(project) => format!("project {project}"),
        }
    }
}

/// Something that is to be a component.
pub struct Package {
    /// For people, and unique in its scope.
    pub name: String,
    /// What was read under this stamp is not read again.
    pub stamp: String,
    /// Gives the component, or says why there is none.
    pub read: Read,
}

pub type Read = Box<dyn FnOnce() -> Result<Bytes, String> + Send>;

/// Where a package lies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot {
    pub(super) scope: Scope,
    pub(super) name: String,
}

/// A package as far as it was understood.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Offer {
    pub(super) slot: Slot,
    /// What is in it, or was in it when it was last good.
    pub(super) good: Option<Arc<Plugin>>,
    /// What is wrong with what is in it now.
    pub(super) bad: Option<String>,
}

#[derive(Debug)]
struct Held {
    stamp: String,
    good: Option<Arc<Plugin>>,
    bad: Option<String>,
}

type LastGood = BTreeMap<String, BTreeMap<String, Digest>>;

#[derive(Debug)]
pub(super) struct Shelf {
    kept: Arc<Kept>,
    held: BTreeMap<Slot, Held>,
    last_good: LastGood,
}

impl Shelf {
    pub(super) fn open(kept: Arc<Kept>) -> Self {
        let last_good = match fs::read(kept.dir().join(LAST_GOOD)) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_default(),
            Err(_) => LastGood::new(),
        };
        Self { kept, held: BTreeMap::new(), last_good }
    }

    pub(super) fn offers(&self) -> Vec<Offer> {
        let offer = |(slot, held): (&Slot, &Held)| Offer {
            slot: slot.clone(),
            good: held.good.clone(),
            bad: held.bad.clone(),
        };
        self.held.iter().map(offer).collect()
    }

    /// What it has, or had when it was last good.
    pub(super) fn digests(&self) -> BTreeSet<Digest> {
        let held = self.held.values().filter_map(|held| Some(held.good.as_ref()?.digest.clone()));
        held.chain(self.last_good.values().flat_map(BTreeMap::values).cloned()).collect()
    }

    /// Takes over all that there is in a scope now. Whether anything is new.
    pub(super) fn stock(&mut self, scope: &Scope, packages: Vec<Package>) -> bool {
        let names: BTreeSet<String> = packages.iter().map(|package| package.name.clone()).collect();
        let before = self.held.len();
        self.held.retain(|slot, _| slot.scope != *scope || names.contains(&slot.name));
        let mut changed = self.held.len() != before;
        self.forget(&scope.key(), |name| names.contains(name));
        for Package { name, stamp, read } in packages {
            let slot = Slot { scope: scope.clone(), name };
            let held = self.held.get(&slot);
            if held.is_some_and(|held| held.stamp == stamp) {
                continue;
            }
            changed = true;
            let good = held.and_then(|held| held.good.clone()).or_else(|| self.remembered(&slot));
            let held = match read().and_then(|bytes| self.admitted(&slot, &bytes, good.as_deref())) {
                Ok(plugin) => Held { stamp, good: Some(plugin), bad: None },
                Err(why) => Held { stamp, good, bad: Some(why) },
            };
            self.held.insert(slot, held);
        }
        changed
    }

    /// Forgets projects that are not among these. Whether there were any.
    pub(super) fn keep_projects(&mut self, projects: &BTreeSet<ProjectName>) -> bool {
        let before = self.held.len();
        self.held.retain(|slot, _| !matches!(&slot.scope, Scope::Project(p) if !projects.contains(p)));
        let known: BTreeSet<String> = projects.iter().map(|p| Scope::Project(p.clone()).key()).collect();
        let others = |scope: &String| scope.starts_with("project ") && !known.contains(scope);
        for scope in self.last_good.keys().filter(|scope| others(scope)).cloned().collect::<Vec<_>>() {
            self.forget(&scope, |_| false);
        }
        self.held.len() != before
    }

    /// Why this version may not follow what this slot holds.
    pub(super) fn older(&self, slot: &Slot, plugin: &Plugin) -> Option<String> {
        older(self.held.get(slot)?.good.as_deref()?, plugin)
    }

    fn admitted(
        &mut self,
        slot: &Slot,
        bytes: &Bytes,
        before: Option<&Plugin>,
    ) -> Result<Arc<Plugin>, String> {
        let plugin = admit(bytes.clone(), Origin::Dropped).map_err(|error| error.to_string())?;
        if let Some(why) = before.and_then(|before| older(before, &plugin)) {
            return Err(why);
        }
        self.remember(slot, &plugin).map_err(|error| format!("it cannot be kept: {error}"))?;
        Ok(Arc::new(plugin))
    }

    fn remember(&mut self, slot: &Slot, plugin: &Plugin) -> io::Result<()> {
        self.kept.keep(plugin)?;
        let good = self.last_good.entry(slot.scope.key()).or_default();
        if good.get(&slot.name) != Some(&plugin.digest) {
            good.insert(slot.name.clone(), plugin.digest.clone());
            self.save()?;
        }
        Ok(())
    }

    /// What was taken away on purpose does not come back with a bad file of its name.
    fn forget(&mut self, scope: &str, stays: impl Fn(&str) -> bool) {
        let Some(good) = self.last_good.get_mut(scope) else { return };
        let before = good.len();
        good.retain(|name, _| stays(name));
        let gone = before != good.len();
        if good.is_empty() {
            self.last_good.remove(scope);
        }
        if gone && let Err(error) = self.save() {
            tracing::warn!(%error, "what was last good of plugins is not kept");
        }
    }

    fn save(&self) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(&self.last_good).map_err(io::Error::other)?;
        write(&self.kept.dir().join(LAST_GOOD), &text)
    }

    fn remembered(&self, slot: &Slot) -> Option<Arc<Plugin>> {
        self.kept.read(self.last_good.get(&slot.scope.key())?.get(&slot.name)?).map(Arc::new)
    }
}

fn older(before: &Plugin, plugin: &Plugin) -> Option<String> {
    let same_id = before.manifest.id == plugin.manifest.id;
    (same_id && compare(&before.manifest, &plugin.manifest).version == VersionChange::Older).then(|| {
        let (old, new) = (&before.manifest.version, &plugin.manifest.version);
        format!(
            "its version {new} is older than {old}, which is in use: remove that one first if you mean it"
        )
    })
}
