//! The store as a process that is killed at any moment, read by an independent reader.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test's helper fails like the test")]

mod crash;
mod log;
mod support;
