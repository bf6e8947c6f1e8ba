//! Reading what is to be changed, and staging what replaces it.

use crate::place;
use std::fs;
use vteam_sdk::{Context, ToolError, WorkspacePath, changes};

/// Bytes of a file that is edited, or of what is written.
const MAX_BYTES: u64 = 8 << 20;

/// A text file as it was when its digest was taken.
pub(crate) struct Base {
    pub(crate) path: WorkspacePath,
    /// `None` where no file is yet.
    pub(crate) digest: Option<String>,
    pub(crate) text: String,
}

impl Base {
    /// The digest comes first: what is read after it either is what it names, or is refused when it is applied.
    pub(crate) fn read(context: &Context, given: &str) -> Result<Self, ToolError> {
        let (path, meta) = place::file(context, given)?;
        let shown = place::shown(&path);
        if meta.len() > MAX_BYTES {
            return Err(ToolError::invalid(format!(
                "{shown} has {} bytes; at most {MAX_BYTES} are edited",
                meta.len()
            )));
        }
        let digest = changes::digest(&path.relative)?;
        let bytes = fs::read(&path.absolute).map_err(|e| ToolError::io(&shown, &e))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| ToolError::invalid(format!("{shown} is not UTF-8 text and cannot be edited")))?;
        Ok(Self { path, digest, text })
    }

    /// A place where no file is yet.
    pub(crate) fn new_file(context: &Context, given: &str) -> Result<Self, ToolError> {
        let path = context.path(given)?;
        match changes::digest(&path.relative)? {
            None => Ok(Self { path, digest: None, text: String::new() }),
            Some(_) => Err(ToolError::invalid(format!(
                "{} exists already; an empty old_string only makes a new file",
                place::shown(&path)
            ))),
        }
    }

    pub(crate) fn stage(&self, text: &str) -> Result<(), ToolError> {
        write(&self.path, text, self.digest.as_deref())
    }
}

pub(crate) fn write(path: &WorkspacePath, text: &str, base: Option<&str>) -> Result<(), ToolError> {
    if text.len() as u64 > MAX_BYTES {
        return Err(ToolError::invalid(format!(
            "the content has {} bytes; at most {MAX_BYTES} are written",
            text.len()
        )));
    }
    Ok(changes::write(&path.relative, text.as_bytes(), base)?)
}
