//! The verbs of `vteam-operator`.

use crate::{crds, policies, run, settings::RunArgs};
use clap::{Parser, Subcommand};
use std::{io::Write, process::ExitCode};

/// Runs agentic sessions on a Kubernetes cluster.
#[derive(Debug, Parser)]
#[command(name = "vteam-operator", version)]
pub struct Verbs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print the CustomResourceDefinitions as YAML, for `kubectl apply --server-side -f -`.
    Crds,
    /// Print the admission policies of fields that carry authority as YAML.
    Policies,
    /// Run sessions: make pods of AgenticSessions, and keep their status.
    Run(Box<RunArgs>),
}

impl Verbs {
    /// Does what was asked and says on stderr why it could not.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let done = match self.verb {
            Verb::Run(args) => run::run(*args).map_err(|error| telemetry::field::chain(&error)),
            Verb::Crds => definitions().and_then(|text| print(&text)),
            Verb::Policies => policies::yaml()
                .map_err(|error| format!("the policies cannot be made: {error}"))
                .and_then(|text| print(&text)),
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // Nobody is left to tell when stderr is closed too.
                let _ = writeln!(std::io::stderr(), "vteam-operator: {error}");
                ExitCode::FAILURE
            }
        }
    }
}

fn definitions() -> Result<String, String> {
    crds::all()
        .and_then(|all| all.iter().map(crds::yaml).collect())
        .map_err(|error| format!("the definitions cannot be made: {error}"))
}

fn print(text: &str) -> Result<(), String> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| format!("cannot write: {error}"))
}
