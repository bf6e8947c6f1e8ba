//! `changes`: stages, never writes.

use super::not_granted;
use crate::{
    bindings::tool::vteam::plugin::changes::{ChangeError, Host},
    bindings::tool::vteam::plugin::types::Other,
    call::Staged,
    host::{BaseError, ChangeBase},
    path::{InvalidPath, WorkspacePath},
    store::CallState,
};
use model::{grant::effects, id::Digest};
use std::sync::Arc;

const MAX_STAGED: usize = 1000;

type Answer<T> = Result<T, ChangeError>;

impl Host for CallState {
    async fn digest(&mut self, path: String) -> wasmtime::Result<Answer<Option<String>>> {
        Ok(self.current_digest(&path).await)
    }

    async fn write(
        &mut self,
        path: String,
        content: Vec<u8>,
        base: Option<String>,
    ) -> wasmtime::Result<Answer<()>> {
        Ok(self.stage_write(&path, content, base).await)
    }

    async fn delete(&mut self, path: String, base: String) -> wasmtime::Result<Answer<()>> {
        Ok(self.stage_delete(&path, &base).await)
    }

    async fn rename(&mut self, source: String, target: String, base: String) -> wasmtime::Result<Answer<()>> {
        Ok(self.stage_rename(&source, &target, &base).await)
    }
}

impl CallState {
    async fn current_digest(&mut self, path: &str) -> Answer<Option<String>> {
        let (base, path) = (self.base()?, parse(path)?);
        Ok(current(&*base, &path).await?.map(String::from))
    }

    async fn stage_write(&mut self, path: &str, content: Vec<u8>, base: Option<String>) -> Answer<()> {
        let path = parse(path)?;
        let base = base.as_deref().map(digest).transpose()?;
        matches(&*self.base()?, &path, base.as_ref()).await?;
        let earlier = self.staged.iter().position(|staged| touches(staged, &path));
        let freed = match earlier.and_then(|at| self.staged.get(at)) {
            None => 0,
            Some(Staged::Write { content, base: first, .. }) if *first == base => content.len() as u64,
            Some(_) => {
                return Err(ChangeError::Conflict(format!(
                    "this call has already staged another change of {path}"
                )));
            }
        };
        let bytes = (self.staged_bytes - freed).saturating_add(content.len() as u64);
        if bytes > self.limits.staged_bytes {
            return Err(ChangeError::TooLarge(format!(
                "one call may stage {} bytes",
                self.limits.staged_bytes
            )));
        }
        if let Some(at) = earlier {
            self.staged.remove(at);
        }
        self.push(Staged::Write { path, content, base })?;
        self.staged_bytes = bytes;
        Ok(())
    }

    async fn stage_delete(&mut self, path: &str, base: &str) -> Answer<()> {
        let (path, base) = (parse(path)?, digest(base)?);
        matches(&*self.base()?, &path, Some(&base)).await?;
        self.untouched(&path)?;
        self.push(Staged::Delete { path, base })
    }

    async fn stage_rename(&mut self, source: &str, target: &str, base: &str) -> Answer<()> {
        let (source, target, base) = (parse(source)?, parse(target)?, digest(base)?);
        matches(&*self.base()?, &source, Some(&base)).await?;
        matches(&*self.base()?, &target, None).await?;
        self.untouched(&source)?;
        self.untouched(&target)?;
        self.push(Staged::Rename { source, target, base })
    }

    fn push(&mut self, staged: Staged) -> Answer<()> {
        if self.staged.len() >= MAX_STAGED {
            return Err(ChangeError::TooLarge(format!("one call may stage {MAX_STAGED} changes")));
        }
        self.staged.push(staged);
        Ok(())
    }

    fn untouched(&self, path: &WorkspacePath) -> Answer<()> {
        if self.staged.iter().any(|staged| touches(staged, path)) {
            return Err(ChangeError::Conflict(format!(
                "this call has already staged another change of {path}"
            )));
        }
        Ok(())
    }

    fn base(&self) -> Answer<Arc<dyn ChangeBase>> {
        let granted = self.granted(effects::FS_WRITE);
        let base = self.host.changes.as_ref().filter(|_| granted);
        base.cloned().ok_or_else(|| ChangeError::Denied(not_granted(effects::FS_WRITE)))
    }
}

/// Tells a guest early; whoever applies the changes checks again.
async fn matches(there: &dyn ChangeBase, path: &WorkspacePath, base: Option<&Digest>) -> Answer<()> {
    let current = current(there, path).await?;
    match (current.as_ref(), base) {
        (current, base) if current == base => Ok(()),
        (Some(_), None) => Err(ChangeError::Conflict(format!("{path} exists already"))),
        (None, Some(_)) => Err(ChangeError::Conflict(format!("{path} is not there any more"))),
        _ => Err(ChangeError::Conflict(format!("{path} has changed since it was read"))),
    }
}

async fn current(there: &dyn ChangeBase, path: &WorkspacePath) -> Answer<Option<Digest>> {
    there.digest(path).await.map_err(|error| match error {
        BaseError::Invalid(message) => ChangeError::Invalid(message),
        BaseError::Failed(message) => {
            ChangeError::Other(Other { kind: "failed".to_owned(), value: quoted(&message) })
        }
    })
}

fn touches(staged: &Staged, path: &WorkspacePath) -> bool {
    match staged {
        Staged::Write { path: at, .. } | Staged::Delete { path: at, .. } => at == path,
        Staged::Rename { source, target, .. } => source == path || target == path,
    }
}

fn parse(path: &str) -> Answer<WorkspacePath> {
    WorkspacePath::parse(path).map_err(|error: InvalidPath| ChangeError::Invalid(error.to_string()))
}

fn digest(text: &str) -> Answer<Digest> {
    text.parse().map_err(|error: model::id::InvalidId| ChangeError::Invalid(error.to_string()))
}

fn quoted(message: &str) -> String {
    serde_json::Value::from(message).to_string()
}
