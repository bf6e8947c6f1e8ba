//! The `vteam` command: verbs of a client, and `up`, which is the server with its local scheduler.
//!
//! A verb talks to the server through its REST interface only, also when `run` started that server itself. The command
//! runs no component, no compiler and no native program of a session.

mod apply;
mod args;
mod ask;
mod client;
mod context;
mod embedded;
mod exit;
mod follow;
mod output;
mod settings;
mod verbs;
mod view;

use clap::Parser;
use exit::{Code, Failure, Outcome};
use std::process::ExitCode;

/// The whole command.
#[must_use]
pub fn main() -> ExitCode {
    let args::Cli { global, verb } = args::Cli::parse();
    match settings::Settings::read(global).and_then(|settings| run(&settings, verb)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure);
            failure.code.into()
        }
    }
}

fn run(settings: &settings::Settings, verb: args::Verb) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::of(Code::Failed, "cannot start", &e))?;
    let outcome = runtime.block_on(verbs::run(settings, verb));
    // A thread that waits for a line of stdin never ends by itself.
    runtime.shutdown_background();
    outcome
}

#[expect(clippy::print_stderr, reason = "the one place where a failure is told")]
fn complain(failure: &Failure) {
    if !failure.is_silent() {
        eprintln!("vteam: {failure}");
    }
}
