//! Live news for people who watch; never stored, never shown to the model.

#[cfg(target_arch = "wasm32")]
use crate::bindings::vteam::plugin::progress as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::native::progress as host;
use serde_json::Value;

/// `kind` is `stdout`, `stderr` or `message` with a string, or `fraction` with a number from 0 to 1.
pub fn emit(kind: &str, value: &Value) {
    host::emit(kind, &value.to_string());
}
