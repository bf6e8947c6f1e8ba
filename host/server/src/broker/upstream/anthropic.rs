//! Anthropic's Messages API. Source: its reference, version 2026-10-21; older versions take the same requests.
//!
//! Unknown events, blocks and deltas are passed on as they came: the API reserves the right to add them.

use super::{Decoded, truncated};
use crate::broker::{
    failure::{failure, invalid},
    prices::{ModelCard, Thinking},
};
use model::{
    message::{
        Block, CacheMark, Delta, Message, ModelEvent, ModelFailure, ModelFailureKind, ModelRequest,
        StopReason,
    },
    money::Usage,
};
use serde::Deserialize;
use serde_json::{Value, json};

pub(super) fn body(request: &ModelRequest, card: &ModelCard) -> Value {
    let marked = |mark: CacheMark| request.cache.contains(&mark);
    let messages =
        request.messages.iter().enumerate().map(|(i, m)| message(m, marked(CacheMark::Message(i))));
    let mut body = json!({
        "model": request.model,
        "max_tokens": request.max_tokens,
        "stream": true,
        "messages": messages.collect::<Vec<_>>(),
    });
    let mut set =
        |name: &str, value: Value| body.as_object_mut().map(|body| body.insert(name.to_owned(), value));
    if !request.system.is_empty() {
        let texts = request.system.iter().filter(|text| !text.is_empty());
        set(
            "system",
            mark_last(texts.map(|text| json!({"type": "text", "text": text})), marked(CacheMark::System)),
        );
    }
    if !request.tools.is_empty() {
        set("tools", mark_last(request.tools.iter().map(|tool| json!(tool)), marked(CacheMark::Tools)));
    }
    if let Some(choice) = &request.tool_choice {
        set("tool_choice", json!(choice));
    }
    if !request.stop_sequences.is_empty() {
        set("stop_sequences", json!(request.stop_sequences));
    }
    if card.thinking == Thinking::Summarized {
        set("thinking", json!({"type": "adaptive", "display": "summarized"}));
    }
    body
}

fn message(message: &Message, marked: bool) -> Value {
    let content = mark_last(message.content.iter().filter_map(block), marked);
    json!({"role": message.role, "content": content})
}

/// As the API takes it back; `None` for what it refuses: empty text, and thinking that another model signed or nobody.
fn block(block: &Block) -> Option<Value> {
    match block {
        Block::Text { text } if text.is_empty() => None,
        Block::Thinking { signature, .. } if signature.is_empty() => None,
        Block::ToolUse { id, name, input } if !input.is_object() => {
            Some(json!({"type": "tool_use", "id": id, "name": name, "input": {"input": input}}))
        }
        block => Some(json!(block)),
    }
}

/// Marks the last block that may carry a mark: thinking may not.
fn mark_last(blocks: impl Iterator<Item = Value>, marked: bool) -> Value {
    let mut blocks: Vec<Value> = blocks.collect();
    let may_carry = |block: &&mut Value| {
        !matches!(block.get("type").and_then(Value::as_str), Some("thinking" | "redacted_thinking"))
    };
    if marked && let Some(Value::Object(last)) = blocks.iter_mut().rev().find(may_carry) {
        last.insert("cache_control".to_owned(), json!({"type": "ephemeral"}));
    }
    Value::Array(blocks)
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Wire {
    MessageStart {
        message: Started,
    },
    ContentBlockStart {
        index: u32,
        content_block: Value,
    },
    ContentBlockDelta {
        index: u32,
        delta: Value,
    },
    ContentBlockStop {
        index: u32,
    },
    MessageDelta {
        delta: Stopping,
        #[serde(default)]
        usage: Counted,
    },
    MessageStop,
    Ping,
    Error {
        error: Value,
    },
}

#[derive(Deserialize)]
struct Started {
    #[serde(default)]
    model: String,
    #[serde(default)]
    usage: Counted,
}

#[derive(Deserialize)]
struct Stopping {
    stop_reason: Option<StopReason>,
}

/// Cumulative; a field that is absent has not changed.
#[derive(Deserialize, Default)]
struct Counted {
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

pub(in crate::broker) struct Decoder {
    usage: Usage,
    stop: Option<StopReason>,
}

impl Decoder {
    pub(super) const fn new() -> Self {
        let usage = Usage { input_tokens: 0, cache_write_tokens: 0, cache_read_tokens: 0, output_tokens: 0 };
        Self { usage, stop: None }
    }

    pub(super) fn feed(&mut self, value: Value) -> Vec<Decoded> {
        let Ok(wire) = Wire::deserialize(&value) else {
            return vec![malformed_or_new(value)];
        };
        let event = match wire {
            Wire::Ping => return vec![],
            Wire::MessageStop => return vec![self.done()],
            Wire::Error { error } => return vec![Decoded::Failed(error_in_stream(&error))],
            Wire::MessageStart { message } => {
                let usage = self.count(&message.usage, false);
                return vec![Decoded::Event(ModelEvent::Start { model: message.model }), usage];
            }
            Wire::MessageDelta { delta, usage } => {
                self.stop = delta.stop_reason.or(self.stop.take());
                return vec![self.count(&usage, usage.output_tokens.is_some())];
            }
            Wire::ContentBlockStart { index, content_block } => {
                ModelEvent::BlockStart { index, block: started(content_block) }
            }
            Wire::ContentBlockDelta { index, delta } => ModelEvent::BlockDelta { index, delta: grown(delta) },
            Wire::ContentBlockStop { index } => ModelEvent::BlockStop { index },
        };
        vec![Decoded::Event(event)]
    }

    fn done(&mut self) -> Decoded {
        match self.stop.take() {
            Some(reason) => Decoded::Done(reason),
            None => Decoded::Failed(truncated("the message stopped without a reason")),
        }
    }

    fn count(&mut self, counted: &Counted, complete: bool) -> Decoded {
        let usage = &mut self.usage;
        usage.input_tokens = counted.input_tokens.unwrap_or(usage.input_tokens);
        usage.cache_write_tokens = counted.cache_creation_input_tokens.unwrap_or(usage.cache_write_tokens);
        usage.cache_read_tokens = counted.cache_read_input_tokens.unwrap_or(usage.cache_read_tokens);
        usage.output_tokens = counted.output_tokens.unwrap_or(usage.output_tokens);
        Decoded::Usage { usage: *usage, complete }
    }
}

/// An event of a kind that we do not know is kept; one of a known kind that cannot be read is a broken stream.
fn malformed_or_new(value: Value) -> Decoded {
    let known = [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "error",
    ];
    match value.get("type").and_then(Value::as_str) {
        Some(kind) if !known.contains(&kind) => Decoded::Event(ModelEvent::Other(value)),
        _ => Decoded::Failed(truncated("the endpoint sent an event that does not follow its API")),
    }
}

fn started(mut block: Value) -> Block {
    if block.get("type").and_then(Value::as_str) == Some("thinking")
        && let Some(fields) = block.as_object_mut()
    {
        fields.entry("signature").or_insert_with(|| Value::String(String::new()));
    }
    Block::deserialize(&block).unwrap_or(Block::Other(block))
}

fn grown(delta: Value) -> Delta {
    let text = |name: &str| delta.get(name).and_then(Value::as_str).map(str::to_owned);
    let known = match delta.get("type").and_then(Value::as_str) {
        Some("text_delta") => text("text").map(|text| Delta::Text { text: text.into() }),
        Some("input_json_delta") => {
            text("partial_json").map(|partial_json| Delta::InputJson { partial_json })
        }
        Some("thinking_delta") => {
            text("thinking").map(|thinking| Delta::Thinking { thinking: thinking.into() })
        }
        Some("signature_delta") => text("signature").map(|signature| Delta::Signature { signature }),
        _ => None,
    };
    known.unwrap_or(Delta::Other(delta))
}

fn error_in_stream(error: &Value) -> ModelFailure {
    match error.get("type").and_then(Value::as_str) {
        Some("invalid_request_error") => invalid("the endpoint refused the request in mid-answer"),
        Some("authentication_error" | "permission_error") => failure(
            ModelFailureKind::Unauthorized,
            false,
            "the endpoint withdrew the key's permission in mid-answer",
        ),
        _ => failure(
            ModelFailureKind::Unavailable,
            true,
            "the endpoint failed in mid-answer, overloaded or broken",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::prices::Models;

    #[test]
    fn a_request_is_written_as_the_api_wants_it() {
        let request: ModelRequest = serde_json::from_value(json!({
            "model": "claude-sonnet-5-5", "max_tokens": 9, "system": ["a", "b"], "cache": ["tools", "system", {"message": 1}],
            "stop_sequences": ["S"], "tool_choice": {"type": "auto"},
            "tools": [{"name": "Read", "description": "d", "input_schema": {"type": "object"}}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": ""}]},
                {"role": "assistant", "content": [
                    {"type": "tool_use", "id": "t1", "name": "Read", "input": "broken"},
                    {"type": "thinking", "thinking": "hm", "signature": "sig"},
                    {"type": "thinking", "thinking": "unsigned", "signature": ""}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "is_error": true,
                    "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}]}]}]
        })).unwrap();
        let mark = json!({"type": "ephemeral"});
        assert_eq!(
            body(&request, &Models::shipped().unwrap().card("claude-sonnet-5-5")),
            json!({
                "model": "claude-sonnet-5-5", "max_tokens": 9, "stream": true,
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "hi"}]},
                    {"role": "assistant", "content": [
                        {"type": "tool_use", "id": "t1", "name": "Read", "input": {"input": "broken"}, "cache_control": mark},
                        {"type": "thinking", "thinking": "hm", "signature": "sig"}]},
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "is_error": true,
                        "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}]}]}],
                "system": [{"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache_control": mark}],
                "tools": [{"name": "Read", "description": "d", "input_schema": {"type": "object"}, "cache_control": mark}],
                "tool_choice": {"type": "auto"}, "stop_sequences": ["S"],
                "thinking": {"type": "adaptive", "display": "summarized"},
            })
        );
    }

    /// One event in, what comes out as JSON: `event`, `usage`, `done` or the failure's kind.
    fn check(decoder: &mut Decoder, event: Value, expected: Value) {
        let shown: Vec<Value> = decoder
            .feed(event.clone())
            .into_iter()
            .map(|decoded| match decoded {
                Decoded::Event(event) => json!(event),
                Decoded::Usage { usage, complete } => json!([
                    usage.input_tokens,
                    usage.cache_write_tokens,
                    usage.cache_read_tokens,
                    usage.output_tokens,
                    complete
                ]),
                Decoded::Done(reason) => json!(reason),
                Decoded::Failed(failure) => json!(failure.kind),
            })
            .collect();
        assert_eq!(Value::Array(shown), expected, "{event}");
    }

    #[test]
    fn the_grammar_is_read() {
        let mut d = Decoder::new();
        check(
            &mut d,
            json!({"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 5, "cache_read_input_tokens": 7, "output_tokens": 1}}}),
            json!([{"type": "start", "model": "m"}, [5, 0, 7, 1, false]]),
        );
        check(&mut d, json!({"type": "ping"}), json!([]));
        check(
            &mut d,
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}}),
            json!([{"type": "block_start", "index": 0, "block": {"type": "thinking", "thinking": "", "signature": ""}}]),
        );
        check(
            &mut d,
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s"}}),
            json!([{"type": "block_delta", "index": 0, "delta": {"type": "signature", "signature": "s"}}]),
        );
        check(
            &mut d,
            json!({"type": "content_block_stop", "index": 0}),
            json!([{"type": "block_stop", "index": 0}]),
        );
        check(
            &mut d,
            json!({"type": "content_block_start", "index": 1, "content_block": {"type": "server_tool_use", "id": "x", "name": "web"}}),
            json!([{"type": "block_start", "index": 1, "block": {"type": "server_tool_use", "id": "x", "name": "web"}}]),
        );
        check(
            &mut d,
            json!({"type": "content_block_delta", "index": 1, "delta": {"type": "citations_delta", "citation": {}}}),
            json!([{"type": "block_delta", "index": 1, "delta": {"type": "citations_delta", "citation": {}}}]),
        );
        check(
            &mut d,
            json!({"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "t", "name": "Read", "input": {}}}),
            json!([{"type": "block_start", "index": 2, "block": {"type": "tool_use", "id": "t", "name": "Read", "input": {}}}]),
        );
        check(
            &mut d,
            json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "{\"a"}}),
            json!([{"type": "block_delta", "index": 2, "delta": {"type": "input_json", "partial_json": "{\"a"}}]),
        );
        check(&mut d, json!({"type": "of_tomorrow", "x": 1}), json!([{"type": "of_tomorrow", "x": 1}]));
        check(
            &mut d,
            json!({"type": "message_delta", "delta": {"stop_reason": "brand_new"}, "usage": {"output_tokens": 9}}),
            json!([[5, 0, 7, 9, true]]),
        );
        check(&mut d, json!({"type": "message_stop"}), json!(["brand_new"]));
    }

    #[test]
    fn broken_streams_fail_by_kind() {
        let fails = |event: Value, kind: &str| check(&mut Decoder::new(), event, json!([kind]));
        fails(json!({"type": "message_stop"}), "truncated");
        fails(json!({"type": "content_block_start", "index": "zero"}), "truncated");
        fails(json!(["not", "an", "event"]), "truncated");
        fails(json!({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}), "unavailable");
        fails(json!({"type": "error", "error": {"type": "of_tomorrow"}}), "unavailable");
        fails(json!({"type": "error", "error": {"type": "invalid_request_error"}}), "invalid");
    }
}
