//! The state of one call's store: what the host functions see.

use crate::{
    call::{CallFailure, Staged},
    host::{Host, LogSource},
    limiter::{Budget, Limiter},
    link::http::FetchHooks,
    path::GUEST_ROOT,
    stdio::{CallLog, Print},
};
use model::{
    approval::Subject,
    event::Observation,
    grant::{EffectSet, effects},
    id::Effect,
    limits::CallLimits,
};
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use wasmtime_wasi::{FsPerms, ResourceTable, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// Handles that every std guest holds: stdio, the preopen, a pollable.
pub(crate) const BASE_HANDLES: usize = 16;
const MAX_RANDOM_BYTES: u64 = 1 << 20;
const MAX_HEADER_BYTES: usize = 64 << 10;

/// An effect that a person has to permit first.
pub(crate) struct Wanted {
    pub(crate) effect: Effect,
    pub(crate) subject: Subject,
}

/// What outlives a host function: fetches run beside the guest.
#[derive(Clone)]
pub(crate) struct Witness {
    seen: Arc<Mutex<Vec<Observation>>>,
    wanted: mpsc::UnboundedSender<Wanted>,
}

impl Witness {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Wanted>) {
        let (wanted, receiver) = mpsc::unbounded_channel();
        (Self { seen: Arc::default(), wanted }, receiver)
    }

    pub(crate) fn saw(&self, kind: &str, value: Value) {
        let observation = Observation { by: "host".to_owned(), kind: kind.to_owned(), value };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(observation);
    }

    pub(crate) fn take(&self) -> Vec<Observation> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the call: whoever runs it drops it, so this never returns.
    pub(crate) async fn ask(&self, effect: Effect, subject: Subject) -> std::convert::Infallible {
        let _ = self.wanted.send(Wanted { effect, subject });
        std::future::pending().await
    }
}

pub(crate) struct CallState {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: FetchHooks,
    pub(crate) table: ResourceTable,
    pub(crate) limiter: Limiter,
    pub(crate) limits: CallLimits,
    pub(crate) grants: EffectSet,
    pub(crate) host: Host,
    pub(crate) log: Arc<CallLog>,
    pub(crate) witness: Witness,
    pub(crate) staged: Vec<Staged>,
    pub(crate) staged_bytes: u64,
    pub(crate) progress_bytes: u64,
}

pub(crate) struct Given {
    pub(crate) host: Host,
    pub(crate) grants: EffectSet,
    pub(crate) limits: CallLimits,
    pub(crate) witness: Witness,
    pub(crate) budget: Arc<Budget>,
}

impl CallState {
    pub(crate) fn new(given: Given) -> Result<Self, CallFailure> {
        let Given { host, grants, limits, witness, budget } = given;
        let log = CallLog::new(host.log.clone(), limits.log_bytes);
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles as usize + BASE_HANDLES);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(MAX_HEADER_BYTES);
        Ok(Self {
            wasi: wasi(&host, &grants, &log)?,
            http,
            hooks: FetchHooks::new(&host, &grants, &limits, &log, &witness),
            table,
            limiter: Limiter::new(budget, limits),
            limits,
            grants,
            host,
            log,
            witness,
            staged: Vec::new(),
            staged_bytes: 0,
            progress_bytes: 0,
        })
    }

    pub(crate) fn granted(&self, effect: &str) -> bool {
        self.grants.iter().any(|granted| granted.as_str() == effect)
    }
}

impl Drop for CallState {
    fn drop(&mut self) {
        self.log.flush();
    }
}

/// WASI without arguments, environment, stdin or network. The workspace is read-only: changes are staged.
fn wasi(host: &Host, grants: &EffectSet, log: &Arc<CallLog>) -> Result<WasiCtx, CallFailure> {
    let mut builder = WasiCtx::builder();
    builder
        .stdout(Print { log: log.clone(), source: LogSource::Stdout })
        .stderr(Print { log: log.clone(), source: LogSource::Stderr })
        .max_random_size(MAX_RANDOM_BYTES)
        .allow_tcp(false)
        .allow_udp(false)
        // Files are opened without waiting (see `link::files`), so reading one on the worker is a page-cache copy:
        // 9 us instead of 30 to 140 through a blocking pool.
        .allow_blocking_current_thread(true);
    if let Some(workspace) = &host.workspace
        && grants.iter().any(|effect| effect.as_str() == effects::FS_READ)
    {
        builder
            .preopened_dir(workspace, GUEST_ROOT, FsPerms::ReadOnly)
            .map_err(|_| CallFailure::setup("the workspace cannot be opened"))?;
    }
    Ok(builder.build())
}

impl WasiView for CallState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for CallState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}
