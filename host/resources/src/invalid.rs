//! Why something that a person wrote is refused, field by field, and the reading of JSON that finds it out.

mod expected;

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::fmt;

/// One field and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// Path such as `spec.llmSettings.model`; empty for the whole.
    pub field: String,
    pub message: String,
}

/// What is wrong with a document, all of it that could be found at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Invalid(pub Vec<Problem>);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Problem { field, message }) in self.0.iter().enumerate() {
            let (join, colon) = (if at == 0 { "" } else { "; " }, if field.is_empty() { "" } else { ": " });
            write!(f, "{join}{field}{colon}{message}")?;
        }
        Ok(())
    }
}

/// Collects problems while a document is converted.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    pub(crate) fn add(&mut self, field: impl Into<String>, message: impl fmt::Display) {
        self.0.push(Problem { field: field.into(), message: message.to_string() });
    }

    /// The value, or `None` and the reason noted.
    pub(crate) fn take<T, E: fmt::Display>(&mut self, field: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(field, error)).ok()
    }

    pub(crate) fn finish<T>(self, value: T) -> Result<T, Invalid> {
        if self.0.is_empty() { Ok(value) } else { Err(Invalid(self.0)) }
    }
}

/// Reads a document: everything in it that its schema does not know or has otherwise is named at once, in words for those
/// who wrote it. What a type refuses beyond its schema comes alone, in the type's own words.
pub(crate) fn read<T: DeserializeOwned + JsonSchema>(value: &Value) -> Result<T, Invalid> {
    let schema = schemars::schema_for!(T).to_value();
    let mut problems = Problems::default();
    compare(&schema, &schema, value, "", &mut problems);
    problems.finish(())?;
    serde_path_to_error::deserialize(value).map_err(|error| {
        let field = error.path().iter().next().map(|_| error.path().to_string()).unwrap_or_default();
        Invalid(vec![Problem { field, message: error.into_inner().to_string() }])
    })
}

fn compare(root: &Value, schema: &Value, value: &Value, path: &str, problems: &mut Problems) {
    let parts = parts(root, schema);
    if parts.iter().any(|part| part.get("x-kubernetes-preserve-unknown-fields").is_some()) {
        return;
    }
    if let Some(message) = expected::mismatch(&parts, value) {
        return problems.add(path, message);
    }
    let Some(schema) = parts.first() else { return };
    match value {
        Value::Object(fields) => object(root, schema, fields, path, problems),
        Value::Array(items) => {
            let Some(schema) = schema.get("items") else { return };
            for (index, item) in items.iter().enumerate() {
                compare(root, schema, item, &format!("{path}[{index}]"), problems);
            }
        }
        _ => {}
    }
}

fn object(root: &Value, schema: &Value, fields: &Map<String, Value>, path: &str, problems: &mut Problems) {
    let at = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let known = schema.get("properties").and_then(Value::as_object);
    let others = schema.get("additionalProperties");
    for (name, value) in fields {
        match (known.and_then(|known| known.get(name)), others) {
            (Some(field), _) => compare(root, field, value, &at(name), problems),
            (None, Some(Value::Bool(false))) => {
                let names = known.into_iter().flat_map(|known| known.keys().map(String::as_str));
                problems.add(at(name), suggest(name, names));
            }
            (None, Some(other)) => compare(root, other, value, &at(name), problems),
            (None, None) => {}
        }
    }
    let required = schema.get("required").and_then(Value::as_array);
    for name in required.into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            problems.add(at(name), "is required");
        }
    }
}

/// What may hold: the schema itself, or what its `anyOf` or `oneOf` lists; references are followed.
fn parts<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    let reference = schema.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix('#'));
    if let Some(referred) = reference.and_then(|pointer| root.pointer(pointer)) {
        return parts(root, referred);
    }
    match schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array) {
        Some(listed) => listed.iter().flat_map(|part| parts(root, part)).collect(),
        None => vec![schema],
    }
}

fn suggest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let near = known
        .map(|candidate| {
            (strsim::damerau_levenshtein(&name.to_lowercase(), &candidate.to_lowercase()), candidate)
        })
        .filter(|(distance, candidate)| *distance <= 2.max(candidate.len() / 3))
        .min();
    match near {
        Some((_, candidate)) => format!("unknown field; did you mean {candidate:?}?"),
        None => "unknown field".to_owned(),
    }
}

/// What is written must say something; who wants the default leaves it out.
pub(crate) fn named(field: &str, name: Option<&str>, problems: &mut Problems) {
    if name.is_some_and(|name| name.trim().is_empty()) {
        problems.add(field, "is empty: name one, or leave it out for the default");
    }
}

pub(crate) fn expect_kind(problems: &mut Problems, (version, kind): (&str, &str), expected: &str) {
    if version != crate::API_VERSION {
        problems.add("apiVersion", format_args!("must be {:?}", crate::API_VERSION));
    }
    if kind != expected {
        problems.add("kind", format_args!("must be {expected:?}"));
    }
}
