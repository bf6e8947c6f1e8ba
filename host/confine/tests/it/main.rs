//! Drives the real `vteam-exec` over a socket, as the runner does.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where it fails")]

mod escapes;
mod launcher;
mod listening;
mod masks;
mod own;
mod programs;
