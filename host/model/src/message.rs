//! The conversation: Anthropic's content blocks are the internal form, whatever model is behind the broker.
//!
//! Source: Anthropic Messages API, version 2026-10-21. Blocks of a *response* that we do not know are kept as they came
//! ([`Block::Other`]) and replayed; in a *request* the broker refuses them.

use crate::{Untrusted, money::Usage};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    User,
    Assistant,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    pub role: Role,
    pub content: Vec<Block>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Block {
    Text {
        text: Untrusted,
    },
    Image {
        source: ImageSource,
    },
    Thinking {
        thinking: Untrusted,
        signature: String,
    },
    RedactedThinking {
        data: String,
    },
    ToolUse {
        /// The provider's id of this use; data, not a [`crate::id::CallId`].
        id: String,
        name: String,
        input: Value,
    },
    ToolResult {
        tool_use_id: String,
        content: Vec<Block>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
    #[serde(untagged)]
    Other(Value),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ImageSource {
    /// Base64 of the bytes. URLs are refused: the provider would fetch them.
    Base64 { media_type: String, data: String },
}

impl Block {
    pub fn text(text: impl Into<Untrusted>) -> Self {
        Self::Text { text: text.into() }
    }
}

/// What the model is told of a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolSpec {
    pub name: String,
    pub description: String,
    pub input_schema: Value,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ToolChoice {
    Auto,
    Any,
    Tool { name: String },
    None,
}

/// Where the provider may cut its prompt cache, at most four of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheMark {
    Tools,
    System,
    /// After the last block of the message at this index.
    Message(usize),
}

/// What a runner asks of the broker's model endpoint. Everything else of a provider's request (headers, path,
/// credentials, sampling) is the broker's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRequest {
    pub model: String,
    pub max_tokens: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub system: Vec<String>,
    pub messages: Vec<Message>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolSpec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<ToolChoice>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop_sequences: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cache: Vec<CacheMark>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    EndTurn,
    MaxTokens,
    StopSequence,
    ToolUse,
    PauseTurn,
    Refusal,
    ModelContextWindowExceeded,
    #[serde(untagged)]
    Other(String),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Delta {
    Text {
        text: Untrusted,
    },
    InputJson {
        partial_json: String,
    },
    Thinking {
        thinking: Untrusted,
    },
    Signature {
        signature: String,
    },
    /// One that we do not know: kept for the log's sake, not applied.
    #[serde(untagged)]
    Other(Value),
}

/// What the broker streams back, one JSON object per server-sent event. A stream that ends without `Stop` or `Error` was cut.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ModelEvent {
    Start {
        model: String,
    },
    BlockStart {
        index: u32,
        block: Block,
    },
    BlockDelta {
        index: u32,
        delta: Delta,
    },
    BlockStop {
        index: u32,
    },
    /// Ends the answer: why, and what the broker charged for it.
    Stop {
        stop_reason: StopReason,
        usage: Usage,
        cost: crate::money::MicroUsd,
    },
    Error(ModelFailure),
    #[serde(untagged)]
    Other(Value),
}

/// Why a model call gave no whole answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ModelFailure {
    pub kind: ModelFailureKind,
    /// Written by the broker, for people: says what to do. Upstream's own words are not repeated here.
    pub message: String,
    /// Whether the same request may be sent again at once (the broker has already retried what its policy allows).
    pub retryable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelFailureKind {
    /// The credential was refused.
    Unauthorized,
    /// The budget does not cover the call.
    Budget,
    /// Our request was refused before or by the provider.
    Invalid,
    /// The conversation does not fit the model's window.
    TooLong,
    /// Overloaded, rate limited or failing, after all retries.
    Unavailable,
    /// The connection was cut in mid-answer.
    Truncated,
    #[serde(other)]
    Unknown,
}
