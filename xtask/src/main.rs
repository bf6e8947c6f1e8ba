//! `cargo xtask`: builds, demonstrates, tests, checks and measures vteam. `cargo xtask help` lists the verbs.

mod bench;
mod binaries;
mod check;
mod cluster;
mod codegen;
mod demo;
mod e2e;
mod image;
mod install;
mod machine;
mod oracles;
mod plugins;
mod run;
mod test;
mod verbs;

use clap::Parser;

fn main() -> std::process::ExitCode {
    match verbs::Verbs::parse().run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            run::say(&format!("error: {error:#}"));
            std::process::ExitCode::FAILURE
        }
    }
}
