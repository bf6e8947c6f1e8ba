//! `test`: everything that is tested, against what is shipped, and one line that says how it went.

use crate::{
    binaries::{self, Profile},
    oracles,
    run::{Run, say, step},
};
use anyhow::{Context, bail};
use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

/// Passed and failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Count {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self { passed: self.passed + other.passed, failed: self.failed + other.failed }
    }
}

pub(crate) fn run(with_oracles: bool, rest: &[String]) -> anyhow::Result<()> {
    let stage = binaries::build_all(Profile::Dev)?;
    step("running the tests");
    let cargo = Run::cargo().args(["test", "--workspace", "--no-fail-fast"]).args(rest);
    let (mut count, succeeded) = counted(binaries::environment(cargo, &stage))?;
    if with_oracles {
        count = count.plus(oracles::run(&stage)?);
    }
    // A test binary that does not build or crashes has no result line.
    if !succeeded && count.failed == 0 {
        count.failed = 1;
    }
    say(&format!("\n{} passed, {} failed", count.passed, count.failed));
    if count.failed > 0 {
        bail!("there are failed tests");
    }
    Ok(())
}

/// Runs `cargo test`, passes its output on, and adds up its result lines.
pub(crate) fn counted(cargo: Run) -> anyhow::Result<(Count, bool)> {
    let mut child = cargo.into_command().stdout(Stdio::piped()).spawn().context("cannot start cargo test")?;
    let stdout = child.stdout.take().context("cargo test has no output")?;
    let mut count = Count::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line?;
        let text = String::from_utf8_lossy(&line);
        say(&text);
        count = count.plus(result_line(&text).unwrap_or_default());
    }
    Ok((count, child.wait()?.success()))
}

fn result_line(line: &str) -> Option<Count> {
    let rest = line.strip_prefix("test result: ")?;
    let number = |what: &str| {
        let before = rest.split_once(what)?.0;
        before.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    Some(Count { passed: number(" passed")?, failed: number(" failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_counted() {
        let check = |line: &str, expected: Option<(u64, u64)>| {
            let expected = expected.map(|(passed, failed)| Count { passed, failed });
            assert_eq!(result_line(line), expected, "{line}");
        };
        check("test result: ok. 7 passed; 0 failed; 0 ignored; 0 measured; finished in 0.14s", Some((7, 0)));
        check("test result: FAILED. 10 passed; 12 failed; 0 ignored", Some((10, 12)));
        check("test a ... ok", None);
    }
}
