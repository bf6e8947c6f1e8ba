//! MCP servers as sessions and projects name them.

use crate::schema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct McpServers {
    /// Servers by name, each as MCP clients commonly configure it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::named_free_forms")]
    #[schema(value_type = BTreeMap<String, Object>)]
    pub custom: BTreeMap<String, Value>,
    /// Names of servers that would be there and are not wanted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub disabled: Vec<String>,
}
