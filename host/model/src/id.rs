//! Validated ids. `FromStr` and `TryFrom` are the only doors.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Why a text is not the id it was given as.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {rule}")]
pub struct InvalidId {
    pub what: &'static str,
    pub rule: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.into())) } else { Err(InvalidId { what: $what, rule: $rule }) }
            }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.into()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

fn all(text: &str, max: usize, valid: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.len() <= max && text.bytes().all(valid)
}

/// RFC 1123 label, as Kubernetes uses it for names.
fn dns_label(text: &str) -> bool {
    all(text, 63, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn opaque(text: &str) -> bool {
    all(text, 128, |b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
}

id!(
    /// A project: a namespace on a cluster, a folder of sessions on one machine.
    ProjectName, "a project name", "a DNS label: at most 63 of a-z, 0-9 and '-', not at either end", dns_label
);
id!(
    /// One incarnation of a project; a new project of an old name has another where projects are namespaces.
    ProjectUid, "a project uid", "1 to 128 of A-Z, a-z, 0-9 and '-_.:'", opaque
);
id!(
    /// A session's name, unique within its project while it exists.
    SessionName, "a session name", "a DNS label: at most 63 of a-z, 0-9 and '-', not at either end", dns_label
);
id!(
    /// One incarnation of a session; a new session of an old name has another.
    SessionUid, "a session uid", "1 to 128 of A-Z, a-z, 0-9 and '-_.:'", opaque
);
id!(
    /// One turn of a session: from a person's message to the end of the agent's work on it.
    RunId, "a run id", "1 to 128 of A-Z, a-z, 0-9 and '-_.:'", opaque
);
id!(
    /// One message of the conversation.
    MessageId, "a message id", "1 to 128 of A-Z, a-z, 0-9 and '-_.:'", opaque
);
id!(
    /// One tool call. Chosen by the runner; the provider's own id for it is data of the message.
    CallId, "a call id", "1 to 128 of A-Z, a-z, 0-9 and '-_.:'", opaque
);
id!(
    /// Something that waits for a person: an approval or a question.
    AskId, "an approval id", "1 to 128 of A-Z, a-z, 0-9 and '-_.:'", opaque
);
id!(
    /// `publisher.name`, such as `vteam.files`. `vteam.` is reserved for first-party plugins.
    PluginId, "a plugin id", "2 to 4 parts of a-z, 0-9 and '-' joined by dots, at most 128 long, such as acme.linter",
    |t| t.len() <= 128 && (2..=4).contains(&t.split('.').count()) && t.split('.').all(dns_label)
);
id!(
    /// What the model calls a tool.
    ToolName, "a tool name", "1 to 64 of A-Z, a-z, 0-9, '_' and '-'",
    |t| all(t, 64, |b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
);
id!(
    /// A persona's key, such as `STAFF_ENGINEER`.
    PersonaKey, "a persona key", "A-Z first, then at most 63 of A-Z, 0-9 and '_'",
    |t| t.starts_with(|c: char| c.is_ascii_uppercase())
        && all(t, 64, |b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
);
id!(
    /// An effect, such as `fs.read`, `fs.write`, `process`, `net.fetch`, `state`, `model`. Open: hosts refuse what they do not know.
    Effect, "an effect", "1 to 64 of a-z, 0-9, '-' and '.'",
    |t| all(t, 64, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
);
id!(
    /// A content digest: `sha256:` and 64 lower-case hex digits.
    Digest, "a digest", "'sha256:' and 64 lower-case hex digits",
    |t| t.strip_prefix("sha256:").is_some_and(|h| h.len() == 64 && h.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
);

impl Digest {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(format!("sha256:{}", hex::encode(sha2::Sha256::digest(bytes))).into())
    }

    /// The 64 hex digits, for use as a file name.
    #[must_use]
    pub fn hex(&self) -> &str {
        self.0.strip_prefix("sha256:").unwrap_or(&self.0)
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default)]
        #[serde(transparent)]
        pub struct $name(pub u64);
        impl $name {
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter!(
    /// An event's place in its session, assigned by the server at commit, gap-free from 1. The SSE id and the cursor.
    Seq
);
counter!(
    /// A runner's generation within a session, from 1. An older one is fenced.
    Epoch
);
counter!(
    /// An event's place in what one runner (one epoch) said, from 1.
    RunnerSeq
);

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// Time from `earlier` to here; zero if the clock went back.
    #[must_use]
    pub fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A session where only its place in the tree matters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionRef {
    pub project: ProjectName,
    pub name: SessionName,
}

impl fmt::Display for SessionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_accept_and_refuse() {
        fn check<T: FromStr>(good: &[&str], bad: &[&str]) {
            for text in good {
                assert!(text.parse::<T>().is_ok(), "{text:?} should be valid");
            }
            for text in bad {
                assert!(text.parse::<T>().is_err(), "{text:?} should be refused");
            }
        }
        let long = "a".repeat(64);
        check::<SessionName>(&["a", "fix-1"], &["", "-a", "a-", "A", "a_b", "a/b", "a\n", &long]);
        check::<PluginId>(&["vteam.files", "a.b.c"], &["files", "a..b", "A.b", ".a.b", "a.b.c.d.e"]);
        check::<PersonaKey>(&["STAFF_ENGINEER", "PXE"], &["", "staff", "1A", "_A"]);
        check::<ToolName>(&["Read", "mcp__x__y"], &["", "a b", "a.b"]);
        check::<Digest>(&[Digest::of(b"x").as_str()], &["sha256:00", "md5:0"]);
    }
}
