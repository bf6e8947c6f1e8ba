//! Rules about what is written, in CEL, for whoever has no Rust: a cluster's API server refuses with them at once what
//! REST refuses in [`session::accept`](crate::session). They stand in the schemas as `x-kubernetes-validations`.
//!
//! A rule here spans fields or says more than a bound can; lengths, ranges and words stand at the field.

use serde::Serialize;
use std::borrow::Cow;

/// One validation rule of a structural schema.
///
/// Source: Kubernetes, "CustomResourceDefinition v1", `ValidationRule`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// CEL that must be true; `self` is what the schema is of.
    pub rule: Cow<'static, str>,
    /// What to write instead.
    pub message: Cow<'static, str>,
    /// The field that the message is about, from `self`, with a leading dot; absent: `self`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field_path: Option<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Reason {
    FieldValueForbidden,
    FieldValueRequired,
}

impl Rule {
    pub(crate) fn new(rule: &'static str, message: &'static str) -> Self {
        Self { rule: Cow::Borrowed(rule), message: Cow::Borrowed(message), field_path: None, reason: None }
    }

    pub(crate) fn at(self, field_path: &'static str) -> Self {
        Self { field_path: Some(Cow::Borrowed(field_path)), ..self }
    }

    pub(crate) fn required(self) -> Self {
        Self { reason: Some(Reason::FieldValueRequired), ..self }
    }
}

/// About the text of a field: a pattern, with words of our own in place of the expression.
pub(crate) fn text(pattern: &'static str, message: &'static str) -> [Rule; 1] {
    [Rule { rule: format!("self.matches(r'{pattern}')").into(), ..Rule::new("", message) }]
}

/// As [`model::id::Digest`] reads it.
pub(crate) const DIGEST: &str = "^sha256:[0-9a-f]{64}$";
pub(crate) const A_DIGEST: &str = "must be 'sha256:' and 64 lower-case hex digits";
/// An image's reference: host, path, tag and digest (Docker's distribution `reference` grammar, without its lengths).
pub(crate) const IMAGE: &str = "^[A-Za-z0-9]([A-Za-z0-9._:-]*[A-Za-z0-9])?(/[a-z0-9]([a-z0-9._-]*[a-z0-9])?)*(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?$";
pub(crate) const AN_IMAGE: &str = "must be an image, such as registry.example/team/tools:1.2 or python:3.13";
/// As [`model::id::PersonaKey`] reads it.
pub(crate) const PERSONA_KEY: &str = "^[A-Z][A-Z0-9_]{0,63}$";
pub(crate) const A_PERSONA_KEY: &str =
    "must be a persona's key, such as STAFF_ENGINEER: A-Z first, then at most 63 of A-Z, 0-9 and '_'";
