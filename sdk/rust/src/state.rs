//! A small durable key-value store of this plugin in this session. Effect: `state`.

#[cfg(target_arch = "wasm32")]
use crate::bindings::vteam::plugin::state as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::native::state as host;
use serde::{Serialize, de::DeserializeOwned};

pub use crate::bindings::vteam::plugin::state::StateError;

/// The value of a key; `None` where nothing, or nothing of this shape, is stored.
///
/// # Errors
/// When the host denies it.
pub fn get<T: DeserializeOwned>(key: &str) -> Result<Option<T>, StateError> {
    Ok(host::get(key)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// # Errors
/// When the host denies it, or the quota is used up.
pub fn set<T: Serialize>(key: &str, value: &T) -> Result<(), StateError> {
    host::set(key, &serde_json::to_vec(value).unwrap_or_default())
}

/// # Errors
/// When the host denies it.
pub fn delete(key: &str) -> Result<(), StateError> {
    host::delete(key)
}

/// # Errors
/// When the host denies it.
pub fn keys() -> Result<Vec<String>, StateError> {
    host::keys()
}
