//! The plugin's own log.

#[cfg(target_arch = "wasm32")]
use crate::bindings::vteam::plugin::log as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::native::log as host;

pub use crate::bindings::vteam::plugin::log::Level;

pub fn write(level: Level, message: &str) {
    host::write(level, message);
}
