//! Schemas that a derive cannot give: what YAML may hold there, told so that JSON Schema, REST and a cluster's API server
//! understand the same. Keywords that start with `x-kubernetes-` are extensions that other readers pass over.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

/// An object of anything: it is kept as it is, and nobody of ours looks into it.
pub(crate) fn free_form(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// A list of [`free_form`] objects.
pub(crate) fn free_forms(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "maxItems": 64, "items": free_form(generator)})
}

/// [`free_form`] objects by name.
pub(crate) fn named_free_forms(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "maxProperties": 64, "additionalProperties": free_form(generator)})
}

/// Texts by name, each at most `LENGTH` long.
pub(crate) fn texts<const ENTRIES: usize, const LENGTH: usize>(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": ENTRIES,
        "additionalProperties": {"type": "string", "maxLength": LENGTH},
    })
}

/// A list of at most `ITEMS`, each one of `words`.
pub(crate) fn words(items: usize, words: &[&str]) -> Schema {
    json_schema!({"type": "array", "maxItems": items, "items": {"type": "string", "enum": words}})
}

/// RFC 3339, as Kubernetes writes times.
pub(crate) fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time"})
}

/// A list that several writers share, each its own entries, told apart by `keys`.
pub(crate) fn shared_list<T: JsonSchema>(
    generator: &mut SchemaGenerator,
    items: usize,
    keys: &[&str],
) -> Schema {
    let items_schema = generator.subschema_for::<T>();
    let mut schema = json_schema!({"type": "array", "maxItems": items, "items": items_schema});
    schema.insert("x-kubernetes-list-type".to_owned(), Value::from("map"));
    schema.insert("x-kubernetes-list-map-keys".to_owned(), Value::from(keys.to_vec()));
    schema
}
