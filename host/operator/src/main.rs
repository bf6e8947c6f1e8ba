//! `vteam-operator`.

use clap::Parser;
use std::process::ExitCode;

/// musl's own has one lock for all threads.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    operator::Verbs::parse().run()
}
