//! A bounded completion by the session's model, charged to the session. Effect: `model`.

#[cfg(target_arch = "wasm32")]
use crate::bindings::vteam::plugin::model as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::native::model as host;
use serde_json::json;

pub use crate::bindings::vteam::plugin::model::ModelError;

/// # Errors
/// When the host denies it, the budget does not cover it, or the model does not answer.
pub fn complete(system: &str, prompt: &str, max_tokens: u32) -> Result<String, ModelError> {
    host::complete(&json!({"system": system, "prompt": prompt, "maxTokens": max_tokens}).to_string())
}
