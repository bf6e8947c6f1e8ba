//! Staged changes of a call: checked against what is there, shown as one subject, applied together.
//!
//! Invariant: nothing is replaced that is not what the change says it replaces, and no link is followed.

use crate::{
    beneath::{FileError, Regular, Root},
    diff::{self, Mode, Side},
    workspace::{NoRoom, growth},
};
use engine::Staged;
use model::{
    approval::{FileChange, Subject},
    id::Digest,
};
use std::collections::BTreeMap;

/// A file above this cannot be changed by a tool.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// What is shown of all files together; the rest is named.
const SHOWN_BYTES: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error("{0} is not what this change was made from any more: read it again")]
    Conflict(String),
    #[error("{0} is there already: a rename does not replace")]
    Exists(String),
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    #[error(transparent)]
    File(#[from] FileError),
}

/// Changes that fit what is there now.
#[derive(Debug)]
pub struct Changes {
    files: BTreeMap<String, Change>,
}

#[derive(Debug)]
struct Change {
    renamed_from: Option<String>,
    before: Option<Regular>,
    after: Option<Regular>,
}

impl Changes {
    /// # Errors
    /// When a base is not what is there.
    pub fn prepare(root: &Root, staged: Vec<Staged>) -> Result<Self, ChangeError> {
        let mut changes = Self { files: BTreeMap::new() };
        for change in staged {
            match change {
                Staged::Write { path, content, base } => {
                    let change = changes.at(root, path.as_str(), base.as_ref())?;
                    let executable = change.before.as_ref().is_some_and(|before| before.executable);
                    change.after = Some(Regular { bytes: content, executable });
                }
                Staged::Delete { path, base } => changes.at(root, path.as_str(), Some(&base))?.after = None,
                Staged::Rename { source, target, base } => {
                    let moved = changes.at(root, source.as_str(), Some(&base))?.after.take();
                    let change = changes.at(root, target.as_str(), None)?;
                    if change.after.is_some() {
                        return Err(ChangeError::Exists(target.to_string()));
                    }
                    (change.after, change.renamed_from) = (moved, Some(source.to_string()));
                }
            }
        }
        changes.files.retain(|_, change| change.before != change.after);
        Ok(changes)
    }

    /// The change of a file, begun where there is none yet. `base` is what the disk has to hold.
    fn at(&mut self, root: &Root, path: &str, base: Option<&Digest>) -> Result<&mut Change, ChangeError> {
        let before = root.read(path, MAX_FILE_BYTES)?;
        if before.as_ref().map(digest).as_ref() != base {
            return Err(ChangeError::Conflict(path.to_owned()));
        }
        let begin = || Change { renamed_from: None, after: before.clone(), before };
        Ok(self.files.entry(path.to_owned()).or_insert_with(begin))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Bytes that the workspace grows by.
    #[must_use]
    pub fn growth(&self) -> i64 {
        let of = |change: &Change| {
            growth(change.before.as_ref(), change.after.as_ref().map_or(0, |after| after.bytes.len()))
        };
        self.files.values().map(of).fold(0, i64::saturating_add)
    }

    /// What a person is shown and approves.
    #[must_use]
    pub fn subject(&self) -> Subject {
        let mut shown = 0;
        let files = self.files.iter().map(|(path, change)| {
            let diff = diff::patch(path, side(change.before.as_ref()), side(change.after.as_ref())).text;
            shown += diff.len();
            let large =
                || format!("{path}: the change is too large to show ({} bytes of diff)\n", diff.len());
            FileChange {
                path: path.as_str().into(),
                renamed_from: change.renamed_from.as_deref().map(Into::into),
                before: change.before.as_ref().map(digest),
                after: change.after.as_ref().map(digest),
                diff: if shown > SHOWN_BYTES { large() } else { diff }.into(),
            }
        });
        Subject::Changes { files: files.collect() }
    }

    /// Applies all of it, or nothing.
    ///
    /// # Errors
    /// When something changed since [`Changes::prepare`], or the disk is full.
    pub fn apply(self, root: &Root) -> Result<(), ChangeError> {
        let mut pending = Vec::new();
        for (path, change) in &self.files {
            if root.read(path, MAX_FILE_BYTES)?.as_ref().map(digest) != change.before.as_ref().map(digest) {
                return Err(ChangeError::Conflict(path.clone()));
            }
            pending.push((
                path,
                change,
                change.after.as_ref().map(|after| root.write(path, after)).transpose()?,
            ));
        }
        let mut done = Vec::new();
        for (path, change, file) in pending {
            let applied = file.map_or_else(|| root.remove(path), crate::beneath::Pending::commit);
            if let Err(error) = applied {
                undo(root, &done);
                return Err(error.into());
            }
            done.push((path, change));
        }
        Ok(())
    }
}

/// Puts back what was there. What fails here is the disk; the error that led here is reported.
fn undo(root: &Root, done: &[(&String, &Change)]) {
    for (path, change) in done.iter().rev() {
        let undone = match &change.before {
            Some(before) => root.write(path, before).and_then(crate::beneath::Pending::commit),
            None => root.remove(path),
        };
        if let Err(error) = undone {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a change that was not wanted could not be undone"
            );
        }
    }
}

/// The digest of a regular file's bytes, as a change names its base.
#[must_use]
pub fn digest(file: &Regular) -> Digest {
    Digest::of(&file.bytes)
}

/// Of what is at `path` now.
///
/// # Errors
/// When something other than a regular file is there.
pub fn digest_at(root: &Root, path: &str) -> Result<Option<Digest>, FileError> {
    Ok(root.read(path, MAX_FILE_BYTES)?.as_ref().map(digest))
}

fn side(file: Option<&Regular>) -> Option<Side<'_>> {
    file.map(|file| Side {
        bytes: &file.bytes,
        mode: if file.executable { Mode::Executable } else { Mode::Plain },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::WorkspacePath;
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

    fn path(path: &str) -> WorkspacePath {
        WorkspacePath::parse(path).unwrap()
    }

    fn write(at: &str, content: &str, base: Option<&str>) -> Staged {
        Staged::Write {
            path: path(at),
            content: content.into(),
            base: base.map(|b| Digest::of(b.as_bytes())),
        }
    }

    /// The files below, each `name=content`.
    fn tree(folder: &Path) -> Vec<String> {
        let root = Root::open(folder).unwrap();
        let files = root.list("").unwrap().0.into_iter();
        let line = |(name, _): (String, _)| {
            let bytes = root.read(&name, 100).unwrap().unwrap().bytes;
            format!("{name}={}", String::from_utf8(bytes).unwrap())
        };
        files.map(line).collect()
    }

    fn check(name: &str, staged: Vec<Staged>, expected: Result<&[&str], &str>) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "A").unwrap();
        fs::write(folder.path().join("b"), "B").unwrap();
        let root = Root::open(folder.path()).unwrap();
        let applied = Changes::prepare(&root, staged).and_then(|changes| changes.apply(&root));
        match expected {
            Ok(files) => {
                applied.unwrap();
                assert_eq!(tree(folder.path()), files, "{name}");
            }
            Err(part) => {
                assert!(applied.unwrap_err().to_string().contains(part), "{name}");
                assert_eq!(tree(folder.path()), ["a=A", "b=B"], "{name}");
            }
        }
    }

    #[test]
    fn all_or_nothing() {
        let digest = |text: &str| Digest::of(text.as_bytes());
        check(
            "new and changed",
            vec![write("c", "C", None), write("a", "A2", Some("A"))],
            Ok(&["a=A2", "b=B", "c=C"]),
        );
        check("wrong base", vec![write("c", "C", None), write("a", "A2", Some("X"))], Err("read it again"));
        check("not new", vec![write("a", "A2", None)], Err("read it again"));
        check("delete", vec![Staged::Delete { path: path("a"), base: digest("A") }], Ok(&["b=B"]));
        let rename =
            |target: &str| Staged::Rename { source: path("a"), target: path(target), base: digest("A") };
        check("rename", vec![rename("z")], Ok(&["b=B", "z=A"]));
        check("rename onto", vec![rename("b")], Err("read it again"));
        check(
            "twice: the last one counts",
            vec![write("a", "1", Some("A")), write("a", "2", Some("A"))],
            Ok(&["a=2", "b=B"]),
        );
        check("through a file", vec![write("a/x", "1", None)], Err("no folder"));
    }

    #[test]
    fn what_changed_since_it_was_shown_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "A").unwrap();
        fs::set_permissions(folder.path().join("a"), fs::Permissions::from_mode(0o755)).unwrap();
        let root = Root::open(folder.path()).unwrap();
        let changes = Changes::prepare(&root, vec![write("a", "A2", Some("A"))]).unwrap();
        let Subject::Changes { files } = changes.subject() else { panic!() };
        assert!(files[0].diff.raw().contains("-A\n") && files[0].diff.raw().contains("+A2\n"));
        fs::write(folder.path().join("a"), "other").unwrap();
        assert!(matches!(changes.apply(&root), Err(ChangeError::Conflict(_))));
        let changes = Changes::prepare(&root, vec![write("a", "A2", Some("other"))]).unwrap();
        changes.apply(&root).unwrap();
        assert!(root.read("a", 10).unwrap().unwrap().executable);
    }
}
