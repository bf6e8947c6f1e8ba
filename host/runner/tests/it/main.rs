//! Drives the real `vteam-runner` (and `vteam-exec`) with real components, against a server that speaks the protocol over
//! a Unix socket, and over TLS as in a pod. Only the model is played.

#![cfg(test)]

mod acting;
mod analysis;
mod crashes;
mod people;
mod plugins;
mod pod;
mod process;
mod server;
