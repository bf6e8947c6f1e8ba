//! What a call is told about itself.

use crate::ToolError;
use serde::de::DeserializeOwned;
use std::path::{Component, Path, PathBuf};

/// The call's context: an open list of keys with JSON values.
#[derive(Debug, Clone)]
pub struct Context {
    entries: Vec<(String, String)>,
}

/// A place in the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspacePath {
    /// For `std::fs`, and for the model to read.
    pub absolute: PathBuf,
    /// From the root, with `/`; empty for the root itself. For [`changes`](crate::changes).
    pub relative: String,
}

impl Context {
    #[must_use]
    pub const fn new(entries: Vec<(String, String)>) -> Self {
        Self { entries }
    }

    /// A key's value; `None` where it is absent or of another shape.
    #[must_use]
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        let (_, json) = self.entries.iter().find(|(k, _)| k == key)?;
        serde_json::from_str(json).ok()
    }

    /// Root of the workspace as this component sees it.
    #[must_use]
    pub fn workspace(&self) -> PathBuf {
        PathBuf::from(self.get::<String>("workspace").unwrap_or_else(|| "/workspace".to_owned()))
    }

    /// A path as a model gives it: absolute, or relative to the workspace's root. Links are not looked at: the host
    /// keeps a component inside its preopened folder whatever it asks for.
    ///
    /// # Errors
    /// When it lies outside the workspace.
    pub fn path(&self, given: &str) -> Result<WorkspacePath, ToolError> {
        let root = self.workspace();
        let joined = root.join(given);
        let inside = joined.strip_prefix(&root).ok().and_then(normal).ok_or_else(|| {
            ToolError::InvalidInput(format!("{given} is outside the workspace {}", root.display()))
        })?;
        if given.contains('\0') {
            return Err(ToolError::InvalidInput("a path cannot contain a NUL".to_owned()));
        }
        let relative = inside.join("/");
        Ok(WorkspacePath {
            absolute: if relative.is_empty() { root } else { root.join(&relative) },
            relative,
        })
    }
}

/// The path's parts with `.` and `..` resolved; `None` when they lead out.
fn normal(path: &Path) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?.to_owned()),
            Component::CurDir => {}
            Component::ParentDir => _ = parts.pop()?,
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_in_the_workspace() {
        let context = Context::new(vec![("workspace".to_owned(), "\"/workspace\"".to_owned())]);
        let check = |given: &str, expected: Option<&str>| {
            assert_eq!(context.path(given).ok().map(|p| p.relative).as_deref(), expected, "{given:?}");
        };
        check("src/a.rs", Some("src/a.rs"));
        check("/workspace/src/a.rs", Some("src/a.rs"));
        check("/workspace", Some(""));
        check("/workspace/", Some(""));
        check(".", Some(""));
        check("", Some(""));
        check("./a/../b", Some("b"));
        check("a//b", Some("a/b"));
        check("..", None);
        check("a/../../b", None);
        check("/etc/passwd", None);
        check("/workspace/../etc", None);
        check("/workspaces", None);
        check("a\0b", None);
        assert_eq!(context.path(".").unwrap().absolute, Path::new("/workspace"));
    }
}
