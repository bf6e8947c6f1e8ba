//! Names of span and event fields. One name means one thing in every process, so that logs can be joined.
//!
//! `tracing`'s macros take names as tokens, not as constants: write them as they stand here
//! (`info_span!("run", session = %uid, run = %run)`). A prompt, tool argument, model output or secret is never a field
//! above `debug`.

/// `project/name`.
pub const SESSION: &str = "session";
/// A session's uid.
pub const UID: &str = "uid";
pub const EPOCH: &str = "epoch";
pub const RUN: &str = "run";
pub const CALL: &str = "call";
pub const TOOL: &str = "tool";
pub const PLUGIN: &str = "plugin";
/// Of a component or blob.
pub const DIGEST: &str = "digest";
pub const PHASE: &str = "phase";
pub const REASON: &str = "reason";
pub const MODEL: &str = "model";
/// Host name of an outgoing request; never its path or query.
pub const HOST: &str = "host";
pub const STATUS: &str = "status";
pub const BYTES: &str = "bytes";
pub const DURATION_MS: &str = "duration_ms";
/// Of the target `audit`: the caller's name, the verb and resource that were asked leave for, the route, and whether it was
/// `done`, `refused`, `failed` or `unanswered`.
pub const WHO: &str = "who";
pub const VERB: &str = "verb";
pub const RESOURCE: &str = "resource";
pub const PROJECT: &str = "project";
pub const ROUTE: &str = "route";
pub const OUTCOME: &str = "outcome";
/// An error with its chain; see [`chain`].
pub const ERROR: &str = "error";

/// An error with its causes on one line, for the one place where it is logged.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the log")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_chain_names_every_cause_once() {
        assert_eq!(
            super::chain(&Outer(std::io::Error::other("disk gone"))),
            "cannot open the log: disk gone"
        );
    }
}
