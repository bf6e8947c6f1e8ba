//! Admitted components by digest, for sessions that are pinned to them and for what was last good.

use super::{MAX_COMPONENT_BYTES, Origin, Plugin};
use crate::settings::write;
use bytes::Bytes;
use manifest::{Admissible, NotAdmissible};
use model::id::Digest;
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The digests that were first-party ones of some release that ran here: sessions outlive an upgrade.
const FIRST_PARTY: &str = "first-party.json";

#[derive(Debug)]
pub(super) struct Kept {
    dir: PathBuf,
    first: BTreeSet<Digest>,
}

impl Kept {
    /// Keeps the first-party ones too.
    pub(super) fn open(dir: PathBuf, first: &[Arc<Plugin>]) -> io::Result<Self> {
        let file = dir.join(FIRST_PARTY);
        let known: BTreeSet<Digest> =
            fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let mut kept = Self { dir, first: known.clone() };
        for plugin in first {
            kept.keep(plugin)?;
            kept.first.insert(plugin.digest.clone());
        }
        if kept.first != known {
            write(&file, &serde_json::to_vec_pretty(&kept.first).map_err(io::Error::other)?)?;
        }
        Ok(kept)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn keep(&self, plugin: &Plugin) -> io::Result<()> {
        let file = self.file(&plugin.digest);
        if file.exists() { Ok(()) } else { write(&file, &plugin.component) }
    }

    pub(super) fn read(&self, digest: &Digest) -> Option<Plugin> {
        let bytes = fs::read(self.file(digest)).ok()?;
        let origin = if self.first.contains(digest) { Origin::FirstParty } else { Origin::Dropped };
        admit(bytes.into(), origin).ok().filter(|plugin| plugin.digest == *digest)
    }

    pub(super) fn remove(&self, digest: &Digest) -> io::Result<()> {
        remove(&self.file(digest))
    }

    /// Also of what only has native code: its component went while that was made.
    pub(super) fn digests(&self) -> io::Result<BTreeSet<Digest>> {
        let digest = |entry: io::Result<fs::DirEntry>| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let hex = name.strip_suffix(".wasm").or_else(|| name.strip_suffix(".json"))?;
            format!("sha256:{hex}").parse().ok()
        };
        Ok(fs::read_dir(&self.dir)?.filter_map(digest).collect())
    }

    fn file(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{}.wasm", digest.hex()))
    }
}

/// It may be gone already.
pub(super) fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn admit(component: Bytes, origin: Origin) -> Result<Plugin, NotAdmissible> {
    let Admissible { manifest, digest, imports: _ } = manifest::admit(&component, MAX_COMPONENT_BYTES)?;
    Ok(Plugin { digest, manifest, origin, component })
}
