//! A person's own folder as a workspace: everything in it but git's metadata. Whoever can write those has their hooks and
//! configuration run by the person's next `git` command, so an empty read-only folder (or file, as worktrees and
//! submodules have) lies over each `.git`.
//!
//! What is covered cannot be removed, renamed or replaced from within. It does not keep anybody from making a further
//! `.git` where none was: [`gits`] finds those.

use crate::privileges;
use crate::sys::{self, Mounts, set_mount_attributes};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    unmount,
};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const COVER: u64 =
    libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
const OURS: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;

/// Shows `folder` at `workspace` to this process alone, its git metadata covered. `scratch` is an empty folder of the
/// caller's.
///
/// Invariant: called on the only thread, before the process confines itself.
///
/// # Errors
/// Where the host allows no user and mount namespace, or a `.git` is a link.
pub fn work_in_place(folder: &Path, workspace: &Path, scratch: &Path) -> io::Result<()> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    sys::own_mounts()?;
    privileges::stay_who_you_are(uid, gid)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    // Recursive, because mounts of a more privileged namespace come only together.
    mount_bind_recursive(folder, workspace)?;
    set_mount_attributes(workspace, Mounts::ThisAndBelow, OURS)?;
    git(workspace, scratch)
}

/// Covers each `.git` below `root`, in a mount namespace of the caller's own.
pub(crate) fn git(root: &Path, scratch: &Path) -> io::Result<()> {
    let found = gits(root)?;
    if found.is_empty() {
        return Ok(());
    }
    mount("tmpfs", scratch, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=0755,size=64k"))?;
    let (folder, file) = (scratch.join("folder"), scratch.join("file"));
    fs::create_dir(&folder)?;
    fs::write(&file, "")?;
    for Git { path, kind } in found {
        let cover = match kind {
            GitKind::Folder => &folder,
            GitKind::File => &file,
            // It leads git to where nothing can lie over it.
            GitKind::Link => return Err(io::Error::other(format!("{} is a link", path.display()))),
        };
        mount_bind(cover, &path)?;
        set_mount_attributes(&path, Mounts::ThisOne, COVER)?;
    }
    // What is bound stays.
    Ok(unmount(scratch, UnmountFlags::DETACH)?)
}

/// Something that git takes for its own.
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

/// Each `.git` below a folder. No link is followed. On file systems that do not tell cases apart git takes any case for
/// its own.
///
/// # Errors
/// When a folder cannot be listed, for another reason than that nobody of the session may.
pub fn gits(root: &Path) -> io::Result<Vec<Git>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            // What is another user's and closed to us is closed to the session; what is ours it could open.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && is_others(&folder) => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            let is_git = entry.file_name().to_str().is_some_and(|name| name.eq_ignore_ascii_case(".git"));
            let kind = match kind {
                kind if kind.is_dir() => GitKind::Folder,
                kind if kind.is_file() => GitKind::File,
                kind if kind.is_symlink() => GitKind::Link,
                _ => continue,
            };
            if is_git {
                found.push(Git { path: entry.path(), kind });
            } else if kind == GitKind::Folder {
                folders.push(entry.path());
            }
        }
    }
    Ok(found)
}

fn is_others(folder: &Path) -> bool {
    let me = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(folder).is_ok_and(|data| std::os::unix::fs::MetadataExt::uid(&data) != me)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_git_is_found_and_no_link_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at(".git/hooks")).unwrap();
        fs::create_dir_all(at("sub/.git")).unwrap();
        fs::create_dir_all(at("tree")).unwrap();
        fs::write(at("tree/.git"), "gitdir: elsewhere").unwrap();
        fs::write(at("tree/.gitignore"), "").unwrap();
        std::os::unix::fs::symlink("/", at("out")).unwrap();
        std::os::unix::fs::symlink("/", at("tree/.GIT")).unwrap();
        let mut found = gits(folder.path()).unwrap();
        found.sort();
        let expected = [
            (".git", GitKind::Folder),
            ("sub/.git", GitKind::Folder),
            ("tree/.GIT", GitKind::Link),
            ("tree/.git", GitKind::File),
        ];
        assert_eq!(found, expected.map(|(path, kind)| Git { path: at(path), kind }));
    }
}
