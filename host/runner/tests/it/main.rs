//! Drives the real `vteam-runner` (and `vteam-exec`) with real components, against a server that speaks the protocol over
//! a Unix socket. Only the model is played.

#![cfg(test)]

mod acting;
mod analysis;
mod crashes;
mod people;
mod plugins;
mod process;
mod server;
