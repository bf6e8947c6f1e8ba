//! `descriptor.open-at`, replaced: regular files and folders only, and never waiting.
//!
//! wasmtime-wasi opens a FIFO like a file, which blocks its thread until somebody writes: with reads on the worker one
//! FIFO in a workspace would stop the engine, and a check before the open could be raced by a program. Here the open
//! itself does not wait (`O_NONBLOCK`, which regular files ignore) and what turns out to be a FIFO, socket or device is
//! closed and refused. Resolution stays beneath the preopen (`RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS`).

use crate::store::CallState;
use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2},
    io::Errno,
};
use std::fs::File as StdFile;
use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource},
};
use wasmtime_wasi::{
    FsPerms, OpenMode,
    filesystem::{Descriptor, Dir, File},
    p2::bindings::filesystem::types::{DescriptorFlags, ErrorCode, OpenFlags, PathFlags},
};

/// The version that wasmtime-wasi links; the linker serves every 0.2 version with it.
const INTERFACE: &str = "wasi:filesystem/types@0.2.12";
/// `openat2` fails with `EAGAIN` when any rename on the host races it.
const ATTEMPTS: usize = 8;

type Arguments = (Resource<Descriptor>, PathFlags, String, OpenFlags, DescriptorFlags);
type Opened = Result<Resource<Descriptor>, ErrorCode>;

pub(super) fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance(INTERFACE)?.func_wrap("[method]descriptor.open-at", open_at)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn open_at(mut store: StoreContextMut<'_, CallState>, arguments: Arguments) -> wasmtime::Result<(Opened,)> {
    let (folder, resolve, path, open, access) = arguments;
    let table = &mut store.data_mut().table;
    let opened = match table.get(&folder)? {
        Descriptor::File(_) => Err(ErrorCode::NotDirectory),
        Descriptor::Dir(dir) => read_only(dir, resolve, &path, open, access),
    };
    match opened {
        Ok(descriptor) => Ok((Ok(table.push(descriptor)?),)),
        Err(code) => Ok((Err(code),)),
    }
}

fn read_only(
    dir: &Dir,
    resolve: PathFlags,
    path: &str,
    open: OpenFlags,
    access: DescriptorFlags,
) -> Result<Descriptor, ErrorCode> {
    let changes = OpenFlags::CREATE | OpenFlags::EXCLUSIVE | OpenFlags::TRUNCATE;
    if open.intersects(changes)
        || access.intersects(DescriptorFlags::WRITE | DescriptorFlags::MUTATE_DIRECTORY)
    {
        return Err(ErrorCode::NotPermitted);
    }
    let mut flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    flags.set(OFlags::NOFOLLOW, !resolve.contains(PathFlags::SYMLINK_FOLLOW));
    flags.set(OFlags::DIRECTORY, open.contains(OpenFlags::DIRECTORY));
    let file = open_beneath(dir, path, flags)?;
    match FileType::from_raw_mode(fstat(&file).map_err(code)?.st_mode) {
        FileType::RegularFile => {
            Ok(Descriptor::File(File::new(file, FsPerms::ReadOnly, OpenMode::READ, true)))
        }
        FileType::Directory => Ok(Descriptor::Dir(Dir::new(file, FsPerms::ReadOnly, OpenMode::READ, true))),
        _ => Err(ErrorCode::Unsupported),
    }
}

fn open_beneath(dir: &Dir, path: &str, flags: OFlags) -> Result<StdFile, ErrorCode> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut last = Errno::AGAIN;
    for _ in 0..ATTEMPTS {
        match openat2(&dir.dir, path, flags, Mode::empty(), resolve) {
            Ok(file) => return Ok(file.into()),
            Err(error @ (Errno::AGAIN | Errno::INTR)) => last = error,
            Err(error) => return Err(code(error)),
        }
    }
    Err(code(last))
}

fn code(error: Errno) -> ErrorCode {
    match error {
        // Leaving the preopen, as wasmtime-wasi names it.
        Errno::XDEV => ErrorCode::NotPermitted,
        // A socket, or a device without a driver.
        Errno::NXIO | Errno::NODEV => ErrorCode::Unsupported,
        error => ErrorCode::from(std::io::Error::from(error)),
    }
}
