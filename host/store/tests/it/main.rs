//! The store as a process that is killed at any moment, read by an independent reader.

mod crash;
mod log;
mod support;
