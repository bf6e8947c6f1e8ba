//! The first-party plugins as they are shipped: built by cargo, finished by `author`, compiled, signed, loaded and called.
#![cfg(test)]

mod built;
mod documents;
mod files;
mod host;
mod personas;
mod search;
mod session;
mod shell;
mod web;
