//! From JSON text to a manifest that keeps its own rules.

use crate::{FORMAT, Kind, Manifest, Persona, Tool};
use model::{grant::effects, id::Effect};
use serde_json::Value;
use std::collections::BTreeSet;

const MAX_BYTES: usize = 256 << 10;
const MAX_TOOLS: usize = 64;
const MAX_ASKS: usize = 16;
const MAX_LINE: usize = 512;
const MAX_TEXT: usize = 16 << 10;
const MAX_SCHEMA_BYTES: usize = 64 << 10;
const MAX_EXPERTISE: usize = 64;

/// Why a manifest is refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("the manifest is not the JSON of a plugin manifest: {0}")]
    Json(#[source] serde_json::Error),
    /// `at` says where, such as `tools[2].inputSchema`.
    #[error("the manifest's {at} {rule}")]
    Rule { at: String, rule: String },
}

type Checked = Result<(), ManifestError>;

/// Reads a manifest, as a guest's `describe` or a component's section gives it.
///
/// # Errors
/// Names the field and the rule that it breaks.
pub fn parse(text: &str) -> Result<Manifest, ManifestError> {
    if text.len() > MAX_BYTES {
        return rule("text", format!("has {} bytes: at most {MAX_BYTES} are allowed", text.len()));
    }
    let manifest: Manifest = serde_json::from_str(text).map_err(ManifestError::Json)?;
    check(&manifest)?;
    Ok(manifest)
}

fn check(manifest: &Manifest) -> Checked {
    let Manifest {
        manifest: format,
        id: _,
        version,
        kind,
        description,
        tools,
        persona,
        asks,
        settings,
        limits: _,
    } = manifest;
    if *format != FORMAT {
        return rule("manifest", format!("is format {format}: this host reads format {FORMAT}"));
    }
    if let Err(error) = semver::Version::parse(version) {
        return rule("version", format!("is not a semantic version: {error}"));
    }
    line("description", description)?;
    if asks.len() > MAX_ASKS {
        return rule("asks", format!("has more than {MAX_ASKS} entries"));
    }
    let mut asked = BTreeSet::new();
    for (index, ask) in asks.iter().enumerate() {
        known(&format!("asks[{index}].effect"), &ask.effect)?;
        line(&format!("asks[{index}].reason"), &ask.reason)?;
        if !asked.insert(&ask.effect) {
            return rule("asks", format!("names {} twice", ask.effect));
        }
    }
    if let Some(settings) = settings {
        object_schema("settings", settings)?;
    }
    match (kind, persona) {
        (Kind::Tool, None) => tools_check(tools, &asked),
        (Kind::Tool, Some(_)) => rule("persona", "has no place in a tool plugin"),
        (Kind::Persona, Some(persona)) if tools.is_empty() && asks.is_empty() => persona_check(persona),
        (Kind::Persona, Some(_)) => {
            rule("kind", "is persona: a persona offers no tools and asks for nothing")
        }
        (Kind::Persona, None) => rule("persona", "is missing"),
        (Kind::Other(kind), _) => rule("kind", format!("is {kind:?}, which this host does not know")),
    }
}

fn tools_check(tools: &[Tool], asked: &BTreeSet<&Effect>) -> Checked {
    if tools.is_empty() || tools.len() > MAX_TOOLS {
        return rule("tools", format!("has {} entries: 1 to {MAX_TOOLS} are allowed", tools.len()));
    }
    let mut names = BTreeSet::new();
    for (index, tool) in tools.iter().enumerate() {
        let at = format!("tools[{index}]");
        if !names.insert(&tool.name) {
            return rule("tools", format!("names {} twice", tool.name));
        }
        text(&format!("{at}.description"), &tool.description)?;
        object_schema(&format!("{at}.inputSchema"), &tool.input_schema)?;
        for effect in &tool.effects {
            known(&format!("{at}.effects"), effect)?;
            if !asked.contains(effect) {
                return rule(
                    &format!("{at}.effects"),
                    format!("has {effect}, which the plugin does not ask for"),
                );
            }
        }
    }
    Ok(())
}

fn persona_check(persona: &Persona) -> Checked {
    let Persona { key: _, name, role, expertise, tools: _, answer_schema } = persona;
    line("persona.name", name)?;
    line("persona.role", role)?;
    if expertise.len() > MAX_EXPERTISE {
        return rule("persona.expertise", format!("has more than {MAX_EXPERTISE} entries"));
    }
    expertise.iter().try_for_each(|entry| line("persona.expertise", entry))?;
    object_schema("persona.answerSchema", answer_schema)
}

fn known(at: &str, effect: &Effect) -> Checked {
    if effects::ALL.contains(&effect.as_str()) {
        return Ok(());
    }
    rule(at, format!("has {effect}, which this host does not know; it knows {}", effects::ALL.join(", ")))
}

/// A valid schema (2020-12) of an object that refers to nothing outside itself.
fn object_schema(at: &str, schema: &Value) -> Checked {
    let bytes = schema.to_string().len();
    if bytes > MAX_SCHEMA_BYTES {
        return rule(at, format!("has {bytes} bytes: at most {MAX_SCHEMA_BYTES} are allowed"));
    }
    if schema.get("type").and_then(Value::as_str) != Some("object") {
        return rule(at, "is not the schema of an object: \"type\": \"object\" is missing");
    }
    if let Some(reference) = foreign_reference(schema) {
        return rule(at, format!("refers to {reference:?}: only references within the schema are allowed"));
    }
    match jsonschema::options().with_draft(jsonschema::Draft::Draft202012).build(schema) {
        Ok(_) => Ok(()),
        Err(error) => rule(at, format!("is not a JSON Schema (2020-12): {error}")),
    }
}

fn foreign_reference(schema: &Value) -> Option<&str> {
    match schema {
        Value::Object(fields) => {
            fields.iter().find_map(|(key, value)| match (key.as_str(), value.as_str()) {
                ("$ref" | "$dynamicRef", Some(target)) if !target.starts_with('#') => Some(target),
                _ => foreign_reference(value),
            })
        }
        Value::Array(items) => items.iter().find_map(foreign_reference),
        _ => None,
    }
}

fn line(at: &str, value: &str) -> Checked {
    if value.trim().is_empty() || value.len() > MAX_LINE || value.contains('\n') {
        return rule(at, format!("must be one line of at most {MAX_LINE} bytes"));
    }
    Ok(())
}

fn text(at: &str, value: &str) -> Checked {
    if value.trim().is_empty() || value.len() > MAX_TEXT {
        return rule(at, format!("must be text of at most {MAX_TEXT} bytes"));
    }
    Ok(())
}

fn rule<T>(at: &str, rule: impl Into<String>) -> Result<T, ManifestError> {
    Err(ManifestError::Rule { at: at.to_owned(), rule: rule.into() })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn tool_manifest() -> Value {
        json!({
            "manifest": 1, "id": "acme.linter", "version": "1.2.3", "kind": "tool", "description": "Lints",
            "tools": [{
                "name": "Lint", "description": "Lints a file", "effects": ["fs.read"], "parallel": true,
                "inputSchema": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
            }],
            "asks": [{"effect": "fs.read", "reason": "reads what it lints"}],
            "ofTomorrow": true
        })
    }

    pub(crate) fn persona_manifest() -> Value {
        json!({
            "manifest": 1, "id": "acme.critic", "version": "0.1.0", "kind": "persona", "description": "Criticises",
            "persona": {"key": "CRITIC", "name": "Cleo", "role": "Critic", "answerSchema": {"type": "object"}}
        })
    }

    fn check(mut manifest: Value, pointer: &str, value: Value, expected: &str) {
        if pointer.is_empty() {
            assert!(parse(&manifest.to_string()).is_ok(), "{:?}", parse(&manifest.to_string()));
            return;
        }
        match manifest.pointer_mut(pointer) {
            Some(place) => *place = value,
            None => {
                let (parent, key) = pointer.rsplit_once('/').unwrap();
                manifest.pointer_mut(parent).unwrap()[key] = value;
            }
        }
        let error = parse(&manifest.to_string()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} should say {expected:?}");
    }

    #[test]
    fn each_rule_has_its_words() {
        let tool = tool_manifest;
        check(tool(), "", json!(null), "");
        check(persona_manifest(), "", json!(null), "");
        check(tool(), "/manifest", json!(2), "is format 2");
        check(tool(), "/version", json!("1.2"), "not a semantic version");
        check(tool(), "/id", json!("linter"), "a plugin id must be");
        check(tool(), "/kind", json!("workflow"), "does not know");
        check(tool(), "/description", json!("a\nb"), "one line");
        check(tool(), "/tools", json!([]), "has 0 entries");
        check(tool(), "/tools", json!([tool()["tools"][0], tool()["tools"][0]]), "names Lint twice");
        check(tool(), "/tools/0/name", json!("a b"), "a tool name must be");
        check(tool(), "/tools/0/effects", json!(["process"]), "does not ask for");
        check(tool(), "/tools/0/effects", json!(["teleport"]), "does not know");
        check(tool(), "/asks/0/effect", json!("teleport"), "does not know");
        check(tool(), "/asks/0/reason", json!(""), "one line");
        check(tool(), "/tools/0/inputSchema", json!({"type": "string"}), "not the schema of an object");
        check(tool(), "/tools/0/inputSchema", json!({"type": "object", "required": 5}), "not a JSON Schema");
        let remote = json!({"type": "object", "properties": {"a": {"$ref": "https://example.com/x"}}});
        check(tool(), "/tools/0/inputSchema", remote, "only references within");
        let file = json!({"type": "object", "allOf": [{"$ref": "file:///etc/passwd"}]});
        check(tool(), "/tools/0/inputSchema", file, "only references within");
        let big = json!({"type": "object", "description": "x".repeat(MAX_SCHEMA_BYTES)});
        check(tool(), "/tools/0/inputSchema", big, "at most 65536");
        check(tool(), "/settings", json!({"type": "array"}), "not the schema of an object");
        check(tool(), "/persona", persona_manifest()["persona"].clone(), "no place");
        check(persona_manifest(), "/asks", json!([{"effect": "fs.read", "reason": "x"}]), "asks for nothing");
        check(persona_manifest(), "/persona/key", json!("critic"), "a persona key must be");
    }

    #[test]
    fn a_local_reference_is_fine() {
        let mut manifest = tool_manifest();
        manifest["tools"][0]["inputSchema"] = json!({"type": "object", "$defs": {"p": {"type": "string"}}, "properties": {"a": {"$ref": "#/$defs/p"}}});
        parse(&manifest.to_string()).unwrap();
    }
}
