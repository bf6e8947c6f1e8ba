//! One call of a tool: what goes in, and how it ends.

use crate::{host::Host, path::WorkspacePath};
use model::{
    Untrusted,
    approval::Subject,
    event::{Blame, Observation},
    grant::EffectSet,
    id::{Digest, Effect, ToolName},
    limits::CallLimits,
    message::Block,
};
use serde_json::Value;

pub struct Call {
    pub tool: ToolName,
    /// Canonical JSON of an object that was checked against the tool's schema.
    pub input: String,
    /// Open list of `types.context`; values are JSON text.
    pub context: Vec<(String, String)>,
    pub limits: CallLimits,
    /// What this call may do at all. What is not here answers the guest with a typed denial.
    pub grants: EffectSet,
    pub host: Host,
}

/// How a call ended, and what the host saw it do until then.
#[derive(Debug)]
pub struct Called {
    pub end: CallEnd,
    /// Programs and fetches, `by: "host"`.
    pub seen: Vec<Observation>,
}

#[derive(Debug)]
pub enum CallEnd {
    Done {
        content: Vec<Block>,
        /// The guest's own account, `by: "guest"`.
        observations: Vec<Observation>,
        /// Not applied: ask, then apply together.
        staged: Vec<Staged>,
    },
    /// The tool asks the person; call again with `answer` and `state` in the context.
    NeedsInput {
        request: Value,
        state: Vec<u8>,
    },
    /// The tool's own "no".
    Refused(ToolError),
    /// The call was dropped before this effect; call again once it is permitted.
    NeedsApproval {
        effect: Effect,
        subject: Subject,
    },
    Failed(CallFailure),
}

/// A call that gave no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CallFailure {
    pub blame: Blame,
    /// Written by the host; says what to do.
    pub message: String,
}

impl CallFailure {
    pub(crate) fn plugin(message: impl Into<String>) -> Self {
        Self { blame: Blame::Plugin, message: message.into() }
    }

    pub(crate) fn setup(message: impl Into<String>) -> Self {
        Self { blame: Blame::Setup, message: message.into() }
    }
}

/// A change that waits to be applied. `base` is the digest of what it replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Staged {
    /// `base: None` for a new file.
    Write {
        path: WorkspacePath,
        content: Vec<u8>,
        base: Option<Digest>,
    },
    Delete {
        path: WorkspacePath,
        base: Digest,
    },
    Rename {
        source: WorkspacePath,
        target: WorkspacePath,
        base: Digest,
    },
}

/// The contract's `tool-error`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolError {
    InvalidInput(Untrusted),
    NotFound(Untrusted),
    Denied { effect: Untrusted, message: Untrusted },
    Unavailable(Untrusted),
    Failed(Untrusted),
    Other { kind: Untrusted, value: Untrusted },
}

impl ToolError {
    /// Who has to act.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::InvalidInput(_) | Self::NotFound(_) | Self::Failed(_) => Blame::Model,
            Self::Denied { .. } | Self::Unavailable(_) => Blame::Setup,
            Self::Other { .. } => Blame::Plugin,
        }
    }

    /// For the model.
    #[must_use]
    pub const fn message(&self) -> &Untrusted {
        match self {
            Self::InvalidInput(message)
            | Self::NotFound(message)
            | Self::Denied { message, .. }
            | Self::Unavailable(message)
            | Self::Failed(message)
            | Self::Other { value: message, .. } => message,
        }
    }
}
