//! Sessions and their gateway over the real socket, with a runner that speaks the real protocol and does as it is told.

mod crashes;
pub(crate) mod fake;
mod followed;
mod life;
pub(crate) mod people;
mod refusals;
pub(crate) mod world;
