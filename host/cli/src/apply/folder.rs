//! A folder that is read and written without following any link out of it or within it.

use model::id::Digest;
use rustix::{
    fs::{
        AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, fchmod, fstat, fsync, mkdirat, openat2, renameat,
        unlinkat,
    },
    io::Errno,
};
use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    path::Path,
};

#[derive(Debug)]
pub(crate) struct Folder(OwnedFd);

fn with(mode: u32, executable: bool) -> Mode {
    let run = (mode & 0o444) >> 2;
    Mode::from_raw_mode(mode & 0o666 | if executable { run } else { 0 })
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    #[error("the path leads out of the folder or through a link")]
    Escapes,
    #[error("it is not a plain file")]
    NotAFile,
    #[error("the file has several names (hard links): changing it would change the others")]
    SeveralNames,
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl From<Errno> for FolderError {
    fn from(error: Errno) -> Self {
        match error {
            Errno::LOOP | Errno::XDEV => Self::Escapes,
            Errno::ISDIR | Errno::NXIO => Self::NotAFile,
            error => Self::Io(error.into()),
        }
    }
}

const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);

impl Folder {
    /// # Errors
    /// When it is not a folder that we may open.
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        Ok(Self(openat2(CWD, path, DIRECTORY, Mode::empty(), ResolveFlags::empty())?))
    }

    fn at(&self, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        // The kernel answers EAGAIN when something was renamed meanwhile.
        for _ in 0..8 {
            match openat2(&self.0, path, flags | OFlags::CLOEXEC, mode, BENEATH) {
                Err(Errno::AGAIN) => {}
                result => return result,
            }
        }
        Err(Errno::AGAIN)
    }

    /// The digest of a plain file with one name; `None` where there is nothing.
    pub(crate) fn digest(&self, path: &str) -> Result<Option<Digest>, FolderError> {
        let opened = match self.at(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK, Mode::empty())
        {
            Ok(opened) => opened,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stat = fstat(&opened)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(FolderError::NotAFile);
        }
        if stat.st_nlink > 1 {
            return Err(FolderError::SeveralNames);
        }
        let mut bytes = Vec::new();
        File::from(opened).read_to_end(&mut bytes)?;
        Ok(Some(Digest::of(&bytes)))
    }

    /// Whether a plain file with one name may be run by its owner.
    pub(crate) fn is_executable(&self, path: &str) -> Result<bool, FolderError> {
        let there = self.at(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK, Mode::empty())?;
        Ok(fstat(&there)?.st_mode & 0o100 != 0)
    }

    /// As git does it: who may read may run.
    pub(crate) fn set_executable(&self, path: &str, executable: bool) -> Result<(), FolderError> {
        let there = self.at(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK, Mode::empty())?;
        Ok(fchmod(&there, with(fstat(&there)?.st_mode, executable))?)
    }

    /// Writes beside and renames, so that there is never half a file. Permissions of a file that was there stay, but for
    /// what `executable` says.
    pub(crate) fn replace(
        &self,
        path: &str,
        bytes: &[u8],
        executable: Option<bool>,
    ) -> Result<(), FolderError> {
        let (parent, name) = self.parent(path, true)?;
        let mode = match self.at(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK, Mode::empty()) {
            Ok(there) => {
                let mode = fstat(&there)?.st_mode;
                Some(executable.map_or(Mode::from_raw_mode(mode & 0o777), |yes| with(mode, yes)))
            }
            Err(_) => executable.unwrap_or(false).then_some(Mode::from_raw_mode(0o755)),
        };
        let beside = format!(".vteam-{}", uuid::Uuid::new_v4().simple());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut file = File::from(openat2(&parent, &beside, flags, Mode::from_raw_mode(0o644), BENEATH)?);
        let written = (|| {
            file.write_all(bytes)?;
            if let Some(mode) = mode {
                fchmod(&file, mode)?;
            }
            fsync(&file)?;
            renameat(&parent, &beside, &parent, name)?;
            Ok(())
        })();
        if written.is_err() {
            // The first error is what counts.
            let _ = unlinkat(&parent, &beside, AtFlags::empty());
        }
        written
    }

    pub(crate) fn remove(&self, path: &str) -> Result<(), FolderError> {
        let (parent, name) = self.parent(path, false)?;
        Ok(unlinkat(&parent, name, AtFlags::empty())?)
    }

    /// The folder that a path's last part is in, made where wanted.
    fn parent<'a>(&self, path: &'a str, make: bool) -> Result<(OwnedFd, &'a str), FolderError> {
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name.is_empty() || matches!(name, "." | "..") || path.split('/').any(|part| part == "..") {
            return Err(FolderError::Escapes);
        }
        let mut so_far = String::from(".");
        for part in folders.split('/').filter(|part| !part.is_empty()) {
            let above = self.at(&so_far, DIRECTORY, Mode::empty())?;
            if make {
                match mkdirat(&above, part, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            so_far = format!("{so_far}/{part}");
        }
        Ok((self.at(&so_far, DIRECTORY, Mode::empty())?, name))
    }
}
