//! The interfaces that need little: `state`, `log`, `progress`, `model`, `config` and the shared `types`.

use super::not_granted;
use crate::{
    bindings::tool::vteam::plugin::{
        config, log, model as completions, progress, state,
        types::{self, Other},
    },
    host::{Level, State, StateError},
    store::CallState,
};
use model::{
    grant::effects,
    message::{ModelFailure, ModelFailureKind},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

const MAX_KEY_BYTES: usize = 256;

impl types::Host for CallState {}

impl state::Host for CallState {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, state::StateError>> {
        Ok(match self.state(&key) {
            Ok(state) => state.get(&key).await.map_err(state_error),
            Err(error) => Err(error),
        })
    }

    async fn set(&mut self, key: String, value: Vec<u8>) -> wasmtime::Result<Result<(), state::StateError>> {
        Ok(match self.state(&key) {
            Ok(state) => state.set(&key, value).await.map_err(state_error),
            Err(error) => Err(error),
        })
    }

    async fn delete(&mut self, key: String) -> wasmtime::Result<Result<(), state::StateError>> {
        Ok(match self.state(&key) {
            Ok(state) => state.delete(&key).await.map_err(state_error),
            Err(error) => Err(error),
        })
    }

    async fn keys(&mut self) -> wasmtime::Result<Result<Vec<String>, state::StateError>> {
        Ok(match self.state("") {
            Ok(state) => state.keys().await.map_err(state_error),
            Err(error) => Err(error),
        })
    }
}

impl CallState {
    fn state(&self, key: &str) -> Result<Arc<dyn State>, state::StateError> {
        if key.len() > MAX_KEY_BYTES {
            return Err(state::StateError::Quota(format!("a key may have {MAX_KEY_BYTES} bytes")));
        }
        let granted = self.granted(effects::STATE);
        let state = self.host.state.as_ref().filter(|_| granted);
        state.cloned().ok_or_else(|| state::StateError::Denied(not_granted(effects::STATE)))
    }
}

fn state_error(error: StateError) -> state::StateError {
    match error {
        StateError::Quota(message) => state::StateError::Quota(message),
        StateError::Failed(message) => state::StateError::Other(other("failed", &message)),
    }
}

impl log::Host for CallState {
    async fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Trace => Level::Trace,
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        self.log.write(level, &message);
        Ok(())
    }
}

impl progress::Host for CallState {
    async fn emit(&mut self, kind: String, value: String) -> wasmtime::Result<()> {
        self.progress_bytes = self.progress_bytes.saturating_add((kind.len() + value.len()) as u64);
        if self.progress_bytes > self.limits.hostcall_bytes {
            return Ok(());
        }
        // News that is not JSON helps nobody, and nothing depends on it.
        if let Ok(value) = serde_json::from_str(&value) {
            self.host.progress.emit(&kind, value);
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Completion {
    #[serde(default)]
    system: Option<String>,
    prompt: String,
    #[serde(default)]
    max_tokens: Option<u32>,
}

impl completions::Host for CallState {
    async fn complete(
        &mut self,
        request: String,
    ) -> wasmtime::Result<Result<String, completions::ModelError>> {
        let granted = self.granted(effects::MODEL);
        let Some(model) = self.host.model.clone().filter(|_| granted) else {
            return Ok(Err(completions::ModelError::Denied(not_granted(effects::MODEL))));
        };
        let Completion { system, prompt, max_tokens } = match serde_json::from_str(&request) {
            Ok(request) => request,
            Err(error) => {
                return Ok(Err(completions::ModelError::Other(other("invalid", &error.to_string()))));
            }
        };
        Ok(model.complete(system, prompt, max_tokens).await.map_err(model_error))
    }
}

fn model_error(failure: ModelFailure) -> completions::ModelError {
    match failure.kind {
        ModelFailureKind::Budget => completions::ModelError::Budget(failure.message),
        ModelFailureKind::Invalid | ModelFailureKind::TooLong => {
            completions::ModelError::Other(other("invalid", &failure.message))
        }
        ModelFailureKind::Unauthorized
        | ModelFailureKind::Unavailable
        | ModelFailureKind::Truncated
        | ModelFailureKind::Unknown => completions::ModelError::Unavailable(failure.message),
    }
}

impl config::Host for CallState {
    async fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.host.config.get(&key).map(Value::to_string))
    }
}

fn other(kind: &str, message: &str) -> Other {
    Other { kind: kind.to_owned(), value: json!(message).to_string() }
}
