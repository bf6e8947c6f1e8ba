//! `vteam-operator`.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    operator::Verbs::parse().run()
}
