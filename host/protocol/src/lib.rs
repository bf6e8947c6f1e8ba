//! What vteam's processes say to each other.
//!
//! * [`control`]: runner and server, JSON text frames on one WebSocket. Control and events only.
//! * [`http`]: runner and server, plain requests: model, egress, blobs, history.
//! * [`exec`]: runner and launcher, length-prefixed JSON frames on one socket.
//! * [`artifact`]: how native code is signed and what a signature covers.
//!
//! A reader ignores fields that it does not know and treats a message kind that it does not know as [`control`] says.

pub mod artifact;
pub mod control;
pub mod exec;
pub mod frame;
pub mod http;
