//! `vteam-runner`.

use clap::Parser as _;
use std::process::ExitCode;

/// musl's own has one lock for all threads.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match runner::process::run(runner::settings::Command::parse()) {
        Ok(answer) => {
            if let Some(answer) = answer {
                #[expect(clippy::print_stdout, reason = "stdout is for the answer")]
                {
                    println!("{answer}");
                }
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the one place where the end of the process is told")]
            {
                eprintln!("vteam-runner: {}", telemetry::field::chain(&error));
            }
            ExitCode::FAILURE
        }
    }
}
