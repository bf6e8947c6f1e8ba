//! `vteam-compile`.

use clap::Parser;
use compile::{CompileError, REFUSED, Refusal, Stage};
use std::{io, process::ExitCode};

/// Compiles a WebAssembly component from standard input to native code on standard output.
#[derive(Parser)]
#[command(name = "vteam-compile", version)]
struct Args {
    /// Print the engine's id and target, and compile nothing.
    #[arg(long)]
    engine: bool,
    /// Accept a component that has no manifest yet.
    #[arg(long)]
    unfinished: bool,
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is the program's interface")]
fn main() -> ExitCode {
    let args = Args::parse();
    if args.engine {
        println!("{} {}", engine::settings::engine_id(), engine::settings::target());
        return ExitCode::SUCCESS;
    }
    let stage = if args.unfinished { Stage::Unfinished } else { Stage::Finished };
    let Err(error) = compile::run(stage, io::stdin().lock(), io::stdout().lock()) else {
        return ExitCode::SUCCESS;
    };
    let refusal = Refusal { error: format!("{error:#}") };
    eprintln!("{}", serde_json::to_string(&refusal).unwrap_or(refusal.error));
    if error.is::<CompileError>() { ExitCode::from(REFUSED) } else { ExitCode::FAILURE }
}
