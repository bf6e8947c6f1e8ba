//! The REST API over real connections, with runners that do as they are told; and the whole server's start.

mod archives;
mod audit;
mod harness;
mod leave;
mod plugins;
mod refusals;
mod start;
mod streams;
mod uploads;
