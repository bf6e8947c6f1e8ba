//! The server: REST, SSE, gateway for runners, broker, catalogue and the local scheduler.
//!
//! [`Server::start`] is the only way in: it opens everything over one data folder and listens. Requests of people come
//! in through [`api`], runners through `gateway`; both act through `sessions`, the only writer of a session's log.

pub mod access;
pub mod agui;
pub mod api;
mod audit;
pub mod auth;
pub mod broker;
pub mod catalogue;
pub mod gateway;
pub mod listen;
pub mod openapi;
pub mod problem;
pub mod records;
pub mod scheduler;
pub mod sessions;
pub mod settings;
mod start;
pub mod workspace;

pub use start::{Config, Elsewhere, Place, Running, Server, StartError};
