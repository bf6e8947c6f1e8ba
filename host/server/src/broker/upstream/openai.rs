//! OpenAI-compatible chat completions, translated both ways. Source: OpenAI's API reference (client types 3.52); what
//! servers such as vLLM, llama.cpp and Ollama add or leave out is tolerated where it is known.
//!
//! Lost in translation: signatures of thinking (reasoning is shown, and not sent back), cache marks (these servers
//! cache by themselves), and images inside tool results, which follow as a message of the user.

use super::{Decoded, truncated};
use crate::broker::failure::failure;
use model::{
    message::{
        Block, Delta, ImageSource, Message, ModelEvent, ModelFailureKind, ModelRequest, Role, StopReason,
        ToolChoice,
    },
    money::Usage,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(super) fn body(request: &ModelRequest, host: &str) -> Value {
    let system = request.system.join("\n\n");
    let system = (!system.is_empty()).then(|| json!({"role": "system", "content": system}));
    let messages: Vec<Value> = system.into_iter().chain(request.messages.iter().flat_map(messages)).collect();
    // The newer name is refused by older servers, the older one by OpenAI's newer models.
    let limit = if host.ends_with("openai.com") { "max_completion_tokens" } else { "max_tokens" };
    let mut body = json!({
        "model": request.model,
        limit: request.max_tokens,
        "stream": true,
        "stream_options": {"include_usage": true},
        "messages": messages,
    });
    let mut set =
        |name: &str, value: Value| body.as_object_mut().map(|body| body.insert(name.to_owned(), value));
    if !request.tools.is_empty() {
        let tool = |t: &model::message::ToolSpec| json!({"type": "function", "function": {"name": t.name, "description": t.description, "parameters": t.input_schema}});
        set("tools", request.tools.iter().map(tool).collect());
    }
    if let Some(choice) = &request.tool_choice {
        set(
            "tool_choice",
            match choice {
                ToolChoice::Auto => json!("auto"),
                ToolChoice::Any => json!("required"),
                ToolChoice::None => json!("none"),
                ToolChoice::Tool { name } => json!({"type": "function", "function": {"name": name}}),
            },
        );
    }
    if !request.stop_sequences.is_empty() {
        set("stop", json!(request.stop_sequences));
    }
    body
}

fn messages(message: &Message) -> Vec<Value> {
    match message.role {
        Role::Assistant => vec![assistant(&message.content)],
        Role::User => user(&message.content),
    }
}

fn assistant(content: &[Block]) -> Value {
    let texts = content.iter().filter_map(|block| match block {
        Block::Text { text } => Some(text.raw()),
        _ => None,
    });
    let calls = content.iter().filter_map(|block| match block {
        Block::ToolUse { id, name, input } => Some(
            json!({"id": id, "type": "function", "function": {"name": name, "arguments": input.to_string()}}),
        ),
        _ => None,
    });
    let (text, calls) = (texts.collect::<String>(), calls.collect::<Vec<_>>());
    let mut message = json!({"role": "assistant", "content": if text.is_empty() && !calls.is_empty() { Value::Null } else { json!(text) }});
    if let (false, Some(fields)) = (calls.is_empty(), message.as_object_mut()) {
        fields.insert("tool_calls".to_owned(), Value::Array(calls));
    }
    message
}

/// Results come first: they have to follow the calls that they answer.
fn user(content: &[Block]) -> Vec<Value> {
    let mut results = Vec::new();
    let mut parts = Vec::new();
    for block in content {
        match block {
            Block::ToolResult { tool_use_id, content, is_error } => {
                results.push(json!({"role": "tool", "tool_call_id": tool_use_id, "content": result_text(content, *is_error)}));
                parts.extend(content.iter().filter_map(image));
            }
            Block::Text { text } if !text.is_empty() => parts.push(json!({"type": "text", "text": text})),
            block => parts.extend(image(block)),
        }
    }
    if !parts.is_empty() {
        results.push(json!({"role": "user", "content": parts}));
    }
    results
}

fn result_text(content: &[Block], is_error: bool) -> String {
    let error = is_error.then_some("Error:");
    let parts = content.iter().map(|block| match block {
        Block::Text { text } => text.raw(),
        _ => "(an image, which follows)",
    });
    error.into_iter().chain(parts).collect::<Vec<_>>().join("\n")
}

fn image(block: &Block) -> Option<Value> {
    let Block::Image { source: ImageSource::Base64 { media_type, data } } = block else { return None };
    Some(json!({"type": "image_url", "image_url": {"url": format!("data:{media_type};base64,{data}")}}))
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Counted>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Grown,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize, Default)]
struct Grown {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    /// Reasoning as vLLM, DeepSeek and others stream it.
    #[serde(default, alias = "reasoning")]
    reasoning_content: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<CallPart>>,
}

#[derive(Deserialize)]
struct CallPart {
    /// Absent from some servers that send each call whole.
    #[serde(default)]
    index: Option<u32>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: FunctionPart,
}

#[derive(Deserialize, Default)]
struct FunctionPart {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct Counted {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
    #[serde(default)]
    prompt_tokens_details: Option<CountedPrompt>,
}

#[derive(Deserialize)]
struct CountedPrompt {
    #[serde(default)]
    cached_tokens: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
}

/// Turns chunks into blocks: text and reasoning open a block when they begin and close it when something else does;
/// calls stay open, because their parts may come mixed, until the end.
pub(in crate::broker) struct Decoder {
    started: bool,
    blocks: u32,
    open: Option<(Open, u32)>,
    calls: BTreeMap<u32, u32>,
    finish: Option<String>,
}

impl Decoder {
    pub(super) const fn new() -> Self {
        Self { started: false, blocks: 0, open: None, calls: BTreeMap::new(), finish: None }
    }

    pub(super) fn feed(&mut self, value: &Value) -> Vec<Decoded> {
        let Ok(chunk) = Chunk::deserialize(value) else {
            return vec![Decoded::Failed(truncated(
                "the endpoint sent a chunk that does not follow its API",
            ))];
        };
        if chunk.error.is_some_and(|error| !error.is_null()) {
            let message = "the endpoint failed in mid-answer, overloaded or broken";
            return vec![Decoded::Failed(failure(ModelFailureKind::Unavailable, true, message))];
        }
        let mut out = Vec::new();
        if !self.started {
            self.started = true;
            out.push(ModelEvent::Start { model: chunk.model.unwrap_or_default() });
        }
        for choice in chunk.choices.into_iter().take(1) {
            self.grow(choice.delta, &mut out);
            self.finish = choice.finish_reason.or(self.finish.take());
        }
        let usage = chunk.usage.map(|counted| Decoded::Usage { usage: counted.usage(), complete: true });
        out.into_iter().map(Decoded::Event).chain(usage).collect()
    }

    pub(super) fn end(&mut self) -> Vec<Decoded> {
        let Some(finish) = self.finish.take() else {
            return vec![Decoded::Failed(truncated("the stream ended before the message did"))];
        };
        let text = self.open.take().map(|(_, index)| index);
        let calls = std::mem::take(&mut self.calls);
        let reason = match finish.as_str() {
            "length" => StopReason::MaxTokens,
            "content_filter" => StopReason::Refusal,
            "tool_calls" | "function_call" => StopReason::ToolUse,
            // Some servers say `stop` although they called tools; the calls say it better.
            "stop" if !calls.is_empty() => StopReason::ToolUse,
            "stop" => StopReason::EndTurn,
            other => StopReason::Other(other.to_owned()),
        };
        let stops = text
            .into_iter()
            .chain(calls.into_values())
            .map(|index| Decoded::Event(ModelEvent::BlockStop { index }));
        stops.chain([Decoded::Done(reason)]).collect()
    }

    fn grow(&mut self, delta: Grown, out: &mut Vec<ModelEvent>) {
        let nonempty = |text: Option<String>| text.filter(|text| !text.is_empty());
        if let Some(text) = nonempty(delta.reasoning_content) {
            let index = self.opened(Open::Thinking, out);
            out.push(ModelEvent::BlockDelta { index, delta: Delta::Thinking { thinking: text.into() } });
        }
        for text in [nonempty(delta.content), nonempty(delta.refusal)].into_iter().flatten() {
            let index = self.opened(Open::Text, out);
            out.push(ModelEvent::BlockDelta { index, delta: Delta::Text { text: text.into() } });
        }
        for part in delta.tool_calls.into_iter().flatten() {
            self.call(part, out);
        }
    }

    fn opened(&mut self, kind: Open, out: &mut Vec<ModelEvent>) -> u32 {
        match self.open {
            Some((open, index)) if open == kind => index,
            _ => {
                self.close(out);
                let block = match kind {
                    Open::Text => Block::text(""),
                    Open::Thinking => Block::Thinking { thinking: "".into(), signature: String::new() },
                };
                let index = self.begin(block, out);
                self.open = Some((kind, index));
                index
            }
        }
    }

    fn call(&mut self, part: CallPart, out: &mut Vec<ModelEvent>) {
        self.close(out);
        let place = part.index.unwrap_or_else(|| {
            let begun = u32::try_from(self.calls.len()).unwrap_or(u32::MAX);
            if part.id.is_some() { begun } else { begun.saturating_sub(1) }
        });
        let index = match self.calls.get(&place) {
            Some(index) => *index,
            None => {
                let id = part.id.unwrap_or_else(|| format!("call_{place}"));
                let name = part.function.name.unwrap_or_default();
                let index = self.begin(Block::ToolUse { id, name, input: json!({}) }, out);
                self.calls.insert(place, index);
                index
            }
        };
        if let Some(partial_json) = part.function.arguments.filter(|text| !text.is_empty()) {
            out.push(ModelEvent::BlockDelta { index, delta: Delta::InputJson { partial_json } });
        }
    }

    fn begin(&mut self, block: Block, out: &mut Vec<ModelEvent>) -> u32 {
        let index = self.blocks;
        self.blocks += 1;
        out.push(ModelEvent::BlockStart { index, block });
        index
    }

    fn close(&mut self, out: &mut Vec<ModelEvent>) {
        if let Some((_, index)) = self.open.take() {
            out.push(ModelEvent::BlockStop { index });
        }
    }
}

impl Counted {
    fn usage(&self) -> Usage {
        let cached =
            self.prompt_tokens_details.as_ref().and_then(|details| details.cached_tokens).unwrap_or(0);
        Usage {
            input_tokens: self.prompt_tokens.saturating_sub(cached),
            cache_read_tokens: cached.min(self.prompt_tokens),
            cache_write_tokens: 0,
            output_tokens: self.completion_tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_translated() {
        let png =
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}});
        let request: ModelRequest = serde_json::from_value(json!({
            "model": "gpt-5.4", "max_tokens": 9, "system": ["a", "b"], "cache": ["tools"], "stop_sequences": ["S"],
            "tool_choice": {"type": "tool", "name": "Read"},
            "tools": [{"name": "Read", "description": "d", "input_schema": {"type": "object"}}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "hi"}, png]},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "text", "text": "I read."},
                    {"type": "tool_use", "id": "t1", "name": "Read", "input": {"file_path": "a"}},
                    {"type": "tool_use", "id": "t2", "name": "Read", "input": {}}]},
                {"role": "user", "content": [
                    {"type": "text", "text": "and then"},
                    {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "x"}, png]},
                    {"type": "tool_result", "tool_use_id": "t2", "is_error": true, "content": [{"type": "text", "text": "no"}]}]}]
        })).unwrap();
        let picture = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}});
        let expected = json!({
            "model": "gpt-5.4", "max_completion_tokens": 9, "stream": true, "stream_options": {"include_usage": true},
            "messages": [
                {"role": "system", "content": "a\n\nb"},
                {"role": "user", "content": [{"type": "text", "text": "hi"}, picture]},
                {"role": "assistant", "content": "I read.", "tool_calls": [
                    {"id": "t1", "type": "function", "function": {"name": "Read", "arguments": "{\"file_path\":\"a\"}"}},
                    {"id": "t2", "type": "function", "function": {"name": "Read", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "t1", "content": "x\n(an image, which follows)"},
                {"role": "tool", "tool_call_id": "t2", "content": "Error:\nno"},
                {"role": "user", "content": [{"type": "text", "text": "and then"}, picture]}],
            "tools": [{"type": "function", "function": {"name": "Read", "description": "d", "parameters": {"type": "object"}}}],
            "tool_choice": {"type": "function", "function": {"name": "Read"}}, "stop": ["S"],
        });
        assert_eq!(body(&request, "api.openai.com"), expected);
        assert_eq!(body(&request, "localhost")["max_tokens"], 9);
    }

    /// Deltas (or whole chunks) in; one line per thing that comes out, the stream's end included.
    fn check(chunks: &[Value], expected: &[&str]) {
        let mut decoder = Decoder::new();
        let mut decoded: Vec<Decoded> = chunks.iter().flat_map(|chunk| decoder.feed(chunk)).collect();
        decoded.extend(decoder.end());
        let shown: Vec<String> = decoded
            .iter()
            .skip(1)
            .map(|decoded| match decoded {
                Decoded::Event(ModelEvent::BlockStart { index, block }) => {
                    format!("{index} start {}", json!(block))
                }
                Decoded::Event(ModelEvent::BlockDelta { index, delta }) => {
                    format!("{index} {}", json!(delta))
                }
                Decoded::Event(ModelEvent::BlockStop { index }) => format!("{index} stop"),
                Decoded::Usage { usage, .. } => format!(
                    "usage {} {} {}",
                    usage.input_tokens, usage.cache_read_tokens, usage.output_tokens
                ),
                Decoded::Done(reason) => format!("done {}", json!(reason)),
                Decoded::Failed(failure) => format!("failed {}", json!(failure.kind)),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(shown, expected);
    }

    fn delta(delta: Value) -> Value {
        json!({"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": null}], "usage": null})
    }

    fn finish(reason: &str) -> Value {
        json!({"choices": [{"delta": {}, "finish_reason": reason}]})
    }

    #[test]
    fn text_and_reasoning_become_blocks() {
        check(
            &[
                delta(json!({"role": "assistant", "content": ""})),
                delta(json!({"reasoning_content": "hm"})),
                delta(json!({"content": "a"})),
                delta(json!({"content": "b"})),
                finish("stop"),
                json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}}),
            ],
            &[
                r#"0 start {"type":"thinking","thinking":"","signature":""}"#,
                r#"0 {"type":"thinking","thinking":"hm"}"#,
                "0 stop",
                r#"1 start {"type":"text","text":""}"#,
                r#"1 {"type":"text","text":"a"}"#,
                r#"1 {"type":"text","text":"b"}"#,
                "usage 5 4 2",
                "1 stop",
                r#"done "end_turn""#,
            ],
        );
    }

    #[test]
    fn calls_come_in_parts_and_mixed() {
        let call = |index: u32, id: Option<&str>, name: Option<&str>, arguments: &str| {
            delta(
                json!({"tool_calls": [{"index": index, "id": id, "function": {"name": name, "arguments": arguments}}]}),
            )
        };
        check(
            &[
                delta(json!({"content": "x"})),
                call(0, Some("t1"), Some("Read"), ""),
                call(1, Some("t2"), Some("Grep"), "{"),
                call(0, None, None, "{}"),
                call(1, None, None, "}"),
                finish("tool_calls"),
            ],
            &[
                r#"0 start {"type":"text","text":""}"#,
                r#"0 {"type":"text","text":"x"}"#,
                "0 stop",
                r#"1 start {"type":"tool_use","id":"t1","name":"Read","input":{}}"#,
                r#"2 start {"type":"tool_use","id":"t2","name":"Grep","input":{}}"#,
                r#"2 {"type":"input_json","partial_json":"{"}"#,
                r#"1 {"type":"input_json","partial_json":"{}"}"#,
                r#"2 {"type":"input_json","partial_json":"}"}"#,
                "1 stop",
                "2 stop",
                r#"done "tool_use""#,
            ],
        );
    }

    #[test]
    fn whole_calls_without_an_index_and_a_false_stop() {
        let call = |id: &str| {
            delta(json!({"tool_calls": [{"id": id, "function": {"name": "Read", "arguments": "{}"}}]}))
        };
        check(
            &[call("a"), call("b"), finish("stop")],
            &[
                r#"0 start {"type":"tool_use","id":"a","name":"Read","input":{}}"#,
                r#"0 {"type":"input_json","partial_json":"{}"}"#,
                r#"1 start {"type":"tool_use","id":"b","name":"Read","input":{}}"#,
                r#"1 {"type":"input_json","partial_json":"{}"}"#,
                "0 stop",
                "1 stop",
                r#"done "tool_use""#,
            ],
        );
    }

    #[test]
    fn ends_are_told_apart() {
        check(&[delta(json!({})), finish("length")], &[r#"done "max_tokens""#]);
        check(&[delta(json!({})), finish("content_filter")], &[r#"done "refusal""#]);
        check(&[delta(json!({})), finish("eos")], &[r#"done "eos""#]);
        check(&[delta(json!({}))], &[r#"failed "truncated""#]);
        check(
            &[delta(json!({})), json!({"error": {"message": "x"}}), finish("stop")],
            &[r#"failed "unavailable""#, r#"done "end_turn""#],
        );
        check(
            &[delta(json!({})), json!({"choices": 1}), finish("stop")],
            &[r#"failed "truncated""#, r#"done "end_turn""#],
        );
    }
}
