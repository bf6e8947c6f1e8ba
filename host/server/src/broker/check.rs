//! The typed endpoint's door: what a runner may ask of a model. Everything that would let the provider fetch, run or
//! read something for the asker (URL sources, server-side tools, foreign file ids, remote MCP servers) has no place in
//! [`ModelCall`], and what has no place is refused, not dropped.

use super::{
    failure::{Refusal, invalid},
    prices::ModelCard,
};
use http::StatusCode;
use model::{
    id::ToolName,
    message::{
        Block, CacheMark, ImageSource, Message, ModelFailure, ModelRequest, Role, ToolChoice, ToolSpec,
    },
    render,
};
use protocol::http::{MAX_MODEL_REQUEST_BYTES, ModelCall};
use serde_json::Value;
use std::collections::BTreeSet;

const CACHE_MARKS: usize = 4;
const IMAGES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];

/// Reads a request's body.
///
/// # Errors
/// When it is too large, not a [`ModelCall`], or has a field anywhere that this version does not know.
pub fn parse(body: &[u8]) -> Result<ModelCall, Refusal> {
    if body.len() > MAX_MODEL_REQUEST_BYTES {
        return Err((StatusCode::PAYLOAD_TOO_LARGE, invalid("the request is larger than 32 MiB")));
    }
    let refuse = |why: String| (StatusCode::BAD_REQUEST, invalid(render::line(&why.into(), 300)));
    let call: ModelCall =
        serde_json::from_slice(body).map_err(|e| refuse(format!("not a model call: {e}")))?;
    let sent: Value = serde_json::from_slice(body).map_err(|e| refuse(format!("not JSON: {e}")))?;
    let understood = serde_json::to_value(&call).map_err(|e| refuse(format!("not a model call: {e}")))?;
    match unknown_field(&sent, &understood) {
        Some(field) => Err(refuse(format!("unknown field {field} in a model request"))),
        None => Ok(call),
    }
}

/// The first field of `sent` that reading it lost. Values that say nothing may be absent.
fn unknown_field(sent: &Value, understood: &Value) -> Option<String> {
    match (sent, understood) {
        (Value::Object(sent), Value::Object(understood)) => {
            sent.iter().find_map(|(name, value)| match understood.get(name) {
                Some(kept) => unknown_field(value, kept),
                None => (!says_nothing(value)).then(|| name.clone()),
            })
        }
        (Value::Array(sent), Value::Array(understood)) => {
            sent.iter().zip(understood).find_map(|(sent, understood)| unknown_field(sent, understood))
        }
        _ => None,
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// Checks what is asked and cuts it to what the model can do.
///
/// # Errors
/// A failure of kind `Invalid` that names the first thing that is wrong.
pub(super) fn admit(mut request: ModelRequest, card: &ModelCard) -> Result<ModelRequest, ModelFailure> {
    check_model(&request.model)?;
    if request.max_tokens == 0 {
        return Err(invalid("max_tokens must be at least 1"));
    }
    check_messages(&request.messages)?;
    check_tools(&request.tools)?;
    check_marks(&request)?;
    check_choice(&request)?;
    request.max_tokens = request.max_tokens.min(card.max_output_tokens);
    if !card.forced_tools && matches!(request.tool_choice, Some(ToolChoice::Any | ToolChoice::Tool { .. })) {
        request.tool_choice = Some(ToolChoice::Auto);
    }
    Ok(request)
}

fn check_model(model: &str) -> Result<(), ModelFailure> {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"-_.:/@".contains(&b);
    let valid = !model.is_empty() && model.len() <= 128 && model.bytes().all(known);
    valid.then_some(()).ok_or_else(|| invalid("a model's name is 1 to 128 of A-Z, a-z, 0-9 and '-_.:/@'"))
}

fn check_messages(messages: &[Message]) -> Result<(), ModelFailure> {
    match (messages.first(), messages.last()) {
        (Some(Message { role: Role::User, .. }), Some(Message { role: Role::User, .. })) => {}
        _ => return Err(invalid("a conversation begins and ends with a message of the user")),
    }
    messages.iter().try_for_each(|message| {
        if message.content.is_empty() {
            return Err(invalid("a message has no content"));
        }
        message.content.iter().try_for_each(|block| check_block(message.role, block))
    })
}

fn check_block(role: Role, block: &Block) -> Result<(), ModelFailure> {
    match (role, block) {
        (_, Block::Text { .. })
        | (
            Role::Assistant,
            Block::Thinking { .. } | Block::RedactedThinking { .. } | Block::ToolUse { .. },
        ) => Ok(()),
        (Role::User, Block::Image { source }) => check_image(source),
        (Role::User, Block::ToolResult { content, .. }) => content.iter().try_for_each(|part| match part {
            Block::Text { .. } => Ok(()),
            Block::Image { source } => check_image(source),
            _ => Err(invalid("a tool result holds text and images only")),
        }),
        (_, Block::Other(_)) => Err(invalid("a block of a kind that is not passed on to models")),
        _ => Err(invalid("a block that this role does not send")),
    }
}

fn check_image(source: &ImageSource) -> Result<(), ModelFailure> {
    let ImageSource::Base64 { media_type, data } = source;
    let base64 = |b: u8| b.is_ascii_alphanumeric() || b"+/=".contains(&b);
    let valid = IMAGES.contains(&media_type.as_str()) && !data.is_empty() && data.bytes().all(base64);
    valid.then_some(()).ok_or_else(|| invalid("an image is base64 of PNG, JPEG, GIF or WebP"))
}

fn check_tools(tools: &[ToolSpec]) -> Result<(), ModelFailure> {
    let mut names = BTreeSet::new();
    tools.iter().try_for_each(|tool| {
        let named = tool.name.parse::<ToolName>().map_err(|error| invalid(error.to_string()))?;
        if !names.insert(named) {
            return Err(invalid("two tools have the same name"));
        }
        tool.input_schema
            .is_object()
            .then_some(())
            .ok_or_else(|| invalid("a tool's input_schema is not an object"))
    })
}

fn check_marks(request: &ModelRequest) -> Result<(), ModelFailure> {
    let placed = |mark: &CacheMark| match mark {
        CacheMark::Message(index) => *index < request.messages.len(),
        CacheMark::Tools | CacheMark::System => true,
    };
    let valid = request.cache.len() <= CACHE_MARKS && request.cache.iter().all(placed);
    valid.then_some(()).ok_or_else(|| invalid("at most four cache marks, each on a message that exists"))
}

fn check_choice(request: &ModelRequest) -> Result<(), ModelFailure> {
    let offered = |name: &str| request.tools.iter().any(|tool| tool.name == name);
    match &request.tool_choice {
        Some(ToolChoice::Tool { name }) if !offered(name) => Err(invalid("the chosen tool is not offered")),
        Some(ToolChoice::Any) if request.tools.is_empty() => {
            Err(invalid("a tool is to be chosen, and none is offered"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(change: impl Fn(&mut Value), refused_for: Option<&str>) {
        let mut call = json!({"run": "r1", "idempotencyKey": "k1", "request": {
            "model": "claude-sonnet-5-5", "max_tokens": 500_000,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
            "tools": [{"name": "Read", "description": "", "input_schema": {"type": "object", "any": {"x": [1]}}}]}});
        change(&mut call);
        let card = super::super::prices::Models::shipped().unwrap().card("claude-sonnet-5-5");
        let got = parse(call.to_string().as_bytes())
            .map_err(|(_, f)| f)
            .and_then(|call| admit(call.request, &card));
        match (got, refused_for) {
            (Ok(request), None) => assert!(request.max_tokens <= 128_000),
            (Err(failure), Some(why)) => {
                assert!(failure.message.contains(why), "{} lacks {why:?}", failure.message)
            }
            (got, why) => panic!("{got:?}, expected {why:?}: {call}"),
        }
    }

    #[test]
    fn only_what_is_known_goes_on() {
        check(|_| {}, None);
        check(|c| c["request"]["mcp_servers"] = json!([{"url": "https://x"}]), Some("mcp_servers"));
        check(|c| c["request"]["temperature"] = json!(1.0), Some("temperature"));
        check(|c| c["request"]["tools"][0]["type"] = json!("web_search"), Some("type"));
        check(
            |c| c["request"]["tools"] = json!([{"type": "web_search_20250305", "name": "web_search"}]),
            Some("not a model call"),
        );
        check(
            |c| c["request"]["messages"][0]["content"][0]["cache_control"] = json!({}),
            Some("cache_control"),
        );
        check(|c| c["request"]["messages"][0]["content"][0]["citations"] = json!(null), None);
        check(|c| c["extra"] = json!(1), Some("extra"));
    }

    #[test]
    fn blocks_are_typed() {
        let block = |block: Value, why: Option<&str>| {
            check(move |c| c["request"]["messages"][0]["content"] = json!([block.clone()]), why);
        };
        let png =
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}});
        block(png.clone(), None);
        block(json!({"type": "tool_result", "tool_use_id": "t", "content": [png]}), None);
        block(json!({"type": "image", "source": {"type": "url", "url": "https://x"}}), Some("not passed on"));
        block(json!({"type": "image", "source": {"type": "file", "file_id": "f"}}), Some("not passed on"));
        block(
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/svg+xml", "data": "aGk="}}),
            Some("PNG"),
        );
        block(json!({"type": "document", "source": {"type": "text"}}), Some("not passed on"));
        block(
            json!({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "search_result"}]}),
            Some("text and images"),
        );
        block(json!({"type": "tool_use", "id": "t", "name": "Read", "input": {}}), Some("this role"));
    }

    #[test]
    fn the_rest_is_checked_too() {
        check(|c| c["request"]["model"] = json!("a b"), Some("name"));
        check(|c| c["request"]["max_tokens"] = json!(0), Some("max_tokens"));
        check(|c| c["request"]["messages"] = json!([]), Some("begins and ends"));
        check(|c| c["request"]["messages"][0]["role"] = json!("assistant"), Some("begins and ends"));
        check(|c| c["request"]["messages"][0]["content"] = json!([]), Some("no content"));
        check(|c| c["request"]["cache"] = json!(["tools", {"message": 1}]), Some("cache marks"));
        check(|c| c["request"]["cache"] = json!(["tools", "system", {"message": 0}]), None);
        check(|c| c["request"]["tool_choice"] = json!({"type": "tool", "name": "Nope"}), Some("not offered"));
        check(
            |c| c["request"]["tools"] = json!([c["request"]["tools"][0], c["request"]["tools"][0]]),
            Some("same name"),
        );
    }

    #[test]
    fn a_model_that_cannot_be_forced_is_asked() {
        let models = super::super::prices::Models::shipped().unwrap();
        let choice = |model: &str| {
            let request = json!({"model": model, "max_tokens": 1, "tool_choice": {"type": "any"},
                "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
                "tools": [{"name": "submit", "description": "", "input_schema": {}}]});
            admit(serde_json::from_value(request).unwrap(), &models.card(model)).unwrap().tool_choice
        };
        assert_eq!(choice("claude-sonnet-5-5"), Some(ToolChoice::Auto));
        assert_eq!(choice("claude-haiku-4-5"), Some(ToolChoice::Any));
    }
}
