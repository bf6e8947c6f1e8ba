//! `Glob`.

use crate::walk::{self, Files};
use globset::{GlobBuilder, GlobMatcher};
use schemars::JsonSchema;
use std::path::{Path, PathBuf};
use vteam_sdk::{Context, Outcome, ToolError};

/// Files named at most.
const FILES: usize = 200;

/// Finds files of the workspace by a pattern of their path, such as `**/*.rs` or `src/**/*.{ts,tsx}`.
///
/// The paths come with the most recently changed file first. A pattern without `/` is held against the file's name in
/// every folder. Files that `.gitignore` names are only found when nothing else is.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Glob {
    /// The pattern: `*`, `**`, `?`, `[a-z]` and `{a,b}` have their usual meaning.
    pattern: String,
    /// The directory to search in. Left out, it is the root of the workspace.
    path: Option<String>,
}

pub(crate) fn glob(input: Glob, context: &Context) -> Result<Outcome, ToolError> {
    let place = walk::place(context, input.path.as_deref())?;
    // A model may give the directory as part of the pattern.
    let base = place.absolute.display().to_string();
    let pattern =
        input.pattern.strip_prefix(&base).map_or(input.pattern.as_str(), |p| p.trim_start_matches('/'));
    let pattern = Pattern::new(pattern)?;
    let mut files = Files::below(context, &place);
    let mut found = pattern.find(&files, &place.absolute);
    let ignored = found.is_empty();
    if ignored {
        files.ignore = false;
        found = pattern.find(&files, &place.absolute);
    }
    Ok(Outcome::text(report(found, ignored)))
}

struct Pattern {
    matcher: GlobMatcher,
    by_name: bool,
}

impl Pattern {
    fn new(pattern: &str) -> Result<Self, ToolError> {
        let pattern = pattern.strip_prefix("./").unwrap_or(pattern);
        let glob = GlobBuilder::new(pattern).literal_separator(true).build();
        let glob =
            glob.map_err(|error| ToolError::invalid(format!("the pattern cannot be read: {error}")))?;
        Ok(Self { matcher: glob.compile_matcher(), by_name: !pattern.contains('/') })
    }

    fn find(&self, files: &Files, base: &Path) -> Vec<PathBuf> {
        files.iter().filter(|path| self.fits(path, base)).collect()
    }

    fn fits(&self, path: &Path, base: &Path) -> bool {
        if self.by_name {
            return path.file_name().is_some_and(|name| self.matcher.is_match(name));
        }
        path.strip_prefix(base).is_ok_and(|p| self.matcher.is_match(p))
    }
}

fn report(mut found: Vec<PathBuf>, ignored: bool) -> String {
    if found.is_empty() {
        return "No files found".to_owned();
    }
    walk::newest_first(&mut found);
    let total = found.len();
    let shown: Vec<String> = found.iter().take(FILES).map(|p| p.display().to_string()).collect();
    let mut out = shown.join("\n");
    if total > FILES {
        out.push_str(&format!("\n\n[{FILES} of {total} files are shown: use a narrower pattern or path.]"));
    }
    if ignored {
        out.push_str("\n\n[All of these are ignored by .gitignore.]");
    }
    out
}
