//! The host side of the contract, and which of WASI is there.
//!
//! Everything that a component may import is linked into one linker; what a call was not granted answers with a typed
//! denial. `wasi:sockets` is absent.

pub(crate) mod changes;
mod files;
pub(crate) mod http;
pub(crate) mod process;
mod small;

use crate::{bindings::tool, store::CallState};
use model::grant::effects;
use tool::vteam::plugin::types::Denial;
use wasmtime::{
    Engine,
    component::{HasSelf, Linker},
};
use wasmtime_wasi::{
    WasiView,
    cli::{WasiCli, WasiCliView},
    filesystem::{WasiFilesystem, WasiFilesystemView},
    p2::bindings as wasi,
    random::WasiRandom,
};

pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<CallState>> {
    let mut linker = Linker::new(engine);
    base(&mut linker)?;
    files::link(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    tool::ToolPlugin::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    Ok(linker)
}

/// The shared vocabulary and nothing else: it has types only.
pub(crate) fn types(engine: &Engine) -> wasmtime::Result<Linker<CallState>> {
    let mut linker = Linker::new(engine);
    tool::vteam::plugin::types::add_to_linker::<_, HasSelf<_>>(&mut linker, |state: &mut CallState| state)?;
    Ok(linker)
}

/// What every std guest imports; grants nothing.
fn base(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_proxy_interfaces_async(linker)?;
    wasi::random::insecure::add_to_linker::<_, WasiRandom>(linker, |state| state.ctx().ctx.random())?;
    wasi::random::insecure_seed::add_to_linker::<_, WasiRandom>(linker, |state| state.ctx().ctx.random())?;
    wasi::cli::exit::add_to_linker::<_, WasiCli>(linker, CallState::cli)?;
    wasi::cli::environment::add_to_linker::<_, WasiCli>(linker, CallState::cli)?;
    wasi::cli::terminal_input::add_to_linker::<_, WasiCli>(linker, CallState::cli)?;
    wasi::cli::terminal_output::add_to_linker::<_, WasiCli>(linker, CallState::cli)?;
    wasi::cli::terminal_stdin::add_to_linker::<_, WasiCli>(linker, CallState::cli)?;
    wasi::cli::terminal_stdout::add_to_linker::<_, WasiCli>(linker, CallState::cli)?;
    wasi::cli::terminal_stderr::add_to_linker::<_, WasiCli>(linker, CallState::cli)?;
    wasi::filesystem::preopens::add_to_linker::<_, WasiFilesystem>(linker, CallState::filesystem)?;
    wasi::filesystem::types::add_to_linker::<_, WasiFilesystem>(linker, CallState::filesystem)?;
    Ok(())
}

/// The typed denial of an effect that this call was not given.
pub(crate) fn not_granted(effect: &str) -> Denial {
    let what = match effect {
        effects::PROCESS => "run programs",
        effects::FS_WRITE => "change files",
        effects::STATE => "keep state",
        effects::MODEL => "use the model",
        effects::NET_FETCH => "fetch from the network",
        _ => "do that",
    };
    Denial {
        effect: effect.to_owned(),
        message: format!(
            "this call may not {what}: the effect {effect} is not granted to this tool (its manifest has to ask for it \
             and the project's settings have to grant it)"
        ),
    }
}

pub(crate) fn refused(effect: &str, reason: String) -> Denial {
    Denial { effect: effect.to_owned(), message: reason }
}
