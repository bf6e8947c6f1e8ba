//! Write vteam tools in Rust: one trait, one macro.
//!
//! ```
//! use vteam_sdk::{Context, Outcome, Plugin, PluginInfo, Tool, ToolError};
//!
//! /// Says hello.
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct Hello {
//!     /// Whom to greet.
//!     name: String,
//! }
//!
//! fn hello(input: Hello, _: &Context) -> Result<Outcome, ToolError> {
//!     Ok(Outcome::text(format!("Hello, {}!", input.name)))
//! }
//!
//! struct Greeter;
//! impl Plugin for Greeter {
//!     fn info() -> PluginInfo {
//!         PluginInfo::new("acme.greeter", env!("CARGO_PKG_VERSION"), "Greets people")
//!             .tool(Tool::new("Hello", hello))
//!     }
//! }
//! vteam_sdk::export!(Greeter);
//! ```
//!
//! The host's interfaces are the modules [`changes`], [`config`], [`http`], [`log`], [`model`], [`process`],
//! [`progress`] and [`state`]; files of the workspace are read with `std::fs`. On wasm32 they are calls of the host, and
//! a component imports only those that it uses. Elsewhere a stand-in (`native`) takes the host's place, so that plugins
//! are unit-tested with `cargo test`.
//!
//! What the SDK deliberately does not know: policy, grants and limits. It asks, and the host answers or denies.

#[doc(hidden)]
pub mod bindings;
pub mod changes;
pub mod config;
mod context;
mod error;
pub mod http;
pub mod log;
pub mod model;
#[cfg(not(target_arch = "wasm32"))]
pub mod native;
mod outcome;
mod plugin;
pub mod process;
pub mod progress;
mod schema;
pub mod state;

pub use bindings::{
    exports::vteam::plugin::tool::{Done, NeedsInput, Observation, Outcome, ToolError},
    vteam::plugin::types::{Content, Denial, Image, Other},
};
pub use context::{Context, WorkspacePath};
pub use plugin::{Effect, Plugin, PluginInfo, Tool};

/// Makes a type that implements [`Plugin`] the component's export. Natively it expands to nothing.
#[macro_export]
macro_rules! export {
    ($plugin:ident) => {
        #[cfg(target_arch = "wasm32")]
        $crate::bindings::export_tool!($plugin with_types_in $crate::bindings);
    };
}
