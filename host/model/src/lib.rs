//! Vocabulary of vteam: what its processes mean by a session, an event, a grant, a limit.
//!
//! Pure: no I/O, no async, no clock, no randomness. Whoever needs the time or an id passes it in.
//! It knows nothing of wire formats but their serde shape, nothing of Kubernetes, HTTP or WebAssembly.

pub mod approval;
pub mod event;
pub mod grant;
pub mod id;
pub mod lifecycle;
pub mod limits;
pub mod links;
pub mod message;
pub mod money;
pub mod plan;
pub mod reading;
pub mod render;
pub mod untrusted;

pub use untrusted::Untrusted;
