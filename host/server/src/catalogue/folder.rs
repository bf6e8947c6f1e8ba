//! Folders of plugins: that of the first-party ones, and the drop folder of one machine, whose files may still be
//! written to when they are first seen.

use super::{MAX_COMPONENT_BYTES, Origin, Plugin, kept::admit, shelf::Package};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

#[derive(Debug)]
struct Seen {
    /// Changes with each write.
    stamp: String,
    /// The last one under which the file was finished.
    finished: Option<String>,
}

/// The drop folder.
#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
    seen: BTreeMap<String, Seen>,
}

impl Folder {
    pub(super) fn open(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        Ok(Self { dir, seen: BTreeMap::new() })
    }

    /// What is in it. A file is finished when it has not changed since the last look; `now`: in any case. One that is not
    /// counts as it was before.
    pub(super) fn look(&mut self, now: bool) -> io::Result<Vec<Package>> {
        let mut before = std::mem::take(&mut self.seen);
        for (name, stamp) in self.present()? {
            let known = before.remove(&name);
            let settled = now || known.as_ref().is_some_and(|known| known.stamp == stamp);
            let finished = if settled { Some(stamp.clone()) } else { known.and_then(|known| known.finished) };
            self.seen.insert(name, Seen { stamp, finished });
        }
        let packages = self.seen.iter().filter_map(|(name, seen)| {
            let path = self.dir.join(name);
            Some(Package {
                name: name.clone(),
                stamp: seen.finished.clone()?,
                read: Box::new(move || {
                    read_file(&path).map_err(|error| format!("it cannot be read: {error}"))
                }),
            })
        });
        Ok(packages.collect())
    }

    fn present(&self) -> io::Result<BTreeMap<String, String>> {
        let mut present = BTreeMap::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let (Ok(name), Ok(meta)) = (entry.file_name().into_string(), fs::metadata(entry.path())) else {
                continue;
            };
            if name.ends_with(".wasm") && !name.starts_with('.') && meta.is_file() {
                let (bytes, inode) = (meta.len(), meta.ino());
                let stamp = format!("{bytes} {inode} {} {}", meta.mtime(), meta.mtime_nsec());
                present.insert(name, stamp);
            }
        }
        Ok(present)
    }

    pub(super) fn write(&self, name: &str, component: &[u8]) -> io::Result<()> {
        crate::settings::write(&self.dir.join(name), component)
    }

    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.dir.join(name))
    }
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
        match read.and_then(|bytes| admit(bytes, Origin::FirstParty).map_err(|error| error.to_string())) {
            Ok(plugin) => good.push(Arc::new(plugin)),
            Err(why) => bad.push((path.display().to_string(), why)),
        }
    }
    good.sort_by(|a, b| a.manifest.id.cmp(&b.manifest.id));
    Ok((good, bad))
}

/// Opened without waiting: a FIFO in the folder must not stop the catalogue.
fn read_file(path: &Path) -> io::Result<Bytes> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_COMPONENT_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}
