//! Native programs, run confined in the session's workspace. Effect: `process`.

#[cfg(target_arch = "wasm32")]
use crate::bindings::vteam::plugin::process as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::native::process as host;
use serde_json::{Value, json};
use std::time::Duration;

pub use crate::bindings::vteam::plugin::process::{Event, Exit, Next, StartError};

/// How to start a program. Keys that are not set are left to the host.
#[derive(Debug, Clone, Default)]
pub struct Options {
    entries: Vec<(String, String)>,
}

impl Options {
    /// Workspace path to start in.
    #[must_use]
    pub fn cwd(self, cwd: &str) -> Self {
        self.with("cwd", &json!(cwd))
    }

    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with("timeout-ms", &json!(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Given whole, then the end of the stream.
    #[must_use]
    pub fn stdin(self, text: &str) -> Self {
        self.with("stdin", &json!(text))
    }

    /// Have the child tell where its shell stood when it ended; see [`Child::cwd`].
    #[must_use]
    pub fn report_cwd(self) -> Self {
        self.with("report-cwd", &json!(true))
    }

    /// One line for people who watch.
    #[must_use]
    pub fn description(self, text: &str) -> Self {
        self.with("description", &json!(text))
    }

    fn with(mut self, key: &str, value: &Value) -> Self {
        self.entries.push((key.to_owned(), value.to_string()));
        self
    }
}

/// A running or ended program. Dropping it ends the whole tree, unless it was detached.
pub struct Child {
    inner: host::Child,
}

/// # Errors
/// When the host denies or refuses it, or there is no such program.
pub fn start(argv: &[&str], options: &Options) -> Result<Child, StartError> {
    let argv: Vec<String> = argv.iter().map(|&a| a.to_owned()).collect();
    Ok(Child { inner: host::start(&argv, &options.entries)? })
}

/// A detached child of an earlier call.
///
/// # Errors
/// When there is none of that id.
pub fn attach(id: &str) -> Result<Child, StartError> {
    Ok(Child { inner: host::attach(id)? })
}

impl Child {
    #[must_use]
    pub fn id(&self) -> String {
        self.inner.id()
    }

    /// Waits for output: until the program ends, or as long as given.
    #[must_use]
    pub fn next(&self, wait: Option<Duration>) -> Next {
        self.inner.next(wait.map(|w| u64::try_from(w.as_millis()).unwrap_or(u64::MAX)))
    }

    /// `None` while it runs.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        self.inner.exit()
    }

    /// Where the shell stood when it ended, if that was asked for and is known.
    #[must_use]
    pub fn cwd(&self) -> Option<String> {
        serde_json::from_str(&self.inner.info("cwd")?).ok()
    }

    pub fn kill(&self) {
        self.inner.kill();
    }

    /// Lets the program outlive this call.
    pub fn detach(self) {
        self.inner.detach();
    }
}
