//! The server's parts through their public faces.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helper fails like the test"
)]

mod api;
mod broker;
mod scheduler;
mod sessions;
