//! The process `vteam-compile`: a component on standard input, native code on standard output. The only producer of
//! native code.
//!
//! It holds no secret and signs nothing: the server that started it signs what it made. It reads its input, confines
//! itself, and only then looks at the bytes: admission, validation and Cranelift all run on untrusted input.
//!
//! Output: eight bytes of length (big endian), a [`Statement`] of that length as JSON, the native code. A refusal is
//! exit code 2 with a [`Refusal`] as one line of JSON on standard error.

pub mod args;

use engine::settings;
use manifest::NotAdmissible;
use model::id::Digest;
use protocol::artifact::Statement;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};

/// The largest component that is compiled at all; what a host admits may be less.
pub const MAX_COMPONENT_BYTES: usize = 64 << 20;

/// Exit code of a refusal.
pub const REFUSED: u8 = 2;

#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    #[error(transparent)]
    NotAdmissible(#[from] NotAdmissible),
    #[error("the component does not compile: {0:#}")]
    Native(wasmtime::Error),
    #[error("the compiler's settings do not hold on this machine: {0:#}")]
    Settings(wasmtime::Error),
}

/// What standard error says of a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub error: String,
}

impl Refusal {
    /// One line of JSON.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> String {
        let refusal = Self { error: format!("{error:#}") };
        serde_json::to_string(&refusal).unwrap_or(refusal.error)
    }
}

/// What has to be true of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Admissible: its manifest is inside.
    Finished,
    /// Of a known world and without unknown imports, to be asked what it is.
    Unfinished,
}

/// Native code of a component, and what there is to sign.
///
/// # Errors
/// When it is not admissible, or Cranelift refuses it.
pub fn precompile(component: &[u8], stage: Stage) -> Result<(Statement, Vec<u8>), CompileError> {
    match stage {
        Stage::Finished => drop(manifest::admit(component, MAX_COMPONENT_BYTES)?),
        Stage::Unfinished => drop(manifest::loadable(component, MAX_COMPONENT_BYTES)?),
    }
    let engine = compiler().map_err(CompileError::Settings)?;
    let native = engine.precompile_component(component).map_err(CompileError::Native)?;
    let statement = Statement {
        component: Digest::of(component),
        artifact: Digest::of(&native),
        engine_id: settings::engine_id(),
        target: settings::target(),
    };
    Ok((statement, native))
}

#[expect(unsafe_code, reason = "the baseline CPU is stated by Cranelift flags")]
fn compiler() -> wasmtime::Result<wasmtime::Engine> {
    let mut config = settings::config();
    config.target(settings::TRIPLE)?;
    for flag in settings::CPU_FLAGS {
        // SAFETY: these flags name CPU features; wasmtime checks on loading that the host has them.
        unsafe { config.cranelift_flag_enable(flag) };
    }
    wasmtime::Engine::new(&config)
}

/// One component from `input` to `output`, in a process that confines itself between reading and looking.
///
/// # Errors
/// When it cannot read, confine itself or write, or the component is refused ([`CompileError`]).
pub fn run(stage: Stage, input: impl Read, mut output: impl Write) -> anyhow::Result<()> {
    let mut component = Vec::new();
    // One byte more than allowed is refused as too big.
    input.take(MAX_COMPONENT_BYTES as u64 + 1).read_to_end(&mut component)?;
    confine::compiler(confine::Features::of_this_host(&[]))?;
    let (statement, native) = precompile(&component, stage)?;
    let header = serde_json::to_vec(&statement)?;
    output.write_all(&(header.len() as u64).to_be_bytes())?;
    output.write_all(&header)?;
    output.write_all(&native)?;
    output.flush()?;
    Ok(())
}
