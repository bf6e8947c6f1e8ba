//! vteam on a real cluster: installed with one `kubectl apply`, used with kubectl and REST, harmed, and attacked.
//!
//! `cargo xtask e2e` runs it: it makes the images and the cluster, or takes the one that `KUBECONFIG` names.
#![cfg(test)]

mod access;
mod accounts;
mod attack;
mod certificate;
mod cli;
mod demo;
mod dial;
mod gate;
#[path = "../it/guests.rs"]
mod guests;
mod harm;
mod job;
mod life;
#[path = "../it/log.rs"]
mod log;
mod network;
mod place;
mod plugins;
mod process;
mod random;
mod refused;
mod secrets;
mod uninstall;
mod world;
