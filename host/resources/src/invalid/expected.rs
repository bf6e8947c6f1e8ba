//! One value beside what a schema has there, in words for whoever wrote it.

use serde_json::Value;

/// What is wrong with the value, where none of these schemas has such a one.
pub(super) fn mismatch(schemas: &[&Value], value: &Value) -> Option<String> {
    let types: Vec<&str> = schemas.iter().flat_map(|schema| types(schema)).collect();
    // A schema without a type is one of anything.
    let anything = schemas.iter().any(|schema| self::types(schema).is_empty());
    if !anything && !types.iter().any(|name| is(name, value)) {
        let mut wanted: Vec<&str> = types.into_iter().filter(|name| *name != "null").map(called).collect();
        wanted.dedup();
        return Some(format!("must be {}, not {}", wanted.join(" or "), shown(value, &wanted)));
    }
    let words: Vec<&str> = schemas.iter().flat_map(|schema| words(schema)).collect();
    if let Value::String(word) = value
        && !words.is_empty()
        && !words.contains(&word.as_str())
    {
        return Some(format!("must be one of {}, not {word:?}", words.join(", ")));
    }
    let number = value.as_number()?;
    let most = schemas.iter().find_map(|schema| most(schema))?;
    match number.as_u64() {
        Some(number) if number > most => Some(format!("must be at most {most}")),
        Some(_) => None,
        None => Some("must not be negative".to_owned()),
    }
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    }
}

fn words(schema: &Value) -> Vec<&str> {
    let listed = schema.get("enum").and_then(Value::as_array);
    listed.into_iter().flatten().chain(schema.get("const")).filter_map(Value::as_str).collect()
}

/// The greatest number of an unsigned type.
fn most(schema: &Value) -> Option<u64> {
    match schema.get("format").and_then(Value::as_str)? {
        "uint32" => Some(u32::MAX.into()),
        "uint64" => Some(u64::MAX),
        _ => None,
    }
}

fn is(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    }
}

fn called(name: &str) -> &str {
    match name {
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        "string" => "a string",
        "array" => "a list",
        "object" => "an object",
        other => other,
    }
}

fn shown(value: &Value, wanted: &[&str]) -> String {
    match value {
        Value::Null | Value::Bool(_) => value.to_string(),
        // A number, and not whole.
        Value::Number(number) if wanted.contains(&called("integer")) => number.to_string(),
        Value::Number(_) => called("number").to_owned(),
        Value::String(_) => called("string").to_owned(),
        Value::Array(_) => called("array").to_owned(),
        Value::Object(_) => called("object").to_owned(),
    }
}
