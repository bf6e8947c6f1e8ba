//! Exit codes, which are a promise (`docs/cli.md`), and the error that carries one.

use std::{fmt, process::ExitCode};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// Anything without a code of its own.
    Failed = 1,
    /// The command line does not make sense (clap's own code).
    Usage = 2,
    /// The run or session ended as failed.
    RunFailed = 3,
    NotFound = 4,
    /// What is there is not what was expected: a changed file, a used name, a session that is not awake.
    Conflict = 5,
    /// No server answers.
    Unreachable = 6,
    /// The token is missing or wrong.
    Unauthorized = 7,
    /// Policy refuses it.
    Forbidden = 8,
    /// `doctor` found something that does not hold.
    Unhealthy = 9,
    /// Interrupted by the person (128 + SIGINT).
    Interrupted = 130,
}

/// What goes to stderr, and the code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    message: String,
}

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Whether there is nothing to tell.
    pub(crate) fn is_silent(&self) -> bool {
        self.message.is_empty()
    }

    /// With the whole chain of causes.
    pub(crate) fn of(code: Code, what: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(code, format!("{what}: {}", telemetry::field::chain(error)))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A message may repeat what a server or a file said.
        f.write_str(&model::render::terminal(&self.message.as_str().into()))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        // Whoever read our answer has left, as `head` does: there is nobody to tell.
        let left = error.kind() == std::io::ErrorKind::BrokenPipe;
        Self::new(Code::Failed, if left { String::new() } else { error.to_string() })
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}
