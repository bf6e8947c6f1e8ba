//! Staged changes to the workspace, applied by the host after the call returned done. Effect: `fs.write`.
//! Paths are [`WorkspacePath::relative`](crate::WorkspacePath).

#[cfg(target_arch = "wasm32")]
use crate::bindings::vteam::plugin::changes as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::native::changes as host;

pub use crate::bindings::vteam::plugin::changes::ChangeError;

/// Digest of the regular file that is there now; `None` where nothing is.
///
/// # Errors
/// When the host denies it, or the path is no regular file of the workspace.
pub fn digest(path: &str) -> Result<Option<String>, ChangeError> {
    host::digest(path)
}

/// Stages a whole content; `base` is the digest of what it replaces, `None` for a new file.
///
/// # Errors
/// When the host denies or refuses it.
pub fn write(path: &str, content: &[u8], base: Option<&str>) -> Result<(), ChangeError> {
    host::write(path, content, base)
}

/// # Errors
/// When the host denies or refuses it.
pub fn delete(path: &str, base: &str) -> Result<(), ChangeError> {
    host::delete(path, base)
}

/// # Errors
/// When the host denies or refuses it.
pub fn rename(source: &str, target: &str, base: &str) -> Result<(), ChangeError> {
    host::rename(source, target, base)
}
