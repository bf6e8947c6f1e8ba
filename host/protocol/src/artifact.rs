//! Signed native code: `vteam-compile` makes it, the server signs it, a runner verifies and loads the same private bytes.

use model::id::Digest;
use serde::{Deserialize, Serialize};

/// A hash of wasmtime's version and the engine's settings, made by the same code in compiler and runner.
pub type EngineId = String;

/// What a signature covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement {
    /// Of the component's bytes.
    pub component: Digest,
    /// Of the native code's bytes.
    pub artifact: Digest,
    pub engine_id: EngineId,
    /// Target triple and baseline CPU, such as `x86_64-unknown-linux-gnu+x86-64-v2`.
    pub target: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Signed {
    pub statement: Statement,
    /// Ed25519 over [`Statement::signed_bytes`], hex.
    pub signature: String,
}

impl Statement {
    /// Unambiguous: each part is preceded by its length (8 bytes, big endian).
    #[must_use]
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = b"vteam artifact 1\0".to_vec();
        for part in [self.component.as_str(), self.artifact.as_str(), &self.engine_id, &self.target] {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}
