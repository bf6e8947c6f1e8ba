//! Brings a session's changes into a folder: by our own code, file by file, each checked against what the agent saw.
//!
//! Invariant: nothing is written unless every file can be; no link is followed; nothing below `.git` is touched; no
//! program runs.

mod folder;
mod parse;

pub(crate) use folder::Folder;
pub(crate) use parse::{Change, Content, parse};

use model::{id::Digest, render};
use std::collections::BTreeSet;

/// A change that is ready to be written.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) change: Change,
    /// `None` when the file goes.
    pub(crate) bytes: Option<Vec<u8>>,
}

/// Why a file is not as the agent saw it, or cannot be taken over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) path: String,
    pub(crate) why: String,
}

impl Conflict {
    /// Without colours: errors show whatever would have made them.
    pub(crate) fn line(&self) -> String {
        format!("  ✗ {}: {}\n", render::line(&self.path.as_str().into(), 200), self.why)
    }
}

/// What a file in the folder says to a change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// As the agent saw it.
    Fits,
    /// The change is already there.
    Done,
    /// No change of a file: it stays out, and does not keep others from being taken over.
    LeftOut(&'static str),
    Conflict(String),
}

/// The same, once these files are gone: a folder may take a file's place.
pub(crate) fn standing_after(change: &Change, folder: &Folder, gone: &BTreeSet<String>) -> Standing {
    let above = change.path.match_indices('/').filter_map(|(at, _)| change.path.get(..at));
    let fits = matches!(&change.content, Content::Written { before: None, .. })
        && above.into_iter().any(|above| gone.contains(above));
    match standing(change, folder) {
        Standing::Conflict(_) if fits => Standing::Fits,
        standing => standing,
    }
}

/// Compares a change with what is in the folder now.
pub(crate) fn standing(change: &Change, folder: &Folder) -> Standing {
    if change.path.split('/').any(|part| part.eq_ignore_ascii_case(".git")) {
        return Standing::Conflict("git's own files are not taken over".to_owned());
    }
    if change.content == Content::NotAFile {
        return Standing::LeftOut("links and special files are not taken over");
    }
    let now = match folder.digest(&change.path) {
        Ok(now) => now,
        Err(error) => return Standing::Conflict(error.to_string()),
    };
    let has_mode = |wanted: bool| folder.is_executable(&change.path).is_ok_and(|now| now == wanted);
    let (before, after) = match &change.content {
        Content::Written { before, after, .. } => (before.as_ref(), Some(after)),
        Content::Executable(_) if now.is_none() => {
            return Standing::Conflict(difference(None, None).to_owned());
        }
        Content::Executable(wanted) => {
            return if has_mode(*wanted) { Standing::Done } else { Standing::Fits };
        }
        Content::Deleted { before } => (Some(before), None),
        Content::NotAFile => (None, None),
    };
    if now.as_ref() == before {
        return Standing::Fits;
    }
    if now.as_ref() == after {
        let is_done = match &change.content {
            Content::Written { executable: Some(wanted), .. } => has_mode(*wanted),
            _ => true,
        };
        return if is_done { Standing::Done } else { Standing::Fits };
    }
    Standing::Conflict(difference(now.as_ref(), before).to_owned())
}

fn difference(now: Option<&Digest>, before: Option<&Digest>) -> &'static str {
    match (now, before) {
        (None, _) => "it is not there any more",
        (Some(_), None) => "there is another file of this name now",
        (Some(_), Some(_)) => "it was changed since the session began",
    }
}

/// Writes all of them, what goes first. Each file is checked once more right before it is replaced.
///
/// # Errors
/// The first file that could not be written; those before it are written.
pub(crate) fn write(ready: &[Ready], folder: &Folder) -> Result<(), Conflict> {
    let (gone, others): (Vec<&Ready>, Vec<&Ready>) = ready.iter().partition(|ready| ready.change.goes());
    for Ready { change, bytes } in gone.into_iter().chain(others) {
        let conflict = |why: String| Conflict { path: change.path.clone(), why };
        match standing(change, folder) {
            Standing::Fits => {}
            Standing::Done | Standing::LeftOut(_) => continue,
            Standing::Conflict(why) => return Err(conflict(why)),
        }
        let done = match (&change.content, bytes) {
            (Content::Written { executable, .. }, Some(bytes)) => {
                folder.replace(&change.path, bytes, *executable)
            }
            (Content::Executable(wanted), _) => folder.set_executable(&change.path, *wanted),
            _ => folder.remove(&change.path),
        };
        done.map_err(|error| conflict(error.to_string()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    fn written(path: &str, before: Option<&str>, after: &str) -> Ready {
        let before = before.map(|text| Digest::of(text.as_bytes()));
        let content = Content::Written { before, after: Digest::of(after.as_bytes()), executable: None };
        Ready { change: Change { path: path.to_owned(), content }, bytes: Some(after.as_bytes().to_vec()) }
    }

    fn deleted(path: &str, before: &str) -> Ready {
        let content = Content::Deleted { before: Digest::of(before.as_bytes()) };
        Ready { change: Change { path: path.to_owned(), content }, bytes: None }
    }

    #[test]
    fn changes_come_back() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("a"), "old").unwrap();
        fs::write(place.path().join("gone"), "x").unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let ready =
            [written("a", Some("old"), "new"), written("sub/deep/b", None, "b"), deleted("gone", "x")];
        write(&ready, &folder).unwrap();
        assert_eq!(fs::read_to_string(place.path().join("a")).unwrap(), "new");
        assert_eq!(fs::read_to_string(place.path().join("sub/deep/b")).unwrap(), "b");
        assert!(!place.path().join("gone").exists());
        // Again: everything is already there.
        write(&ready, &folder).unwrap();
        // A folder in the place of a file.
        let ready = [written("a/inner", None, "i"), deleted("a", "new")];
        assert!(matches!(standing(&ready[0].change, &folder), Standing::Conflict(_)));
        assert_eq!(standing_after(&ready[0].change, &folder, &["a".to_owned()].into()), Standing::Fits);
        write(&ready, &folder).unwrap();
        assert_eq!(fs::read_to_string(place.path().join("a/inner")).unwrap(), "i");
    }

    #[test]
    fn permissions_come_back() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = tempfile::tempdir().unwrap();
        for name in ["alone", "both"] {
            fs::write(place.path().join(name), "old").unwrap();
            fs::set_permissions(place.path().join(name), fs::Permissions::from_mode(0o640)).unwrap();
        }
        let mode = |name: &str| fs::metadata(place.path().join(name)).unwrap().permissions().mode() & 0o777;
        let folder = Folder::open(place.path()).unwrap();
        let alone = |executable| Ready {
            change: Change { path: "alone".to_owned(), content: Content::Executable(executable) },
            bytes: None,
        };
        let mut both = written("both", Some("old"), "new");
        if let Content::Written { executable, .. } = &mut both.change.content {
            *executable = Some(true);
        }
        write(&[alone(true), both], &folder).unwrap();
        assert_eq!((mode("alone"), mode("both")), (0o750, 0o750));
        assert_eq!(standing(&alone(true).change, &folder), Standing::Done);
        write(&[alone(false)], &folder).unwrap();
        assert_eq!(mode("alone"), 0o640);
        let missing = Change { path: "missing".to_owned(), content: Content::Executable(true) };
        assert_eq!(standing(&missing, &folder), Standing::Conflict("it is not there any more".to_owned()));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let outside = tempfile::tempdir().unwrap();
        let place = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("target"), "old").unwrap();
        fs::write(place.path().join("a"), "mine").unwrap();
        fs::write(place.path().join("target"), "old").unwrap();
        fs::hard_link(place.path().join("target"), place.path().join("twin")).unwrap();
        symlink(outside.path().join("target"), place.path().join("link")).unwrap();
        symlink(outside.path(), place.path().join("dir")).unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let check = |ready: Ready, why: &str| {
            let refused = write(&[ready], &folder).unwrap_err();
            assert!(refused.why.contains(why), "{refused:?}");
        };
        check(written("a", Some("old"), "new"), "changed since");
        check(written("a", None, "new"), "another file of this name");
        check(written("missing", Some("old"), "new"), "not there any more");
        check(written(".git/hooks/post-checkout", None, "x"), "git's own files");
        check(written("sub/.GIT/config", None, "x"), "git's own files");
        check(written("link", Some("old"), "new"), "link");
        check(written("dir/target", Some("old"), "new"), "link");
        check(written("twin", Some("old"), "new"), "several names");
        check(written("../escape", None, "x"), "leads out");
        assert_eq!(fs::read_to_string(outside.path().join("target")).unwrap(), "old");
    }
}
