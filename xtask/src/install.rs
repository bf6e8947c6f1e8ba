//! `install`: release binaries and plugins in one folder, and the command where a shell finds it.

use crate::{
    binaries::{self, Profile},
    machine::place,
    run::{say, step},
};
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};

pub(crate) fn run(prefix: Option<PathBuf>) -> anyhow::Result<()> {
    let prefix = std::path::absolute(match prefix {
        Some(prefix) => prefix,
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set: give --prefix DIR")?)
            .join(".local"),
    })?;
    let stage = binaries::build_all(Profile::Release)?;
    step(&format!("installing below {}", prefix.display()));
    let library = prefix.join("lib/vteam");
    copy(&stage, &library)?;
    copy(&stage.join("plugins"), &library.join("plugins"))?;
    let command = prefix.join("bin/vteam");
    link(&command)?;
    say(&format!("installed {}; try: vteam doctor", command.display()));
    let on_path =
        std::env::var_os("PATH").is_some_and(|p| std::env::split_paths(&p).any(|d| d == prefix.join("bin")));
    if !on_path {
        say(&format!("note: {} is not on PATH", prefix.join("bin").display()));
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            place(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// The command finds its siblings beside the file that the link leads to.
fn link(command: &Path) -> anyhow::Result<()> {
    if let Some(folder) = command.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::symlink_metadata(command) {
        Ok(there) if there.is_symlink() => std::fs::remove_file(command)?,
        Ok(_) => {
            bail!("{} exists and is no link of ours: remove it or choose another --prefix", command.display())
        }
        Err(_) => {}
    }
    std::os::unix::fs::symlink("../lib/vteam/vteam", command)
        .with_context(|| format!("cannot make {}", command.display()))
}
