//! Images without a registry: archives, and what containerd has of them.

use super::{
    layout::{Layout, PAUSE},
    up,
};
use crate::{
    binaries,
    image::{self, About, Origin, Process, Reference, Tree},
    machine::target,
    run::step,
};
use anyhow::{Context, bail, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

pub(super) fn load(layout: &Layout, files: &[PathBuf]) -> anyhow::Result<()> {
    ensure!(layout.containerd().exists(), "no cluster runs here: `cargo xtask cluster up` starts one");
    import_all(layout, &up::binaries_of_running()?, files)
}

pub(super) fn import_all(layout: &Layout, binaries: &Path, files: &[PathBuf]) -> anyhow::Result<()> {
    for file in files {
        step(&format!("importing {}", file.display()));
        import(layout, binaries, file, Duration::ZERO)?;
    }
    Ok(())
}

/// Into the namespace that kubelet sees. Waits for a containerd that is just starting.
pub(super) fn import(
    layout: &Layout,
    binaries: &Path,
    file: &Path,
    patience: Duration,
) -> anyhow::Result<()> {
    let file = std::path::absolute(file)?;
    let name = file.display().to_string();
    ensure!(file.is_file(), "there is no {name}");
    let deadline = Instant::now() + patience;
    while !layout.containerd().exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    ctr(layout, binaries, &["images", "import", &name])
        .map(drop)
        .with_context(|| format!("cannot import {name}"))
}

/// Names of the images that are there; containerd also lists them by digest.
pub(super) fn names(layout: &Layout, binaries: &Path) -> anyhow::Result<Vec<String>> {
    let listed = ctr(layout, binaries, &["images", "list", "--quiet"])?;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    Ok(text.lines().filter(|name| !name.starts_with("sha256:")).map(str::to_owned).collect())
}

fn ctr(layout: &Layout, binaries: &Path, args: &[&str]) -> anyhow::Result<Output> {
    let mut ctr = Command::new(binaries.join("ctr"));
    ctr.arg("--address").arg(layout.containerd()).args(["--namespace", "k8s.io", "--connect-timeout", "5s"]);
    let output = ctr.args(args).stdin(Stdio::null()).output().context("cannot start ctr")?;
    if !output.status.success() {
        bail!("containerd says: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output)
}

/// The image that holds pods' namespaces, and has a program that looks around for `check`.
pub(super) fn pod() -> anyhow::Result<PathBuf> {
    let program = binaries::build_cluster_pod()?;
    let mut tree = Tree::default();
    tree.add_program("pod", &program)?;
    let process = Process { entrypoint: &["/pod"], arguments: &["pause"], environment: &[], folder: "/" };
    let about = About {
        name: "pod",
        description: "What a test cluster's own pods run",
        process: &process,
        licences: "Apache-2.0",
    };
    let origin = Origin { version: env!("CARGO_PKG_VERSION").to_owned(), revision: None, time: 0 };
    let (repository, tag) = PAUSE.split_once(':').context("the pause image has no tag")?;
    let reference = Reference { repository: repository.to_owned(), tag: tag.to_owned() };
    let packed = image::packed(&about, &origin, &reference, &tree, origin.time, flate2::Compression::fast())?;
    let folder = target().join("cluster");
    fs::create_dir_all(&folder)?;
    let archive = folder.join("pod.tar");
    fs::write(&archive, packed.archive)?;
    Ok(archive)
}
