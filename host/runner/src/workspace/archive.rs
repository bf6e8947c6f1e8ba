//! Tar (gzip), in and out.

use super::{compare::Content, walk};
use crate::{
    beneath::{FileError, Root},
    diff::{Mode, Side},
};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use std::{
    io,
    path::{Component, Path},
};
use tar::{EntryType, Header};

/// Of the files in an archive that is made here.
const MAX_BYTES: u64 = 256 << 20;
const MAX_ENTRIES: u64 = 200_000;
/// Of a name or of attributes, which are read into memory.
const MAX_NAME_BYTES: u64 = 64 << 10;

pub(super) struct Writer {
    tar: tar::Builder<GzEncoder<Vec<u8>>>,
    bytes: u64,
}

impl Writer {
    pub(super) fn new() -> Self {
        Self { tar: tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast())), bytes: 0 }
    }

    pub(super) fn add(&mut self, path: &str, file: Side<'_>) -> Result<(), FileError> {
        self.bytes += file.bytes.len() as u64;
        if self.bytes > MAX_BYTES {
            return Err(FileError::TooLarge { path: "the workspace's archive".to_owned(), max: MAX_BYTES });
        }
        let mut header = Header::new_gnu();
        header.set_mode(if file.mode == Mode::Executable { 0o755 } else { 0o644 });
        let added = if file.mode == Mode::Link {
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            self.tar.append_link(&mut header, path, String::from_utf8_lossy(file.bytes).as_ref())
        } else {
            header.set_size(file.bytes.len() as u64);
            self.tar.append_data(&mut header, path, file.bytes)
        };
        added.map_err(|source| FileError::Failed { path: path.to_owned(), source })
    }

    pub(super) fn finish(self) -> Result<Vec<u8>, FileError> {
        let finished = self.tar.into_inner().and_then(GzEncoder::finish);
        finished.map_err(|source| FileError::Failed { path: "archive".to_owned(), source })
    }
}

/// Everything in the workspace, ignored files too.
pub(super) fn whole(root: &Root) -> Result<Vec<u8>, FileError> {
    let mut archive = Writer::new();
    for (path, kind) in &walk::all(root)?.files {
        if let Some(content) = Content::read(root, path, Some(kind))? {
            archive.add(path, content.side())?;
        }
    }
    archive.finish()
}

#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error("the archive cannot be read: it has to be tar, compressed with gzip")]
    Archive(#[source] io::Error),
    #[error("the archive holds more than {0} bytes or too many files")]
    TooLarge(u64),
    #[error("the archive holds a name or attributes of more than {MAX_NAME_BYTES} bytes")]
    LongName,
    #[error("the archive names a file outside itself")]
    Outside,
    #[error("the archive cannot be unpacked")]
    File(#[from] FileError),
}

impl UnpackError {
    /// Whether it is the archive's fault, so that it will never be unpacked.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Archive(_) | Self::TooLarge(_) | Self::LongName | Self::Outside => true,
            // A path through what is no folder, or a name that no file can have.
            Self::File(FileError::Invalid { .. }) => true,
            Self::File(FileError::Failed { source, .. }) => source.kind() == io::ErrorKind::InvalidFilename,
            Self::File(_) => false,
        }
    }
}

/// Makes the files, folders and links of an archive below `root`. Links that lead out of it, special files and git's own are
/// left out.
///
/// # Errors
/// When it is no archive, names a path outside, or is larger than `max` bytes.
pub fn unpack(archive: &[u8], root: &Root, max: u64) -> Result<(), UnpackError> {
    headers(archive, max)?;
    let mut archive = tar::Archive::new(GzDecoder::new(archive));
    let (mut bytes, mut entries) = (0, 0);
    let mut links = Vec::new();
    for entry in archive.entries().map_err(UnpackError::Archive)? {
        let mut entry = entry.map_err(UnpackError::Archive)?;
        bytes += entry.size();
        entries += 1;
        if bytes > max || entries > MAX_ENTRIES {
            return Err(UnpackError::TooLarge(max));
        }
        let path = entry.path().map_err(UnpackError::Archive)?.into_owned();
        let Some(path) = inside(&path)? else { continue };
        match entry.header().entry_type() {
            EntryType::Directory => drop(root.make_folder(&path)?),
            EntryType::Regular | EntryType::Continuous => {
                let executable = entry.header().mode().is_ok_and(|mode| mode & 0o111 != 0);
                root.write_from(&path, executable, &mut entry)?.place()?;
            }
            EntryType::Symlink => {
                let target = entry.link_name().map_err(UnpackError::Archive)?;
                let inside = target.filter(|target| model::links::stays_inside(Path::new(&path), target));
                links.extend(inside.map(|target| (path, target.into_owned())));
            }
            _ => {}
        }
    }
    // Last, so that nothing was written by way of one.
    for (path, target) in links {
        root.link(&path, &target)?;
    }
    Ok(())
}

/// What the headers say, before anything is made or kept: a small archive can become a huge one.
fn headers(archive: &[u8], max: u64) -> Result<(), UnpackError> {
    let mut archive = tar::Archive::new(GzDecoder::new(archive));
    let entries = archive.entries().map_err(UnpackError::Archive)?.raw(true);
    let (mut bytes, mut count) = (0_u64, 0);
    for entry in entries {
        let entry = entry.map_err(UnpackError::Archive)?;
        let kind = entry.header().entry_type();
        let described = kind.is_gnu_longname()
            || kind.is_gnu_longlink()
            || kind.is_pax_local_extensions()
            || kind.is_pax_global_extensions();
        if described {
            if entry.size() > MAX_NAME_BYTES {
                return Err(UnpackError::LongName);
            }
            continue;
        }
        bytes = bytes.saturating_add(entry.size());
        count += 1;
        if bytes > max || count > MAX_ENTRIES {
            return Err(UnpackError::TooLarge(max));
        }
    }
    Ok(())
}

/// The path as text; `None` for the root itself and for what is git's.
fn inside(path: &Path) -> Result<Option<String>, UnpackError> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str().ok_or(UnpackError::Outside)?),
            Component::CurDir => {}
            _ => return Err(UnpackError::Outside),
        }
    }
    Ok((!parts.is_empty() && !parts.contains(&".git")).then(|| parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        name: &str,
        make: impl FnOnce(&mut tar::Builder<GzEncoder<Vec<u8>>>),
        expected: Result<&[&str], &str>,
    ) {
        let mut writer = Writer::new();
        make(&mut writer.tar);
        let folder = tempfile::tempdir().unwrap();
        let root = Root::open(folder.path()).unwrap();
        match (unpack(&writer.finish().unwrap(), &root, 100), expected) {
            (Ok(()), Ok(files)) => {
                assert_eq!(walk::all(&root).unwrap().files.keys().collect::<Vec<_>>(), files, "{name}");
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{name}: {error}"),
            (got, expected) => panic!("{name}: {got:?}, {expected:?}"),
        }
    }

    fn add(tar: &mut tar::Builder<GzEncoder<Vec<u8>>>, kind: EntryType, path: &str, content: &[u8]) {
        let mut header = Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        let content = if kind == EntryType::Symlink {
            header.set_link_name(std::str::from_utf8(content).unwrap()).unwrap();
            &[]
        } else {
            content
        };
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content).unwrap();
    }

    #[test]
    fn archives_stay_within() {
        use EntryType::{Fifo, Regular, Symlink};
        check("plain", |t| add(t, Regular, "./a/b", b"x"), Ok(&["a/b"]));
        check("up", |t| add(t, Regular, "../b", b"x"), Err("outside"));
        check("absolute", |t| add(t, Regular, "/b", b"x"), Err("outside"));
        check("large", |t| add(t, Regular, "b", &[0; 101]), Err("more than 100"));
        check("git", |t| add(t, Regular, "a/.git/config", b"x"), Ok(&[]));
        check("link", |t| add(t, Symlink, "a/l", b"../b"), Ok(&["a/l"]));
        check("link out", |t| add(t, Symlink, "a/l", b"../../b"), Ok(&[]));
        check("fifo", |t| add(t, Fifo, "f", b""), Ok(&[]));
        let name = [b'a'; 70_000];
        check("long name", |t| add(t, EntryType::GNULongName, "n", &name), Err("a name or attributes"));
        check(
            "through a link",
            |t| {
                add(t, Symlink, "l", b"d");
                add(t, Regular, "l/passwd", b"x");
            },
            Ok(&["l/passwd"]),
        );
    }

    #[test]
    fn what_is_no_archive_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(
            unpack(b"hello", &Root::open(folder.path()).unwrap(), 10),
            Err(UnpackError::Archive(_))
        ));
    }
}
