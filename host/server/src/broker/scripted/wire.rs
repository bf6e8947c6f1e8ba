//! An answer as the Messages API writes it: whole, or as server-sent events with the script's fault in their midst.

use super::{
    play::Played,
    script::{FaultKind, Part},
};
use bytes::Bytes;
use serde_json::{Value, json};

const SIGNATURE: &str = "c2NyaXB0ZWQ=";
const BYTES_A_TOKEN: usize = 4;

pub(super) enum Frame {
    Data(Bytes),
    Stall,
    Drop,
}

/// The whole message.
pub(super) fn message(played: &Played) -> Value {
    let content: Vec<Value> =
        (0..).zip(&played.reply).map(|(index, part)| whole(played, index, part)).collect();
    let mut message = head(played);
    if let Some(fields) = message.as_object_mut() {
        fields.insert("content".to_owned(), Value::Array(content));
        fields.insert("stop_reason".to_owned(), json!(played.stop));
        fields.insert("usage".to_owned(), usage(played, output_tokens(played)));
    }
    message
}

/// The stream, fault included.
pub(super) fn frames(played: &Played) -> Vec<Frame> {
    let mut events = events(played);
    let Some(fault) = &played.fault else { return events.iter().map(frame).collect() };
    let after = fault.after.min(events.len());
    let rest = events.split_off(after);
    let mut frames: Vec<Frame> = events.iter().map(frame).collect();
    let rest = rest.iter().map(frame);
    match fault.kind {
        FaultKind::Status | FaultKind::Truncate => {}
        FaultKind::Drop => frames.push(Frame::Drop),
        FaultKind::Stall => frames.push(Frame::Stall),
        FaultKind::Error => {
            let kind = fault.error.as_deref().unwrap_or("overloaded_error");
            frames
                .push(frame(&json!({"type": "error", "error": {"type": kind, "message": "scripted fault"}})));
        }
        FaultKind::Malformed => {
            frames
                .push(Frame::Data(Bytes::from_static(b"event: content_block_delta\ndata: {\"type\": \n\n")));
            frames.extend(rest);
        }
        FaultKind::UnknownEvent => {
            frames.push(frame(&json!({"type": "scripted_unknown_event", "detail": {"a": [1]}})));
            frames.extend(rest);
        }
        FaultKind::UnknownDelta => {
            let delta = json!({"type": "scripted_unknown_delta", "detail": true});
            frames.push(frame(&json!({"type": "content_block_delta", "index": 0, "delta": delta})));
            frames.extend(rest);
        }
    }
    frames
}

fn frame(event: &Value) -> Frame {
    let name = event.get("type").and_then(Value::as_str).unwrap_or_default();
    Frame::Data(format!("event: {name}\ndata: {event}\n\n").into())
}

fn events(played: &Played) -> Vec<Value> {
    let mut start = head(played);
    if let Some(fields) = start.as_object_mut() {
        fields.insert("usage".to_owned(), usage(played, 1));
    }
    let mut events = vec![json!({"type": "message_start", "message": start}), json!({"type": "ping"})];
    for (index, part) in (0..).zip(&played.reply) {
        events.extend(block(played, index, part));
    }
    let delta = json!({"stop_reason": played.stop, "stop_sequence": null});
    let usage = json!({"output_tokens": output_tokens(played)});
    events.push(json!({"type": "message_delta", "delta": delta, "usage": usage}));
    events.push(json!({"type": "message_stop"}));
    events
}

/// Start, deltas and stop of one block.
fn block(played: &Played, index: usize, part: &Part) -> Vec<Value> {
    let mut start = whole(played, index, part);
    let mut deltas: Vec<Value> = Vec::new();
    let mut stream = |field: &str, kind: &str, name: &str, text: &str, empty: Value| {
        if let Some(fields) = start.as_object_mut() {
            fields.insert(field.to_owned(), empty);
        }
        let chunks = chunks(text, played.pace.chunk);
        deltas.extend(chunks.into_iter().map(|chunk| json!({"type": kind, name: chunk})));
    };
    if let Some(text) = &part.text {
        stream("text", "text_delta", "text", text, json!(""));
    } else if let Some(thinking) = &part.thinking {
        stream("thinking", "thinking_delta", "thinking", thinking, json!(""));
        stream(
            "signature",
            "signature_delta",
            "signature",
            part.signature.as_deref().unwrap_or(SIGNATURE),
            json!(""),
        );
    } else if let Some(tool) = &part.tool_use {
        let input = tool.raw_input.clone().unwrap_or_else(|| tool.input.to_string());
        stream("input", "input_json_delta", "partial_json", &input, json!({}));
    }
    let start = json!({"type": "content_block_start", "index": index, "content_block": start});
    let deltas = deltas
        .into_iter()
        .map(|delta| json!({"type": "content_block_delta", "index": index, "delta": delta}));
    let stop = json!({"type": "content_block_stop", "index": index});
    [start].into_iter().chain(deltas).chain([stop]).collect()
}

fn whole(played: &Played, index: usize, part: &Part) -> Value {
    let Part { text, thinking, signature, redacted_thinking, tool_use, block } = part;
    if let Some(text) = text {
        json!({"type": "text", "text": text})
    } else if let Some(thinking) = thinking {
        json!({"type": "thinking", "thinking": thinking, "signature": signature.as_deref().unwrap_or(SIGNATURE)})
    } else if let Some(data) = redacted_thinking {
        json!({"type": "redacted_thinking", "data": data})
    } else if let Some(tool) = tool_use {
        let id = format!("toolu_{}_{index}", short(played));
        json!({"type": "tool_use", "id": id, "name": tool.name, "input": tool.input})
    } else {
        block.clone().unwrap_or_default()
    }
}

fn head(played: &Played) -> Value {
    json!({
        "id": format!("msg_{}", short(played)), "type": "message", "role": "assistant", "model": played.model,
        "content": [], "stop_reason": null, "stop_sequence": null,
    })
}

fn short(played: &Played) -> &str {
    played.digest.hex().get(..24).unwrap_or_default()
}

fn usage(played: &Played, output: u64) -> Value {
    json!({
        "input_tokens": played.usage.input.unwrap_or(played.input_tokens),
        "cache_creation_input_tokens": played.usage.cache_write,
        "cache_read_input_tokens": played.usage.cache_read,
        "output_tokens": output,
    })
}

fn output_tokens(played: &Played) -> u64 {
    let size = |part: &Part| {
        let texts = [&part.text, &part.thinking].into_iter().flatten().map(String::len).sum::<usize>();
        texts + part.tool_use.as_ref().map_or(0, |tool| tool.name.len() + tool.input.to_string().len())
    };
    let bytes: usize = played.reply.iter().map(size).sum();
    played.usage.output.unwrap_or(bytes.div_ceil(BYTES_A_TOKEN) as u64)
}

/// Pieces of at most `length` characters; one empty piece of an empty text.
fn chunks(text: &str, length: usize) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let pieces: Vec<String> = characters.chunks(length.max(1)).map(|piece| piece.iter().collect()).collect();
    if pieces.is_empty() { vec![String::new()] } else { pieces }
}
