//! Puts a streamed answer together. Pure: it knows neither where events come from nor who watches them.
//!
//! Blocks are addressed by index; unknown events, blocks and deltas are tolerated. Tool input is parsed once, strictly,
//! when the answer is whole ([`crate::strict`]).

use crate::strict;
use model::{
    Untrusted,
    message::{Block, Delta, ModelEvent, ModelFailure, ModelFailureKind, StopReason},
    money::Usage,
};
use serde_json::Value;
use std::collections::BTreeMap;

/// An answer under way.
#[derive(Debug, Default)]
pub struct Assembly {
    parts: BTreeMap<u32, Part>,
    model: Option<String>,
    stop: Option<(StopReason, Usage)>,
}

#[derive(Debug)]
enum Part {
    Text(String),
    Thinking { thinking: String, signature: String },
    ToolUse { id: String, name: String, given: Value, json: String },
    Whole(Block),
}

/// What an event was, for those who watch.
#[derive(Debug, PartialEq)]
pub enum News {
    Block(u32, Block),
    Delta(u32, Delta),
    /// The answer is whole.
    Stopped,
    Nothing,
}

/// A whole answer.
#[derive(Debug, PartialEq)]
pub struct Answer {
    /// As the provider names it, when it did.
    pub model: Option<String>,
    pub content: Vec<Block>,
    pub stop_reason: StopReason,
    pub usage: Usage,
}

impl Assembly {
    /// # Errors
    /// The failure that the stream reported.
    pub fn apply(&mut self, event: ModelEvent) -> Result<News, ModelFailure> {
        match event {
            ModelEvent::Start { model } => self.model = Some(model),
            ModelEvent::BlockStart { index, block } => {
                self.parts.insert(index, Part::new(block.clone()));
                return Ok(News::Block(index, block));
            }
            ModelEvent::BlockDelta { index, delta } => {
                if let Some(part) = self.parts.get_mut(&index) {
                    part.apply(&delta);
                    return Ok(News::Delta(index, delta));
                }
            }
            ModelEvent::Stop { stop_reason, usage, cost: _ } => {
                self.stop = Some((stop_reason, usage));
                return Ok(News::Stopped);
            }
            ModelEvent::Error(failure) => return Err(failure),
            ModelEvent::BlockStop { .. } | ModelEvent::Other(_) => {}
        }
        Ok(News::Nothing)
    }

    /// The answer, at the end of the stream.
    ///
    /// # Errors
    /// When the stream was cut before its stop.
    pub fn finish(self) -> Result<Answer, ModelFailure> {
        let Some((stop_reason, usage)) = self.stop else {
            return Err(cut());
        };
        let last = self.parts.len().saturating_sub(1);
        let cut_short = stop_reason == StopReason::MaxTokens;
        let content = self.parts.into_values().enumerate();
        let content = content.filter(|(at, part)| !(cut_short && *at == last && part.is_malformed()));
        Ok(Answer {
            model: self.model,
            content: content.map(|(_, part)| part.block()).collect(),
            stop_reason,
            usage,
        })
    }

    /// What can be kept of an answer that a person stopped: its text.
    #[must_use]
    pub fn said(&self) -> Vec<Block> {
        let text = self.parts.values().filter_map(|part| match part {
            Part::Text(text) if !text.trim().is_empty() => Some(Block::text(text.clone())),
            _ => None,
        });
        text.collect()
    }
}

/// The failure of a stream without an end.
#[must_use]
pub fn cut() -> ModelFailure {
    ModelFailure {
        kind: ModelFailureKind::Truncated,
        message: "the model's answer was cut off before its end".into(),
        retryable: true,
    }
}

impl Part {
    fn new(block: Block) -> Self {
        match block {
            Block::Text { text } => Self::Text(text.into_raw()),
            Block::Thinking { thinking, signature } => {
                Self::Thinking { thinking: thinking.into_raw(), signature }
            }
            Block::ToolUse { id, name, input } => {
                Self::ToolUse { id, name, given: input, json: String::new() }
            }
            other => Self::Whole(other),
        }
    }

    /// A delta that does not fit its block is not applied.
    fn apply(&mut self, delta: &Delta) {
        match (self, delta) {
            (Self::Text(text), Delta::Text { text: more }) => text.push_str(more.raw()),
            (Self::Thinking { thinking, .. }, Delta::Thinking { thinking: more }) => {
                thinking.push_str(more.raw())
            }
            (Self::Thinking { signature, .. }, Delta::Signature { signature: more }) => {
                signature.push_str(more)
            }
            (Self::ToolUse { json, .. }, Delta::InputJson { partial_json }) => json.push_str(partial_json),
            _ => {}
        }
    }

    fn is_malformed(&self) -> bool {
        matches!(self, Self::ToolUse { json, .. } if !json.trim().is_empty() && strict::parse(json).is_err())
    }

    fn block(self) -> Block {
        match self {
            Self::Text(text) => Block::text(text),
            Self::Thinking { thinking, signature } => {
                Block::Thinking { thinking: Untrusted::new(thinking), signature }
            }
            Self::ToolUse { id, name, given, json } => {
                let input = match json.trim() {
                    "" if given.is_object() => given,
                    "" => Value::Object(serde_json::Map::new()),
                    text => strict::parse(text).unwrap_or_else(|error| strict::malformed(text, &error)),
                };
                Block::ToolUse { id, name, input }
            }
            Self::Whole(block) => block,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(name: &str, events: Value, expected: Result<Value, ModelFailureKind>) {
        let mut assembly = Assembly::default();
        let mut failed = None;
        for event in events.as_array().unwrap() {
            if let Err(failure) = assembly.apply(serde_json::from_value(event.clone()).unwrap()) {
                failed = Some(failure);
            }
        }
        let result = failed.map_or_else(|| assembly.finish(), Err);
        let result = result.map(|a| serde_json::to_value(a.content).unwrap()).map_err(|f| f.kind);
        assert_eq!(result, expected, "{name}");
    }

    fn stop(reason: &str) -> Value {
        json!({"type": "stop", "stop_reason": reason, "usage": {}, "cost": 0})
    }

    fn start(index: u32, block: Value) -> Value {
        json!({"type": "block_start", "index": index, "block": block})
    }

    fn delta(index: u32, delta: Value) -> Value {
        json!({"type": "block_delta", "index": index, "delta": delta})
    }

    #[test]
    fn blocks_are_put_together_by_index() {
        let events = json!([
            {"type": "start", "model": "m"},
            start(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
            start(1, json!({"type": "text", "text": "a"})),
            delta(0, json!({"type": "thinking", "thinking": "hm"})),
            delta(1, json!({"type": "text", "text": "b"})),
            delta(0, json!({"type": "signature", "signature": "s"})),
            {"type": "brand_new", "x": 1},
            delta(1, json!({"type": "citations_delta", "x": 1})),
            delta(9, json!({"type": "text", "text": "nowhere"})),
            start(2, json!({"type": "server_tool_use", "id": "x"})),
            {"type": "block_stop", "index": 0},
            stop("end_turn"),
        ]);
        let expected = json!([
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "ab"},
            {"type": "server_tool_use", "id": "x"},
        ]);
        check("index, unknown", events, Ok(expected));
    }

    #[test]
    fn tool_input_is_parsed_when_whole() {
        let tool = |input: Value| json!({"type": "tool_use", "id": "t", "name": "Read", "input": input});
        let input = |text: &str| delta(0, json!({"type": "input_json", "partial_json": text}));
        let whole = json!([start(0, tool(json!({}))), input("{\"a\""), input(":1}"), stop("tool_use")]);
        check("parts", whole, Ok(json!([tool(json!({"a": 1}))])));
        check("none", json!([start(0, tool(json!({}))), stop("tool_use")]), Ok(json!([tool(json!({}))])));
        check(
            "given",
            json!([start(0, tool(json!({"b": 2}))), stop("tool_use")]),
            Ok(json!([tool(json!({"b": 2}))])),
        );
        let twice = json!([start(0, tool(json!({}))), input("{\"a\":1,\"a\":2}"), stop("tool_use")]);
        let error = strict::parse("{\"a\":1,\"a\":2}").unwrap_err();
        check("twice", twice, Ok(json!([tool(strict::malformed("{\"a\":1,\"a\":2}", &error))])));
        let short = json!([start(0, tool(json!({}))), input("{\"a\":"), stop("max_tokens")]);
        check("cut short", short, Ok(json!([])));
    }

    #[test]
    fn a_stream_without_an_end_is_a_failure() {
        let text = start(0, json!({"type": "text", "text": "a"}));
        check("cut", json!([text.clone()]), Err(ModelFailureKind::Truncated));
        let error = json!({"type": "error", "kind": "unavailable", "message": "m", "retryable": true});
        check("error", json!([text, error]), Err(ModelFailureKind::Unavailable));
    }
}
