//! One plugin without a session: what it says of itself, and one call that may only read.

use crate::{
    host::gate::{CallGate, Permissions},
    settings::PluginFile,
};
use engine::{Call, CallEnd, DescribeError, Engine, Host, LoadError, Plugin};
use manifest::{FORMAT, Kind, Manifest};
use model::{
    grant::{PermissionMode, effects},
    id::InvalidId,
    limits::Limits,
};
use protocol::control::SessionPolicy;
use serde_json::json;
use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

#[derive(Debug, thiserror::Error)]
pub enum SingleError {
    #[error("the plugin cannot be loaded")]
    Load(#[from] LoadError),
    #[error(transparent)]
    Describe(#[from] DescribeError),
    #[error(transparent)]
    Name(#[from] InvalidId),
    #[error("--input is not a JSON object")]
    Input(#[source] serde_json::Error),
}

/// # Errors
/// When it cannot be loaded or fails.
pub(super) async fn describe(engine: &Engine, file: PluginFile) -> Result<String, SingleError> {
    let PluginFile { native, signed, key } = file;
    Ok(engine.describe(&native, &signed, &key, Limits::shipped().call).await?)
}

/// The outcome as JSON.
///
/// # Errors
/// When it cannot be loaded, or the input is no JSON.
pub(super) async fn call(
    engine: &Engine,
    file: PluginFile,
    tool: &str,
    input: &str,
    workspace: Option<PathBuf>,
) -> Result<String, SingleError> {
    let plugin = load(engine, &file)?;
    let input = crate::strict::parse(input).map_err(SingleError::Input)?;
    let policy = SessionPolicy {
        fetch_hosts: vec![],
        process_network: protocol::exec::Network::None,
        revoked: vec![],
    };
    let permissions = Permissions { mode: PermissionMode::Plan, policy, approved: Mutex::default() };
    let gate = Arc::new(CallGate::new(Arc::new(permissions), plugin.manifest().id.clone()));
    let call = Call {
        tool: tool.parse()?,
        input: crate::strict::canonical(&input),
        context: vec![("workspace".to_owned(), json!(engine::path::GUEST_ROOT).to_string())],
        limits: Limits::shipped().call,
        grants: [effects::FS_READ.parse()?].into(),
        host: Host { workspace, gate, ..Host::empty() },
    };
    let shown = match plugin.call(call).await.end {
        CallEnd::Done { content, observations, staged } => {
            json!({"outcome": "done", "content": content, "observations": observations, "staged": staged.len()})
        }
        CallEnd::NeedsInput { request, state: _ } => json!({"outcome": "needs-input", "request": request}),
        CallEnd::Refused(error) => {
            json!({"outcome": "refused", "blame": error.blame(), "message": error.message()})
        }
        CallEnd::NeedsApproval { effect, subject } => {
            json!({"outcome": "needs-approval", "effect": effect, "subject": subject})
        }
        CallEnd::Failed(failure) => {
            json!({"outcome": "failed", "blame": failure.blame, "message": failure.message})
        }
    };
    Ok(shown.to_string())
}

/// Under a stand-in for its manifest, which is in the component and not in its native code.
fn load(engine: &Engine, file: &PluginFile) -> Result<Plugin, SingleError> {
    let manifest = Manifest {
        manifest: FORMAT,
        id: "local.plugin".parse()?,
        version: "0.0.0".to_owned(),
        kind: Kind::Tool,
        description: String::new(),
        tools: vec![],
        persona: None,
        asks: vec![],
        settings: None,
        limits: None,
    };
    let PluginFile { native, signed, key } = file;
    Ok(engine.load(native, signed, key, &signed.statement.component, manifest)?)
}
