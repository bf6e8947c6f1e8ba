use super::*;
use serde_json::Value;

#[test]
fn the_committed_copies_are_these() {
    for definition in all().unwrap() {
        let path = format!(
            "{}/../../manifests/crds/{}.yaml",
            env!("CARGO_MANIFEST_DIR"),
            definition.spec.names.plural
        );
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == yaml(&definition).unwrap(), "{path} is not up to date: run `cargo xtask codegen`");
    }
}

/// The API server estimates what a rule may cost by the bounds, and refuses a definition where there are none.
#[test]
fn everything_has_a_bound() {
    each_schema(|path, schema| {
        let has = |keyword: &str| schema.get(keyword).is_some();
        let bounded = match schema.get("type").and_then(Value::as_str) {
            Some("string") => has("maxLength") || has("enum") || has("format"),
            Some("array") => has("maxItems"),
            Some("object") => !has("additionalProperties") || has("maxProperties"),
            _ => true,
        };
        assert!(bounded, "{path} has no bound: {schema}");
    });
}

#[test]
fn each_schema_is_structural() {
    each_schema(|path, schema| {
        for keyword in ["$ref", "allOf", "oneOf", "nullable", "default", "title", "definitions"] {
            assert!(schema.get(keyword).is_none(), "{path} has {keyword}");
        }
        let typed = schema.get("type").is_some() || schema.get("x-kubernetes-int-or-string").is_some();
        assert!(typed, "{path} has no type: {schema}");
        let format = schema.get("format").and_then(Value::as_str);
        let known = format.is_none_or(|f| ["int32", "int64", "float", "double", "date-time"].contains(&f));
        assert!(known, "{path} has the format {format:?}");
    });
}

#[test]
fn each_field_explains_itself() {
    let without: Vec<String> = undocumented();
    insta::assert_compact_debug_snapshot!(without, @"[]");
}

/// Fields of specifications, top level only, of which `kubectl explain` would say nothing.
fn undocumented() -> Vec<String> {
    let mut found = Vec::new();
    each_schema(|path, schema| {
        let top = path.split_once(".spec.").is_some_and(|(_, field)| !field.contains(['.', '[']));
        if top && schema.get("description").is_none() {
            found.push(path.to_owned());
        }
    });
    found
}

fn each_schema(mut check: impl FnMut(&str, &Value)) {
    for definition in all().unwrap() {
        let version = &definition.spec.versions[0];
        let schema = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        walk(&definition.spec.names.kind, &serde_json::to_value(schema).unwrap(), &mut check);
    }
}

fn walk(path: &str, schema: &Value, check: &mut impl FnMut(&str, &Value)) {
    check(path, schema);
    for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        walk(&format!("{path}.{name}"), field, check);
    }
    for (keyword, shown) in [("items", "[]"), ("additionalProperties", "[name]")] {
        if let Some(inner) = schema.get(keyword).filter(|inner| inner.is_object()) {
            walk(&format!("{path}{shown}"), inner, check);
        }
    }
}
