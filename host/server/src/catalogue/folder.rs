//! The files of the plugin folders: which are finished, what is in them, and the last good version of each.

use super::{MAX_COMPONENT_BYTES, Origin, Plugin};
use crate::settings::write;
use bytes::Bytes;
use manifest::{Admissible, NotAdmissible, VersionChange, compare};
use model::id::Digest;
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Survives the server: file name to the digest of its last good version.
const LAST_GOOD: &str = "last-good.json";

/// A file of the drop folder as far as it was understood.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct File {
    pub(super) name: String,
    /// What is in it, or was in it when it was last good.
    pub(super) good: Option<Arc<Plugin>>,
    /// What is wrong with what is in it now.
    pub(super) bad: Option<String>,
}

/// Tells whether a file was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    inode: u64,
    modified: (i64, i64),
}

#[derive(Debug)]
struct Seen {
    stamp: Stamp,
    /// What was found under that stamp; `None` while it may still be written to.
    read: bool,
    good: Option<Arc<Plugin>>,
    bad: Option<String>,
}

#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
    kept: PathBuf,
    seen: BTreeMap<String, Seen>,
    last_good: BTreeMap<String, Digest>,
}

impl Folder {
    pub(super) fn open(dir: PathBuf, kept: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        let last_good = match fs::read(kept.join(LAST_GOOD)) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_default(),
            Err(_) => BTreeMap::new(),
        };
        Ok(Self { dir, kept, seen: BTreeMap::new(), last_good })
    }

    /// What was found, by name.
    pub(super) fn files(&self) -> Vec<File> {
        let file = |(name, seen): (&String, &Seen)| File {
            name: name.clone(),
            good: seen.good.clone(),
            bad: seen.bad.clone(),
        };
        self.seen.iter().map(file).collect()
    }

    /// Reads what was changed and is finished: it has not changed since the last look. Whether anything is new.
    pub(super) fn look(&mut self, now: bool) -> io::Result<bool> {
        let present = self.present()?;
        let before = self.seen.len();
        self.seen.retain(|name, _| present.contains_key(name));
        let mut changed = self.seen.len() != before || now;
        self.last_good.retain(|name, _| present.contains_key(name));
        for (name, stamp) in present {
            let seen = self.seen.get(&name);
            let same = seen.is_some_and(|seen| seen.stamp == stamp);
            if same && seen.is_some_and(|seen| seen.read) {
                continue;
            }
            let good = seen.and_then(|seen| seen.good.clone()).or_else(|| self.remembered(&name));
            let seen = if same || now {
                changed = true;
                self.read(&name, stamp, good)
            } else {
                Seen { stamp, read: false, good, bad: None }
            };
            self.seen.insert(name, seen);
        }
        Ok(changed)
    }

    fn present(&self) -> io::Result<BTreeMap<String, Stamp>> {
        let mut present = BTreeMap::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let (Ok(name), Ok(meta)) = (entry.file_name().into_string(), fs::metadata(entry.path())) else {
                continue;
            };
            if name.ends_with(".wasm") && !name.starts_with('.') && meta.is_file() {
                let modified = (meta.mtime(), meta.mtime_nsec());
                present.insert(name, Stamp { bytes: meta.len(), inode: meta.ino(), modified });
            }
        }
        Ok(present)
    }

    fn read(&mut self, name: &str, stamp: Stamp, good: Option<Arc<Plugin>>) -> Seen {
        match self.admitted(name, good.as_deref()) {
            Ok(plugin) => Seen { stamp, read: true, good: Some(plugin), bad: None },
            Err(why) => Seen { stamp, read: true, good, bad: Some(why) },
        }
    }

    fn admitted(&mut self, name: &str, before: Option<&Plugin>) -> Result<Arc<Plugin>, String> {
        let bytes = read_file(&self.dir.join(name)).map_err(|error| format!("it cannot be read: {error}"))?;
        let plugin = Arc::new(admit(&bytes, Origin::Dropped).map_err(|error| error.to_string())?);
        if let Some(why) = before.and_then(|before| older(before, &plugin)) {
            return Err(why);
        }
        let kept = self.kept.join(format!("{}.wasm", plugin.digest.hex()));
        let remember = || -> io::Result<()> {
            if !kept.exists() {
                write(&kept, &bytes)?;
            }
            if self.last_good.get(name) != Some(&plugin.digest) {
                self.last_good.insert(name.to_owned(), plugin.digest.clone());
                let text = serde_json::to_vec_pretty(&self.last_good).map_err(io::Error::other)?;
                write(&self.kept.join(LAST_GOOD), &text)?;
            }
            Ok(())
        };
        let mut remember = remember;
        remember().map_err(|error| format!("it cannot be kept: {error}"))?;
        Ok(plugin)
    }

    fn remembered(&self, name: &str) -> Option<Arc<Plugin>> {
        kept(&self.kept, self.last_good.get(name)?).map(Arc::new)
    }

    /// Why this version may not follow what this file holds.
    pub(super) fn older(&self, name: &str, plugin: &Plugin) -> Option<String> {
        older(self.seen.get(name)?.good.as_deref()?, plugin)
    }

    pub(super) fn write(&self, name: &str, component: &[u8]) -> io::Result<()> {
        write(&self.dir.join(name), component)
    }

    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        fs::remove_file(self.dir.join(name))
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

pub(super) fn admit(component: &[u8], origin: Origin) -> Result<Plugin, NotAdmissible> {
    let Admissible { manifest, digest, imports: _ } = manifest::admit(component, MAX_COMPONENT_BYTES)?;
    Ok(Plugin { digest, manifest, origin, component: Bytes::copy_from_slice(component) })
}

/// An admitted component of an earlier day.
pub(super) fn kept(dir: &Path, digest: &Digest) -> Option<Plugin> {
    let bytes = fs::read(dir.join(format!("{}.wasm", digest.hex()))).ok()?;
    admit(&bytes, Origin::Dropped).ok().filter(|plugin| plugin.digest == *digest)
}

type FirstParty = (Vec<Arc<Plugin>>, Vec<(String, String)>);

/// The components beside the binaries, and those that are not what they should be.
pub(super) fn first_party(dir: &Path) -> io::Result<FirstParty> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((good, bad)),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "wasm") {
            continue;
        }
        let read = read_file(&path).map_err(|error| error.to_string());
        match read.and_then(|bytes| admit(&bytes, Origin::FirstParty).map_err(|error| error.to_string())) {
            Ok(plugin) => good.push(Arc::new(plugin)),
            Err(why) => bad.push((path.display().to_string(), why)),
        }
    }
    good.sort_by(|a, b| a.manifest.id.cmp(&b.manifest.id));
    Ok((good, bad))
}

/// Opened without waiting: a FIFO in the folder must not stop the catalogue.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_COMPONENT_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
