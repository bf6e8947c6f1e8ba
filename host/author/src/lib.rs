//! Makes admissible plugins out of what authors write.
//!
//! * A persona: [`stamp`] puts a Markdown file into the prebuilt core and gives a component.
//! * A tool: cargo's `wasm32-wasip2` gives a component; [`encode`] makes one of a core module that carries its world.
//! * Both: the caller runs the component's `describe` once, in an empty sandbox, and [`finish`] embeds the answer.
//! * [`config_maps`] puts a plugin into ConfigMaps, for a cluster.
//! * [`docs`] writes the table of tools.
//!
//! What it deliberately does not know: how to run a component, where files lie, and what a host admits beyond the
//! manifest's own rules.

mod answer;
mod component;
mod config_maps;
mod docs;
mod front_matter;
mod persona;
pub mod sandbox;
mod sections;
mod slot;

pub use component::{BuildError, encode, finish};
pub use config_maps::config_maps;
pub use docs::docs;
pub use persona::{Mistake, StampError, stamp};
