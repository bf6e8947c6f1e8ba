//! Where people add plugins to one machine: the drop folder, which is followed, and uploads, which go there too.

use super::{
    Catalogue, Origin, Plugin, kept, lock, rules,
    shelf::{Scope, Slot},
};
use bytes::Bytes;
use model::id::PluginId;
use std::{io, path::PathBuf, sync::Arc, time::Duration};

/// How often the drop folder is looked at.
const POLL: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error(transparent)]
    NotAdmissible(#[from] manifest::NotAdmissible),
    #[error("{0}")]
    Against(String),
    /// It is done elsewhere; the text says where.
    #[error("{0}")]
    Elsewhere(String),
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
    /// It is done elsewhere; the text says where.
    #[error("{0}")]
    Elsewhere(String),
    #[error("the plugin folder cannot be written")]
    Io(#[from] io::Error),
}

/// Where plugins are added.
#[derive(Debug, Clone)]
pub enum Added {
    /// In this folder, which is followed, and through the API.
    Folder(PathBuf),
    /// Elsewhere: whoever follows that says what there is with [`Catalogue::stock`]. The text tells people where.
    Elsewhere(&'static str),
}

impl Catalogue {
    pub(super) async fn keep_looking(&self) {
        while self.0.added.is_ok() {
            tokio::time::sleep(POLL).await;
            let catalogue = self.clone();
            if let Ok(Err(error)) = tokio::task::spawn_blocking(move || catalogue.look(false)).await {
                tracing::warn!(%error, "the plugin folder cannot be read");
            }
        }
    }

    /// Adds a component to the drop folder, if it may be there.
    ///
    /// # Errors
    /// When it is not admissible, against the rules, or cannot be written. Nothing changes then.
    pub fn upload(&self, component: &[u8]) -> Result<Arc<Plugin>, UploadError> {
        let plugin = Arc::new(kept::admit(Bytes::copy_from_slice(component), Origin::Dropped)?);
        let folder = self.0.added.as_ref().map_err(|text| UploadError::Elsewhere((*text).to_owned()))?;
        let shelf = lock(&self.0.shelf);
        let mut offers = shelf.offers();
        let file = offers
            .iter()
            .find(|offer| offer.good.as_ref().is_some_and(|good| good.manifest.id == plugin.manifest.id))
            .map_or_else(|| format!("{}.wasm", plugin.manifest.id), |offer| offer.slot.name.clone());
        let slot = Slot { scope: Scope::Folder, name: file };
        offers.retain(|other| other.slot != slot);
        if let Some(why) = rules::against(&self.0.first, offers, &slot.scope, &plugin) {
            return Err(UploadError::Against(why));
        }
        if let Some(why) = shelf.older(&slot, &plugin) {
            return Err(UploadError::Against(why));
        }
        drop(shelf);
        lock(folder).write(&slot.name, component)?;
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
        let folder = self.0.added.as_ref().map_err(|text| RemoveError::Elsewhere((*text).to_owned()))?;
        let named = |good: &Arc<Plugin>| good.manifest.id == *id;
        let offers = lock(&self.0.shelf).offers();
        let offer = offers.into_iter().find(|offer| offer.good.as_ref().is_some_and(named));
        lock(folder).remove(&offer.ok_or(RemoveError::NotFound)?.slot.name)?;
        self.look(true)?;
        Ok(())
    }

    /// Looks at the drop folder, where there is one. `now`: also at files that may still be written to.
    pub(super) fn look(&self, now: bool) -> io::Result<()> {
        let Ok(folder) = &self.0.added else { return Ok(()) };
        let mut folder = lock(folder);
        let packages = folder.look(now)?;
        self.stock(&Scope::Folder, packages);
        Ok(())
    }
}
