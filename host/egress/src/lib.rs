//! Outgoing HTTP with the questions answered that a plain client leaves open: which addresses a name may lead to,
//! what happens to redirects, how long and how much an answer may be, what of a stranger's headers goes out.
//!
//! [`Egress`] connects to public addresses, and beyond them only to exact exceptions (host, port, address ranges).
//! It never follows a redirect, never uses a proxy of the environment, and keeps no cookies. It deliberately does not
//! know who asks, whether they may, or what a credential is: its caller decides that and adds the headers.

mod address;
mod client;
mod exception;
pub mod headers;
mod resolver;

pub use address::is_public;
pub use client::{Body, Caps, Egress, EgressError, Request, Response};
pub use exception::{Exception, InvalidException};
