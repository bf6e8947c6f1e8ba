//! The engine: one pool, one linker and one runtime for all components of a process.
//!
//! Invariant: [`Engine::new`] is the only part that opens anything ( `/proc/self/pagemap`, the pool's address space); it
//! comes before the process confines itself, [`Engine::start`] after.

use crate::{
    bindings::{persona::PersonaPluginPre, tool::ToolPluginPre},
    call::CallFailure,
    limiter::Budget,
    link,
    plugin::{self, Entry, Plugin},
    settings,
    store::CallState,
    workers::{Begin, Workers},
};
use ed25519_dalek::{Signature, VerifyingKey};
use manifest::{Kind, Manifest};
use model::{
    id::Digest,
    limits::{CallLimits, SessionLimits},
};
use protocol::artifact::Signed;
use std::{
    future::Future,
    sync::{Arc, OnceLock},
};
use tokio::sync::Semaphore;
use wasmtime::{
    Enabled, InstanceAllocationStrategy, PoolingAllocationConfig,
    component::{Component, Linker},
};

/// Pages that a slot keeps between calls. With the page-map scan, 256 KiB is what makes a fresh instance cheap and lets
/// two threads run twice as many calls as one.
const KEEP_RESIDENT: usize = 256 << 10;
/// Tables of usual components are cleared by hand: giving their pages back interrupts every other core, at each call.
const TABLE_KEEP_RESIDENT: usize = 64 << 10;
/// Of one component: main module, shims and adapters.
const CORE_INSTANCES: u32 = 32;
const MEMORIES: u32 = 4;
const TABLES: u32 = 16;

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("the engine's pool for {calls} calls of {memory_bytes} bytes could not be made")]
    Pool { calls: u32, memory_bytes: u64, source: wasmtime::Error },
    #[error("the host functions could not be linked")]
    Link(#[source] wasmtime::Error),
    #[error("the engine's threads could not be started")]
    Threads(#[from] std::io::Error),
}

/// Why signed native code was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the native code is not signed with this server's key, or not for this component")]
    Signature,
    #[error("the native code is not what was signed")]
    Altered,
    /// Compile again: another release made it.
    #[error("the native code was made by engine {made_by} for {target}, this engine is {this}")]
    Engine { made_by: String, target: String, this: String },
    #[error("plugins of kind {0:?} are not known to this host")]
    Kind(String),
    #[error("the native code does not fit this host")]
    Native(#[source] wasmtime::Error),
    #[error("the component does not fit the contract")]
    Contract(#[source] wasmtime::Error),
}

#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("it could not describe itself: {0}")]
    Call(#[from] CallFailure),
}

#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) engine: wasmtime::Engine,
    pub(crate) budget: Arc<Budget>,
    tools: Linker<CallState>,
    /// Links no function: a persona imports none.
    personas: Linker<CallState>,
    slots: Arc<Semaphore>,
    workers: OnceLock<Workers>,
    concurrent_calls: u32,
}

impl Engine {
    /// Builds the pool and links the host functions. Starts no thread.
    ///
    /// # Errors
    /// When the pool's address space cannot be had.
    pub fn new(limits: &SessionLimits) -> Result<Self, EngineError> {
        let mut config = settings::config();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(limits)));
        let (calls, memory_bytes) = (limits.concurrent_calls, limits.memory_bytes);
        let engine = wasmtime::Engine::new(&config).map_err(|source| EngineError::Pool {
            calls,
            memory_bytes,
            source,
        })?;
        Ok(Self {
            inner: Arc::new(Inner {
                budget: Budget::new(memory_bytes),
                tools: link::linker(&engine).map_err(EngineError::Link)?,
                personas: link::types(&engine).map_err(EngineError::Link)?,
                slots: Arc::new(Semaphore::new(calls as usize)),
                workers: OnceLock::new(),
                concurrent_calls: calls,
                engine,
            }),
        })
    }

    /// Starts the engine's own runtime and its ticker; once, after the process confined itself. Calls before that fail.
    ///
    /// # Errors
    /// When threads cannot be started.
    pub fn start(&self) -> Result<(), EngineError> {
        if self.inner.workers.get().is_none() {
            let workers = Workers::start(self.inner.engine.clone(), self.inner.concurrent_calls)?;
            let _ = self.inner.workers.set(workers);
        }
        Ok(())
    }

    /// Verifies native code and loads these very bytes.
    ///
    /// # Errors
    /// When anything of it is not what was signed for this component and this engine.
    pub fn load(
        &self,
        native: &[u8],
        signed: &Signed,
        key: &VerifyingKey,
        component: &Digest,
        manifest: Manifest,
    ) -> Result<Plugin, LoadError> {
        verify(native, signed, key, component)?;
        let native = deserialize(&self.inner.engine, native)?;
        let entry = match &manifest.kind {
            Kind::Tool => self.inner.tool(&native),
            Kind::Persona => self.inner.persona(&native),
            Kind::Other(kind) => return Err(LoadError::Kind(kind.clone())),
        };
        let entry = entry.map_err(LoadError::Contract)?;
        Ok(Plugin::new(self.inner.clone(), manifest, component.clone(), entry))
    }

    /// What a component says of itself, as JSON, from an empty sandbox: for builds, where it has no manifest yet.
    ///
    /// # Errors
    /// When it is not what was signed, is of no known world, or its `describe` fails.
    pub async fn describe(
        &self,
        native: &[u8],
        signed: &Signed,
        key: &VerifyingKey,
        limits: CallLimits,
    ) -> Result<String, DescribeError> {
        verify(native, signed, key, &signed.statement.component)?;
        let native = deserialize(&self.inner.engine, native)?;
        let entry =
            self.inner.tool(&native).or_else(|_| self.inner.persona(&native)).map_err(LoadError::Contract)?;
        let inner = self.inner.clone();
        Ok(self
            .inner
            .run(Begin::Here, async move { plugin::describe(&inner, &entry, limits).await })
            .await??)
    }
}

impl Inner {
    fn tool(&self, component: &Component) -> wasmtime::Result<Entry> {
        self.tools.instantiate_pre(component).and_then(ToolPluginPre::new).map(Entry::Tool)
    }

    fn persona(&self, component: &Component) -> wasmtime::Result<Entry> {
        self.personas.instantiate_pre(component).and_then(PersonaPluginPre::new).map(Entry::Persona)
    }
}

fn pool(limits: &SessionLimits) -> PoolingAllocationConfig {
    let calls = limits.concurrent_calls;
    let mut pool = PoolingAllocationConfig::new();
    pool.pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(TABLE_KEEP_RESIDENT)
        .total_component_instances(calls)
        .total_core_instances(calls.saturating_mul(CORE_INSTANCES))
        .max_core_instances_per_component(CORE_INSTANCES)
        .total_memories(calls.saturating_mul(MEMORIES))
        .max_memories_per_component(MEMORIES)
        .max_memory_size(usize::try_from(limits.memory_bytes.min(4 << 30)).unwrap_or(usize::MAX))
        .total_tables(calls.saturating_mul(TABLES))
        .max_tables_per_component(TABLES)
        .max_tables_per_module(4)
        .total_stacks(calls.saturating_mul(2));
    pool
}

fn verify(native: &[u8], signed: &Signed, key: &VerifyingKey, component: &Digest) -> Result<(), LoadError> {
    let statement = &signed.statement;
    let signature = hex::decode(&signed.signature).ok().and_then(|bytes| Signature::from_slice(&bytes).ok());
    let signature = signature.ok_or(LoadError::Signature)?;
    key.verify_strict(&statement.signed_bytes(), &signature).map_err(|_| LoadError::Signature)?;
    if statement.component != *component {
        return Err(LoadError::Signature);
    }
    if statement.engine_id != settings::engine_id() || statement.target != settings::target() {
        let (made_by, target) = (statement.engine_id.clone(), statement.target.clone());
        let this = format!("{} for {}", settings::engine_id(), settings::target());
        return Err(LoadError::Engine { made_by, target, this });
    }
    if statement.artifact != Digest::of(native) { Err(LoadError::Altered) } else { Ok(()) }
}

#[expect(
    unsafe_code,
    reason = "loading native code is what this function is for; its caller has verified the bytes"
)]
fn deserialize(engine: &wasmtime::Engine, native: &[u8]) -> Result<Component, LoadError> {
    // SAFETY: `native` was produced by `vteam-compile` from this engine's settings: `verify` has checked the signature
    // over its digest, its component and the engine id, and the slice cannot change between check and load.
    unsafe { Component::deserialize(engine, native) }.map_err(LoadError::Native)
}

impl Inner {
    /// Runs `work` within the limit of concurrent calls. Dropping the future stops it.
    pub(crate) async fn run<T, F>(&self, begin: Begin, work: F) -> Result<T, CallFailure>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let workers =
            self.workers.get().ok_or_else(|| CallFailure::setup("the engine has not been started"))?;
        let slot = self.slots.clone().acquire_owned().await;
        let slot = slot.map_err(|_| CallFailure::setup("the engine is shutting down"))?;
        let limited = async move {
            let done = work.await;
            drop(slot);
            done
        };
        let done = workers.run(begin, limited).await;
        done.ok_or_else(|| CallFailure::setup("a call broke inside the engine"))
    }
}
