//! Log lines: for people on a terminal, as JSON otherwise. Always to stderr or a file: stdout belongs to the answer.

use std::{
    fs::File,
    io::{self, IsTerminal},
    sync::Arc,
};
use tracing_subscriber::EnvFilter;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Human { colours: bool },
    Json,
}

impl Format {
    /// For people where stderr is a terminal, JSON otherwise.
    #[must_use]
    pub fn for_stderr(colours: bool) -> Self {
        if io::stderr().is_terminal() { Self::Human { colours } } else { Self::Json }
    }
}

#[derive(Debug)]
pub enum Target {
    Stderr,
    File(File),
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(
        "the log filter {filter:?} is not valid: write a level such as info, or target=level pairs such as info,server=debug"
    )]
    Filter {
        filter: String,
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    #[error("a log was set up before")]
    Twice(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Who did what is told at each level, unless the filter says otherwise of this target.
const AUDIT: &str = "audit=info";

/// Sets up the process's one log.
///
/// # Errors
/// When `filter` does not parse, or a log was set up before.
pub fn init(filter: &str, format: Format, target: Target) -> Result<(), LogError> {
    let parsed = EnvFilter::builder()
        .parse(format!("{AUDIT},{filter}"))
        .map_err(|source| LogError::Filter { filter: filter.to_owned(), source })?;
    // A line that cannot be written is lost. To complain of it on stderr would panic where that is what failed: on a full
    // disk.
    let builder = tracing_subscriber::fmt().with_env_filter(parsed).log_internal_errors(false);
    match (format, target) {
        (Format::Human { colours }, Target::Stderr) => {
            builder.with_ansi(colours).with_target(false).compact().with_writer(io::stderr).try_init()
        }
        (Format::Human { .. }, Target::File(file)) => {
            builder.with_ansi(false).with_writer(Arc::new(file)).try_init()
        }
        (Format::Json, Target::Stderr) => {
            builder.json().flatten_event(true).with_writer(io::stderr).try_init()
        }
        (Format::Json, Target::File(file)) => {
            builder.json().flatten_event(true).with_writer(Arc::new(file)).try_init()
        }
    }
    .map_err(LogError::Twice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_says_what_to_write() {
        let error = init("a=b=c", Format::Json, Target::Stderr).unwrap_err();
        assert!(error.to_string().contains("write a level such as info"), "{error}");
    }
}
