//! The core that every Markdown persona is stamped into: one prebuilt module for all of them.
//!
//! It knows how to fill a template in and how to judge by rules; who it is stands in the [`stamp`] that `author` puts
//! into its memory. Built for `wasm32-unknown-unknown`, so that the component imports nothing. No JSON parser and no
//! regular expressions here, and on wasm32 no standard library: size counts, and `author` has prepared every text.
#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

#[cfg(target_arch = "wasm32")]
mod component;
mod leaf;
#[cfg(target_arch = "wasm32")]
mod memory;
pub mod rule;
#[cfg(target_arch = "wasm32")]
mod slot;
pub mod stamp;
mod template;

pub use leaf::Leaf;
pub use template::fill;
