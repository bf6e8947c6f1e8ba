//! An image of somebody else's, for tests: a shell, and nothing that knows of vteam. Not even its user has a name there.

use super::{About, Origin, Process, Reference, debian, debian::Lock, packed, tree::Tree};
use flate2::Compression;
use std::path::{Path, PathBuf};

/// What `sh` and `sleep` need.
const PACKAGES: &[&str] = &[
    "coreutils",
    "dash",
    "libacl1",
    "libattr1",
    "libc6",
    "libgmp10",
    "libpcre2-8-0",
    "libselinux1",
    "libssl3",
];

/// Writes `localhost/elsewhere/shell:1` as an archive into a folder.
pub(super) fn archive(folder: &Path) -> anyhow::Result<PathBuf> {
    let lock = Lock::read()?;
    let mut tree = Tree::default();
    for package in PACKAGES {
        for file in debian::fetch(&[lock.entry(package)?])? {
            debian::unpack(&file, &mut tree, |path| !path.starts_with("usr/share/"))?;
        }
    }
    for folder in debian::MERGED {
        tree.link(folder, &format!("usr/{folder}"))?;
    }
    let process =
        Process { entrypoint: &[], arguments: &["/bin/sh"], environment: &["PATH=/usr/bin"], folder: "/" };
    let about = About {
        name: "shell",
        description: "A shell, for tests",
        process: &process,
        licences: "LicenseRef-Debian",
    };
    let origin = Origin { version: "1".to_owned(), revision: None, time: 0 };
    let reference = Reference { repository: "localhost/elsewhere/shell".to_owned(), tag: "1".to_owned() };
    let image = packed(&about, &origin, &reference, &tree, origin.time, Compression::fast())?;
    let file = folder.join("elsewhere-shell.tar");
    super::write(&file, &image.archive)?;
    Ok(file)
}
