//! What changed in the workspace since its baseline.

use super::{archive, walk};
use crate::{
    beneath::{FileError, Kind, Root},
    diff::{self, Mode, Side},
};
use std::collections::BTreeSet;

/// A file above this is compared by its size alone, and named but not shown.
const MAX_FILE_BYTES: u64 = 256 << 20;

pub(super) struct Comparison {
    /// Unified diff in git's format.
    pub(super) patch: String,
    /// Tar (gzip) of the files that changed or are new.
    pub(super) archive: Vec<u8>,
    pub(super) files_changed: u64,
    /// Lines.
    pub(super) added: u64,
    pub(super) removed: u64,
}

pub(super) fn compare(baseline: &Root, root: &Root) -> Result<Comparison, FileError> {
    let before = walk::all(baseline)?;
    let after = walk::unignored(root, &before)?;
    let mut found =
        Comparison { patch: String::new(), archive: vec![], files_changed: 0, added: 0, removed: 0 };
    let mut archive = archive::Writer::new();
    let paths: BTreeSet<&String> = before.files.keys().chain(after.files.keys()).collect();
    // What is there is not deleted, whatever it has become.
    for path in paths.into_iter().filter(|path| !after.others.contains(*path)) {
        let (old_kind, new_kind) = (before.files.get(path), after.files.get(path));
        let (old, new) = (Content::read(baseline, path, old_kind)?, Content::read(root, path, new_kind)?);
        let patch = diff::patch(path, old.as_ref().map(Content::side), new.as_ref().map(Content::side));
        if patch.text.is_empty() {
            continue;
        }
        found.patch.push_str(&patch.text);
        found.files_changed += 1;
        found.added += patch.added;
        found.removed += patch.removed;
        if let Some(new) = &new {
            archive.add(path, new.side())?;
        }
    }
    if after.unnamed > 0 {
        found.patch.push_str(&format!("# not shown: {} files whose names are not UTF-8\n", after.unnamed));
    }
    for path in &after.others {
        found
            .patch
            .push_str(&format!("# not compared: {path:?} has several names (hard links) or is no file\n"));
    }
    found.archive = archive.finish()?;
    Ok(found)
}

pub(super) struct Content {
    bytes: Vec<u8>,
    mode: Mode,
}

impl Content {
    /// `None` where nothing is, also where it was taken away meanwhile.
    pub(super) fn read(root: &Root, path: &str, kind: Option<&Kind>) -> Result<Option<Self>, FileError> {
        match kind {
            Some(Kind::Link { target }) => Ok(Some(Self { bytes: target.clone(), mode: Mode::Link })),
            Some(Kind::File { .. }) => Ok(root.read(path, MAX_FILE_BYTES)?.map(|file| {
                let mode = if file.executable { Mode::Executable } else { Mode::Plain };
                Self { bytes: file.bytes, mode }
            })),
            _ => Ok(None),
        }
    }

    pub(super) fn side(&self) -> Side<'_> {
        Side { bytes: &self.bytes, mode: self.mode }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn changes_since_the_baseline() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for folder in [&old, &new] {
            fs::write(folder.path().join("same"), "s\n").unwrap();
            fs::write(folder.path().join("changed"), "a\nb\n").unwrap();
        }
        fs::write(old.path().join("gone"), "g\n").unwrap();
        fs::write(new.path().join("changed"), "a\nc\n").unwrap();
        fs::create_dir(new.path().join("dir")).unwrap();
        fs::write(new.path().join("dir/new"), "n\n").unwrap();
        symlink("/etc/passwd", new.path().join("link")).unwrap();
        fs::write(old.path().join("linked"), "l\n").unwrap();
        fs::write(new.path().join("linked"), "l\n").unwrap();
        fs::hard_link(new.path().join("linked"), new.path().join("second")).unwrap();
        let found = compare(&Root::open(old.path()).unwrap(), &Root::open(new.path()).unwrap()).unwrap();
        assert_eq!((found.files_changed, found.added, found.removed), (4, 3, 2));
        for part in
            ["-b\n+c\n", "deleted file mode 100644", "+++ b/dir/new", "new file mode 120000", "+/etc/passwd"]
        {
            assert!(found.patch.contains(part), "{part}: {}", found.patch);
        }
        assert!(!found.patch.contains("a/linked"), "{}", found.patch);
        assert!(found.patch.contains("# not compared: \"linked\"") && found.patch.contains("\"second\""));
        let unpacked = tempfile::tempdir().unwrap();
        super::super::unpack(&found.archive, &Root::open(unpacked.path()).unwrap(), 1000).unwrap();
        assert_eq!(fs::read_to_string(unpacked.path().join("dir/new")).unwrap(), "n\n");
        assert!(!unpacked.path().join("gone").exists() && !unpacked.path().join("link").exists());
    }
}
