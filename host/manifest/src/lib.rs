//! The plugin manifest: what a plugin says of itself, embedded in its component as the custom section `vteam:plugin`.
//!
//! A host lists, compares, admits and refuses a plugin by these bytes alone, without running it. No engine here.

mod admit;
mod check;
mod compare;
mod section;

pub use admit::{Admissible, NotAdmissible, admit, effect_of, loadable};
pub use check::{ManifestError, parse};
pub use compare::{Changes, VersionChange, compare};
pub use section::{Names, SectionError, embed, extract, names};

use model::{
    grant::EffectSet,
    id::{Effect, PersonaKey, PluginId, ToolName},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Name of the custom section.
pub const SECTION: &str = "vteam:plugin";

/// Version of the manifest's own format.
pub const FORMAT: u32 = 1;

/// The whole manifest; also what a guest's `describe` returns, as JSON. Unknown fields are tolerated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// [`FORMAT`].
    pub manifest: u32,
    pub id: PluginId,
    /// Semantic version.
    pub version: String,
    pub kind: Kind,
    /// One line for a list.
    pub description: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persona: Option<Persona>,
    /// What it wants to be granted, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asks: Vec<Ask>,
    /// JSON Schema (2020-12) of its settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsAsked>,
}

impl Manifest {
    /// The effects that it asks for.
    #[must_use]
    pub fn asked(&self) -> EffectSet {
        self.asks.iter().map(|ask| ask.effect.clone()).collect()
    }

    #[must_use]
    pub fn tool(&self, name: &str) -> Option<&Tool> {
        self.tools.iter().find(|tool| tool.name.as_str() == name)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    Tool,
    Persona,
    /// A kind of a later contract: such a plugin is refused with that reason.
    #[serde(untagged)]
    Other(String),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tool {
    pub name: ToolName,
    /// For the model.
    pub description: String,
    /// JSON Schema (2020-12) of an object.
    pub input_schema: Value,
    #[serde(default)]
    pub effects: EffectSet,
    /// Calls of it may overlap with other calls that also say so.
    #[serde(default)]
    pub parallel: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Persona {
    pub key: PersonaKey,
    /// What people call it.
    pub name: String,
    pub role: String,
    #[serde(default)]
    pub expertise: Vec<String>,
    /// Tools that it wants; `None`: all that the session has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<ToolName>>,
    /// JSON Schema of its analysis.
    pub answer_schema: Value,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ask {
    pub effect: Effect,
    /// For the person who decides.
    pub reason: String,
}

/// Ceilings that a plugin sets itself; the host takes the stricter one. Absent: the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct LimitsAsked {
    pub memory_bytes: Option<u64>,
    pub cpu_ms: Option<u64>,
    pub wall_ms: Option<u64>,
    pub output_bytes: Option<u64>,
}
