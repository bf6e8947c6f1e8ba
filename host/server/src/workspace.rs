//! A session's folder on this machine, made once: the private copy that is worked on, and the baseline that changes are
//! measured against. Afterwards only the session's runner and programs touch the copy; this module never reads it again.

mod copy;
mod pack;

pub use pack::{Packed, pack};

use model::lifecycle::Reason;
use resources::Source;
use std::{
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Why a session ends whose folder is there and not to be worked on.
pub(crate) const REFUSED: &str = "WorkspaceRefused";

/// What is never anybody's workspace.
#[derive(Debug, Clone, Copy)]
pub struct Own<'a> {
    /// The server's data.
    pub data: &'a Path,
    /// What the server runs as it is: its programs, its plugins.
    pub programs: &'a [&'a Path],
}

/// What was left out of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeftOut {
    /// Devices, FIFOs, sockets.
    pub special: u64,
    /// Links to somewhere outside.
    pub links: u64,
    /// `.git` folders and files: an agent's tools never see git's metadata.
    pub git: u64,
    /// The server's own data: its tokens, its keys, the other sessions.
    pub own: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error("there is no folder {0}: name one that is there")]
    NoFolder(PathBuf),
    #[error("the folder {0} is of vteam's own data, with tokens and keys: name another one")]
    Own(PathBuf),
    #[error(
        "the folder {0} holds vteam's own data, with tokens and keys: name another one, or work on a private copy"
    )]
    HoldsOwn(PathBuf),
    #[error(
        "the folder has more than {limit} bytes: leave something out with an ignore file, or name a smaller one"
    )]
    TooLarge { limit: u64 },
    #[error("the disk is full: free space in the data folder, then send a message")]
    Full(#[source] io::Error),
    #[error("the folder {0} is git's own: name the folder that it belongs to")]
    Git(PathBuf),
    #[error("{0} cannot be read: open it to this user, or leave it out with an ignore file")]
    Closed(PathBuf),
    #[error("the folder is all of this machine: name a smaller one")]
    Machine,
    #[error("the folder {0} holds programs that vteam runs: name another one, or work on a private copy")]
    HoldsPrograms(PathBuf),
    #[error("{0} is another folder than when the session began: begin a new one")]
    Replaced(PathBuf),
    #[error("{0} is nested too deep to be copied: leave it out with an ignore file")]
    TooDeep(PathBuf),
    #[error("{path} cannot be copied")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl PrepareError {
    /// `None` where another try may do.
    pub(crate) fn reason(&self) -> Option<Reason> {
        match self {
            Self::TooLarge { .. } | Self::Full(_) => Some(Reason::WorkspaceFull),
            Self::Io { source, .. } if is_passing(source) => None,
            Self::NoFolder(_) => Some(Reason::Other("WorkspaceMissing".to_owned())),
            _ => Some(Reason::Other(REFUSED.to_owned())),
        }
    }

    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::PermissionDenied => Self::Closed(path.to_owned()),
            io::ErrorKind::InvalidFilename => Self::TooDeep(path.to_owned()),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(source),
            _ => Self::Io { path: path.to_owned(), source },
        }
    }
}

/// What another moment may cure: this process or machine is short of something.
fn is_passing(error: &io::Error) -> bool {
    let error = rustix::io::Errno::from_io_error(error);
    use rustix::io::Errno;
    matches!(error, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::INTR | Errno::AGAIN))
}

/// Makes the folder, unless it was made before. Nothing half made is ever taken for whole, and nothing of the server's data
/// is copied.
///
/// # Errors
/// When the source is not there, is the server's own, is too large, or cannot be copied.
pub fn prepare(
    session: &Path,
    source: &Source,
    own: &Own<'_>,
    max_bytes: u64,
) -> Result<LeftOut, PrepareError> {
    let data = own.data;
    for folder in ["journal", "tmp", "home", "logs"] {
        make(&session.join(folder))?;
    }
    let workspace = session.join("workspace");
    if let Source::InPlace { path } = source {
        // Also when it was made before: it is not ours, and may have changed.
        itself(session, path, own)?;
    }
    if workspace.exists() {
        return Ok(LeftOut::default());
    }
    let unfinished = session.join("unfinished");
    for stale in [&unfinished, &session.join("baseline")] {
        if stale.exists() {
            std::fs::remove_dir_all(stale).map_err(PrepareError::io(stale))?;
        }
    }
    let (work, base) = (unfinished.join("workspace"), unfinished.join("baseline"));
    make(&work)?;
    make(&base)?;
    let left_out = match source {
        Source::Empty | Source::Archive { .. } => LeftOut::default(),
        Source::Dir { path, include_ignored } => {
            folder(path, data)?;
            let rules =
                copy::Rules { include_ignored: *include_ignored, baseline_only: false, own: data, max_bytes };
            let left_out = copy::tree(path, &mut copy::Copy(&base), &rules)?;
            copy::whole(&base, &work)?;
            left_out
        }
        Source::InPlace { path } => {
            // A link that is there is no change of the session's.
            let rules = copy::Rules { include_ignored: false, baseline_only: true, own: data, max_bytes };
            let left_out = copy::tree(path, &mut copy::Copy(&base), &rules)?;
            // Mounted there under another name.
            if left_out.own > 0 {
                return Err(PrepareError::HoldsOwn(path.clone()));
            }
            left_out
        }
    };
    rename(&base, &session.join("baseline"))?;
    rename(&work, &workspace)?;
    let _ = std::fs::remove_dir(&unfinished);
    Ok(left_out)
}

/// What is known before there is a session: [`prepare`] asks again.
///
/// # Errors
/// When it is a folder that no session may work on.
pub fn admit(source: &Source, own: &Own<'_>) -> Result<(), PrepareError> {
    match source {
        Source::Empty | Source::Archive { .. } => Ok(()),
        Source::Dir { path, .. } => folder(path, own.data).map(drop),
        Source::InPlace { path } => alone(path, own).map(drop),
    }
}

/// Whether the session may work in this folder itself, and that it is the same one each time.
fn itself(session: &Path, path: &Path, own: &Own<'_>) -> Result<(), PrepareError> {
    let real = alone(path, own)?;
    let data = real.metadata().map_err(PrepareError::io(path))?;
    let identity = format!("{}\n{} {}\n", real.display(), data.dev(), data.ino());
    let record = session.join("in-place");
    match std::fs::read_to_string(&record) {
        Ok(before) if before == identity => Ok(()),
        Ok(_) => Err(PrepareError::Replaced(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::write(&record, identity).map_err(PrepareError::io(&record))
        }
        Err(error) => Err(PrepareError::io(&record)(error)),
    }
}

/// A person's folder with nothing of ours in it.
fn alone(path: &Path, own: &Own<'_>) -> Result<PathBuf, PrepareError> {
    let real = folder(path, own.data)?;
    let holds = |inner: &Path| inner.canonicalize().is_ok_and(|inner| inner.starts_with(&real));
    if holds(own.data) {
        return Err(PrepareError::HoldsOwn(path.to_owned()));
    }
    if own.programs.iter().any(|programs| holds(programs)) {
        return Err(PrepareError::HoldsPrograms(path.to_owned()));
    }
    Ok(real)
}

/// A person's folder, through whatever links lead there.
fn folder(path: &Path, own: &Path) -> Result<PathBuf, PrepareError> {
    if !path.is_dir() {
        return Err(PrepareError::NoFolder(path.to_owned()));
    }
    let real = path.canonicalize().map_err(PrepareError::io(path))?;
    if own.canonicalize().is_ok_and(|own| real.starts_with(own)) {
        return Err(PrepareError::Own(path.to_owned()));
    }
    if real.parent().is_none() {
        return Err(PrepareError::Machine);
    }
    if real.iter().any(|part| part.eq_ignore_ascii_case(".git")) {
        return Err(PrepareError::Git(path.to_owned()));
    }
    Ok(real)
}

fn make(folder: &Path) -> Result<(), PrepareError> {
    std::fs::create_dir_all(folder).map_err(PrepareError::io(folder))
}

fn rename(from: &Path, to: &Path) -> Result<(), PrepareError> {
    std::fs::rename(from, to).map_err(PrepareError::io(from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    fn prepare(session: &Path, source: &Source, data: &Path, max: u64) -> Result<LeftOut, PrepareError> {
        super::prepare(session, source, &Own { data, programs: &[] }, max)
    }

    const NOWHERE: &str = "/no/such/data";

    fn files(root: &Path) -> Vec<String> {
        let mut found = vec![];
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let entry = entry.unwrap();
                found.push(entry.path().strip_prefix(root).unwrap().display().to_string());
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                }
            }
        }
        found.sort();
        found
    }

    fn hostile(root: &Path) {
        fs::create_dir_all(root.join("src/.git")).unwrap();
        fs::create_dir_all(root.join(".git/hooks")).unwrap();
        fs::create_dir_all(root.join("target")).unwrap();
        fs::write(root.join(".gitignore"), "target\n*.log\n").unwrap();
        fs::write(root.join("target/big"), "x").unwrap();
        fs::write(root.join("a.log"), "x").unwrap();
        fs::write(root.join("src/run.sh"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(root.join("src/run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("run.sh", root.join("src/inside")).unwrap();
        symlink("../.gitignore", root.join("src/up")).unwrap();
        symlink("/etc/passwd", root.join("absolute")).unwrap();
        symlink("../../etc/passwd", root.join("src/out")).unwrap();
        symlink("src/../../x", root.join("sneaky")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.join("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
    }

    #[test]
    fn a_copy_has_what_is_safe_and_not_ignored() {
        let source = tempfile::tempdir().unwrap();
        let session = tempfile::tempdir().unwrap();
        hostile(source.path());
        let dir = |include_ignored| Source::Dir { path: source.path().to_owned(), include_ignored };
        let left_out = prepare(session.path(), &dir(false), NOWHERE.as_ref(), 1 << 20).unwrap();
        assert_eq!(left_out, LeftOut { special: 1, links: 3, git: 2, own: 0 });
        let expected = [".gitignore", "src", "src/inside", "src/run.sh", "src/up"];
        assert_eq!(files(&session.path().join("workspace")), expected);
        assert_eq!(files(&session.path().join("baseline")), expected);
        let mode = fs::metadata(session.path().join("workspace/src/run.sh")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);

        let all = tempfile::tempdir().unwrap();
        prepare(all.path(), &dir(true), NOWHERE.as_ref(), 1 << 20).unwrap();
        assert!(all.path().join("workspace/target/big").exists());
    }

    #[test]
    fn the_servers_own_data_are_left_out() {
        let home = tempfile::tempdir().unwrap();
        let own = home.path().join("data");
        fs::create_dir_all(own.join("keys")).unwrap();
        fs::write(own.join("token"), "secret").unwrap();
        fs::write(home.path().join("fine"), "").unwrap();
        symlink(&own, home.path().join("alias")).unwrap();
        let dir = |path: &str| Source::Dir { path: home.path().join(path), include_ignored: true };
        let session = tempfile::tempdir().unwrap();
        let left_out = prepare(session.path(), &dir(""), &own, 100).unwrap();
        assert_eq!(left_out, LeftOut { links: 1, own: 1, ..LeftOut::default() });
        assert_eq!(files(&session.path().join("workspace")), ["fine"]);
        for inside in ["data", "data/keys", "alias/keys", "fine/../data"] {
            let session = tempfile::tempdir().unwrap();
            let refused = prepare(session.path(), &dir(inside), &own, 100);
            let admitted = admit(&dir(inside), &Own { data: &own, programs: &[] });
            assert_eq!(
                admitted.map_err(|e| e.to_string()),
                refused.as_ref().map(|_| ()).map_err(ToString::to_string)
            );
            assert!(matches!(refused, Err(PrepareError::Own(_) | PrepareError::NoFolder(_))), "{inside}");
            assert!(!session.path().join("workspace").exists());
        }
    }

    #[test]
    fn a_folder_that_is_worked_on_itself_is_only_a_baseline() {
        let home = tempfile::tempdir().unwrap();
        let (source, own) = (home.path().join("source"), home.path().join("own"));
        fs::create_dir_all(&own).unwrap();
        hostile(&source);
        let session = tempfile::tempdir().unwrap();
        let in_place = |path: &Path| Source::InPlace { path: path.to_owned() };
        let left_out = prepare(session.path(), &in_place(&source), &own, 1 << 20).unwrap();
        assert_eq!(left_out, LeftOut { special: 1, links: 0, git: 2, own: 0 });
        assert!(files(&session.path().join("workspace")).is_empty());
        assert!(files(&session.path().join("baseline")).contains(&"src/out".to_owned()));
        fs::remove_dir_all(&source).unwrap();
        let gone = prepare(session.path(), &in_place(&source), &own, 1 << 20);
        assert!(matches!(gone, Err(PrepareError::NoFolder(_))));
        for (path, holds) in [(home.path(), true), (&own, false)] {
            let session = tempfile::tempdir().unwrap();
            match prepare(session.path(), &in_place(path), &own, 1 << 20) {
                Err(PrepareError::HoldsOwn(_)) => assert!(holds),
                Err(PrepareError::Own(_)) => assert!(!holds),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_folder_that_is_worked_on_itself_stays_the_same_and_holds_no_programs() {
        let (home, session) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (path, other) = (home.path().join("folder"), home.path().join("other"));
        fs::create_dir_all(path.join("bin")).unwrap();
        fs::create_dir(&other).unwrap();
        let source = Source::InPlace { path: path.clone() };
        let bin = path.join("bin");
        let with = |programs: &[&Path]| {
            super::prepare(session.path(), &source, &Own { data: NOWHERE.as_ref(), programs }, 1 << 20)
        };
        assert!(matches!(with(&[&bin]), Err(PrepareError::HoldsPrograms(_))));
        let own = Own { data: NOWHERE.as_ref(), programs: &[&bin] };
        assert!(matches!(admit(&source, &own), Err(PrepareError::HoldsPrograms(_))));
        with(&[]).unwrap();
        with(&[]).unwrap();
        fs::rename(&path, home.path().join("moved")).unwrap();
        symlink(&other, &path).unwrap();
        assert!(matches!(with(&[]), Err(PrepareError::Replaced(_))));
    }

    #[test]
    fn what_is_nobodys_workspace_is_known_before_there_is_a_session() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join("project/.git")).unwrap();
        let own = Own { data: home.path(), programs: &[] };
        let nowhere = Own { data: NOWHERE.as_ref(), programs: &[] };
        let check = |path: PathBuf, own: &Own<'_>, expected: Option<&str>| {
            for source in [
                Source::Dir { path: path.clone(), include_ignored: false },
                Source::InPlace { path: path.clone() },
            ] {
                let refused = admit(&source, own).err().map(|error| error.to_string());
                match (&refused, expected) {
                    (None, None) => {}
                    (Some(why), Some(part)) => assert!(why.contains(part), "{source:?}: {why}"),
                    _ => panic!("{source:?}: {refused:?}"),
                }
            }
        };
        let project = home.path().join("project");
        check(project.clone(), &nowhere, None);
        check(project.join(".git"), &nowhere, Some("git's own"));
        check("/".into(), &nowhere, Some("all of this machine"));
        check(home.path().to_owned(), &own, Some("vteam's own data"));
        check(project, &own, Some("vteam's own data"));
    }

    #[test]
    fn a_kept_workspace_is_not_made_again() {
        let session = tempfile::tempdir().unwrap();
        prepare(session.path(), &Source::Empty, NOWHERE.as_ref(), 1).unwrap();
        fs::write(session.path().join("workspace/new"), "kept").unwrap();
        prepare(session.path(), &Source::Empty, NOWHERE.as_ref(), 1).unwrap();
        assert_eq!(fs::read(session.path().join("workspace/new")).unwrap(), b"kept");
    }

    #[test]
    fn what_cannot_be_copied_says_what_to_do() {
        let check = |source: Source, expected: &str| {
            let session = tempfile::tempdir().unwrap();
            let error = prepare(session.path(), &source, NOWHERE.as_ref(), 3).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!session.path().join("workspace").exists());
        };
        check(Source::Dir { path: "/no/such/folder".into(), include_ignored: false }, "there is no folder");
        let repository = tempfile::tempdir().unwrap();
        let hooks = repository.path().join(".git/hooks");
        fs::create_dir_all(&hooks).unwrap();
        check(Source::InPlace { path: hooks.clone() }, "git's own");
        check(Source::Dir { path: hooks, include_ignored: false }, "git's own");
        check(Source::Dir { path: "/".into(), include_ignored: false }, "all of this machine");
        let closed = tempfile::tempdir().unwrap();
        let inner = closed.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o000)).unwrap();
        // Nothing is closed to root.
        if fs::read_dir(&inner).is_err() {
            let source = Source::Dir { path: closed.path().to_owned(), include_ignored: false };
            check(source, "inner cannot be read: open it");
        }
        let large = tempfile::tempdir().unwrap();
        fs::write(large.path().join("f"), "1234").unwrap();
        check(Source::Dir { path: large.path().to_owned(), include_ignored: false }, "more than 3 bytes");
    }
}
