//! `check`: everything that can be judged without running a test. All checks run; all failures are told at the end.

mod layout;
mod links;

use crate::{
    machine::advise,
    run::{Run, say, step},
};
use anyhow::bail;

pub(crate) fn run() -> anyhow::Result<()> {
    let mut failures = Vec::new();
    for (name, check) in CHECKS {
        step(name);
        if let Err(error) = check() {
            say(&format!("{error:#}"));
            failures.push(*name);
        }
    }
    if !failures.is_empty() {
        bail!("failed: {}", failures.join("; "));
    }
    say("all checks passed");
    Ok(())
}

type Check = fn() -> anyhow::Result<()>;

const CHECKS: &[(&str, Check)] = &[
    ("formatting", formatting),
    ("lints", lints),
    ("every package inherits the lints", layout::lints_inherited),
    ("files are small", layout::file_sizes),
    ("each test guest has its test", layout::guests_tested),
    ("what the processes link", links::check),
    ("licences and direction of dependencies", dependencies),
];

fn formatting() -> anyhow::Result<()> {
    Run::cargo().args(["fmt", "--all", "--", "--check"]).go()
}

fn lints() -> anyhow::Result<()> {
    let clippy = |targets: &[&str]| {
        Run::cargo().args(["clippy", "--quiet"]).args(targets).args(["--", "--deny", "warnings"]).go()
    };
    clippy(&["--workspace", "--all-targets"])?;
    // `--all-targets` leaves out what a plain `cargo test` leaves out.
    clippy(&["--package", "operator", "--test", "cluster"])
}

fn dependencies() -> anyhow::Result<()> {
    if !Run::cargo().args(["deny", "--version"]).succeeds() {
        if std::env::var_os("CI").is_some() {
            bail!("cargo-deny is not installed: cargo install cargo-deny --locked");
        }
        advise("cargo-deny is not installed, so this was not checked: cargo install cargo-deny --locked");
        return Ok(());
    }
    Run::cargo().args(["deny", "--log-level", "error", "check", "bans", "licenses"]).go()
}
