//! House rules that no compiler knows.

use crate::{machine::repository, run::say};
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};

/// Lines of nine files in ten, tests not counted.
const P90_LINES: usize = 400;
const MAIN_LINES: usize = 30;

pub(super) fn lints_inherited() -> anyhow::Result<()> {
    let manifests = files(repository(), "toml")?.into_iter().filter(|p| p.ends_with("Cargo.toml"));
    let mut without = Vec::new();
    for path in manifests {
        let text = std::fs::read_to_string(&path)?;
        if text.contains("[package]") && !text.contains("[lints]\nworkspace = true") {
            without.push(shown(&path));
        }
    }
    if !without.is_empty() {
        bail!("no `[lints] workspace = true` in {}", without.join(", "));
    }
    Ok(())
}

pub(super) fn file_sizes() -> anyhow::Result<()> {
    let mut sizes = Vec::new();
    for path in files(repository(), "rs")?.into_iter().filter(|p| !is_test(p)) {
        let lines = code_lines(&std::fs::read_to_string(&path)?);
        if path.ends_with("main.rs") && lines > MAIN_LINES {
            bail!("{} has {lines} lines; main.rs only parses and calls: at most {MAIN_LINES}", shown(&path));
        }
        sizes.push((lines, path));
    }
    sizes.sort();
    let at = |percent: usize| {
        sizes.get(sizes.len().saturating_sub(1) * percent / 100).map_or(0, |(lines, _)| *lines)
    };
    let (median, p90) = (at(50), at(90));
    say(&format!("  {} files; lines without tests: median {median}, p90 {p90}", sizes.len()));
    for (lines, path) in sizes.iter().rev().take(3) {
        say(&format!("  {lines:>5}  {}", shown(path)));
    }
    if p90 > P90_LINES {
        bail!("one file in ten is longer than {p90} lines; the house rule is {P90_LINES}");
    }
    Ok(())
}

pub(super) fn guests_tested() -> anyhow::Result<()> {
    let guests = repository().join("tests/guests/examples");
    let mut tests = String::new();
    for path in files(repository(), "rs")?.into_iter().filter(|p| is_test(p) && !p.starts_with(&guests)) {
        tests.push_str(&std::fs::read_to_string(path)?);
    }
    let mut untested = Vec::new();
    for guest in files(&guests, "rs")? {
        let name = guest.file_stem().context("a guest has a name")?.to_string_lossy().into_owned();
        if !tests.contains(&format!("fn {name}(")) {
            untested.push(name);
        }
    }
    if !untested.is_empty() {
        bail!("no test function of the same name for the guests {}", untested.join(", "));
    }
    Ok(())
}

/// Up to the unit tests, which stand at the end of a file.
fn code_lines(text: &str) -> usize {
    text.split("#[cfg(test)]\nmod ").next().map_or(0, |code| code.lines().count())
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "benches")))
        || path.file_stem().is_some_and(|stem| stem == "tests")
}

/// Files with this extension below a folder, build output and hidden folders left out; none where there is no folder.
fn files(folder: &Path, extension: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(found) };
    for entry in entries {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if kind.is_dir() && !hidden && path != repository().join("target") && !path.ends_with("node_modules")
        {
            found.extend(files(&path, extension)?);
        } else if kind.is_file() && path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn shown(path: &Path) -> String {
    path.strip_prefix(repository()).unwrap_or(path).display().to_string()
}
