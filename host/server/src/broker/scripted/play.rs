//! Which rule answers a request, and what stays the same about it.

use super::script::{Fault, Pace, Part, Rule, Script, ScriptedUsage, When};
use model::id::Digest;
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// Requests that are remembered for counting faults.
const REMEMBERED: usize = 10_000;
const BYTES_A_TOKEN: usize = 4;

pub(super) struct Player {
    script: Script,
    /// How often each request has met its fault, by digest.
    met: Mutex<HashMap<Digest, u32>>,
}

/// An answer, ready to be written.
pub(super) struct Played {
    pub(super) model: String,
    /// Of the conversation: ids are made from it, so that they repeat when it repeats.
    pub(super) digest: Digest,
    pub(super) reply: Vec<Part>,
    pub(super) stop: String,
    pub(super) usage: ScriptedUsage,
    pub(super) input_tokens: u64,
    pub(super) pace: Pace,
    pub(super) fault: Option<Fault>,
}

impl Player {
    pub(super) fn new(script: Script) -> Self {
        Self { script, met: Mutex::new(HashMap::new()) }
    }

    pub(super) fn name(&self) -> &str {
        self.script.name()
    }

    /// Why a request is none, in the words of the API, is the error.
    pub(super) fn play(&self, request: &Value) -> Result<Played, String> {
        let conversation = Conversation::read(request)?;
        let digest = Digest::of(parts(request).join("\n").as_bytes());
        let rule = self.script.rules.iter().find(|rule| conversation.matches(&rule.when));
        let unanswered = || Rule {
            when: When::default(),
            reply: vec![Part { text: Some(self.no_rule(&conversation)), ..Part::default() }],
            stop: None,
            usage: ScriptedUsage::default(),
            pace: None,
            fault: None,
        };
        let rule = rule.cloned().unwrap_or_else(unanswered);
        let uses_tool = rule.reply.iter().any(|part| part.tool_use.is_some());
        let fault = rule.fault.filter(|fault| self.meets(fault, &digest));
        Ok(Played {
            model: self.script.model(),
            stop: rule.stop.unwrap_or_else(|| if uses_tool { "tool_use" } else { "end_turn" }.to_owned()),
            reply: rule.reply,
            usage: rule.usage,
            input_tokens: input_tokens(request),
            pace: rule.pace.unwrap_or(self.script.pace),
            fault,
            digest,
        })
    }

    fn no_rule(&self, conversation: &Conversation<'_>) -> String {
        format!(
            "This is the scripted model {}, not a real one. Its script has no rule for this request (prompt {}, turn {}).",
            self.script.model(),
            conversation.prompt,
            conversation.turn,
        )
    }

    fn meets(&self, fault: &Fault, digest: &Digest) -> bool {
        let Some(times) = fault.times else { return true };
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        if met.len() >= REMEMBERED {
            met.clear();
        }
        let count = met.entry(digest.clone()).or_insert(0);
        *count += 1;
        *count <= times
    }
}

/// About as many as a model would count.
pub(super) fn input_tokens(request: &Value) -> u64 {
    let bytes: usize = parts(request).iter().map(String::len).sum();
    bytes.div_ceil(BYTES_A_TOKEN) as u64
}

/// What a model would read; how the answer is to be sent is no part of it.
fn parts(request: &Value) -> Vec<String> {
    ["system", "tools", "messages"]
        .iter()
        .filter_map(|name| request.get(name))
        .map(Value::to_string)
        .collect()
}

/// What rules can see of a request.
struct Conversation<'a> {
    prompt: usize,
    turn: usize,
    user: String,
    system: String,
    results: String,
    failed: bool,
    offers: Vec<&'a str>,
    tools: String,
}

impl<'a> Conversation<'a> {
    fn read(request: &'a Value) -> Result<Self, String> {
        let messages =
            request.get("messages").and_then(Value::as_array).filter(|messages| !messages.is_empty());
        let messages = messages.ok_or("messages: at least one message is required")?;
        for required in ["model", "max_tokens"] {
            request.get(required).ok_or_else(|| format!("{required}: Field required"))?;
        }
        let role = |message: &Value, role: &str| message.get("role").and_then(Value::as_str) == Some(role);
        let written: Vec<usize> = (0..)
            .zip(messages)
            .filter(|(_, m)| role(m, "user") && is_written(m))
            .map(|(index, _)| index)
            .collect();
        let last_written = written.last().copied().unwrap_or(0);
        let results: Vec<&Value> = messages.last().map(results).unwrap_or_default();
        let offers = request.get("tools").and_then(Value::as_array).into_iter().flatten();
        Ok(Self {
            prompt: written.len(),
            turn: messages.iter().skip(last_written).filter(|message| role(message, "assistant")).count(),
            user: messages
                .get(last_written)
                .and_then(|message| message.get("content"))
                .map(text_of)
                .unwrap_or_default(),
            system: request.get("system").map(text_of).unwrap_or_default(),
            failed: results
                .iter()
                .any(|result| result.get("is_error").and_then(Value::as_bool) == Some(true)),
            results: results
                .iter()
                .filter_map(|r| r.get("content"))
                .map(text_of)
                .collect::<Vec<_>>()
                .join("\n"),
            offers: offers.filter_map(|tool| tool.get("name")?.as_str()).collect(),
            tools: request.get("tools").map(Value::to_string).unwrap_or_default(),
        })
    }

    fn matches(&self, when: &When) -> bool {
        let When {
            prompt,
            turn,
            user_contains,
            user_matches,
            system_contains,
            result_contains,
            result_is_error,
            offers,
            tools_contain,
        } = when;
        let contains =
            |text: &str, part: &Option<String>| part.as_ref().is_none_or(|part| text.contains(part.as_str()));
        prompt.is_none_or(|prompt| prompt == self.prompt)
            && turn.is_none_or(|turn| turn == self.turn)
            && contains(&self.user, user_contains)
            && user_matches.as_ref().is_none_or(|pattern| pattern.0.is_match(&self.user))
            && contains(&self.system, system_contains)
            && contains(&self.results, result_contains)
            && contains(&self.tools, tools_contain)
            && result_is_error.is_none_or(|failed| failed == self.failed)
            && offers.as_ref().is_none_or(|name| self.offers.contains(&name.as_str()))
    }
}

/// Whether a message of the user is a person's: it answers no tool call.
fn is_written(message: &Value) -> bool {
    results(message).is_empty()
}

fn results(message: &Value) -> Vec<&Value> {
    let blocks = message.get("content").and_then(Value::as_array).into_iter().flatten();
    blocks.filter(|block| block.get("type").and_then(Value::as_str) == Some("tool_result")).collect()
}

/// The text of a content: a string, or the texts of its blocks.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            blocks.iter().filter_map(|block| block.get("text")?.as_str()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SCRIPT: &str = r#"
name: t
rules:
  - {when: {system_contains: Stella, offers: submit, tools_contain: KEY}, reply: [{text: analysis}]}
  - {when: {result_is_error: true}, reply: [{text: sorry}]}
  - {when: {result_contains: "2 passed"}, reply: [{text: done}]}
  - {when: {prompt: 2, turn: 0}, reply: [{text: again}]}
  - {when: {user_matches: "(?i)^fix", turn: 0}, reply: [{tool_use: {name: Read}}]}
  - {when: {user_contains: bug, turn: 1}, reply: [{text: second}], stop: max_tokens}
"#;

    fn check(mut request: Value, text: Option<&str>, stop: &str) {
        request["model"] = json!("m");
        request["max_tokens"] = json!(1);
        let played = Player::new(Script::parse(SCRIPT).unwrap()).play(&request).unwrap();
        let said = played.reply[0].text.as_deref();
        assert!(
            said == text || text == Some("no rule") && said.unwrap().contains("has no rule"),
            "{said:?}: {request}"
        );
        assert_eq!(played.stop, stop);
    }

    #[test]
    fn rules_see_where_the_conversation_is() {
        let user = |text: &str| json!({"role": "user", "content": text});
        let model = || json!({"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "Read", "input": {}}]});
        let result = |text: &str, error: bool| json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "is_error": error, "content": [{"type": "text", "text": text}]}]});
        check(json!({"messages": [user("fix the bug")]}), None, "tool_use");
        check(json!({"messages": [user("Fix the bug")]}), None, "tool_use");
        check(
            json!({"messages": [user("a bug"), model(), result("1 passed", false)]}),
            Some("second"),
            "max_tokens",
        );
        check(
            json!({"messages": [user("a bug"), model(), result("2 passed", false)]}),
            Some("done"),
            "end_turn",
        );
        check(json!({"messages": [user("a bug"), model(), result("x", true)]}), Some("sorry"), "end_turn");
        check(
            json!({"messages": [user("fix"), model(), result("", false), model(), user("more")]}),
            Some("again"),
            "end_turn",
        );
        check(json!({"messages": [user("hello")]}), Some("no rule"), "end_turn");
        let stella = json!({"system": [{"type": "text", "text": "You are Stella."}], "tools": [{"name": "submit", "input_schema": {"enum": ["KEY"]}}], "messages": [user("x")]});
        check(stella, Some("analysis"), "end_turn");
    }

    #[test]
    fn a_counted_fault_is_met_by_each_request_alone() {
        let script = "name: t\nrules: [{reply: [{text: hi}], fault: {kind: truncate, times: 2}}]";
        let player = Player::new(Script::parse(script).unwrap());
        let met = |text: &str| {
            let request =
                json!({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": text}]});
            player.play(&request).unwrap().fault.is_some()
        };
        assert_eq!(
            [met("a"), met("a"), met("b"), met("a"), met("b"), met("b")],
            [true, true, true, false, true, false]
        );
    }

    #[test]
    fn a_request_that_is_none_is_refused() {
        let player = Player::new(Script::parse("name: t\nrules: []").unwrap());
        for request in [json!({}), json!({"messages": []}), json!({"messages": [{}]}), json!([])] {
            assert!(player.play(&request).is_err(), "{request}");
        }
    }
}
