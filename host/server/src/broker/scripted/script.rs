//! The grammar of scripts. Unknown fields are refused: a typo in a script must not look like a model's mistake.
//! `docs/models.md` describes it for people.

use super::PREFIX;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, thiserror::Error)]
pub enum InvalidScript {
    /// The parser's words are for the script's author and say where.
    #[error("the script does not follow the grammar: {0}")]
    Yaml(Box<serde_saphyr::Error>),
    #[error("the script's name is 1 to 64 of a-z, 0-9 and '-'")]
    Name,
    #[error("rule {number} of the script: {why}")]
    Rule { number: usize, why: String },
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    name: String,
    /// For the script's reader.
    #[serde(default, rename = "description")]
    _description: String,
    #[serde(default)]
    pub(super) pace: Pace,
    /// The first one that matches a request answers it.
    pub(super) rules: Vec<Rule>,
}

/// How fast an answer comes.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pace {
    /// Before the answer's head.
    #[serde(default)]
    pub(super) first_ms: u64,
    /// Before each event.
    #[serde(default)]
    pub(super) delta_ms: u64,
    /// Characters in one delta.
    #[serde(default = "chunk")]
    pub(super) chunk: usize,
}

const fn chunk() -> usize {
    24
}

impl Default for Pace {
    fn default() -> Self {
        Self { first_ms: 0, delta_ms: 0, chunk: chunk() }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    #[serde(default)]
    pub(super) when: When,
    #[serde(default)]
    pub(super) reply: Vec<Part>,
    /// By itself `tool_use` where a tool is used, else `end_turn`.
    #[serde(default)]
    pub(super) stop: Option<String>,
    #[serde(default)]
    pub(super) usage: ScriptedUsage,
    #[serde(default)]
    pub(super) pace: Option<Pace>,
    #[serde(default)]
    pub(super) fault: Option<Fault>,
}

/// All that is given has to hold.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct When {
    /// Which message that a person wrote is the last, from 1.
    #[serde(default)]
    pub(super) prompt: Option<usize>,
    /// Answers of the model since that message, from 0.
    #[serde(default)]
    pub(super) turn: Option<usize>,
    #[serde(default)]
    pub(super) user_contains: Option<String>,
    #[serde(default)]
    pub(super) user_matches: Option<Pattern>,
    #[serde(default)]
    pub(super) system_contains: Option<String>,
    /// In the results of the last message, taken together.
    #[serde(default)]
    pub(super) result_contains: Option<String>,
    /// Whether one of the last message's results is an error.
    #[serde(default)]
    pub(super) result_is_error: Option<bool>,
    /// A tool of this name is offered.
    #[serde(default)]
    pub(super) offers: Option<String>,
    /// In the tools as they are offered, schemas included.
    #[serde(default)]
    pub(super) tools_contain: Option<String>,
}

/// A regular expression.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Pattern(pub(super) Regex);

impl TryFrom<String> for Pattern {
    type Error = regex::Error;

    fn try_from(text: String) -> Result<Self, regex::Error> {
        Regex::new(&text).map(Self)
    }
}

/// One block of an answer: exactly one of its kinds.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    #[serde(default)]
    pub(super) text: Option<String>,
    #[serde(default)]
    pub(super) thinking: Option<String>,
    /// Of `thinking`.
    #[serde(default)]
    pub(super) signature: Option<String>,
    #[serde(default)]
    pub(super) redacted_thinking: Option<String>,
    #[serde(default)]
    pub(super) tool_use: Option<ToolUse>,
    /// A block of any kind, sent as it stands.
    #[serde(default)]
    pub(super) block: Option<Value>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ToolUse {
    pub(super) name: String,
    #[serde(default = "empty")]
    pub(super) input: Value,
    /// Sent in place of `input`, character by character: how a model's malformed JSON looks.
    #[serde(default)]
    pub(super) raw_input: Option<String>,
}

fn empty() -> Value {
    Value::Object(serde_json::Map::new())
}

/// Tokens as the answer reports them; what is not given is counted from the bytes.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScriptedUsage {
    #[serde(default)]
    pub(super) input: Option<u64>,
    #[serde(default)]
    pub(super) cache_write: u64,
    #[serde(default)]
    pub(super) cache_read: u64,
    #[serde(default)]
    pub(super) output: Option<u64>,
}

/// What goes wrong.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    /// How many times the same request meets it before it is answered; always, if not given.
    #[serde(default)]
    pub(super) times: Option<u32>,
    /// Events that are sent before it.
    #[serde(default)]
    pub(super) after: usize,
    /// Of a `status` or `error`, such as `overloaded_error`.
    #[serde(default)]
    pub(super) error: Option<String>,
    #[serde(default)]
    pub(super) status: Option<u16>,
    #[serde(default)]
    pub(super) code: Option<String>,
    #[serde(default)]
    pub(super) retry_after: Option<String>,
    #[serde(default)]
    pub(super) retry_after_ms: Option<u64>,
    #[serde(default)]
    pub(super) should_retry: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FaultKind {
    /// An HTTP error in place of the answer.
    Status,
    /// The stream ends, as if it were whole.
    Truncate,
    /// The connection breaks.
    Drop,
    /// Nothing more comes.
    Stall,
    /// An `error` event; the stream ends.
    Error,
    /// An event that is not JSON; the answer goes on.
    Malformed,
    /// An event of a kind that nobody knows; the answer goes on.
    UnknownEvent,
    /// A delta of a kind that nobody knows, of the block under way; the answer goes on.
    UnknownDelta,
}

pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) kind: String,
    pub(super) code: Option<String>,
    pub(super) headers: HeaderMap,
}

impl Script {
    /// # Errors
    /// Where and why the text is no script.
    pub fn parse(yaml: &str) -> Result<Self, InvalidScript> {
        let script: Self =
            serde_saphyr::from_str(yaml).map_err(|error| InvalidScript::Yaml(Box::new(error)))?;
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if script.name.is_empty() || script.name.len() > 64 || !script.name.bytes().all(plain) {
            return Err(InvalidScript::Name);
        }
        for (index, rule) in script.rules.iter().enumerate() {
            rule.check().map_err(|why| InvalidScript::Rule { number: index + 1, why })?;
        }
        Ok(script)
    }

    /// `scripted/<name>`.
    #[must_use]
    pub fn model(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        self.reply.iter().try_for_each(Part::check)?;
        if self.pace.is_some_and(|pace| pace.chunk == 0) {
            return Err("a pace's chunk is at least 1".to_owned());
        }
        match &self.fault {
            Some(fault) => fault.check(),
            None if self.reply.is_empty() => Err("it has neither a reply nor a fault".to_owned()),
            None => Ok(()),
        }
    }
}

impl Part {
    fn check(&self) -> Result<(), String> {
        let kinds = [
            self.text.is_some(),
            self.thinking.is_some(),
            self.redacted_thinking.is_some(),
            self.tool_use.is_some(),
            self.block.is_some(),
        ];
        if kinds.into_iter().filter(|given| *given).count() != 1 {
            return Err(
                "a block is exactly one of text, thinking, redacted_thinking, tool_use and block".to_owned()
            );
        }
        if self.signature.is_some() && self.thinking.is_none() {
            return Err("only thinking has a signature".to_owned());
        }
        let typed = self.block.as_ref().is_none_or(|block| block.get("type").is_some_and(Value::is_string));
        typed.then_some(()).ok_or_else(|| "a block has a type".to_owned())
    }
}

impl Fault {
    fn check(&self) -> Result<(), String> {
        let status = self.status.map(StatusCode::from_u16);
        match (self.kind, status) {
            (FaultKind::Status, Some(Ok(status))) if status.is_client_error() || status.is_server_error() => {
                Ok(())
            }
            (FaultKind::Status, _) => Err("a fault of kind status has a status of 400 to 599".to_owned()),
            (_, Some(_)) => Err("only a fault of kind status has a status".to_owned()),
            (_, None) => Ok(()),
        }
    }

    /// The HTTP error of a fault of kind `status`.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        let status = StatusCode::from_u16(self.status?).ok()?;
        let headers = [
            ("retry-after", self.retry_after.clone()),
            ("retry-after-ms", self.retry_after_ms.map(|ms| ms.to_string())),
            ("x-should-retry", self.should_retry.map(|should| should.to_string())),
        ];
        let header = |(name, value): (&'static str, Option<String>)| {
            Some((HeaderName::from_static(name), HeaderValue::from_str(&value?).ok()?))
        };
        let kind = self.error.clone().unwrap_or_else(|| {
            match status.as_u16() {
                401 => "authentication_error",
                403 => "permission_error",
                404 => "not_found_error",
                413 => "request_too_large",
                429 => "rate_limit_error",
                529 => "overloaded_error",
                500.. => "api_error",
                _ => "invalid_request_error",
            }
            .to_owned()
        });
        Some(Refusal {
            status,
            kind,
            code: self.code.clone(),
            headers: headers.into_iter().filter_map(header).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rules: &str, refused_for: Option<&str>) {
        match (Script::parse(&format!("name: t\nrules: {rules}")), refused_for) {
            (Ok(_), None) => {}
            (Err(error), Some(why)) => {
                assert!(error.to_string().contains(why), "{error} lacks {why:?}")
            }
            (got, why) => panic!("{got:?}, expected {why:?}: {rules}"),
        }
    }

    #[test]
    fn scripts_are_checked_when_they_are_read() {
        check("[{reply: [{text: hi}]}]", None);
        check(
            "[{when: {turn: 1, user_matches: '^a'}, reply: [{thinking: h, signature: s}, {tool_use: {name: Read}}]}]",
            None,
        );
        check("[{fault: {kind: status, status: 529, retry_after: '1', times: 2}}]", None);
        check("[{}]", Some("rule 1 of the script: it has neither"));
        check("[{reply: [{text: hi, thinking: h}]}]", Some("exactly one"));
        check("[{reply: [{text: hi, signature: s}]}]", Some("only thinking"));
        check("[{reply: [{block: {x: 1}}]}]", Some("has a type"));
        check("[{reply: [{text: hi}], pace: {chunk: 0}}]", Some("at least 1"));
        check("[{fault: {kind: status}}]", Some("400 to 599"));
        check("[{fault: {kind: truncate, status: 500}}]", Some("only a fault of kind status"));
        check("[{when: {user_matches: '('}, reply: [{text: hi}]}]", Some("regex"));
        check("[{when: {trun: 1}, reply: [{text: hi}]}]", Some("trun"));
        assert!(matches!(Script::parse("name: Ä\nrules: []"), Err(InvalidScript::Name)));
    }
}
