//! The plugin's settings in this project.

#[cfg(target_arch = "wasm32")]
use crate::bindings::vteam::plugin::config as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::native::config as host;
use serde::de::DeserializeOwned;

/// A setting; `None` where nobody set it.
#[must_use]
pub fn get<T: DeserializeOwned>(key: &str) -> Option<T> {
    serde_json::from_str(&host::get(key)?).ok()
}
