//! What was git's in a person's folder when the session began, and what is new since: the person's own git would obey it.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Between paths, where it cannot be within one.
const END: u8 = 0;

/// Repositories that were there before the session, by their paths below the folder.
#[derive(Debug, Clone)]
pub struct KnownGits(Arc<Known>);

#[derive(Debug)]
struct Known {
    paths: BTreeSet<PathBuf>,
    /// What lies hidden now: all that was there when this runner began.
    covered: BTreeSet<String>,
}

impl KnownGits {
    /// Of those `found` now, what the session's first runner found too: what was gone meanwhile counts as new. `kept` is
    /// the file that says so between runners.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn keep(kept: &Path, found: BTreeSet<PathBuf>) -> io::Result<Self> {
        // Nothing else is compared.
        let covered = found.iter().filter_map(|path| path.to_str().map(str::to_owned)).collect();
        let known: BTreeSet<PathBuf> = match fs::read(kept) {
            Ok(bytes) => {
                let before = bytes.split(|byte| *byte == END).map(|path| Path::new(OsStr::from_bytes(path)));
                before.filter(|path| found.contains(*path)).map(Path::to_owned).collect()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => found,
            Err(error) => return Err(error),
        };
        let paths: Vec<&[u8]> = known.iter().map(|path| path.as_os_str().as_bytes()).collect();
        let beside = kept.with_extension("new");
        fs::write(&beside, paths.join(&END))?;
        fs::rename(beside, kept)?;
        Ok(Self(Arc::new(Known { paths: known, covered })))
    }

    pub(super) fn covered(&self) -> &BTreeSet<String> {
        &self.0.covered
    }

    /// A line on each repository that is new, and on what could not be searched.
    ///
    /// # Errors
    /// When the folder cannot be searched.
    pub(super) fn remarks(&self, folder: &Path) -> io::Result<String> {
        let confine::Gits { found, closed } = confine::gits(folder)?;
        let new = found.iter().filter(|git| !self.0.paths.contains(&git.path));
        let new = new.map(|git| {
            let path = git.path.display().to_string();
            format!("# new since the session began: {path:?}; its hooks and settings are run by your git\n")
        });
        let closed = closed
            .iter()
            .map(|path| format!("# not looked into: {:?} cannot be opened\n", path.display().to_string()));
        Ok(new.chain(closed).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_is_named() {
        let (folder, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let latin = Path::new(OsStr::from_bytes(b"caf\xe9/.git"));
        let make = |path: &Path| fs::create_dir_all(folder.path().join(path)).unwrap();
        let found = || {
            let found = confine::gits(folder.path()).unwrap().found;
            found.into_iter().map(|git| git.path).collect::<BTreeSet<_>>()
        };
        let keep = || KnownGits::keep(&own.path().join("gits"), found()).unwrap();
        make(".git".as_ref());
        make(latin);
        assert_eq!(keep().remarks(folder.path()).unwrap(), "");
        make("sub/.git".as_ref());
        let expected =
            "# new since the session began: \"sub/.git\"; its hooks and settings are run by your git\n";
        assert_eq!(keep().remarks(folder.path()).unwrap(), expected);
        // Gone when a runner began, and made again after.
        fs::remove_dir(folder.path().join(latin)).unwrap();
        keep();
        make(latin);
        assert!(keep().remarks(folder.path()).unwrap().contains("caf"));
    }
}
