//! The JSON Schema of a persona's analysis: what all personas answer, and the role's own object.

use serde_json::{Map, Value, json};

/// One field of the role's own object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) kind: FieldKind,
    pub(crate) description: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FieldKind {
    Text,
    List,
    Number,
    OneOf(Vec<String>),
}

/// What every persona answers, in order.
const SHARED: [(&str, &str); 9] = [
    ("persona", "Your key."),
    ("analysis", "Your assessment from your role's point of view, with the evidence that it rests on."),
    ("concerns", "What worries you, one concern an entry, the gravest first."),
    ("recommendations", "What to do, one action an entry."),
    ("requiredComponents", "Parts of the system, by name or path, that the work touches or needs."),
    ("estimatedComplexity", "How hard the whole is."),
    ("dependencies", "What has to be there or decided first; whom it depends on."),
    ("risks", "What may go wrong, with its consequence, one risk an entry."),
    (
        "acceptanceCriteria",
        "Statements that can be checked, one an entry, which together mean that it is done.",
    ),
];

const COMPLEXITY: [&str; 4] = ["LOW", "MEDIUM", "HIGH", "VERY_HIGH"];

pub(crate) fn schema(key: &str, own: &str, fields: &[Field]) -> Value {
    let mut properties = Map::new();
    for (name, description) in SHARED {
        let mut property = match name {
            "persona" => json!({"type": "string", "enum": [key]}),
            "analysis" => json!({"type": "string", "minLength": 1}),
            "estimatedComplexity" => json!({"type": "string", "enum": COMPLEXITY}),
            _ => list(),
        };
        describe(&mut property, description);
        properties.insert(name.to_owned(), property);
    }
    let parts = fields.iter().map(|f| (f.name.clone(), field(f))).collect();
    properties.insert(own.to_owned(), object(parts));
    object(properties)
}

/// Whether a pointer's beginning leads anywhere in such an answer.
pub(crate) fn has(pointer: &str, own: &str, fields: &[Field]) -> bool {
    let mut parts = pointer.split('/').skip(1);
    match (parts.next(), parts.next()) {
        (Some(first), second) if first == own => {
            second.is_none_or(|s| s == "*" || fields.iter().any(|f| f.name == s))
        }
        (Some(first), _) => SHARED.iter().any(|(name, _)| *name == first),
        (None, _) => false,
    }
}

/// Whether the role's own object may have this name.
pub(crate) fn is_shared(name: &str) -> bool {
    SHARED.iter().any(|(shared, _)| *shared == name)
}

fn object(properties: Map<String, Value>) -> Value {
    let required: Vec<&String> = properties.keys().collect();
    json!({"type": "object", "required": required, "additionalProperties": false, "properties": properties})
}

fn list() -> Value {
    json!({"type": "array", "items": {"type": "string", "minLength": 1}})
}

fn field(field: &Field) -> Value {
    let mut property = match &field.kind {
        FieldKind::Text => json!({"type": "string", "minLength": 1}),
        FieldKind::List => list(),
        FieldKind::Number => json!({"type": "number"}),
        FieldKind::OneOf(values) => json!({"type": "string", "enum": values}),
    };
    describe(&mut property, &field.description);
    property
}

fn describe(property: &mut Value, description: &str) {
    if let Some(object) = property.as_object_mut() {
        object.insert("description".to_owned(), Value::from(description));
    }
}
