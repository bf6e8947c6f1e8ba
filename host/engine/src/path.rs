//! Paths that a guest names for changes: text, checked before anything touches a file system.

use std::fmt;

/// Where a guest sees the workspace.
pub const GUEST_ROOT: &str = "/workspace";

const MAX_PATH_BYTES: usize = 4096;
const MAX_PART_BYTES: usize = 255;

/// A path below the workspace: relative, normalised, never empty, without `..` and without a `.git` component.
///
/// It says nothing about links: whoever opens it follows none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkspacePath(Box<str>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidPath(String);

impl WorkspacePath {
    /// Takes a path relative to the workspace or absolute below [`GUEST_ROOT`].
    ///
    /// # Errors
    /// Names the rule that the path breaks.
    pub fn parse(path: &str) -> Result<Self, InvalidPath> {
        let parts = parts(path)?;
        if parts.is_empty() {
            return Err(InvalidPath("a file path is needed, not the workspace's root".to_owned()));
        }
        if parts.iter().any(|part| is_git(part)) {
            return Err(InvalidPath("paths with a .git component are git's own: run git instead".to_owned()));
        }
        Ok(Self(parts.join("/").into()))
    }

    /// Relative to the workspace's root, such as `src/main.rs`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkspacePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A folder as programs see it: [`GUEST_ROOT`] or below it.
///
/// # Errors
/// Names the rule that the path breaks.
pub fn guest_folder(path: &str) -> Result<String, InvalidPath> {
    let parts = parts(path)?;
    Ok(if parts.is_empty() { GUEST_ROOT.to_owned() } else { format!("{GUEST_ROOT}/{}", parts.join("/")) })
}

fn parts(path: &str) -> Result<Vec<&str>, InvalidPath> {
    let refuse = |rule: &str| Err(InvalidPath(rule.to_owned()));
    if path.len() > MAX_PATH_BYTES {
        return refuse("the path is longer than 4096 bytes");
    }
    if path.contains('\0') {
        return refuse("the path contains a NUL byte");
    }
    let relative = match path.strip_prefix(GUEST_ROOT) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        _ if path.starts_with('/') => {
            return refuse("the path is outside the workspace: use /workspace/… or a relative path");
        }
        _ => path,
    };
    let parts: Vec<&str> = relative.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return refuse("the path contains '..'");
    }
    if parts.iter().any(|part| part.len() > MAX_PART_BYTES) {
        return refuse("a part of the path is longer than 255 bytes");
    }
    Ok(parts)
}

/// Also as file systems that fold case or drop characters would read it (CVE-2014-9390).
fn is_git(part: &str) -> bool {
    let folded: String =
        part.chars().filter(|c| !c.is_control() && !ignored(*c)).flat_map(char::to_lowercase).collect();
    let stem = folded.trim_end_matches(['.', ' ']);
    stem == ".git" || stem == "git~1"
}

/// What HFS+ ignores in names.
const fn ignored(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_or_refused() {
        let check = |given: &str, expected: Option<&str>| {
            assert_eq!(
                WorkspacePath::parse(given).ok().as_ref().map(WorkspacePath::as_str),
                expected,
                "{given:?}"
            );
        };
        check("src/main.rs", Some("src/main.rs"));
        check("/workspace/src//./main.rs", Some("src/main.rs"));
        check("./a", Some("a"));
        check(".gitignore", Some(".gitignore"));
        check("a..b", Some("a..b"));
        check("", None);
        check("/workspace", None);
        check("/workspaces/a", None);
        check("/etc/passwd", None);
        check("../a", None);
        check("a/../b", None);
        check("/workspace/../etc", None);
        check("a\0b", None);
        check(".git/config", None);
        check("sub/.GIT/hooks/post-commit", None);
        check(".g\u{200c}it/config", None);
        check(".git. /config", None);
        check(&"a/".repeat(3000), None);
        check(&"a".repeat(256), None);
    }

    #[test]
    fn folders_may_be_the_root() {
        assert_eq!(guest_folder("").unwrap(), "/workspace");
        assert_eq!(guest_folder("/workspace/a/").unwrap(), "/workspace/a");
        assert_eq!(guest_folder("a/b").unwrap(), "/workspace/a/b");
        assert!(guest_folder("/tmp").is_err());
    }
}
