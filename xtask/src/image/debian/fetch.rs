//! Package files, from the user's cache or through the machine's package sources, checked against the lock file.

use super::{APT_HELPER, SUITE, lock::Entry};
use crate::{
    machine::cache,
    run::{Run, step},
};
use anyhow::{Context, bail};
use model::id::Digest;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The file of each package, in their order.
pub(crate) fn fetch(entries: &[&Entry]) -> anyhow::Result<Vec<PathBuf>> {
    let folder = cache()?.join("debs");
    std::fs::create_dir_all(&folder)?;
    let places: Vec<PathBuf> = entries.iter().map(|entry| folder.join(file_name(entry))).collect();
    let missing: Vec<(&&Entry, &PathBuf)> =
        entries.iter().zip(&places).filter(|(entry, place)| !holds(place, &entry.digest)).collect();
    if !missing.is_empty() {
        step(&format!("fetching {} Debian packages", missing.len()));
        let sources = sources()?;
        for (entry, place) in missing {
            download(entry, &sources, place)?;
        }
    }
    Ok(places)
}

/// By its digest, so that another version never stands in for it.
fn file_name(entry: &Entry) -> String {
    let hex = entry.digest.as_str().trim_start_matches("sha256:");
    format!("{}-{hex}.deb", entry.package)
}

fn holds(place: &Path, digest: &Digest) -> bool {
    std::fs::read(place).is_ok_and(|bytes| Digest::of(&bytes) == *digest)
}

/// Where each archive is, by the machine's own sources.
fn sources() -> anyhow::Result<BTreeMap<String, String>> {
    let listed = Run::new("apt-get")
        .args(["indextargets", "--format", "$(LABEL) $(REPO_URI)"])
        .args(["Created-By: Packages", "Origin: Debian"])
        .text()
        .context(
            "Debian packages are fetched by apt: run this on Debian, or build by images/Containerfile",
        )?;
    let pairs = listed.lines().filter_map(|line| line.split_once(' '));
    Ok(pairs.map(|(label, uri)| (label.to_lowercase(), uri.to_owned())).collect())
}

fn download(entry: &Entry, sources: &BTreeMap<String, String>, place: &Path) -> anyhow::Result<()> {
    let Entry { package, version, archive, digest, path } = entry;
    let source = sources.get(archive).with_context(|| {
        format!(
            "{package} is from {archive} of {SUITE}, which this machine's package sources (/etc/apt) do not have; \
             add it and run `apt-get update`"
        )
    })?;
    let part = place.with_extension("part");
    Run::new(APT_HELPER)
        .args(["-qq", "-o", "APT::Sandbox::User=", "download-file"])
        .arg(format!("{source}{path}"))
        .arg(&part)
        .arg(digest.as_str().replace("sha256", "SHA256"))
        .go()
        .with_context(|| {
            format!(
                "{package} {version} could not be fetched; where the archive has moved on, \
                 `apt-get update` and `cargo xtask image --update-lock` choose the newer one"
            )
        })?;
    if !holds(&part, digest) {
        bail!("{package} {version} is not what the lock file says");
    }
    std::fs::rename(&part, place).with_context(|| format!("cannot write {}", place.display()))
}
