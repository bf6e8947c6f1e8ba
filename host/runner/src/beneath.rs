//! Files below a folder, for host code: no link is followed, nothing but regular files with one name is read or replaced.
//!
//! `openat2` resolves each path within the folder (RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS), so a link that an agent or a
//! repository made leads nowhere, and a FIFO does not hang (O_NONBLOCK, then the kind is checked).

use rustix::{
    fd::{AsFd as _, OwnedFd},
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
};
use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read as _},
    ops::ControlFlow,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// What an entry costs without its content.
const ENTRY_BYTES: u64 = 512;

/// The kernel's time of an entry's last change (`st_ctime`): seconds and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangeTime(i64, i64);

impl ChangeTime {
    fn of(stat: &Stat) -> Self {
        Self(stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0))
    }
}

#[derive(Debug, Clone)]
pub struct Root(Arc<OwnedFd>);

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("there is no {0}")]
    NotFound(String),
    /// A link, a special file, or a path through one.
    #[error("{path}: {rule}")]
    Invalid { path: String, rule: &'static str },
    #[error("{path} is larger than {max} bytes")]
    TooLarge { path: String, max: u64 },
    #[error("the disk is full: somebody has to free space on the machine, then try again")]
    Full,
    #[error("{path}: {source}")]
    Failed { path: String, source: io::Error },
}

impl FileError {
    /// It is there, and its mode keeps us out.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Failed { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// A folder whose path has more bytes than the kernel takes.
struct TooDeep;

fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// A regular file as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Regular {
    pub bytes: Vec<u8>,
    pub executable: bool,
}

/// What is at a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    File {
        size: u64,
        executable: bool,
    },
    Folder,
    Link {
        target: Vec<u8>,
    },
    /// A device, socket or FIFO, or a file with more than one name.
    Other,
}

impl Root {
    /// # Errors
    /// When there is no such folder.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(Arc::new(rustix::fs::open(folder, flags, Mode::empty())?)))
    }

    /// A folder below this one; `""` is this one.
    ///
    /// # Errors
    /// When it is not there, or not a folder.
    pub fn folder(&self, path: &str) -> Result<OwnedFd, FileError> {
        let path = if path.is_empty() { "." } else { path };
        self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    /// The regular file at `path`, or `None` where nothing is.
    ///
    /// # Errors
    /// When something else is there, or it is larger than `max`.
    pub fn read(&self, path: &str, max: u64) -> Result<Option<Regular>, FileError> {
        let file =
            match self.resolve(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW, Mode::empty()) {
                Err(FileError::NotFound(_)) => return Ok(None),
                file => file?,
            };
        let stat = rustix::fs::fstat(&file).map_err(|e| failed(path, e))?;
        let Kind::File { executable, .. } = kind_of(&stat) else {
            return Err(FileError::Invalid {
                path: path.to_owned(),
                rule: "not a regular file with one name",
            });
        };
        let mut bytes = Vec::new();
        let read = File::from(file).take(max.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|source| FileError::Failed { path: path.to_owned(), source })?;
        if bytes.len() as u64 > max {
            return Err(FileError::TooLarge { path: path.to_owned(), max });
        }
        Ok(Some(Regular { bytes, executable }))
    }

    /// The names in a folder with what is at each, sorted. Names that are not UTF-8 are counted, not given.
    ///
    /// # Errors
    /// When it is not there, or not a folder.
    pub fn list(&self, path: &str) -> Result<(Vec<(String, Kind)>, usize), FileError> {
        let folder = self.folder(path)?;
        let entries = rustix::fs::Dir::read_from(&folder).map_err(|e| failed(path, e))?;
        let (mut named, mut unnamed) = (Vec::new(), 0);
        for entry in entries {
            let entry = entry.map_err(|e| failed(path, e))?;
            match entry.file_name().to_str() {
                Ok("." | "..") => {}
                Ok(name) => match kind_at(&folder, name) {
                    Err(Errno::NOENT) => {}
                    kind => named.push((name.to_owned(), kind.map_err(|e| failed(path, e))?)),
                },
                Err(_) => unnamed += 1,
            }
        }
        named.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok((named, unnamed))
    }

    /// Bytes on the disk below: blocks, and for each entry at least [`ENTRY_BYTES`]. Stops where it has more than
    /// `enough`. What goes meanwhile is not counted; what lies too deep to be counted is more than anything.
    #[must_use]
    pub fn bytes(&self, enough: u64) -> u64 {
        let mut bytes: u64 = 0;
        let counted = self.each_below(Path::new("."), |stat| {
            let blocks = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
            // A further name of a file costs no more than an entry.
            let names = if is_folder(stat) { 1 } else { stat.st_nlink.max(1) };
            bytes = bytes.saturating_add((blocks / names).max(ENTRY_BYTES));
            if bytes > enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        counted.map_or(u64::MAX, |()| bytes)
    }

    /// When this folder itself last changed: something in it was made, removed or renamed.
    ///
    /// # Errors
    /// When the file system does not say.
    pub fn changed_at(&self) -> Result<ChangeTime, FileError> {
        rustix::fs::fstat(&*self.0).map(|stat| ChangeTime::of(&stat)).map_err(|e| failed(".", e))
    }

    /// How many entries at or below `path` changed after `then`; a folder does when something in it is made, removed or
    /// renamed. The kernel's change time counts, which no program can set. What goes or closes meanwhile is not counted;
    /// what lies too deep to be counted is one.
    #[must_use]
    pub fn changed_after(&self, path: &str, then: ChangeTime) -> u64 {
        let has_changed = |stat: &Stat| ChangeTime::of(stat) > then;
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let itself =
            self.folder(folder).map(|folder| rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW));
        let Ok(Ok(itself)) = itself else { return 0 };
        let mut changed = u64::from(has_changed(&itself));
        if is_folder(&itself) {
            let counted = self.each_below(Path::new(path), |stat| {
                changed += u64::from(has_changed(stat));
                ControlFlow::Continue(())
            });
            changed += u64::from(counted.is_err());
        }
        changed
    }

    /// Visits each entry below a folder until it is told to stop. What goes meanwhile and what is closed is passed over.
    fn each_below(
        &self,
        folder: &Path,
        mut visit: impl FnMut(&Stat) -> ControlFlow<()>,
    ) -> Result<(), TooDeep> {
        let mut folders = vec![folder.to_owned()];
        while let Some(path) = folders.pop() {
            match self.each_in(&path, &mut folders, &mut visit) {
                Err(Errno::NAMETOOLONG) => return Err(TooDeep),
                Ok(ControlFlow::Break(())) => return Ok(()),
                Ok(ControlFlow::Continue(())) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn each_in(
        &self,
        path: &Path,
        folders: &mut Vec<PathBuf>,
        visit: &mut impl FnMut(&Stat) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat2(&*self.0, path, flags, Mode::empty(), BENEATH)?;
        for entry in rustix::fs::Dir::read_from(&folder)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let Ok(stat) = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if visit(&stat).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if is_folder(&stat) {
                folders.push(path.join(name));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Writes a file beside `path` that takes its place once [`Pending::commit`] is called. Folders on the way are made.
    ///
    /// # Errors
    /// When a part of the way is no folder, or the disk is full.
    pub fn write(&self, path: &str, file: &Regular) -> Result<Pending, FileError> {
        self.write_from(path, file.executable, &mut file.bytes.as_slice())
    }

    /// The same with what is read, which need not fit into memory.
    ///
    /// # Errors
    /// When a part of the way is no folder, the disk is full, or reading fails.
    pub fn write_from(
        &self,
        path: &str,
        executable: bool,
        content: &mut dyn io::Read,
    ) -> Result<Pending, FileError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (folder, name) = self.parent(path)?;
        let own = format!(".vteam-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(if executable { 0o755 } else { 0o644 });
        let made = rustix::fs::openat(&folder, &own, flags, mode).map_err(|e| failed(path, e))?;
        let mut pending =
            Pending { folder, own, name: name.to_owned(), file: File::from(made), committed: false };
        io::copy(content, &mut pending.file).map_err(|source| full_or_failed(path, source))?;
        Ok(pending)
    }

    /// Makes a link, which nothing here follows. Where something is already, that stays.
    ///
    /// # Errors
    /// When a part of the way is no folder.
    pub fn link(&self, path: &str, target: &Path) -> Result<(), FileError> {
        let (folder, name) = self.parent(path)?;
        match rustix::fs::symlinkat(target, &folder, name) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(failed(path, error)),
        }
    }

    /// Removes a file, a link or an empty folder.
    ///
    /// # Errors
    /// When nothing is there, or a folder that is not empty.
    pub fn remove(&self, path: &str) -> Result<(), FileError> {
        let (folder, name) = self.existing_parent(path)?;
        match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {
                rustix::fs::unlinkat(&folder, name, AtFlags::REMOVEDIR).map_err(|e| failed(path, e))
            }
            result => result.map_err(|e| failed(path, e)),
        }
    }

    /// Makes a folder and those on the way to it.
    ///
    /// # Errors
    /// When a part of the way is no folder.
    pub fn make_folder(&self, path: &str) -> Result<OwnedFd, FileError> {
        let mut folder = self.folder("")?;
        let mut done = String::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            match rustix::fs::mkdirat(&folder, part, Mode::from_raw_mode(0o755)) {
                Err(Errno::EXIST) | Ok(()) => {}
                Err(error) => return Err(failed(path, error)),
            }
            done = if done.is_empty() { part.to_owned() } else { format!("{done}/{part}") };
            folder = self.folder(&done)?;
        }
        Ok(folder)
    }

    fn parent<'a>(&self, path: &'a str) -> Result<(OwnedFd, &'a str), FileError> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.make_folder(folder)?, name))
    }

    fn existing_parent<'a>(&self, path: &'a str) -> Result<(OwnedFd, &'a str), FileError> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.folder(folder)?, name))
    }

    fn resolve(&self, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, FileError> {
        rustix::fs::openat2(&*self.0, path, flags | OFlags::CLOEXEC, mode, BENEATH)
            .map_err(|e| failed(path, e))
    }
}

/// A file that waits to take its place; dropped, it is removed.
#[derive(Debug)]
pub struct Pending {
    folder: OwnedFd,
    own: String,
    name: String,
    file: File,
    committed: bool,
}

impl Pending {
    /// Takes the place of what is there, in one step, and survives the end of the machine.
    ///
    /// # Errors
    /// When a folder is there, or the disk is full.
    pub fn commit(self) -> Result<(), FileError> {
        self.file.sync_data().map_err(|source| full_or_failed(&self.name, source))?;
        let folder = self.folder.try_clone().map_err(|source| full_or_failed(&self.name, source))?;
        let name = self.name.clone();
        self.place()?;
        rustix::fs::fsync(folder.as_fd()).map_err(|e| failed(&name, e))
    }

    /// Takes the place of what is there, in one step.
    ///
    /// # Errors
    /// When a folder is there.
    pub fn place(mut self) -> Result<(), FileError> {
        let moved = rustix::fs::renameat(&self.folder, &self.own, &self.folder, &self.name);
        moved.map_err(|e| failed(&self.name, e))?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.committed {
            let _ = rustix::fs::unlinkat(&self.folder, &self.own, AtFlags::empty());
        }
    }
}

fn kind_at(folder: &OwnedFd, name: &str) -> Result<Kind, Errno> {
    let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        return Ok(Kind::Link { target: rustix::fs::readlinkat(folder, name, Vec::new())?.into_bytes() });
    }
    Ok(kind_of(&stat))
}

fn kind_of(stat: &Stat) -> Kind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile if stat.st_nlink <= 1 => Kind::File {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            executable: stat.st_mode & 0o111 != 0,
        },
        FileType::Directory => Kind::Folder,
        _ => Kind::Other,
    }
}

fn failed(path: &str, error: Errno) -> FileError {
    let invalid = |rule| FileError::Invalid { path: path.to_owned(), rule };
    match error {
        Errno::NOENT => FileError::NotFound(path.to_owned()),
        Errno::LOOP => invalid("a link, or a path through one"),
        Errno::XDEV => invalid("outside the workspace"),
        Errno::NOTDIR => invalid("a path through something that is no folder"),
        Errno::ISDIR => invalid("a folder"),
        Errno::NXIO => invalid("not a regular file"),
        error => full_or_failed(path, error.into()),
    }
}

fn full_or_failed(path: &str, source: io::Error) -> FileError {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FileError::Full,
        _ => FileError::Failed { path: path.to_owned(), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    fn regular(text: &str) -> Regular {
        Regular { bytes: text.as_bytes().to_vec(), executable: false }
    }

    #[test]
    fn only_plain_files_within_are_reached() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("in");
        fs::create_dir_all(inner.join("sub")).unwrap();
        fs::write(outer.path().join("secret"), "s").unwrap();
        fs::write(inner.join("sub/plain"), "p").unwrap();
        fs::write(inner.join("two"), "2").unwrap();
        fs::hard_link(inner.join("two"), outer.path().join("other-name")).unwrap();
        symlink("../secret", inner.join("out")).unwrap();
        symlink("sub", inner.join("through")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            inner.join("fifo"),
            FileType::Fifo,
            Mode::from_raw_mode(0o644),
            0,
        )
        .unwrap();
        let root = Root::open(&inner).unwrap();
        let check = |path: &str, expected: &str| {
            let got = match root.read(path, 100) {
                Ok(Some(file)) => String::from_utf8(file.bytes).unwrap(),
                Ok(None) => "nothing".into(),
                Err(error) => error.to_string(),
            };
            assert!(got.contains(expected), "{path}: {got}");
        };
        check("sub/plain", "p");
        check("missing", "nothing");
        check("sub/missing", "nothing");
        check("out", "a link");
        check("through/plain", "a link");
        check("../secret", "outside");
        check("/etc/passwd", "outside");
        check("two", "one name");
        check("fifo", "one name");
        check("sub", "one name");
        check("sub/plain/x", "no folder");
        assert!(root.write("through/new", &regular("x")).is_err());
        assert!(root.write("../new", &regular("x")).is_err());
    }

    #[test]
    fn a_write_takes_its_place_in_one_step() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::open(folder.path()).unwrap();
        drop(root.write("a/b", &regular("dropped")).unwrap());
        assert_eq!(root.list("a").unwrap(), (vec![], 0));
        root.write("a/b", &Regular { bytes: b"kept".to_vec(), executable: true }).unwrap().commit().unwrap();
        assert_eq!(
            root.read("a/b", 10).unwrap().unwrap(),
            Regular { bytes: b"kept".to_vec(), executable: true }
        );
        root.remove("a/b").unwrap();
        root.remove("a").unwrap();
        assert!(matches!(root.remove("a"), Err(FileError::NotFound(_))));
    }
}
