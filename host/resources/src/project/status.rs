//! What a cluster says about a project's settings.

use crate::{Condition, session::status::conditions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Written by the operator only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ProjectSettingsStatus {
    /// The `metadata.generation` that the rest was decided by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<u64>,
    /// RoleBindings that were made of `groupAccess`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_bindings_created: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}
