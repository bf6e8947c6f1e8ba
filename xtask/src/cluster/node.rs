//! The cluster's outermost process: enters the cgroup, then becomes `unshare`, which makes the namespaces.

use super::cgroup;
use std::{
    collections::BTreeMap,
    os::{fd::BorrowedFd, unix::process::CommandExt},
    path::Path,
    process::{Command, Stdio},
};

/// # Errors
/// Does not return otherwise.
pub(super) fn run(binaries: &Path) -> anyhow::Result<()> {
    // First: what is not in the cgroup is not found by `down`.
    cgroup::join()?;
    rustix::process::setsid()?;
    forget_descriptors()?;
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    unshare.arg(std::env::current_exe()?).args(["cluster", "init", "--binaries"]).arg(binaries);
    Err(unshare.exec().into())
}

/// Lets the cluster have nothing that whoever started `up` had open: a pipe somebody reads to its end, a lock.
#[expect(unsafe_code, reason = "what was inherited is known by its number alone")]
fn forget_descriptors() -> anyhow::Result<()> {
    let numbers = std::fs::read_dir("/proc/self/fd")?;
    let numbers: Vec<i32> =
        numbers.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|number| *number > 2) {
        // SAFETY: borrowed for one call that only sets a flag; the folder's own descriptor is closed by now and refused.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let _ = rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC);
    }
    Ok(())
}

/// Starts [`run`] as a process of its own, which does not end with us.
pub(super) fn start(binaries: &Path, log: &Path) -> anyhow::Result<()> {
    let log = std::fs::File::create(log)?;
    let mut node = Command::new(std::env::current_exe()?);
    node.args(["cluster", "node", "--binaries"]).arg(binaries);
    // A proxy or a KUBECONFIG of whoever starts it is not for the cluster.
    node.env_clear().env("PATH", super::requirements::PATH);
    node.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir("/");
    let mut child = node.spawn()?;
    // It may end while we still run, and must not stay as a zombie.
    std::thread::spawn(move || child.wait());
    Ok(())
}

/// The first process inside the namespaces, if there is one, by its number here.
pub(super) fn init() -> Option<u32> {
    let statuses = cgroup::processes()
        .into_iter()
        .map(|pid| (pid, super::layout::read(format!("/proc/{pid}/status"))))
        .collect::<BTreeMap<_, _>>();
    first(&statuses)
}

/// Pods have PID namespaces inside the cluster's: the one that is 1 in the fewest namespaces is the cluster's.
fn first(statuses: &BTreeMap<u32, String>) -> Option<u32> {
    let numbers = |status: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        let numbers: Vec<u32> = line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        (numbers.len() > 1 && numbers.last() == Some(&1)).then_some(numbers.len())
    };
    let inside = statuses.iter().filter_map(|(pid, status)| Some((numbers(status)?, *pid)));
    inside.min().map(|(_, pid)| pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outermost_first_process_is_found() {
        let check = |statuses: &[(u32, &str)], expected: Option<u32>| {
            let statuses = statuses.iter().map(|(pid, status)| (*pid, (*status).to_owned())).collect();
            assert_eq!(first(&statuses), expected, "{statuses:?}");
        };
        check(&[], None);
        check(&[(7, "Name:\tunshare\nNSpid:\t7\n")], None);
        check(&[(1, "NSpid:\t1\n")], None);
        check(&[(7, "NSpid:\t7\n"), (8, "NSpid:\t8\t1\n"), (9, "NSpid:\t9\t2\n")], Some(8));
        check(&[(20, "NSpid:\t20\t30\t1\n"), (21, "NSpid:\t21\t1\n")], Some(21));
    }
}
