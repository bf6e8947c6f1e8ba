//! The file system that programs of a session see: the system's folders read-only, workspace, home and temporary folder
//! of the session, a few devices, and nothing else of the host.

use super::namespaces::{SetupError, step};
use super::sandbox::{Folders, HOME, SELF, TMP, WORKSPACE};
use crate::cover;
use crate::sys::{Mounts, set_mount_attributes};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change, unmount,
};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Folders of the system, either real or links into `/usr`.
pub(super) const SYSTEM: [&str; 8] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store"];

/// What programs need of `/etc`. Not: accounts, keys, host names, resolvers, anybody's configuration.
pub(super) const ETC: [&str; 25] = [
    "/etc/alternatives",
    "/etc/bash.bashrc",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/etc/debian_version",
    "/etc/fonts",
    "/etc/inputrc",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/locale.alias",
    "/etc/localtime",
    "/etc/magic",
    "/etc/mime.types",
    "/etc/os-release",
    "/etc/perl",
    "/etc/pki/ca-trust/extracted",
    "/etc/pki/tls/certs",
    "/etc/profile",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/terminfo",
    "/etc/timezone",
];

pub(super) const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
/// Read-only is about the node, its mode for one, not about what is written to the device.
const DEVICE: u64 = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
const OURS: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;

/// Where the host's root is while the new one is made.
const OLD: &str = "/old";

/// Replaces the root of this mount namespace.
pub(super) fn build(folders: &Folders, uid: u32, gid: u32) -> Result<(), SetupError> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(step("make mounts private"))?;
    // Any folder will do to mount the new root on: it moves away when it becomes the root.
    let stage = &folders.tmp;
    mount("tmpfs", stage, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=0755,size=1m"))
        .map_err(step("mount a new root"))?;
    rustix::process::chdir(stage).map_err(step("enter the new root"))?;
    fs::create_dir(&OLD[1..]).map_err(step("make a place for the old root"))?;
    rustix::process::pivot_root(".", &OLD[1..]).map_err(step("pivot the root"))?;
    rustix::process::chdir("/").map_err(step("enter the new root"))?;

    for path in SYSTEM.iter().chain(&ETC) {
        show(Path::new(path))?;
    }
    own_files(uid, gid)?;
    devices()?;
    for (inside, outside) in [(WORKSPACE, &folders.workspace), (HOME, &folders.home), (TMP, &folders.tmp)] {
        bind(&below_old(outside), Path::new(inside), OURS)?;
    }
    if !folders.covers.is_empty() {
        cover_git(&folders.covers)?;
    }
    bind(&below_old(&folders.this_binary), Path::new(SELF), READ_ONLY)?;
    fs::create_dir("/proc").map_err(step("make /proc"))?;
    proc()?;
    unmount(OLD, UnmountFlags::DETACH).map_err(step("let go of the old root"))?;
    fs::remove_dir(OLD).map_err(step("remove the old root"))?;
    set_mount_attributes(Path::new("/"), Mounts::ThisOne, READ_ONLY).map_err(step("make the root read-only"))
}

fn cover_git(covers: &[PathBuf]) -> Result<(), SetupError> {
    const SCRATCH: &str = "/cover";
    fs::create_dir(SCRATCH).map_err(step("make a place for covers"))?;
    cover::cover(Path::new(WORKSPACE), Path::new(SCRATCH), covers)
        .map_err(|error| step("cover git's own files")(io::Error::other(error)))?;
    fs::remove_dir(SCRATCH).map_err(step("remove the place for covers"))
}

/// A fresh `/proc` of the calling process's PID namespace, read-only: as uid 0 even without capabilities a program
/// could otherwise write the kernel's settings.
pub(super) fn proc() -> Result<(), SetupError> {
    mount_proc()?;
    seal_proc()
}

pub(super) fn mount_proc() -> Result<(), SetupError> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", flags, None).map_err(step("mount a fresh /proc"))
}

pub(super) fn seal_proc() -> Result<(), SetupError> {
    let attributes = READ_ONLY | libc::MOUNT_ATTR_NOEXEC;
    set_mount_attributes(Path::new("/proc"), Mounts::ThisOne, attributes)
        .map_err(step("make /proc read-only"))
}

fn below_old(path: &Path) -> PathBuf {
    Path::new(OLD).join(path.strip_prefix("/").unwrap_or(path))
}

/// The same path as on the host, read-only; a link stays a link. What the host does not have is left out.
fn show(path: &Path) -> Result<(), SetupError> {
    let outside = below_old(path);
    let Ok(kind) = fs::symlink_metadata(&outside) else { return Ok(()) };
    if kind.is_symlink() {
        let target = fs::read_link(&outside).map_err(step("read a link of the system"))?;
        make_parent(path)?;
        return symlink(target, path).map_err(step("make a link of the system"));
    }
    bind(&outside, path, READ_ONLY)
}

fn bind(outside: &Path, inside: &Path, attributes: u64) -> Result<(), SetupError> {
    let name = || format!("bind {}", inside.display());
    let folder = fs::metadata(outside).map_err(step(&name()))?.is_dir();
    if folder {
        fs::create_dir_all(inside).map_err(step(&name()))?;
    } else {
        make_parent(inside)?;
        fs::write(inside, "").map_err(step(&name()))?;
    }
    // Recursive, because mounts of a more privileged namespace come only together.
    mount_bind_recursive(outside, inside).map_err(step(&name()))?;
    set_mount_attributes(inside, Mounts::ThisAndBelow, attributes).map_err(step(&name()))
}

fn make_parent(path: &Path) -> Result<(), SetupError> {
    path.parent().map_or(Ok(()), fs::create_dir_all).map_err(step("make a folder"))
}

/// Accounts and names that say nothing about the host.
fn own_files(uid: u32, gid: u32) -> Result<(), SetupError> {
    let me = format!("vteam:x:{uid}:{gid}:vteam:{HOME}:/bin/bash\n");
    let nobody = "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
    let files = [
        ("passwd", format!("{me}{nobody}")),
        ("group", format!("vteam:x:{gid}:\nnogroup:x:65534:\n")),
        ("hosts", "127.0.0.1 localhost vteam\n::1 localhost\n".to_owned()),
        ("hostname", "vteam\n".to_owned()),
        (
            "nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\n".to_owned(),
        ),
        ("resolv.conf", String::new()),
    ];
    fs::create_dir_all("/etc").map_err(step("make /etc"))?;
    for (name, text) in files {
        fs::write(Path::new("/etc").join(name), text).map_err(step("write a file of /etc"))?;
    }
    Ok(())
}

fn devices() -> Result<(), SetupError> {
    for path in DEVICES {
        bind(&below_old(Path::new(path)), Path::new(path), DEVICE)?;
    }
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ];
    for (name, target) in links {
        symlink(target, Path::new("/dev").join(name)).map_err(step("make a link in /dev"))?;
    }
    fs::create_dir("/dev/shm").map_err(step("make /dev/shm"))
}

/// Shared memory of one call: it goes when the call's mount namespace goes.
pub(super) fn shared_memory() -> Result<(), SetupError> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tmpfs", "/dev/shm", "tmpfs", flags, Some(c"mode=1777,size=256m")).map_err(step("mount /dev/shm"))
}
