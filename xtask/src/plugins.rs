//! `build-plugins`: every first-party plugin as an admissible component with its manifest inside, an index, and the
//! ConfigMaps that bring them to a cluster.

use crate::{
    binaries::{self, Profile},
    machine::{ensure_targets, plugins as folder, repository, target},
    run::{Run, say, step},
};
use anyhow::{Context, bail};
use model::id::Digest;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

const TOOL_TARGET: &str = "wasm32-wasip2";
const PERSONA_TARGET: &str = "wasm32-unknown-unknown";
const PERSONA_CORE: &str = "persona-core";

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    id: String,
    version: String,
    kind: manifest::Kind,
    file: String,
    digest: Digest,
    size: u64,
    /// Of what it was made from; the same again means nothing to do.
    made_from: Digest,
}

/// A component without manifest.
struct Raw {
    from: PathBuf,
    component: Vec<u8>,
}

pub(crate) fn build(profile: Profile) -> anyhow::Result<()> {
    build_with(&binaries::build_for_describe(profile)?)
}

/// Described by the binaries in a folder.
pub(crate) fn build_with(bin_dir: &Path) -> anyhow::Result<()> {
    ensure_targets(&[TOOL_TARGET.to_owned(), PERSONA_TARGET.to_owned()])?;
    let mut raw = tools()?;
    raw.extend(personas()?);
    step("describing and embedding manifests");
    let before = read_index();
    let mut index = Vec::new();
    for plugin in &raw {
        let entry = finish(plugin, bin_dir, &before).with_context(|| format!("{}", plugin.from.display()))?;
        index.push(entry);
    }
    index.sort_by(|a, b| a.id.cmp(&b.id));
    write_index(&index)?;
    remove_others(&index)?;
    config_maps(&index)?;
    for entry in &index {
        say(&format!("  {:<32} {:>8}  {:>6.1} KiB", entry.id, entry.version, kib(entry.size)));
    }
    Ok(())
}

fn tools() -> anyhow::Result<Vec<Raw>> {
    step("building tools");
    let packages = packages_in("plugins/tools")?;
    let chosen = packages.iter().flat_map(|name| ["--package", name.as_str()]);
    let build = Run::cargo().args(["build", "--lib", "--profile", "plugin", "--target", TOOL_TARGET]);
    binaries::reproducible(build.args(chosen), TOOL_TARGET)?.go()?;
    packages.iter().map(|name| built(TOOL_TARGET, name)).collect()
}

fn personas() -> anyhow::Result<Vec<Raw>> {
    step("building personas");
    let flags =
        ["build", "--lib", "--profile", "plugin", "--target", PERSONA_TARGET, "--package", PERSONA_CORE];
    binaries::reproducible(Run::cargo().args(flags), PERSONA_TARGET)?.go()?;
    let core = built(PERSONA_TARGET, PERSONA_CORE)?;
    // Shipped too: whoever writes a persona stamps it into this.
    std::fs::create_dir_all(folder())?;
    std::fs::write(folder().join("persona-core.core"), &core.component)?;
    let mut raw = Vec::new();
    for file in sorted(&repository().join("plugins/personas"))? {
        if file.extension().is_some_and(|e| e == "md") && !file.ends_with("README.md") {
            let text = std::fs::read_to_string(&file)?;
            let component =
                author::stamp(&core.component, &text).with_context(|| format!("{}", file.display()))?;
            raw.push(Raw { from: file, component });
        }
    }
    Ok(raw)
}

fn finish(plugin: &Raw, bin_dir: &Path, before: &BTreeMap<Digest, Entry>) -> anyhow::Result<Entry> {
    let made_from = made_from(&plugin.component)?;
    if let Some(entry) = before.get(&made_from)
        && std::fs::read(folder().join(&entry.file)).is_ok_and(|bytes| Digest::of(&bytes) == entry.digest)
    {
        return Ok(entry.clone());
    }
    let described = author::sandbox::Sandbox::new(bin_dir).describe(&plugin.component)?;
    let bytes = author::finish(&plugin.component, &described)?;
    let manifest = manifest::extract(&bytes)?;
    let file = format!("{}.wasm", manifest.id);
    std::fs::create_dir_all(folder())?;
    std::fs::write(folder().join(&file), &bytes)?;
    Ok(Entry {
        id: manifest.id.to_string(),
        version: manifest.version,
        kind: manifest.kind,
        file,
        digest: Digest::of(&bytes),
        size: bytes.len() as u64,
        made_from,
    })
}

/// The component and this program, which links what finishes it.
fn made_from(component: &[u8]) -> anyhow::Result<Digest> {
    let ourselves = std::fs::read(std::env::current_exe()?)?;
    let parts = format!("{}{}", Digest::of(&ourselves), Digest::of(component));
    Ok(Digest::of(parts.as_bytes()))
}

fn built(target_name: &str, package: &str) -> anyhow::Result<Raw> {
    let file = format!("{}.wasm", package.replace('-', "_"));
    let from = target().join(target_name).join("plugin").join(file);
    let component = std::fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
    Ok(Raw { from, component })
}

fn packages_in(below: &str) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for folder in sorted(&repository().join(below))? {
        let Ok(text) = std::fs::read_to_string(folder.join("Cargo.toml")) else { continue };
        let name = text.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
        names.push(name.with_context(|| format!("{} has no name", folder.display()))?.to_owned());
    }
    if names.is_empty() {
        bail!("there are no packages below {below}");
    }
    Ok(names)
}

fn sorted(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths = entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    Ok(paths)
}

fn read_index() -> BTreeMap<Digest, Entry> {
    let text = std::fs::read_to_string(folder().join("index.json")).unwrap_or_default();
    let entries: Vec<Entry> = serde_json::from_str(&text).unwrap_or_default();
    entries.into_iter().map(|entry| (entry.made_from.clone(), entry)).collect()
}

fn write_index(index: &[Entry]) -> anyhow::Result<()> {
    std::fs::write(folder().join("index.json"), serde_json::to_string_pretty(index)? + "\n")?;
    Ok(())
}

/// A plugin that was renamed or removed does not stay behind.
fn remove_others(index: &[Entry]) -> anyhow::Result<()> {
    for path in sorted(&folder())? {
        let known = index.iter().any(|entry| path.ends_with(&entry.file));
        if path.extension().is_some_and(|e| e == "wasm") && !known {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// What `manifests/plugins` applies.
fn config_maps(index: &[Entry]) -> anyhow::Result<()> {
    let to = folder().join("manifests");
    if to.exists() {
        std::fs::remove_dir_all(&to)?;
    }
    std::fs::create_dir_all(&to)?;
    let mut kustomization =
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n".to_owned();
    for entry in index {
        let component = std::fs::read(folder().join(&entry.file))?;
        for map in author::config_maps(&entry.id, &component)? {
            let name = map.pointer("/metadata/name").and_then(serde_json::Value::as_str);
            let name = name.context("a ConfigMap has a name")?;
            std::fs::write(to.join(format!("{name}.json")), serde_json::to_string(&map)?)?;
            kustomization.push_str(&format!("  - {name}.json\n"));
        }
    }
    std::fs::write(to.join("kustomization.yaml"), kustomization)?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn kib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}

/// The packages of the tools, with their target, and what personas are stamped into.
pub(crate) fn packages() -> anyhow::Result<Vec<(String, &'static str)>> {
    let tools = packages_in("plugins/tools")?.into_iter().map(|name| (name, TOOL_TARGET));
    Ok(tools.chain([(PERSONA_CORE.to_owned(), PERSONA_TARGET)]).collect())
}

/// The finished plugins, `index.json` and `persona-core.core`: what is shipped beside the binaries.
pub(crate) fn shipped() -> anyhow::Result<Vec<PathBuf>> {
    let shipped =
        |path: &PathBuf| path.extension().is_some_and(|e| e == "wasm" || e == "json" || e == "core");
    Ok(sorted(&folder())?.into_iter().filter(shipped).collect())
}

/// The manifests of the plugins that are built.
pub(crate) fn manifests() -> anyhow::Result<Vec<manifest::Manifest>> {
    let files = sorted(&folder())?.into_iter().filter(|p| p.extension().is_some_and(|e| e == "wasm"));
    files.map(|path| Ok(manifest::extract(&std::fs::read(path)?)?)).collect()
}

/// Name and size of each plugin that is built.
pub(crate) fn sizes() -> Vec<(String, u64)> {
    let mut sizes: Vec<_> = read_index().into_values().map(|entry| (entry.id, entry.size)).collect();
    sizes.sort();
    sizes
}
