//! Ends the cluster and removes what it left. Goes by what is really there, not by what was noted.

use super::{
    cgroup,
    layout::{Layout, read},
    lock, network,
};
use crate::run::say;
use anyhow::{Context, bail};
use rustix::mount::{UnmountFlags, unmount};
use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn down(layout: &Layout) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("only root can end the cluster");
    }
    let _lock = lock::take(layout)?;
    let there = !cgroup::left().is_empty();
    clean(layout)?;
    fs::remove_dir(&layout.state)?;
    say(if there { "the cluster is gone" } else { "there was no cluster" });
    Ok(())
}

/// All but the state folder itself, which is locked. Doing it twice is doing it once.
pub(super) fn clean(layout: &Layout) -> anyhow::Result<()> {
    cgroup::kill(PATIENCE)?;
    network::detach(PATIENCE)?;
    // The cluster's own mounts went with its last process; these would be somebody's, or of another kernel's manners.
    for mount in mounts(&read("/proc/self/mountinfo"), &layout.state) {
        unmount(&mount, UnmountFlags::DETACH)
            .with_context(|| format!("cannot unmount {}", mount.display()))?;
    }
    cgroup::remove(PATIENCE)?;
    empty(&layout.state)
}

/// What is mounted below a folder, innermost first.
fn mounts(mountinfo: &str, folder: &Path) -> Vec<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped);
    let mut below: Vec<PathBuf> = points.filter(|point| point.starts_with(folder)).collect();
    below.reverse();
    below
}

/// As the kernel writes paths: `\040` is a space.
fn unescaped(text: &str) -> PathBuf {
    let mut plain = text.to_owned();
    for (escape, character) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        plain = plain.replace(escape, character);
    }
    plain.into()
}

fn empty(folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let removed = if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_below_are_found_and_the_innermost_first() {
        let info = "20 1 8:1 / / rw - ext4 /dev/a rw\n\
                    21 20 8:1 / /s/a rw - tmpfs t rw\n\
                    22 21 8:1 / /s/a/b\\040c rw - tmpfs t rw\n\
                    23 20 8:1 / /stranger rw - tmpfs t rw\n";
        let check = |folder: &str, expected: &[&str]| {
            let expected: Vec<PathBuf> = expected.iter().map(PathBuf::from).collect();
            assert_eq!(mounts(info, Path::new(folder)), expected, "{folder}");
        };
        check("/s", &["/s/a/b c", "/s/a"]);
        check("/none", &[]);
    }
}
