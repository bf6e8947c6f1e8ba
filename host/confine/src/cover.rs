//! A person's own folder as a workspace: everything in it but git's metadata. Whoever can write those has their hooks and
//! configuration run by the person's next `git` command, so an empty read-only folder (or file, as worktrees and
//! submodules have) lies over each `.git` and each bare repository.
//!
//! What is covered cannot be removed, renamed or replaced from within, and neither can a folder that leads to it: each is
//! a mount of its own. It does not keep anybody from making a further `.git` where none was ([`gits`] finds those), nor
//! the person from replacing one outside, which lifts its cover ([`Covers::hold`] sees that).

use crate::privileges;
use crate::sys::{self, Mounts, set_mount_attributes};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    unmount,
};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const COVER: u64 =
    libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
const OURS: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Why git's metadata below a folder cannot be kept from whoever works in it. Paths are below that folder.
#[derive(Debug, thiserror::Error)]
pub enum CoverError {
    #[error("it is a bare repository: name a folder that is worked in")]
    Repository,
    #[error("{0} is a link: nothing can lie over what it leads to; work on a private copy")]
    Link(PathBuf),
    #[error("{0} cannot be looked into for repositories: open it to this user, or work on a private copy")]
    Closed(PathBuf),
    #[error(
        "{git} has its repository at {target}, which is in the same folder and does not look like one: work on a private copy"
    )]
    Elsewhere { git: PathBuf, target: PathBuf },
    #[error("{path} cannot be covered: {error}")]
    Io { path: PathBuf, error: io::Error },
}

impl CoverError {
    fn io(path: &Path) -> impl FnOnce(Errno) -> Self {
        move |error| Self::Io { path: path.to_owned(), error: error.into() }
    }
}

/// Shows `folder` at `workspace` to this process alone, its git metadata covered. `scratch` is an empty folder of the
/// caller's.
///
/// Invariant: called on the only thread, before the process confines itself.
///
/// # Errors
/// Where the host allows no user and mount namespace, or something of git's cannot be covered.
pub fn work_in_place(folder: &Path, workspace: &Path, scratch: &Path) -> io::Result<Covers> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    sys::own_mounts()?;
    privileges::stay_who_you_are(uid, gid)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    // Recursive, because mounts of a more privileged namespace come only together.
    mount_bind_recursive(folder, workspace)?;
    set_mount_attributes(workspace, Mounts::ThisAndBelow, OURS)?;
    cover(workspace, scratch).map_err(io::Error::other)
}

/// What lies over git's metadata of a folder.
#[derive(Debug)]
pub struct Covers {
    root: OwnedFd,
    covered: Vec<(PathBuf, Identity)>,
}

type Identity = (u64, u64);

impl Covers {
    /// Whether each is where it was put.
    ///
    /// # Errors
    /// The first that is not: somebody outside removed, renamed or replaced what it lay over, and the kernel lets a mount
    /// go with that.
    pub fn hold(&self) -> Result<(), &Path> {
        let lifted = self.covered.iter().find(|(path, cover)| identity(&self.root, path) != Ok(*cover));
        lifted.map_or(Ok(()), |(path, _)| Err(path))
    }

    /// What is covered, below the folder.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.covered.iter().map(|(path, _)| path.as_path())
    }
}

fn identity(root: &OwnedFd, path: &Path) -> Result<Identity, Errno> {
    let found = rustix::fs::statat(root, path, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok((found.st_dev, found.st_ino))
}

/// Covers what [`gits`] finds below `root`, in a mount namespace of the caller's own.
pub(crate) fn cover(root: &Path, scratch: &Path) -> Result<Covers, CoverError> {
    let Gits { found, closed } = gits(root).map_err(|error| CoverError::Io { path: root.into(), error })?;
    if let Some(closed) = closed.into_iter().next() {
        return Err(CoverError::Closed(closed));
    }
    let mut covers = Covers { root: open(root).map_err(CoverError::io(root))?, covered: vec![] };
    if found.is_empty() {
        return Ok(covers);
    }
    let io = |error| CoverError::Io { path: scratch.to_owned(), error };
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", scratch, "tmpfs", flags, Some(c"mode=0755,size=64k")).map_err(CoverError::io(scratch))?;
    let (folder, file) = (scratch.join("folder"), scratch.join("file"));
    fs::create_dir(&folder).and_then(|()| fs::write(&file, "")).map_err(io)?;
    // From above, so that no mount hides another one.
    let ways: BTreeSet<&Path> = found.iter().flat_map(|git| git.path.ancestors().skip(1)).collect();
    for way in ways.into_iter().filter(|way| !way.as_os_str().is_empty()) {
        let at = root.join(way);
        mount_bind_recursive(&at, &at).map_err(CoverError::io(way))?;
    }
    // What was opened before leads below those mounts.
    covers.root = open(root).map_err(CoverError::io(root))?;
    for Git { path, kind } in found {
        let cover = match kind {
            GitKind::Folder => &folder,
            GitKind::File => &file,
            GitKind::Link => return Err(CoverError::Link(path)),
        };
        let at = root.join(&path);
        mount_bind(cover, &at).map_err(CoverError::io(&path))?;
        set_mount_attributes(&at, Mounts::ThisOne, COVER)
            .map_err(|error| CoverError::Io { path: path.clone(), error })?;
        let cover = identity(&covers.root, &path).map_err(CoverError::io(&path))?;
        covers.covered.push((path, cover));
    }
    // What is bound stays.
    unmount(scratch, UnmountFlags::DETACH).map_err(CoverError::io(scratch))?;
    Ok(covers)
}

/// Whether all that is git's below a folder can be covered, seen from outside: also where each `.git` file leads to.
///
/// # Errors
/// The first thing that cannot be.
pub fn coverable(root: &Path) -> Result<(), CoverError> {
    let failed = |error| CoverError::Io { path: root.to_owned(), error };
    let itself = open(root).and_then(|opened| Listing::read(&opened, Path::new("")));
    if itself.map_err(CoverError::io(root))?.is_repository {
        return Err(CoverError::Repository);
    }
    let Gits { found, closed } = gits(root).map_err(failed)?;
    if let Some(closed) = closed.into_iter().next() {
        return Err(CoverError::Closed(closed));
    }
    let root = root.canonicalize().map_err(failed)?;
    for git in &found {
        match git.kind {
            GitKind::Link => return Err(CoverError::Link(git.path.clone())),
            GitKind::Folder => {}
            GitKind::File => {
                let Some(target) = leads_to(&root.join(&git.path)) else { continue };
                let Ok(below) = target.strip_prefix(&root) else { continue };
                if !found.iter().any(|other| below.starts_with(&other.path)) {
                    return Err(CoverError::Elsewhere { git: git.path.clone(), target: below.to_owned() });
                }
            }
        }
    }
    Ok(())
}

/// The folder that a `.git` file names (gitrepository-layout(5)); `None` where there is none.
fn leads_to(file: &Path) -> Option<PathBuf> {
    /// A path, and what git writes before it.
    const MAX_BYTES: u64 = 8192;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::open(file, flags, Mode::empty()).ok()?;
    let mut text = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(fs::File::from(opened), MAX_BYTES), &mut text).ok()?;
    let target = text.strip_prefix(b"gitdir:")?.trim_ascii();
    file.parent()?.join(OsStr::from_bytes(target)).canonicalize().ok()
}

/// Something that git takes for its own, by its path below the folder that was searched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Git {
    pub path: PathBuf,
    pub kind: GitKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GitKind {
    Folder,
    /// It names the folder, as in worktrees and submodules.
    File,
    Link,
}

/// What is git's below a folder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gits {
    pub found: Vec<Git>,
    /// Folders that whoever works here can pass or open, and that cannot be listed now.
    pub closed: Vec<PathBuf>,
}

/// Each `.git` and each bare repository below a folder, which itself may be neither. No link is followed. On file systems
/// that do not tell cases apart git takes any case of `.git` for its own. What is named by more than `PATH_MAX` bytes is
/// left out: git cannot work there either.
///
/// # Errors
/// When the folder itself cannot be listed, or the kernel refuses for another reason than permission.
pub fn gits(root: &Path) -> io::Result<Gits> {
    let root = open(root)?;
    let mut all = Gits::default();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let is_root = folder.as_os_str().is_empty();
        match Listing::read(&root, &folder) {
            Ok(Listing { folders: _, gits: _, is_repository: true }) if !is_root => {
                all.found.push(Git { path: folder, kind: GitKind::Folder });
            }
            Ok(listing) => {
                all.found.extend(listing.gits);
                folders.extend(listing.folders);
            }
            Err(Errno::ACCESS) if !is_root => {
                if !is_closed_to_all(&root, &folder) {
                    all.closed.push(folder);
                }
            }
            // Gone, or something else by now; or too deep.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) if !is_root => {}
            Err(error) => return Err(error.into()),
        }
    }
    all.found.sort();
    Ok(all)
}

struct Listing {
    folders: Vec<PathBuf>,
    gits: Vec<Git>,
    /// It has what git looks for in a repository: `HEAD`, `objects` and `refs`.
    is_repository: bool,
}

impl Listing {
    fn read(root: &OwnedFd, path: &Path) -> Result<Self, Errno> {
        let opened = below(root, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let (mut folders, mut gits, mut marks) = (vec![], vec![], 0);
        for entry in rustix::fs::Dir::read_from(&opened)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let kind = match entry.file_type() {
                // Some file systems do not say.
                FileType::Unknown => match rustix::fs::statat(&opened, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Err(Errno::NOENT) => continue,
                    found => FileType::from_raw_mode(found?.st_mode),
                },
                kind => kind,
            };
            marks += u8::from(name == "HEAD" || name == "objects" || name == "refs");
            let kind = match kind {
                FileType::Directory => GitKind::Folder,
                FileType::RegularFile => GitKind::File,
                FileType::Symlink => GitKind::Link,
                _ => continue,
            };
            if name.eq_ignore_ascii_case(".git") {
                gits.push(Git { path: path.join(name), kind });
            } else if kind == GitKind::Folder {
                folders.push(path.join(name));
            }
        }
        Ok(Self { folders, gits, is_repository: marks == 3 })
    }
}

fn open(root: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn below(root: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), BENEATH)
}

/// Another user's folder that may not even be passed: it is as closed to the session as to us.
fn is_closed_to_all(root: &OwnedFd, path: &Path) -> bool {
    let me = rustix::process::geteuid().as_raw();
    let Ok(data) = rustix::fs::statat(root, path, AtFlags::SYMLINK_NOFOLLOW) else { return false };
    let may_pass = rustix::fs::accessat(root.as_fd(), path, Access::EXEC_OK, AtFlags::EACCESS);
    data.st_uid != me && may_pass == Err(Errno::ACCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn repository(at: &Path) {
        for folder in ["objects", "refs", "hooks"] {
            fs::create_dir_all(at.join(folder)).unwrap();
        }
        fs::write(at.join("HEAD"), "ref: refs/heads/main\n").unwrap();
    }

    #[test]
    fn every_git_is_found_and_no_link_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        repository(folder.path());
        fs::create_dir_all(at(".git/hooks")).unwrap();
        fs::create_dir_all(at("sub/.git")).unwrap();
        repository(&at("sub/bare"));
        fs::create_dir_all(at("tree")).unwrap();
        fs::write(at("tree/.git"), "gitdir: elsewhere").unwrap();
        fs::write(at("tree/.gitignore"), "").unwrap();
        fs::write(at("tree/HEAD"), "").unwrap();
        symlink("/", at("out")).unwrap();
        symlink("/", at("tree/.GIT")).unwrap();
        let latin = OsStr::from_bytes(b"caf\xe9");
        fs::create_dir_all(folder.path().join(latin).join(".git")).unwrap();
        let Gits { found, closed } = gits(folder.path()).unwrap();
        let mut expected = vec![
            Git { path: ".git".into(), kind: GitKind::Folder },
            Git { path: "sub/.git".into(), kind: GitKind::Folder },
            Git { path: "sub/bare".into(), kind: GitKind::Folder },
            Git { path: "tree/.GIT".into(), kind: GitKind::Link },
            Git { path: "tree/.git".into(), kind: GitKind::File },
            Git { path: Path::new(latin).join(".git"), kind: GitKind::Folder },
        ];
        expected.sort();
        assert_eq!((found, closed), (expected, vec![]));
    }

    #[test]
    fn what_is_deeper_than_a_path_can_say_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let name = "d".repeat(200);
        let mut at = open(folder.path()).unwrap();
        for _ in 0..30 {
            rustix::fs::mkdirat(&at, &name, Mode::from_raw_mode(0o755)).unwrap();
            at = rustix::fs::openat(&at, &name, OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        fs::create_dir(folder.path().join(".git")).unwrap();
        assert_eq!(gits(folder.path()).unwrap().found.len(), 1);
    }

    #[test]
    fn what_cannot_be_covered_is_named() {
        let check = |make: &dyn Fn(&Path), expected: &str| {
            let folder = tempfile::tempdir().unwrap();
            make(folder.path());
            let said = coverable(folder.path()).map_or_else(|error| error.to_string(), |()| String::new());
            assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{said}");
        };
        let git_file = |at: &Path, target: &str| {
            fs::create_dir_all(at.join("tree")).unwrap();
            fs::write(at.join("tree/.git"), format!("gitdir: {target}\n")).unwrap();
        };
        check(&|_| {}, "");
        check(&repository, "a bare repository");
        check(&|at| symlink("/elsewhere", at.join(".git")).unwrap(), ".git is a link");
        check(&|at| git_file(at, "/no/such/folder"), "");
        check(&|at| (git_file(at, "../.bare"), repository(&at.join(".bare"))).0, "");
        let worktree = |at: &Path| {
            repository(&at.join(".bare"));
            let own = at.join(".bare/worktrees/tree");
            fs::create_dir_all(&own).unwrap();
            git_file(at, own.to_str().unwrap());
        };
        check(&worktree, "");
        let odd = |at: &Path| {
            fs::create_dir(at.join("odd")).unwrap();
            git_file(at, "../odd");
        };
        check(&odd, "tree/.git has its repository at odd");
    }
}
