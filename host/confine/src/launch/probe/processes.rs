//! Other processes, privileges, what outlives the call and what came with it.

use super::Found;
use crate::sys::{self, attempt};
use rustix::process::getppid;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// Where the identifiers of most processes lie. (To everybody at once, zero is sent with success to nobody.)
const USUAL_PIDS: i32 = 1 << 15;

/// Others: the process that started us is one, and the only one that a PID namespace leaves.
pub(super) fn others(found: &mut Found) {
    let parent = getppid().map_or(1, |pid| pid.as_raw_pid());
    let me = i32::try_from(std::process::id()).unwrap_or(0);
    let seen = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = seen.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let strangers = pids.filter(|pid| *pid != me && !(*pid == 1 && parent == 1)).count();
    found.when(strangers > 0, &format!("see {strangers} other processes"));
    // The first process of its own PID namespace is no other: it ignores what is sent from within.
    let others = (1..USUAL_PIDS).chain([parent]).filter(|pid| *pid != me && !(*pid == 1 && parent == 1));
    let signalled = others.filter(|pid| attempt(libc::SYS_kill, [number(*pid), 0, 0, 0]) == 0).count();
    found.when(signalled > 0, &format!("signal {signalled} other processes"));
    for pid in [parent, 1] {
        for file in ["environ", "mem", "maps", "auxv", "fd/0"] {
            found.when(
                fs::File::open(format!("/proc/{pid}/{file}")).is_ok(),
                &format!("open {file} of process {pid}"),
            );
        }
        let attached = attempt(libc::SYS_ptrace, [number(libc::PTRACE_SEIZE as i32), number(pid), 0, 0]) == 0;
        found.when(attached, &format!("trace process {pid}"));
    }
    take_descriptors(found, parent);
}

fn take_descriptors(found: &mut Found, pid: i32) {
    use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
    let taken = Pid::from_raw(pid)
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
        .is_some_and(|pidfd| pidfd_getfd(pidfd, 0, PidfdGetfdFlags::empty()).is_ok());
    found.when(taken, "take a descriptor of the process that started it");
}

fn number(n: i32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

pub(super) fn privileges(found: &mut Found) {
    use rustix::thread::{capabilities, no_new_privs};
    let held = capabilities(None)
        .map_or(true, |sets| !(sets.effective | sets.permitted | sets.inheritable).is_empty());
    found.when(held, "use capabilities");
    found.when(!no_new_privs().unwrap_or(false), "gain privileges by executing a set-uid program");
    let user = libc::CLONE_NEWUSER.unsigned_abs() as usize;
    let mounts = libc::CLONE_NEWNS.unsigned_abs() as usize;
    found.when(attempt(libc::SYS_unshare, [user, 0, 0, 0]) == 0, "make a user namespace");
    found.when(attempt(libc::SYS_unshare, [mounts, 0, 0, 0]) == 0, "make a mount namespace");
    let root = c"/".as_ptr() as usize;
    found.when(attempt(libc::SYS_chroot, [root, 0, 0, 0]) == 0, "change its root");
    found.when(mount(), "mount");
    found.when(attempt(libc::SYS_bpf, [0, 0, 0, 0]) == libc::EINVAL, "use bpf");
    another_user(found);
    odd_files(found);
}

/// Onto a folder of its own, which is harmless where it works.
fn mount() -> bool {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    let place = std::env::temp_dir().join(format!("canary-mount-{}", std::process::id()));
    let mounted =
        fs::create_dir(&place).is_ok() && mount("none", &place, "tmpfs", MountFlags::empty(), None).is_ok();
    if mounted {
        let _ = unmount(&place, UnmountFlags::DETACH);
    }
    let _ = fs::remove_dir(&place);
    mounted
}

fn another_user(found: &mut Found) {
    let other = if rustix::process::geteuid().is_root() { 65_534 } else { 0 };
    found.when(attempt(libc::SYS_setuid, [other, 0, 0, 0]) == 0, "become another user");
}

fn odd_files(found: &mut Found) {
    let own = std::env::temp_dir();
    let device = own.join(format!("canary-device-{}", std::process::id()));
    let made = rustix::fs::mknodat(
        rustix::fs::CWD,
        &device,
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::RUSR,
        rustix::fs::makedev(1, 3),
    );
    found.when(made.is_ok(), "make a device");
    let _ = fs::remove_file(&device);
    let file = own.join(format!("canary-set-uid-{}", std::process::id()));
    let set = |file: &std::path::Path| {
        fs::write(file, "")?;
        let open = fs::File::open(file)?;
        open.set_permissions(fs::Permissions::from_mode(0o4755))?;
        file.metadata()
    };
    found.when(set(&file).is_ok_and(|kind| kind.mode() & 0o4000 != 0), "make a set-uid file");
    let _ = fs::remove_file(&file);
}

/// Leaves behind what tries hardest to stay, with its output open, and ends. Whether it stayed, the launcher sees.
pub(super) fn leave_a_daemon(found: &mut Found) {
    match sys::fork_into(0) {
        Ok(Some(_)) => {}
        Ok(None) => {
            let _ = rustix::process::setsid();
            for signal in [libc::SIGHUP, libc::SIGTERM, libc::SIGINT, libc::SIGQUIT] {
                sys::ignore_signal(signal);
            }
            if let Ok(None) = sys::fork_into(0) {
                // No canary is waited for that long.
                std::thread::sleep(std::time::Duration::from_secs(600));
            }
            sys::exit_now(0)
        }
        Err(error) => found.when(true, &format!("not start a process: {error}")),
    }
}

pub(super) fn inherited(found: &mut Found) {
    let open =
        (3..4096).filter(|fd| attempt(libc::SYS_fcntl, [*fd, libc::F_GETFD as usize, 0, 0]) == 0).count();
    found.when(open > 0, &format!("use {open} descriptors that were not for it"));
    const OURS: [&str; 7] = ["GIT_CONFIG_NOSYSTEM", "HOME", "TMPDIR", "PATH", "LANG", "TERM", "USER"];
    for (name, _) in std::env::vars_os() {
        let known = name.to_str().is_some_and(|name| OURS.contains(&name));
        found.when(!known, &format!("read the variable {}", name.to_string_lossy().escape_debug()));
    }
    found.when(!crate::sys::leads_its_session(), "stay in the session of whoever started it");
    found.when(fs::File::open("/dev/tty").is_ok(), "use a terminal");
}
