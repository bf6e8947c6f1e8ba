//! End to end: the shipped binaries, driven over HTTP and by their own command line. `cargo xtask test` builds what is
//! driven here; only the model is scripted, by the server's own scripted endpoint.

#![cfg(test)]

mod attack;
mod crash;
mod errors;
mod full;
mod guests;
mod job;
mod limits;
mod log;
mod people;
mod plugins;
mod secrets;
mod world;
