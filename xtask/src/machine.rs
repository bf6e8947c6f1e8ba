//! Where things are on this machine, and what the toolchain lacks.

use crate::run::{Run, say, step};
use anyhow::Context;
use std::{
    path::{Path, PathBuf},
    sync::LazyLock,
};

/// The repository's root: of the checkout that `cargo` runs in, which need not be the one that this was built from where
/// checkouts share a target folder.
pub(crate) fn repository() -> &'static Path {
    static HERE: LazyLock<PathBuf> = LazyLock::new(|| {
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()).into()
    });
    HERE.parent().unwrap_or(&HERE)
}

/// Cargo's target folder.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => repository().join(dir),
        None => repository().join("target"),
    }
}

/// What is kept between checkouts.
pub(crate) fn cache() -> anyhow::Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // A relative one is none (XDG Base Directory Specification).
    let base = set("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    let base = base.or_else(|| Some(set("HOME")?.join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("vteam"))
}

/// Finished plugins and `index.json`.
pub(crate) fn plugins() -> PathBuf {
    target().join("plugins")
}

/// The architecture as target triples name it.
pub(crate) fn architecture() -> &'static str {
    std::env::consts::ARCH
}

/// Installs compilation targets that rustup does not have yet.
pub(crate) fn ensure_targets(wanted: &[String]) -> anyhow::Result<()> {
    let installed = Run::new("rustup")
        .args(["target", "list", "--installed"])
        .dir(repository())
        .text()
        .context("rustup is needed to install compilation targets: see https://rustup.rs")?;
    let missing: Vec<&String> =
        wanted.iter().filter(|t| !installed.lines().any(|have| have == t.as_str())).collect();
    if missing.is_empty() {
        return Ok(());
    }
    step(&format!(
        "installing targets: {}",
        missing.iter().map(|t| t.as_str()).collect::<Vec<_>>().join(", ")
    ));
    Run::new("rustup").args(["target", "add"]).args(missing).dir(repository()).go()
}

/// Copies by writing beside and renaming, so that a program that runs is never written into. Unchanged files are left.
pub(crate) fn place(from: &Path, to: &Path) -> anyhow::Result<()> {
    let bytes = std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if std::fs::read(to).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let beside = to.with_extension("new");
    std::fs::write(&beside, &bytes).with_context(|| format!("cannot write {}", beside.display()))?;
    std::fs::set_permissions(&beside, std::fs::metadata(from)?.permissions())?;
    std::fs::rename(&beside, to).with_context(|| format!("cannot write {}", to.display()))
}

/// One line about the machine, for a table of measurements.
pub(crate) fn description() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|l| l.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name.to_owned()));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = read("/proc/meminfo");
    let kib = memory
        .lines()
        .find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    format!(
        "{} ({cores} cores), {} GiB, Linux {}",
        model.unwrap_or_else(|| architecture().to_owned()),
        kib.unwrap_or(0) >> 20,
        read("/proc/sys/kernel/osrelease").trim()
    )
}

/// Says that something is missing and how to get it.
pub(crate) fn advise(what: &str) {
    say(&format!("note: {what}"));
}
