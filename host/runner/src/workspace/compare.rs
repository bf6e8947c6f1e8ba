//! What changed in the workspace since its baseline.

use super::{archive, walk};
use crate::{
    beneath::{FileError, Kind, Root},
    diff::{self, Mode, Side},
};
use std::collections::BTreeSet;

/// A file above this is compared by its size alone, and named but not shown.
const MAX_FILE_BYTES: u64 = 256 << 20;

#[derive(Default)]
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

impl Comparison {
    /// Of what cannot be compared.
    pub(super) fn unknown(error: &FileError) -> Self {
        Self { patch: format!("# what changed is not known: {:?}\n", error.to_string()), ..Self::default() }
    }
}

/// `covered`, where the root is a person's own folder: what of git's in it lies hidden. There it is also named what changed
/// and is ignored; in a private copy that stays where it is.
pub(super) fn compare(
    baseline: &Root,
    root: &Root,
    covered: Option<&BTreeSet<String>>,
) -> Result<Comparison, FileError> {
    let before = walk::all(baseline)?;
    let began = covered.map(|_| baseline.changed_at()).transpose()?;
    let is_covered = |path: &str| covered.is_some_and(|covered| walk::holds(covered, path));
    let mut after = walk::unignored(root, &before, began)?;
    let mut found = Comparison::default();
    let mut archive = archive::Writer::new();
    let paths: BTreeSet<&String> = before.files.keys().chain(after.files.keys()).collect();
    let (mut unread, mut large) = (BTreeSet::new(), BTreeSet::new());
    // What is there is not deleted, whatever it has become.
    for path in paths.into_iter().filter(|path| !after.hides(path) && !is_covered(path)) {
        let (old_kind, new_kind) = (before.files.get(path), after.files.get(path));
        let (old, new) = match (Content::read(baseline, path, old_kind), Content::read(root, path, new_kind))
        {
            (_, Err(error)) if error.is_closed() => {
                unread.insert(path.clone());
                continue;
            }
            (Err(FileError::TooLarge { .. }), _) | (_, Err(FileError::TooLarge { .. })) => {
                large.insert(path.clone());
                continue;
            }
            (old, new) => (old?, new?),
        };
        let patch = diff::patch(path, old.as_ref().map(Content::side), new.as_ref().map(Content::side));
        if patch.text.is_empty() {
            continue;
        }
        found.patch.push_str(&patch.text);
        found.files_changed += 1;
        found.added += patch.added;
        found.removed += patch.removed;
        // A person's own folder has its files already.
        if let Some(new) = new.as_ref().filter(|_| covered.is_none()) {
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
    unread.append(&mut after.closed);
    for path in &unread {
        found.patch.push_str(&format!("# not compared: {path:?} cannot be opened\n"));
    }
    for path in &large {
        found.patch.push_str(&format!("# not compared: {path:?} has more than {MAX_FILE_BYTES} bytes\n"));
    }
    for path in &after.deep {
        found.patch.push_str(&format!("# not looked into: {path:?} is nested too deep\n"));
    }
    for (path, files) in &after.ignored {
        found.patch.push_str(&format!("# changed but ignored: {path:?} ({files} entries)\n"));
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
    use std::os::unix::fs::PermissionsExt as _;
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
        let found =
            compare(&Root::open(old.path()).unwrap(), &Root::open(new.path()).unwrap(), None).unwrap();
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

    #[test]
    fn what_is_ignored_and_changed_is_named_where_it_is_a_persons_own() {
        let (own, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let make = |path: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        make("target/old");
        make("vendor/old");
        fs::write(folder.path().join(".gitignore"), "target\nvendor\n*.log\n").unwrap();
        // The kernel's clock is coarse.
        std::thread::sleep(std::time::Duration::from_millis(30));
        let baseline = own.path().join("baseline");
        fs::create_dir(&baseline).unwrap();
        fs::write(baseline.join(".gitignore"), "target\nvendor\n*.log\n").unwrap();
        fs::create_dir(baseline.join("bare")).unwrap();
        fs::write(baseline.join("bare/HEAD"), "").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(30));
        make("target/sub/new");
        make("target/old");
        make("a.log");
        let (baseline, root) = (Root::open(&baseline).unwrap(), Root::open(folder.path()).unwrap());
        let patch = |covered| compare(&baseline, &root, covered).unwrap().patch;
        assert!(!patch(None).contains("ignored"));
        let expected =
            "# changed but ignored: \"a.log\" (1 entries)\n# changed but ignored: \"target\" (4 entries)\n";
        assert_eq!(patch(Some(&["bare".to_owned()].into())), expected);
    }

    #[test]
    fn what_is_closed_is_named_and_not_taken_for_deleted() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for folder in [&old, &new] {
            fs::create_dir(folder.path().join("dir")).unwrap();
            fs::write(folder.path().join("dir/a"), "a\n").unwrap();
            fs::write(folder.path().join("file"), "f\n").unwrap();
        }
        for closed in ["dir", "file"] {
            fs::set_permissions(new.path().join(closed), fs::Permissions::from_mode(0o000)).unwrap();
        }
        // Nothing is closed to root.
        let is_closed = fs::read_dir(new.path().join("dir")).is_err();
        let (old, root) = (Root::open(old.path()).unwrap(), Root::open(new.path()).unwrap());
        let patch = compare(&old, &root, None).unwrap().patch;
        fs::set_permissions(new.path().join("dir"), fs::Permissions::from_mode(0o700)).unwrap();
        let expected =
            "# not compared: \"dir\" cannot be opened\n# not compared: \"file\" cannot be opened\n";
        assert_eq!(patch, if is_closed { expected } else { "" });
    }
}
