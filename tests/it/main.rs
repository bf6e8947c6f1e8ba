//! End to end: the shipped binaries, driven over HTTP and by their own command line. `cargo xtask test` builds what is
//! driven here; only the model is scripted, by the server's own scripted endpoint.

#![expect(clippy::print_stderr, reason = "what a failed world printed is worth reading")]

mod crash;
mod errors;
mod job;
mod log;
mod people;
mod secrets;
mod world;
