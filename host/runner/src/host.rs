//! What a component reaches of its host: the engine's traits over this session's server, launcher and workspace.

pub mod completions;
pub mod fetch;
pub mod gate;
pub mod news;
pub mod processes;
pub mod state;

use crate::{beneath::Root, changes};
use engine::{BaseError, ChangeBase, WorkspacePath, async_trait};
use model::id::Digest;

/// What staged changes replace.
pub struct Bases(pub Root);

#[async_trait]
impl ChangeBase for Bases {
    async fn digest(&self, path: &WorkspacePath) -> Result<Option<Digest>, BaseError> {
        changes::digest_at(&self.0, path.as_str()).map_err(|error| match error {
            crate::beneath::FileError::Failed { .. } => BaseError::Failed(error.to_string()),
            error => BaseError::Invalid(error.to_string()),
        })
    }
}
