//! Runner and launcher (`vteam-exec`): [`crate::frame`]s on one socket that the scheduler made.
//!
//! The launcher says [`FromExec::Ready`] first, after its canaries ran. It is the same process on one machine and in a
//! pod; only what it can keep differs.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What confinement means, one row each. Names are stable: people and tests see them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Property {
    pub name: PropertyName,
    /// How it is kept here, such as `mount namespace and Landlock ABI 7`.
    pub mechanism: String,
    /// Whether the canary failed to break it.
    pub holds: bool,
    /// What the canary did, or why the mechanism is not there, and what to do about it.
    pub detail: String,
}

/// What the launcher of a host can keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Confinement {
    pub properties: Vec<Property>,
    /// Why there are no namespaces of its own; absent where there are. Without them no folder is worked on itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_namespaces: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PropertyName {
    /// No file outside the workspace and the system's read-only folders.
    Files,
    /// No socket that was not given.
    Sockets,
    /// No signal to, and no sight of, other processes.
    Processes,
    /// No set-uid, no capability.
    Privileges,
    /// Nothing outlives its call.
    Survival,
    /// No descriptor, variable or terminal inherited.
    Inheritance,
    /// CPU, memory, processes and disk are bounded.
    Resources,
}

impl PropertyName {
    pub const ALL: [Self; 7] = [
        Self::Files,
        Self::Sockets,
        Self::Processes,
        Self::Privileges,
        Self::Survival,
        Self::Inheritance,
        Self::Resources,
    ];
}

impl std::fmt::Display for PropertyName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Files => "files",
            Self::Sockets => "sockets",
            Self::Processes => "processes",
            Self::Privileges => "privileges",
            Self::Survival => "survival",
            Self::Inheritance => "inheritance",
            Self::Resources => "resources",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// No socket at all.
    #[default]
    None,
    /// Sockets in a network namespace of its own, where only loopback is.
    Loopback,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum ToExec {
    /// Start a program. `id` is chosen by the runner and never used twice.
    Start { id: u64, program: Program },
    /// End the whole tree.
    Kill { id: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Program {
    /// `argv[0]` is resolved by the launcher in system folders that the agent cannot write.
    pub argv: Vec<String>,
    /// Absolute path as the program sees it; within the workspace.
    pub cwd: String,
    pub env: BTreeMap<String, String>,
    /// Given whole, then the end of the stream.
    #[serde(default)]
    pub stdin: Option<String>,
    pub network: Network,
    pub timeout_ms: u64,
    /// Output above this many bytes (both streams) is dropped and counted, not passed on.
    pub output_bytes: u64,
    /// Report where a `bash` stood when it ended.
    #[serde(default)]
    pub report_cwd: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum FromExec {
    Ready {
        confinement: Confinement,
        programs: BTreeMap<String, String>,
    },
    Started {
        id: u64,
    },
    /// It was not started.
    Refused {
        id: u64,
        refusal: Refusal,
    },
    Output {
        id: u64,
        stream: Stream,
        #[serde(with = "base64_bytes")]
        bytes: Vec<u8>,
    },
    /// The last message about `id`: the tree is gone and all output was sent.
    #[serde(rename_all = "camelCase")]
    Exited {
        id: u64,
        exit: Exit,
        dropped_bytes: u64,
        cwd: Option<String>,
        duration_ms: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stream {
    Stdout,
    Stderr,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "exit", rename_all = "camelCase")]
pub enum Exit {
    Code {
        code: i32,
    },
    /// By name: `SIGKILL`.
    Signal {
        signal: String,
    },
    TimedOut,
    Killed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "refusal", rename_all = "camelCase")]
pub enum Refusal {
    #[error("there is no program {program:?} on this host")]
    NotFound { program: String },
    #[error("{message}")]
    Invalid { message: String },
    #[error("native programs are refused here: {property} does not hold ({detail})")]
    NotConfined { property: PropertyName, detail: String },
    #[error("{message}")]
    Failed { message: String },
}

mod base64_bytes {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
