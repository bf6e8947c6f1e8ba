//! Guests of `tests/guests` through the real compiler and engine, one module per part of the contract.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests, and what they share"
)]

mod admission;
mod frozen;
mod guest;
mod hosts;
mod http;
mod limits;
mod loading;
mod persona;
mod tools;
mod workspace;
