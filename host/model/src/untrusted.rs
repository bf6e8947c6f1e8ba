//! Text that somebody else wrote.

use serde::{Deserialize, Serialize};

/// Text of a model, tool, plugin, repository or remote server.
///
/// Invariant: it has no `Display`, and `Debug` shows only its length. What reaches a screen, page, log line, label or
/// Kubernetes field goes through [`crate::render`]; what reaches a model or a file goes out as the raw bytes.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Untrusted(String);

impl Untrusted {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The bytes as they came, for storing, for a model or for a parser; never for a screen.
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.0
    }

    #[must_use]
    pub fn into_raw(self) -> String {
        self.0
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Untrusted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Untrusted({} bytes)", self.0.len())
    }
}

impl From<String> for Untrusted {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Untrusted {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}
