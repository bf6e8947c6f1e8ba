//! A person's own folder as a workspace: everything in it but git's metadata. Whoever can write those has their hooks and
//! configuration run by the person's next `git` command, so an empty read-only folder (or file, as worktrees and
//! submodules have) lies over each `.git` and each bare repository.
//!
//! What is covered is decided once, before anybody works there ([`take_stock`]), and kept in a file that no session can
//! write. It cannot be removed, renamed or replaced from within, and neither can a folder that leads to it: each is a
//! mount of its own. That does not keep anybody from making a further repository where none was ([`gits`] finds those),
//! nor the person from replacing one outside, which lifts its cover ([`Covers::lifted`] sees that).

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
use std::path::{Component, Path, PathBuf};

const COVER: u64 =
    libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
const OURS: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Each is a mount, and the kernel's effort grows with their square.
const MAX_COVERS: usize = 1000;

/// Why git's metadata below a folder cannot be kept from whoever works in it. Paths are below that folder.
#[derive(Debug, thiserror::Error)]
pub enum CoverError {
    #[error("it is git's own: name the folder that the repository belongs to")]
    Repository,
    #[error("{0} is a link: nothing can lie over what it leads to; work on a private copy")]
    Link(PathBuf),
    #[error("{0} cannot be looked into for repositories: open it to this user, or work on a private copy")]
    Closed(PathBuf),
    #[error(
        "{git} has its repository at {target}, which is in the same folder and does not look like one: work on a private copy"
    )]
    Elsewhere { git: PathBuf, target: PathBuf },
    #[error("there are {0} repositories in it, more than {MAX_COVERS}: work on a private copy")]
    Many(usize),
    #[error("{path} cannot be covered: {error}")]
    Io { path: PathBuf, error: io::Error },
}

impl CoverError {
    fn io(path: &Path) -> impl FnOnce(Errno) -> Self {
        move |error| Self::Io { path: path.to_owned(), error: error.into() }
    }
}

/// Decides what is covered in `folder`, and tries it: what was there when the session began, as `kept` says, or what is
/// there now where it says nothing yet. In a process of its own that ends then; arguments as of [`work_in_place`].
///
/// Invariant: called on the only thread, and nobody of the session works in the folder yet.
///
/// # Errors
/// What cannot be covered, or where the host allows no user and mount namespace.
pub fn take_stock(folder: &Path, workspace: &Path, scratch: &Path, kept: &Path) -> Result<(), CoverError> {
    let mut paths: Vec<PathBuf> = coverable(folder)?.into_iter().map(|git| git.path).collect();
    if let Some(known) = known(kept)? {
        paths.retain(|path| known.contains(path));
    }
    show(folder, workspace).map_err(|error| CoverError::Io { path: folder.to_owned(), error })?;
    cover(workspace, scratch, &paths)?;
    let texts: Vec<&[u8]> = paths.iter().map(|path| path.as_os_str().as_bytes()).collect();
    let beside = kept.with_extension("new");
    let written = fs::write(&beside, texts.join(&END)).and_then(|()| fs::rename(&beside, kept));
    written.map_err(|error| CoverError::Io { path: kept.to_owned(), error })
}

/// Between paths in the file, where it cannot be within one.
const END: u8 = 0;

/// What [`take_stock`] kept; `None` where it did not yet.
fn known(kept: &Path) -> Result<Option<BTreeSet<PathBuf>>, CoverError> {
    match fs::read(kept) {
        Ok(bytes) => {
            let paths = bytes.split(|byte| *byte == END).filter(|path| !path.is_empty());
            Ok(Some(paths.map(|path| PathBuf::from(OsStr::from_bytes(path))).collect()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CoverError::Io { path: kept.to_owned(), error }),
    }
}

/// What is to be covered, as [`take_stock`] kept it.
pub(crate) fn decided(kept: &Path) -> Result<Vec<PathBuf>, CoverError> {
    let missing = || CoverError::Io { path: kept.to_owned(), error: io::ErrorKind::NotFound.into() };
    Ok(known(kept)?.ok_or_else(missing)?.into_iter().collect())
}

/// Shows `folder` at `workspace` to this process alone, its git metadata covered. `scratch` is an empty folder of the
/// caller's, `kept` the file of [`take_stock`].
///
/// Invariant: called on the only thread, before the process confines itself.
///
/// # Errors
/// Where the host allows no user and mount namespace, or something of git's cannot be covered.
pub fn work_in_place(
    folder: &Path,
    workspace: &Path,
    scratch: &Path,
    kept: &Path,
) -> Result<Covers, CoverError> {
    let paths = decided(kept)?;
    show(folder, workspace).map_err(|error| CoverError::Io { path: folder.to_owned(), error })?;
    cover(workspace, scratch, &paths)
}

fn show(folder: &Path, workspace: &Path) -> io::Result<()> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    sys::own_mounts()?;
    privileges::stay_who_you_are(uid, gid)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    // Recursive, because mounts of a more privileged namespace come only together.
    mount_bind_recursive(folder, workspace)?;
    set_mount_attributes(workspace, Mounts::ThisAndBelow, OURS)
}

/// What lies over git's metadata of a folder.
#[derive(Debug)]
pub struct Covers {
    root: OwnedFd,
    covered: Vec<(PathBuf, Identity)>,
}

type Identity = (u64, u64);

impl Covers {
    /// Those that are not where they were put: somebody outside removed, renamed or replaced what they lay over, and the
    /// kernel lets a mount go with that.
    pub fn lifted(&self) -> impl Iterator<Item = &Path> {
        let lifted = |(path, cover): &&(PathBuf, Identity)| identity(&self.root, path) != Ok(*cover);
        self.covered.iter().filter(lifted).map(|(path, _)| path.as_path())
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

/// Covers these below `root`, in a mount namespace of the caller's own. What is not there any more is left out.
pub(crate) fn cover(root: &Path, scratch: &Path, paths: &[PathBuf]) -> Result<Covers, CoverError> {
    let mut covers = Covers { root: open(root).map_err(CoverError::io(root))?, covered: vec![] };
    let mut found: Vec<(&Path, GitKind)> = vec![];
    for path in paths {
        match rustix::fs::statat(&covers.root, path, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            stat => match kind(FileType::from_raw_mode(stat.map_err(CoverError::io(path))?.st_mode)) {
                Some(GitKind::Link) | None => return Err(CoverError::Link(path.clone())),
                Some(kind) => found.push((path, kind)),
            },
        }
    }
    if found.is_empty() {
        return Ok(covers);
    }
    let io = |error| CoverError::Io { path: scratch.to_owned(), error };
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", scratch, "tmpfs", flags, Some(c"mode=0755,size=64k")).map_err(CoverError::io(scratch))?;
    let (folder, file) = (scratch.join("folder"), scratch.join("file"));
    fs::create_dir(&folder).and_then(|()| fs::write(&file, "")).map_err(io)?;
    // From above, so that no mount hides another one.
    let ways: BTreeSet<&Path> = found.iter().flat_map(|(path, _)| path.ancestors().skip(1)).collect();
    for way in ways.into_iter().filter(|way| !way.as_os_str().is_empty()) {
        let at = root.join(way);
        mount_bind_recursive(&at, &at).map_err(CoverError::io(way))?;
    }
    // What was opened before leads below those mounts.
    covers.root = open(root).map_err(CoverError::io(root))?;
    for (path, kind) in found {
        let (at, cover) = (root.join(path), if kind == GitKind::File { &file } else { &folder });
        mount_bind(cover, &at).map_err(CoverError::io(path))?;
        set_mount_attributes(&at, Mounts::ThisOne, COVER)
            .map_err(|error| CoverError::Io { path: path.to_owned(), error })?;
        let cover = identity(&covers.root, path).map_err(CoverError::io(path))?;
        covers.covered.push((path.to_owned(), cover));
    }
    // What is bound stays.
    unmount(scratch, UnmountFlags::DETACH).map_err(CoverError::io(scratch))?;
    Ok(covers)
}

/// All that is git's below a folder, where all of it can be covered: also where each `.git` file leads to.
fn coverable(root: &Path) -> Result<Vec<Git>, CoverError> {
    let failed = |error| CoverError::Io { path: root.to_owned(), error };
    let root = root.canonicalize().map_err(failed)?;
    if root.ancestors().any(is_repository) {
        return Err(CoverError::Repository);
    }
    let Gits { found, closed } = gits(&root).map_err(failed)?;
    if let Some(closed) = closed.into_iter().next() {
        return Err(CoverError::Closed(closed));
    }
    if found.len() > MAX_COVERS {
        return Err(CoverError::Many(found.len()));
    }
    for Git { path, kind } in &found {
        match kind {
            GitKind::Link => return Err(CoverError::Link(path.clone())),
            GitKind::Folder => {}
            GitKind::File => {
                let Some(target) = leads_to(&root.join(path)) else { continue };
                // Where the way is not what it says, or leads to nothing yet, the session could make it lead elsewhere.
                let real = target.canonicalize().unwrap_or_default();
                let Ok(below) = target.strip_prefix(&root).or_else(|_| real.strip_prefix(&root)) else {
                    continue;
                };
                if real != target || !found.iter().any(|other| below.starts_with(&other.path)) {
                    return Err(CoverError::Elsewhere { git: path.clone(), target: below.to_owned() });
                }
            }
        }
    }
    Ok(found)
}

fn is_repository(folder: &Path) -> bool {
    open(folder)
        .and_then(|opened| Listing::read(&opened, Path::new("")))
        .is_ok_and(|listing| listing.is_repository)
}

/// The folder that a `.git` file names (gitrepository-layout(5)), by the text alone; `None` where there is none.
fn leads_to(file: &Path) -> Option<PathBuf> {
    /// A path, and what git writes before it.
    const MAX_BYTES: u64 = 8192;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::open(file, flags, Mode::empty()).ok()?;
    let mut text = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(fs::File::from(opened), MAX_BYTES), &mut text).ok()?;
    let target = OsStr::from_bytes(text.strip_prefix(b"gitdir:")?.trim_ascii());
    let mut plain = PathBuf::new();
    for part in file.parent()?.join(target).components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    Some(plain)
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
            Ok(_) if !is_root && !may_pass(&root, &folder) => {
                if !is_others(&root, &folder) {
                    all.closed.push(folder);
                }
            }
            Ok(listing) => {
                all.found.extend(listing.gits);
                folders.extend(listing.folders);
            }
            Err(Errno::ACCESS) if !is_root => {
                // Another user's folder that may not even be passed is as closed to the session as to us.
                if may_pass(&root, &folder) || !is_others(&root, &folder) {
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

const fn kind(of: FileType) -> Option<GitKind> {
    match of {
        FileType::Directory => Some(GitKind::Folder),
        FileType::RegularFile => Some(GitKind::File),
        FileType::Symlink => Some(GitKind::Link),
        _ => None,
    }
}

struct Listing {
    folders: Vec<PathBuf>,
    gits: Vec<Git>,
    /// It has what git looks for in a repository: `HEAD`, and `objects` and `refs`, or `commondir`, which says where
    /// those are.
    is_repository: bool,
}

impl Listing {
    fn read(root: &OwnedFd, path: &Path) -> Result<Self, Errno> {
        let opened = below(root, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let (mut folders, mut gits) = (vec![], vec![]);
        let mut marks = [false; 4];
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
            for (mark, of_git) in marks.iter_mut().zip(["HEAD", "objects", "refs", "commondir"]) {
                *mark |= name == of_git;
            }
            let Some(kind) = self::kind(kind) else { continue };
            if name.eq_ignore_ascii_case(".git") {
                gits.push(Git { path: path.join(name), kind });
            } else if kind == GitKind::Folder {
                folders.push(path.join(name));
            }
        }
        let [head, objects, refs, elsewhere] = marks;
        Ok(Self { folders, gits, is_repository: head && (objects && refs || elsewhere) })
    }
}

fn open(root: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn below(root: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), BENEATH)
}

fn may_pass(root: &OwnedFd, path: &Path) -> bool {
    rustix::fs::accessat(root.as_fd(), path, Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}

fn is_others(root: &OwnedFd, path: &Path) -> bool {
    let me = rustix::process::geteuid().as_raw();
    rustix::fs::statat(root, path, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|data| data.st_uid != me)
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
            let said = coverable(folder.path()).map_or_else(|error| error.to_string(), |_| String::new());
            assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{said}");
        };
        let git_file = |at: &Path, target: &str| {
            fs::create_dir_all(at.join("tree")).unwrap();
            fs::write(at.join("tree/.git"), format!("gitdir: {target}\n")).unwrap();
        };
        check(&|_| {}, "");
        check(&repository, "git's own");
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
        check(&|at| git_file(at, "../gone/repository"), "tree/.git has its repository at gone/repository");
        let linked = |at: &Path| {
            repository(&at.join("real/.bare"));
            symlink("real", at.join("link")).unwrap();
            git_file(at, "../link/.bare");
        };
        check(&linked, "tree/.git has its repository at link/.bare");
        let private = |at: &Path| {
            fs::create_dir(at.join("private")).unwrap();
            fs::write(at.join("private/HEAD"), "").unwrap();
            fs::write(at.join("private/commondir"), "../common").unwrap();
            git_file(at, "../private");
        };
        check(&private, "");
    }
}
