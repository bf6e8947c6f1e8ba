//! Files outside.

use super::Found;
use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// `arguments`: the path of a file outside, which the launcher can read and write.
pub(super) fn files(found: &mut Found, arguments: &[String]) {
    let Some(outside) = arguments.first().map(PathBuf::from) else {
        found.when(true, "run without knowing a file outside");
        return;
    };
    let own = std::env::temp_dir().join("vteam-canary");
    found.when(fs::create_dir_all(&own).is_err(), "not even write its own temporary folder");
    contents(found, &outside, &own);
    names(found, &outside, &own);
    system(found);
    modes(found);
    let _ = fs::remove_dir_all(&own);
}

fn contents(found: &mut Found, outside: &Path, own: &Path) {
    found.when(fs::read(outside).is_ok(), "read a file outside");
    found.when(OpenOptions::new().append(true).open(outside).is_ok(), "write a file outside");
    found.when(truncate(outside), "truncate a file outside");
    let link = own.join("link");
    let linked = symlink(outside, &link).is_ok() && fs::read(&link).is_ok();
    found.when(linked, "read a file outside through a link");
}

fn names(found: &mut Found, outside: &Path, own: &Path) {
    let Some(folder) = outside.parent() else { return };
    found.when(
        fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()),
        "list a folder outside",
    );
    let new = folder.join(format!(".vteam-canary-new-{}", std::process::id()));
    let made = fs::write(&new, "").is_ok();
    found.when(made, "make a file outside");
    let made_folder = fs::create_dir(&new).is_ok();
    found.when(made_folder, "make a folder outside");
    let _ = fs::remove_file(&new).or_else(|_| fs::remove_dir(&new));
    let hard = own.join("hard");
    found.when(fs::hard_link(outside, &hard).is_ok(), "link a file outside into its own folder");
    let mode = fs::set_permissions(outside, Permissions::from_mode(0o644));
    found.when(mode.is_ok(), "let others read a file outside");
    let moved = own.join("moved");
    let taken = fs::rename(outside, &moved).is_ok();
    found.when(taken, "take a file from outside");
    if taken {
        let _ = fs::rename(&moved, outside);
    }
}

fn system(found: &mut Found) {
    for secret in
        ["/etc/shadow", "/etc/ssh/ssh_host_ed25519_key", "/etc/ssl/private", "/root/.ssh", "/var/log"]
    {
        let readable = fs::read(secret).is_ok() || fs::read_dir(secret).is_ok();
        found.when(readable, &format!("read {secret}"));
    }
    for folder in ["/", "/etc", "/usr", "/usr/bin", "/proc/sys/kernel", "/var", "/opt"] {
        let new = Path::new(folder).join(".vteam-canary");
        let made = fs::write(&new, "").is_ok();
        found.when(made, &format!("make a file in {folder}"));
        if made {
            let _ = fs::remove_file(&new);
        }
    }
    for setting in ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/vm/drop_caches"] {
        found.when(
            OpenOptions::new().write(true).open(setting).is_ok(),
            &format!("open {setting} for writing"),
        );
    }
}

/// As whoever owns them; the mode that they have is set again.
fn modes(found: &mut Found) {
    for path in ["/usr/bin/env", "/usr/bin", "/dev/null", "/etc/ld.so.cache"] {
        let Ok(mode) = fs::metadata(path).map(|kind| kind.permissions()) else { continue };
        let by_path = fs::set_permissions(path, mode.clone()).is_ok();
        let opened = File::open(path).is_ok_and(|file| file.set_permissions(mode).is_ok());
        found.when(by_path || opened, &format!("change the mode of {path}"));
    }
}

/// By path: another right than to write.
fn truncate(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::CString::new(path.as_os_str().as_bytes())
        .is_ok_and(|path| crate::sys::attempt(libc::SYS_truncate, [path.as_ptr() as usize, 7, 0, 0]) == 0)
}
