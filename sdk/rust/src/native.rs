//! Stands in for the host when a plugin is compiled natively, so that its tests run with `cargo test`: a real folder,
//! real programs, and what the plugin did to look at afterwards. One host per thread, which is one per test.
//!
//! It grants everything and confines nothing; never use it to run a plugin of somebody else.

pub(crate) mod process;

use crate::{
    Context, Outcome, Plugin, ToolError, bindings::exports::vteam::plugin::tool::Guest, http::Response,
};
use serde_json::{Value, json};
use std::{cell::RefCell, collections::BTreeMap, path::Path, path::PathBuf};

/// A change that the host would apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Staged {
    Write { path: String, content: Vec<u8>, base: Option<String> },
    Delete { path: String, base: String },
    Rename { source: String, target: String, base: String },
}

#[derive(Default)]
struct Host {
    workspace: PathBuf,
    staged: Vec<Staged>,
    state: BTreeMap<String, Vec<u8>>,
    progress: Vec<(String, String)>,
    config: BTreeMap<String, Value>,
    web: BTreeMap<String, Response>,
    completion: Option<String>,
    prompts: Vec<String>,
}

thread_local! {
    static HOST: RefCell<Host> = RefCell::default();
}

fn host<R>(use_it: impl FnOnce(&mut Host) -> R) -> R {
    HOST.with_borrow_mut(use_it)
}

/// Starts over, with this folder as the workspace.
pub fn workspace(root: &Path) -> Context {
    host(|h| *h = Host { workspace: root.to_owned(), ..Host::default() });
    context(&[])
}

/// The context of a call, with further keys.
#[must_use]
pub fn context(more: &[(&str, Value)]) -> Context {
    let root = json!(host(|h| h.workspace.clone())).to_string();
    let more = more.iter().map(|(key, value)| ((*key).to_owned(), value.to_string()));
    Context::new([("workspace".to_owned(), root)].into_iter().chain(more).collect())
}

/// Calls a tool as the host does.
///
/// # Errors
/// The tool's own.
pub fn call<P: Plugin>(tool: &str, input: &Value, context: &Context) -> Result<Outcome, ToolError> {
    P::info().call(tool, &input.to_string(), context)
}

/// The manifest's body.
#[must_use]
pub fn describe<P: Plugin>() -> Value {
    serde_json::from_str(&<P as Guest>::describe()).unwrap_or_default()
}

/// What was staged since the last time.
#[must_use]
pub fn take_staged() -> Vec<Staged> {
    host(|h| std::mem::take(&mut h.staged))
}

/// What was emitted since the last time, by kind, as JSON text.
#[must_use]
pub fn take_progress() -> Vec<(String, String)> {
    host(|h| std::mem::take(&mut h.progress))
}

/// What the model was asked since the last time, as the request's JSON text.
#[must_use]
pub fn take_prompts() -> Vec<String> {
    host(|h| std::mem::take(&mut h.prompts))
}

pub fn set_config(key: &str, value: Value) {
    host(|h| _ = h.config.insert(key.to_owned(), value));
}

/// What this URL answers; others are denied.
pub fn serve(url: &str, response: Response) {
    host(|h| _ = h.web.insert(url.to_owned(), response));
}

/// What the model answers; without it completions are denied.
pub fn answer_completions(text: &str) {
    host(|h| h.completion = Some(text.to_owned()));
}

fn denied(effect: &str) -> crate::Denial {
    crate::Denial { effect: effect.to_owned(), message: format!("{effect} was not granted") }
}

pub(crate) mod changes {
    use super::{Staged, host};
    use crate::changes::ChangeError;
    use sha2::{Digest, Sha256};

    pub(crate) fn digest(path: &str) -> Result<Option<String>, ChangeError> {
        let file = host(|h| h.workspace.join(path));
        match std::fs::symlink_metadata(&file) {
            Ok(meta) if !meta.is_file() => Err(ChangeError::Invalid(format!("{path} is not a regular file"))),
            Ok(_) => match std::fs::read(&file) {
                Ok(bytes) => Ok(Some(format!("sha256:{}", hex::encode(Sha256::digest(bytes))))),
                Err(error) => Err(ChangeError::Invalid(format!("{path}: {error}"))),
            },
            Err(_) => Ok(None),
        }
    }

    pub(crate) fn write(path: &str, content: &[u8], base: Option<&str>) -> Result<(), ChangeError> {
        check(path, base)?;
        stage(Staged::Write {
            path: path.to_owned(),
            content: content.to_vec(),
            base: base.map(str::to_owned),
        });
        Ok(())
    }

    pub(crate) fn delete(path: &str, base: &str) -> Result<(), ChangeError> {
        check(path, Some(base))?;
        stage(Staged::Delete { path: path.to_owned(), base: base.to_owned() });
        Ok(())
    }

    pub(crate) fn rename(source: &str, target: &str, base: &str) -> Result<(), ChangeError> {
        check(source, Some(base))?;
        stage(Staged::Rename { source: source.to_owned(), target: target.to_owned(), base: base.to_owned() });
        Ok(())
    }

    fn check(path: &str, base: Option<&str>) -> Result<(), ChangeError> {
        if digest(path)?.as_deref() == base { Ok(()) } else { Err(ChangeError::Conflict(path.to_owned())) }
    }

    fn stage(change: Staged) {
        host(|h| h.staged.push(change));
    }
}

pub(crate) mod state {
    use super::host;
    use crate::state::StateError;

    pub(crate) fn get(key: &str) -> Result<Option<Vec<u8>>, StateError> {
        Ok(host(|h| h.state.get(key).cloned()))
    }

    pub(crate) fn set(key: &str, value: &[u8]) -> Result<(), StateError> {
        host(|h| _ = h.state.insert(key.to_owned(), value.to_vec()));
        Ok(())
    }

    pub(crate) fn delete(key: &str) -> Result<(), StateError> {
        host(|h| _ = h.state.remove(key));
        Ok(())
    }

    pub(crate) fn keys() -> Result<Vec<String>, StateError> {
        Ok(host(|h| h.state.keys().cloned().collect()))
    }
}

pub(crate) mod config {
    pub(crate) fn get(key: &str) -> Option<String> {
        super::host(|h| h.config.get(key).map(ToString::to_string))
    }
}

pub(crate) mod log {
    #[expect(clippy::print_stderr, reason = "the test's output is where a test's log goes")]
    pub(crate) fn write(level: crate::log::Level, message: &str) {
        eprintln!("{level:?}: {message}");
    }
}

pub(crate) mod progress {
    pub(crate) fn emit(kind: &str, value: &str) {
        super::host(|h| h.progress.push((kind.to_owned(), value.to_owned())));
    }
}

pub(crate) mod model {
    use super::{denied, host};
    use crate::model::ModelError;

    pub(crate) fn complete(request: &str) -> Result<String, ModelError> {
        host(|h| {
            h.prompts.push(request.to_owned());
            h.completion.clone().ok_or_else(|| ModelError::Denied(denied("model")))
        })
    }
}

pub(crate) mod http {
    use super::host;
    use crate::http::{FetchError, Response};

    pub(crate) fn get(url: &str, _: &[(&str, &str)], max_bytes: usize) -> Result<Response, FetchError> {
        let found = host(|h| h.web.get(url).cloned());
        let mut response = found.ok_or_else(|| FetchError::Denied(format!("{url} was not granted")))?;
        response.cut |= response.body.len() > max_bytes;
        response.body.truncate(max_bytes);
        Ok(response)
    }
}
