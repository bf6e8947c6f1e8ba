//! JSON as tools get it: parsed once and strictly, written canonically. Pure.
//!
//! A duplicate key is refused: two parsers would not agree on what was approved. Canonical bytes are those of RFC 8785
//! but for numbers, which are written as `serde_json` does.

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value, json};
use std::fmt;

/// The key under which input that could not be parsed is kept in a message, so that the message can be replayed.
const MALFORMED: &str = "malformed_json";

/// # Errors
/// When the text is not one JSON value, or an object names a key twice.
pub fn parse(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str::<Strict>(text).map(|strict| strict.0)
}

/// Stands for input that was no JSON: an object, as providers want it, from which [`refusal`] is made.
#[must_use]
pub fn malformed(text: &str, error: &serde_json::Error) -> Value {
    json!({ MALFORMED: text, "error": error.to_string() })
}

/// What the model is told of input that [`malformed`] stands for.
#[must_use]
pub fn refusal(input: &Value) -> Option<String> {
    let object = input.as_object().filter(|o| o.len() == 2 && o.contains_key(MALFORMED))?;
    let error = object.get("error")?.as_str()?;
    Some(format!(
        "The input of this tool call is not valid JSON: {error}. Send the call again with one valid JSON object."
    ))
}

/// Canonical JSON: keys sorted by UTF-16 code units, no white space.
#[must_use]
pub fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                separate(at, out);
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(object) => {
            let mut entries: Vec<_> = object.iter().collect();
            entries.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push('{');
            for (at, (key, item)) in entries.into_iter().enumerate() {
                separate(at, out);
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write(item, out);
            }
            out.push('}');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

fn separate(at: usize, out: &mut String) {
    if at > 0 {
        out.push(',');
    }
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number out of range"))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Strict(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((key, Strict(value))) = map.next_entry::<String, Strict>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format_args!("the key {key:?} is given twice")));
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_and_canonical() {
        let check = |text: &str, expected: Option<&str>| {
            let canonical = parse(text).ok().map(|value| canonical(&value));
            assert_eq!(canonical.as_deref(), expected, "{text}");
        };
        check(
            r#" {"b": [1, 2.5, "x\u00e9\n"], "a": {"d": null, "c": true}} "#,
            Some("{\"a\":{\"c\":true,\"d\":null},\"b\":[1,2.5,\"xé\\n\"]}"),
        );
        check(r#"{"a":1,"a":1}"#, None);
        check(r#"{"x":{"a":1,"b":2,"a":3}}"#, None);
        check("{\"\u{1f600}\":1,\"\u{fb33}\":2}", Some("{\"\u{1f600}\":1,\"\u{fb33}\":2}"));
        check("{} x", None);
        check("", None);
        check("-0.5e3", Some("-500.0"));
        check(&format!("{}{}", "[".repeat(1000), "]".repeat(1000)), None);
    }

    #[test]
    fn malformed_input_is_told() {
        let error = parse("{\"a\":1,\"a\":2}").unwrap_err();
        let kept = malformed("{\"a\":1,\"a\":2}", &error);
        assert!(refusal(&kept).unwrap().contains("\"a\" is given twice"));
        assert_eq!(refusal(&json!({"malformed_json": "x"})), None);
    }
}
