//! Copying trees, or packing them: links are never followed, blocks are shared where the filesystem can.

use super::{LeftOut, PrepareError};
use ignore::{DirEntry, WalkBuilder};
use model::links;
use rustix::fs::{Mode, OFlags};
use std::{
    fs::{File, FileTimes, Metadata, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

pub(super) struct Rules<'a> {
    pub(super) include_ignored: bool,
    /// Nobody works on the copy: links that lead outside are in it too, and `.gitignore` alone leaves out,
    /// as where changes are looked for.
    pub(super) baseline_only: bool,
    /// The server's own folder.
    pub(super) own: &'a Path,
    pub(super) max_bytes: u64,
}

/// What was met and not entered.
#[derive(Default)]
struct Passed {
    git: AtomicU64,
    own: AtomicU64,
}

/// Where a tree goes, entry by entry.
pub(super) trait Sink {
    fn folder(&mut self, at: &Path) -> io::Result<()>;
    fn link(&mut self, at: &Path, target: &Path) -> io::Result<()>;
    fn file(&mut self, from: &Path, at: &Path) -> io::Result<()>;
}

/// Into a folder.
pub(super) struct Copy<'a>(pub(super) &'a Path);

impl Sink for Copy<'_> {
    fn folder(&mut self, at: &Path) -> io::Result<()> {
        std::fs::create_dir_all(self.0.join(at))
    }

    fn link(&mut self, at: &Path, target: &Path) -> io::Result<()> {
        std::os::unix::fs::symlink(target, self.0.join(at))
    }

    fn file(&mut self, from: &Path, at: &Path) -> io::Result<()> {
        file(from, &self.0.join(at))
    }
}

/// What a person's folder holds, without what its ignore files leave out (unless asked), and without anything that is
/// active, leads outside or is the server's.
pub(super) fn tree(from: &Path, to: &mut dyn Sink, rules: &Rules<'_>) -> Result<LeftOut, PrepareError> {
    let passed = Arc::new(Passed::default());
    let mut left_out = LeftOut::default();
    let max_bytes = rules.max_bytes;
    let mut room = max_bytes;
    for entry in walk(from, rules, Arc::clone(&passed)) {
        let entry = entry.map_err(|error| {
            let at = place(&error).unwrap_or(from).to_owned();
            let source = error.io_error().map_or(ErrorKind::Other, io::Error::kind);
            PrepareError::io(&at)(source.into())
        })?;
        let Ok(relative) = entry.path().strip_prefix(from) else { continue };
        if relative.as_os_str().is_empty() {
            continue;
        }
        one(&entry, relative, to, rules.baseline_only, &mut left_out, &mut room).map_err(
            |error| match error.kind() {
                ErrorKind::FileTooLarge => PrepareError::TooLarge { limit: max_bytes },
                _ => PrepareError::io(entry.path())(error),
            },
        )?;
    }
    left_out.git = passed.git.load(Ordering::Relaxed);
    left_out.own = passed.own.load(Ordering::Relaxed);
    Ok(left_out)
}

/// Where the walk failed.
fn place(error: &ignore::Error) -> Option<&Path> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path),
        ignore::Error::WithDepth { err, .. } => place(err),
        _ => None,
    }
}

fn walk(from: &Path, rules: &Rules<'_>, passed: Arc<Passed>) -> ignore::Walk {
    // By identity, not by name: it may be mounted twice.
    let own = rules.own.metadata().ok().map(|own| (own.dev(), own.ino()));
    let include_ignored = rules.include_ignored;
    WalkBuilder::new(from)
        .hidden(false)
        .follow_links(false)
        .parents(false)
        .require_git(false)
        .git_global(false)
        .git_ignore(!include_ignored)
        .git_exclude(false)
        .ignore(!include_ignored && !rules.baseline_only)
        .filter_entry(move |entry| {
            let is_git = entry.depth() > 0 && entry.file_name().eq_ignore_ascii_case(".git");
            passed.git.fetch_add(u64::from(is_git), Ordering::Relaxed);
            let is_folder = entry.file_type().is_some_and(|kind| kind.is_dir());
            let is_own =
                is_folder && entry.metadata().is_ok_and(|folder| own == Some((folder.dev(), folder.ino())));
            passed.own.fetch_add(u64::from(is_own), Ordering::Relaxed);
            !is_git && !is_own
        })
        .build()
}

fn one(
    entry: &DirEntry,
    relative: &Path,
    to: &mut dyn Sink,
    baseline_only: bool,
    left_out: &mut LeftOut,
    room: &mut u64,
) -> io::Result<()> {
    match entry.file_type() {
        Some(kind) if kind.is_dir() => to.folder(relative),
        Some(kind) if kind.is_symlink() => {
            let target = std::fs::read_link(entry.path())?;
            if baseline_only || links::stays_inside(relative, &target) {
                to.link(relative, &target)
            } else {
                left_out.links += 1;
                Ok(())
            }
        }
        Some(kind) if kind.is_file() => {
            let bytes = entry.path().symlink_metadata()?.len();
            *room = room.checked_sub(bytes).ok_or(ErrorKind::FileTooLarge)?;
            to.file(entry.path(), relative)
        }
        _ => {
            left_out.special += 1;
            Ok(())
        }
    }
}

/// A tree that [`tree`] made, as it is.
pub(super) fn whole(from: &Path, to: &Path) -> Result<(), PrepareError> {
    let entries = std::fs::read_dir(from).map_err(PrepareError::io(from))?;
    for entry in entries {
        let entry = entry.map_err(PrepareError::io(from))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(PrepareError::io(&path))?;
        if kind.is_dir() {
            std::fs::create_dir(&target).map_err(PrepareError::io(&target))?;
            whole(&path, &target)?;
        } else if kind.is_symlink() {
            let link = std::fs::read_link(&path).map_err(PrepareError::io(&path))?;
            std::os::unix::fs::symlink(link, &target).map_err(PrepareError::io(&target))?;
        } else {
            file(&path, &target).map_err(PrepareError::io(&path))?;
        }
    }
    Ok(())
}

/// A regular file, and what it is.
pub(super) fn open(from: &Path) -> io::Result<(File, Metadata)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = File::from(rustix::fs::open(from, flags, Mode::empty())?);
    let data = source.metadata()?;
    if !data.is_file() {
        // It was one when the folder was read.
        return Err(io::Error::other("it was replaced while it was copied"));
    }
    Ok((source, data))
}

/// A regular file with its mode and time, by reference where the filesystem can.
fn file(from: &Path, to: &Path) -> io::Result<()> {
    let (mut source, data) = open(from)?;
    let mut target = File::create_new(to)?;
    if rustix::fs::ioctl_ficlone(&target, &source).is_err() {
        // Within the kernel where it can.
        io::copy(&mut source, &mut target)?;
    }
    target.set_permissions(Permissions::from_mode((data.permissions().mode() & 0o777) | 0o600))?;
    target.set_times(FileTimes::new().set_modified(data.modified()?))
}
