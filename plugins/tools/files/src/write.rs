//! `Write`.

use crate::{place, stage};
use schemars::JsonSchema;
use vteam_sdk::{Context, Outcome, ToolError, changes};

/// Writes a whole file of the workspace: makes a new one, with the folders above it, or replaces what was there.
///
/// To change a part of a file, prefer Edit. Read a file before replacing it.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Write {
    /// The file: an absolute path below the workspace, or one relative to its root.
    file_path: String,
    /// All of its new content.
    content: String,
}

pub(crate) fn write(input: Write, context: &Context) -> Result<Outcome, ToolError> {
    let path = context.path(&input.file_path)?;
    let shown = place::shown(&path);
    if place::existing(&path)?.is_some_and(|meta| meta.is_dir()) {
        return Err(ToolError::invalid(format!("{shown} is a directory")));
    }
    let base = changes::digest(&path.relative)?;
    stage::write(&path, &input.content, base.as_deref())?;
    let lines = input.content.lines().count();
    Ok(Outcome::text(match base {
        None => format!("Created {shown} ({lines} lines)."),
        Some(_) => format!("Replaced the content of {shown} ({lines} lines)."),
    }))
}
