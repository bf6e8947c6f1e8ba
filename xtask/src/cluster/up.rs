//! From nothing, or from whatever a crash left, to a cluster that answers.

use super::{
    binaries, cgroup, down, files, image,
    kubectl::{Kubectl, NODE_READY},
    layout::{Layout, configuration, read},
    lock, network, node, requirements, status,
};
use crate::run::{say, step};
use anyhow::{Context, bail};
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Far more than it takes; a machine may be busy.
const PATIENCE: Duration = Duration::from_secs(120);
/// For one that should answer at once, or is just starting a component again.
const RECOVERY: Duration = Duration::from_secs(10);

/// Returns when pods can be started.
pub(super) fn up(layout: &Layout, images: &[PathBuf]) -> anyhow::Result<()> {
    requirements::check()?;
    let binaries = binaries::folder()?;
    let begun = Instant::now();
    let _lock = lock::take(layout)?;
    if node::init().is_some() {
        if answers(layout, &binaries, RECOVERY) {
            say("the cluster runs already");
            return image::import_all(layout, &binaries, images);
        }
        say("the cluster that is here does not answer: it is removed, and a new one started");
    }
    if cgroup::processes().contains(&0) {
        bail!("a cluster runs that was started in another PID namespace: `cargo xtask cluster down` ends it");
    }
    down::clean(layout)?;
    step("starting a cluster");
    if let Err(error) = start(layout, &binaries) {
        return Err(error.context(logs(layout, &binaries)));
    }
    image::import_all(layout, &binaries, images)?;
    say(&format!("  up in {:.1} s; `cargo xtask cluster down` removes it", begun.elapsed().as_secs_f64()));
    Ok(())
}

fn answers(layout: &Layout, binaries: &Path, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    loop {
        if status::of(layout, binaries).is_well() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn start(layout: &Layout, binaries: &Path) -> anyhow::Result<()> {
    files::write(layout)?;
    cgroup::prepare()?;
    node::start(binaries, &layout.log("node"))?;
    network::attach(inside()?)?;
    // The API server takes its time meanwhile.
    let pod = image::pod()?;
    image::import(layout, binaries, &pod, PATIENCE)?;
    let kubectl = Kubectl::admin(layout, binaries);
    kubectl.until(&["get", "--raw=/readyz"], PATIENCE, |said| said == "ok")?;
    kubectl.apply(&read(configuration().join("objects.yaml")))?;
    kubectl.until(NODE_READY, PATIENCE, |said| said == "True")?;
    // A pod that comes before its namespace's account is refused.
    kubectl.until(&["get", "serviceaccount", "default", "--output=name"], PATIENCE, |_| true)?;
    if !answers(layout, binaries, PATIENCE) {
        bail!("not everything answers");
    }
    Ok(())
}

/// The first process inside, once there is one.
fn inside() -> anyhow::Result<u32> {
    let deadline = Instant::now() + RECOVERY;
    loop {
        if let Some(pid) = node::init() {
            return Ok(pid);
        }
        if Instant::now() > deadline {
            bail!("the cluster's namespaces could not be made");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The last words of whatever does not answer, for an error.
fn logs(layout: &Layout, binaries: &Path) -> String {
    let unwell = status::of(layout, binaries).unwell();
    let mut said = format!("the cluster did not start; logs are in {}", layout.state.join("log").display());
    for name in std::iter::once("node").chain(unwell) {
        let log = read(layout.log(name));
        let tail: Vec<&str> = log.lines().rev().take(4).collect();
        for line in tail.iter().rev() {
            said.push_str(&format!("\n  {name}: {}", line.chars().take(400).collect::<String>()));
        }
    }
    said
}

/// The folder of binaries, for who comes after `up`.
pub(super) fn binaries_of_running() -> anyhow::Result<PathBuf> {
    binaries::built().context("the cluster's programs are not built: run `cargo xtask cluster up`")
}
