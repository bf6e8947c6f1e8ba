//! `vteam-compile`.

use clap::Parser;
use compile::{CompileError, REFUSED, Refusal, args::Args};
use std::{io, process::ExitCode};

/// musl's own has one lock for all threads.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is the program's interface")]
fn main() -> ExitCode {
    let args = Args::parse();
    if args.engine {
        println!("{} {}", engine::settings::engine_id(), engine::settings::target());
        return ExitCode::SUCCESS;
    }
    let Err(error) = compile::run(args.stage(), io::stdin().lock(), io::stdout().lock()) else {
        return ExitCode::SUCCESS;
    };
    eprintln!("{}", Refusal::of(&error));
    if error.is::<CompileError>() { ExitCode::from(REFUSED) } else { ExitCode::FAILURE }
}
