//! The command line of `vteam-compile`.

use crate::Stage;
use clap::Parser;

/// Compiles a WebAssembly component from standard input to native code on standard output.
#[derive(Debug, Parser)]
#[command(name = "vteam-compile", version)]
pub struct Args {
    /// Print the engine's id and target, and compile nothing.
    #[arg(long)]
    pub engine: bool,
    /// Accept a component that has no manifest yet.
    #[arg(long)]
    unfinished: bool,
}

impl Args {
    #[must_use]
    pub fn stage(&self) -> Stage {
        if self.unfinished { Stage::Unfinished } else { Stage::Finished }
    }
}
