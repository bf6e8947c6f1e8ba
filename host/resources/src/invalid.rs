//! Why something that a person wrote is refused, field by field, and the reading of JSON that finds it out.

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
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

/// Reads a document; fields that its schema does not know are refused with the nearest known name.
pub(crate) fn read<T: DeserializeOwned + JsonSchema>(value: &Value) -> Result<T, Invalid> {
    let schema = schemars::schema_for!(T).to_value();
    let mut problems = Problems::default();
    unknown_fields(&schema, &schema, value, "", &mut problems);
    problems.finish(())?;
    serde_path_to_error::deserialize(value).map_err(|error| {
        let field = error.path().iter().next().map(|_| error.path().to_string()).unwrap_or_default();
        Invalid(vec![Problem { field, message: error.into_inner().to_string() }])
    })
}

fn unknown_fields(root: &Value, schema: &Value, value: &Value, path: &str, problems: &mut Problems) {
    let schema = resolve(root, schema);
    match value {
        Value::Object(fields) => {
            let known = schema.get("properties").and_then(Value::as_object);
            let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
            for (name, value) in fields {
                let at = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match known.and_then(|known| known.get(name)) {
                    Some(field) => unknown_fields(root, field, value, &at, problems),
                    None if closed => {
                        let names = known.into_iter().flat_map(|known| known.keys().map(String::as_str));
                        problems.add(at, suggest(name, names));
                    }
                    None => {}
                }
            }
        }
        // Serde would take a list for a struct, field by field.
        Value::Array(_) if schema.get("properties").is_some() => {
            problems.add(path, "must be an object, not a list")
        }
        Value::Array(items) => {
            let Some(schema) = schema.get("items") else { return };
            for (index, item) in items.iter().enumerate() {
                unknown_fields(root, schema, item, &format!("{path}[{index}]"), problems);
            }
        }
        _ => {}
    }
}

/// Follows `$ref`, and of `anyOf` (an optional field) the part that says something.
fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        return name
            .strip_prefix('#')
            .and_then(|pointer| root.pointer(pointer))
            .map_or(schema, |s| resolve(root, s));
    }
    let part = schema.get("anyOf").and_then(Value::as_array).and_then(|parts| parts.first());
    part.map_or(schema, |part| resolve(root, part))
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

pub(crate) fn expect_kind(problems: &mut Problems, (version, kind): (&str, &str), expected: &str) {
    if version != crate::API_VERSION {
        problems.add("apiVersion", format_args!("must be {:?}", crate::API_VERSION));
    }
    if kind != expected {
        problems.add("kind", format_args!("must be {expected:?}"));
    }
}
