//! The licence texts of the crates that our programs link: most of them ask that whoever passes a program on passes these on
//! too.

use crate::run::Run;
use anyhow::Context;
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    /// None: ours.
    source: Option<String>,
    manifest_path: PathBuf,
}

/// Each text once, with those that it is for.
pub(crate) fn texts(crates: &BTreeSet<(String, String)>) -> anyhow::Result<String> {
    let metadata = Run::cargo().args(["metadata", "--format-version", "1"]).text()?;
    let metadata: Metadata = serde_json::from_str(&metadata).context("cargo metadata")?;
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for Package { name, version, license, source, manifest_path } in metadata.packages {
        if source.is_none() || !crates.contains(&(name.clone(), version.clone())) {
            continue;
        }
        let title = format!("{name} {version} ({})", license.as_deref().unwrap_or("see its text"));
        let found = in_folder(manifest_path.parent().unwrap_or(Path::new("/")))?;
        for text in if found.is_empty() { vec![String::new()] } else { found } {
            texts.entry(text).or_default().push(title.clone());
        }
    }
    Ok(page(texts))
}

fn in_folder(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        let is_text = ["LICENSE", "LICENCE", "COPYING", "NOTICE"].iter().any(|start| name.starts_with(start));
        if is_text && entry.file_type()?.is_file() {
            paths.push(entry.path());
        }
    }
    paths.sort();
    let read = |path: PathBuf| {
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).replace("\r\n", "\n").trim().to_owned())
    };
    paths.into_iter().map(read).collect()
}

fn page(texts: BTreeMap<String, Vec<String>>) -> String {
    let mut parts: Vec<(Vec<String>, String)> = texts
        .into_iter()
        .map(|(text, mut titles)| {
            titles.sort();
            titles.dedup();
            (titles, text)
        })
        .collect();
    parts.sort();
    let line = "=".repeat(80);
    let mut page = "Crates that the programs of this image are made of, and their licences.\n".to_owned();
    for (titles, text) in parts {
        let text = if text.is_empty() { "The crate comes without a text of its licence." } else { &text };
        page.push_str(&format!("\n{line}\n{}\n\n{text}\n", titles.join("\n")));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::page;
    use std::collections::BTreeMap;

    #[test]
    fn a_text_stands_once() {
        let texts = BTreeMap::from([
            (
                "MIT text".to_owned(),
                vec!["b 1 (MIT)".to_owned(), "a 1 (MIT)".to_owned(), "a 1 (MIT)".to_owned()],
            ),
            (String::new(), vec!["c 1 (MIT)".to_owned()]),
        ]);
        let line = "=".repeat(80);
        assert_eq!(
            page(texts),
            format!(
                "Crates that the programs of this image are made of, and their licences.\n\n{line}\na 1 (MIT)\nb 1 (MIT)\n\nMIT text\n\n{line}\nc 1 (MIT)\n\nThe crate comes without a text of its licence.\n"
            )
        );
    }
}
