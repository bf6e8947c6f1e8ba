//! Byte code for Python's standard library: nobody can write it later where the root is read-only, and without it each
//! start of Python compiles what it imports (0.39 s instead of 0.07 s with asyncio and unittest).
//!
//! The image's own Python makes it, started by the image's own loader from a temporary folder: neither root nor a Python of
//! this machine is needed. The result is the same wherever that folder is.

use crate::{image::tree::Tree, machine::architecture, run::Run};
use anyhow::Context;
use std::path::Path;

const PYTHON: &str = "usr/bin/python3";
const CACHE: &str = "__pycache__";

pub(crate) fn add_byte_code(tree: &mut Tree) -> anyhow::Result<()> {
    let version = tree.link_target(PYTHON).context("the image has no Python")?.to_owned();
    let library = format!("usr/lib/{version}");
    let place = tempfile::Builder::new().prefix("vteam-image-").tempdir()?;
    tree.write_to(place.path(), place.path())?;
    compile(place.path(), &version, &library)?;
    collect(place.path(), &library, tree)
}

fn compile(root: &Path, version: &str, library: &str) -> anyhow::Result<()> {
    let libraries = root.join(format!("usr/lib/{}-linux-gnu", architecture()));
    let loader = if architecture() == "aarch64" { "ld-linux-aarch64.so.1" } else { "ld-linux-x86-64.so.2" };
    Run::new(libraries.join(loader))
        .arg("--library-path")
        .arg(&libraries)
        .arg(root.join("usr/bin").join(version))
        // Isolated, no site, and modules that it imports itself are not written with this folder's path.
        .args(["-I", "-S", "-B", "-m", "compileall", "-q", "-f"])
        // Never compared with the source: its time does not matter.
        .args(["--invalidation-mode", "unchecked-hash", "-p", "/", "-s"])
        .arg(root)
        .arg(root.join(library))
        .env("PYTHONHASHSEED", "0")
        .go()
}

/// Takes every file in a cache folder into the tree.
fn collect(root: &Path, folder: &str, tree: &mut Tree) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let name = entry.file_name().into_string().ok().context("a name is no UTF-8")?;
        let path = format!("{folder}/{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(root, &path, tree)?;
        } else if kind.is_file() && folder.ends_with(CACHE) {
            tree.add(&path, std::fs::read(entry.path())?)?;
        }
    }
    Ok(())
}
