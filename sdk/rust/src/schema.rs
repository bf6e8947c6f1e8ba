//! JSON Schema as models read it best: inlined, without what only a Rust compiler cares for.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value};

pub(crate) struct InputSchema {
    /// The doc comment of the type.
    pub(crate) description: String,
    pub(crate) schema: Value,
}

pub(crate) fn of<T: JsonSchema>() -> InputSchema {
    let settings = SchemaSettings::draft2020_12().with(|s| {
        s.inline_subschemas = true;
        s.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    let description = schema.as_object_mut().and_then(|o| o.remove("description"));
    tidy(&mut schema);
    InputSchema {
        description: description.and_then(|d| d.as_str().map(str::to_owned)).unwrap_or_default(),
        schema,
    }
}

/// An optional property is one that may be left out, not one that may be null; Rust's integer widths and names say
/// nothing to a model.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            for (key, value) in object.iter_mut() {
                if key == "properties" || key == "$defs" {
                    value.as_object_mut().into_iter().flat_map(Map::values_mut).for_each(tidy);
                } else if key != "enum" && key != "default" && key != "const" {
                    tidy(value);
                }
            }
            object.remove("title");
            if object.get("format").and_then(Value::as_str).is_some_and(|f| f.contains("int")) {
                object.remove("format");
            }
            if object.get("default").is_some_and(Value::is_null) {
                object.remove("default");
            }
            if let Some(values) = object.get_mut("enum").and_then(Value::as_array_mut) {
                values.retain(|v| !v.is_null());
            }
            let only = match object.get("type").and_then(Value::as_array).map(Vec::as_slice) {
                Some([only, Value::String(null)]) if null == "null" => Some(only.clone()),
                _ => None,
            };
            if let Some(only) = only {
                object.insert("type".to_owned(), only);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Counts.
    ///
    /// Twice.
    #[derive(serde::Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Input {
        /// How far.
        limit: Option<u32>,
        title: String,
        #[serde(default)]
        all: bool,
        items: Vec<Item>,
        mode: Option<Mode>,
    }

    #[derive(serde::Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Item {
        name: String,
    }

    #[derive(serde::Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Mode {
        InFull,
        Brief,
    }

    #[test]
    fn a_schema_says_what_a_model_needs_and_no_more() {
        let InputSchema { description, schema } = of::<Input>();
        assert_eq!(description, "Counts.\n\nTwice.");
        assert_eq!(
            schema,
            json!({
                "type": "object",
                "properties": {
                    "limit": {"description": "How far.", "type": "integer", "minimum": 0},
                    "title": {"type": "string"},
                    "all": {"type": "boolean", "default": false},
                    "items": {"type": "array", "items": {
                        "type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
                    "mode": {"type": "string", "enum": ["in_full", "brief"]},
                },
                "additionalProperties": false,
                "required": ["title", "items"],
            })
        );
    }
}
