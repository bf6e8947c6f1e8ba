//! Structural schemas: what Kubernetes takes of JSON Schema.
//!
//! Source: Kubernetes, "Extend the Kubernetes API with CustomResourceDefinitions", "Specifying a structural schema".

use kube::core::schema::StructuralSchemaRewriter;
use resources::Rule;
use schemars::{
    JsonSchema,
    generate::SchemaSettings,
    transform::{AddNullable, RecursiveTransform},
};
use serde_json::{Map, Value, json};

/// The schema of a type.
pub(super) fn structural<T: JsonSchema>() -> Value {
    SchemaSettings::openapi3()
        .with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        })
        .with_transform(AddNullable::default())
        .with_transform(RecursiveTransform(words))
        .with_transform(RecursiveTransform(optional))
        .with_transform(StructuralSchemaRewriter)
        .with_transform(RecursiveTransform(tidy))
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}

/// The schema of an object whose parts these are.
pub(super) fn object(spec: Value, status: Value, rules: &[Rule], about: &str) -> Value {
    let mut object = json!({
        "type": "object",
        "description": about,
        "required": ["spec"],
        "properties": {
            // Named here for the rules that are about it; the server knows the rest.
            "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 253}}},
            "spec": spec,
            "status": status,
        },
    });
    if !rules.is_empty()
        && let Some(object) = object.as_object_mut()
    {
        object.insert("x-kubernetes-validations".to_owned(), json!(rules));
    }
    object
}

/// An enumeration with a description of each word: a structural schema has one description, so they go there.
fn words(schema: &mut schemars::Schema) {
    let Some(Value::Array(variants)) = schema.get("oneOf").cloned() else { return };
    let mut about = description(schema.get("description"));
    let mut words = Vec::new();
    for variant in &variants {
        let Some(Value::Array(some)) = variant.get("enum") else { return };
        if let ([Value::String(word)], Some(text)) =
            (some.as_slice(), variant.get("description").and_then(Value::as_str))
        {
            about.push(format!("* {word}: {text}"));
        }
        words.extend_from_slice(some);
    }
    schema.insert("type".to_owned(), "string".into());
    schema.insert("enum".to_owned(), words.into());
    schema.insert("description".to_owned(), about.join("\n").into());
    schema.remove("oneOf");
}

/// A field that may be absent is "this or null", and null goes. What its type says stands after what the field says.
fn optional(schema: &mut schemars::Schema) {
    let Some(Value::Array(parts)) = schema.get("anyOf") else { return };
    let [Value::Object(part), null] = parts.as_slice() else { return };
    if null.get("enum") != Some(&json!([null])) {
        return;
    }
    let about = [description(schema.get("description")), description(part.get("description"))].concat();
    let part = part.clone();
    let Some(schema) = schema.as_object_mut() else { return };
    schema.remove("anyOf");
    schema.extend(part);
    if !about.is_empty() {
        schema.insert("description".to_owned(), about.join("\n").into());
    }
}

fn description(text: Option<&Value>) -> Vec<String> {
    text.and_then(Value::as_str).map(str::to_owned).into_iter().collect()
}

/// What the API server refuses, warns of or would take for more than we mean.
fn tidy(schema: &mut schemars::Schema) {
    let Some(schema) = schema.as_object_mut() else { return };
    // A default would be written into every object, where nobody could tell it from what a person wrote: the project's
    // settings come in between.
    schema.remove("default");
    schema.remove("title");
    // The server drops a null that is neither nullable nor has a default: rules see an absent field, as ours do.
    schema.remove("nullable");
    if schema.get("additionalProperties") == Some(&Value::Bool(false)) {
        schema.remove("additionalProperties");
    }
    number(schema);
    if schema.contains_key("x-kubernetes-int-or-string") {
        schema.remove("type");
    }
}

/// It knows signed formats only.
fn number(schema: &mut Map<String, Value>) {
    let format = schema.get("format").and_then(Value::as_str);
    if format.is_some_and(|format| format.starts_with("uint")) {
        schema.insert("format".to_owned(), "int64".into());
    }
}
