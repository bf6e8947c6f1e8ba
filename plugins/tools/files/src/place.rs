//! Where a path leads, and what to say when it leads nowhere.

use std::fs::{self, Metadata};
use vteam_sdk::{Context, ToolError, WorkspacePath};

/// A regular file that exists.
pub(crate) fn file(context: &Context, given: &str) -> Result<(WorkspacePath, Metadata), ToolError> {
    let path = context.path(given)?;
    match existing(&path)? {
        Some(meta) if meta.is_dir() => {
            Err(ToolError::invalid(format!("{} is a directory, not a file; LS lists it", shown(&path))))
        }
        // A pipe or a device would wait for ever, or never end.
        Some(meta) if !meta.is_file() => {
            Err(ToolError::invalid(format!("{} is not a regular file", shown(&path))))
        }
        Some(meta) => Ok((path, meta)),
        None => Err(ToolError::not_found(missing(&path))),
    }
}

/// What is there, links followed; `None` where nothing is.
pub(crate) fn existing(path: &WorkspacePath) -> Result<Option<Metadata>, ToolError> {
    match fs::metadata(&path.absolute) {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ToolError::io(&shown(path), &error)),
    }
}

/// The path as a model should use it.
pub(crate) fn shown(path: &WorkspacePath) -> String {
    path.absolute.display().to_string()
}

fn missing(path: &WorkspacePath) -> String {
    let said = format!("{} does not exist.", shown(path));
    match neighbour(path) {
        Some(name) => format!("{said} Did you mean {}?", path.absolute.with_file_name(name).display()),
        None => said,
    }
}

/// A file beside it whose name differs in case or in its extension only.
fn neighbour(path: &WorkspacePath) -> Option<String> {
    let wanted = path.absolute.file_name()?.to_str()?.to_lowercase();
    let stem = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let names = fs::read_dir(path.absolute.parent()?).ok()?;
    let mut names: Vec<String> = names.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    let same_stem = |n: &&String| !stem(&wanted).is_empty() && stem(&n.to_lowercase()) == stem(&wanted);
    names.iter().find(|n| n.to_lowercase() == wanted).or_else(|| names.iter().find(same_stem)).cloned()
}
