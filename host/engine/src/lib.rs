//! Runs components: owns wasmtime's runtime, WASI and the host side of the contract `vteam:plugin@0.1`.
//!
//! One store and one instance per call, every limit on, nothing granted that the [`Call`] does not grant. What a
//! component may reach of the host stands behind the traits of [`host`], which the caller implements.
//!
//! Deliberately absent: a compiler (native code comes signed from `vteam-compile`), policy (a [`Gate`] answers), and
//! knowledge of sessions, models and networks.

mod bindings;
pub mod call;
mod engine;
pub mod host;
mod limiter;
mod link;
mod outcome;
pub mod path;
mod persona;
mod plugin;
mod sandbox;
pub mod settings;
mod stdio;
mod store;
mod workers;

pub use call::{Call, CallEnd, CallFailure, Called, Staged, ToolError};
pub use engine::{DescribeError, Engine, EngineError, LoadError};
pub use host::{
    BaseError, ChangeBase, Child, Completions, Fetch, Fetched, Gate, Host, Level, LogSource, Next, PluginLog,
    Processes, ProgramRequest, Progress, State, StateError, Verdict,
};
pub use path::{InvalidPath, WorkspacePath};
pub use persona::{Judgement, Leaf};
pub use plugin::Plugin;

/// For implementing the traits of [`host`].
pub use wasmtime_wasi::async_trait;
