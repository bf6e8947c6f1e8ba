//! AG-UI 1.0 on the wire, as far as it is sent. Source: the schema of @ag-ui/core 1.0.0; absent, never null.

use model::{
    approval::{ApprovalRequest, Question},
    message::Block,
    money::Usage,
};
use serde::Serialize;
use serde_json::{Value, json};

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE", rename_all_fields = "camelCase")]
pub enum Event {
    RunStarted {
        thread_id: String,
        run_id: String,
        protocol_version: &'static str,
    },
    RunFinished {
        thread_id: String,
        run_id: String,
        outcome: Outcome,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        usage: Vec<TokenUsage>,
    },
    RunError {
        message: String,
        code: String,
    },
    TextMessageStart {
        message_id: String,
        role: &'static str,
    },
    TextMessageContent {
        message_id: String,
        delta: String,
    },
    TextMessageEnd {
        message_id: String,
    },
    ReasoningStart {
        message_id: String,
    },
    ReasoningMessageStart {
        message_id: String,
        role: &'static str,
    },
    ReasoningMessageContent {
        message_id: String,
        delta: String,
    },
    ReasoningMessageEnd {
        message_id: String,
    },
    ReasoningEnd {
        message_id: String,
    },
    ToolCallStart {
        tool_call_id: String,
        tool_call_name: String,
        parent_message_id: String,
    },
    ToolCallArgs {
        tool_call_id: String,
        delta: String,
    },
    ToolCallEnd {
        tool_call_id: String,
    },
    ToolCallResult {
        message_id: String,
        tool_call_id: String,
        content: String,
        role: &'static str,
    },
    Custom {
        name: String,
        value: Value,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Outcome {
    Success,
    Interrupt { interrupts: Vec<Interrupt> },
    Cancelled,
}

/// What a person has to decide before the run goes on.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Interrupt {
    id: String,
    reason: &'static str,
    message: String,
    tool_call_id: String,
    response_schema: Value,
    metadata: Value,
}

impl Interrupt {
    pub(super) fn approval(request: &ApprovalRequest) -> Self {
        let decisions = json!({
            "type": "object", "required": ["decision"],
            "properties": {"decision": {"enum": ["once", "session", "deny"]}, "reason": {"type": "string"}},
        });
        Self {
            id: request.id.to_string(),
            reason: "tool_approval",
            message: super::rendered(&request.subject),
            tool_call_id: request.call.to_string(),
            response_schema: decisions,
            metadata: json!({"request": request}),
        }
    }

    pub(super) fn question(question: &Question) -> Self {
        Self {
            id: question.id.to_string(),
            reason: "question",
            message: format!("{} asks", question.tool),
            tool_call_id: question.call.to_string(),
            response_schema: json!({"type": "object"}),
            metadata: json!({"request": question.request}),
        }
    }
}

/// Totals; what was cached is part of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenUsage {
    input_tokens: u64,
    output_tokens: u64,
    cached_input_tokens: u64,
    cache_write_input_tokens: u64,
}

pub(super) const fn usage(usage: Usage) -> TokenUsage {
    let Usage { input_tokens, cache_write_tokens, cache_read_tokens, output_tokens } = usage;
    TokenUsage {
        input_tokens: input_tokens.saturating_add(cache_write_tokens).saturating_add(cache_read_tokens),
        output_tokens,
        cached_input_tokens: cache_read_tokens,
        cache_write_input_tokens: cache_write_tokens,
    }
}

/// The text of these blocks; what is no text is named.
pub(super) fn text(blocks: &[Block]) -> String {
    let part = |block: &Block| match block {
        Block::Text { text } => text.raw().to_owned(),
        Block::Image { .. } => "[image]".to_owned(),
        other => serde_json::to_string(other).unwrap_or_default(),
    };
    blocks.iter().map(part).collect::<Vec<_>>().join("\n")
}
