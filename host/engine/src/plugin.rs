//! A loaded component, and calls of its tools.

use crate::{
    bindings::{
        persona::PersonaPluginPre,
        tool::{ToolPluginPre, exports::vteam::plugin::tool as guest},
    },
    call::{Call, CallEnd, CallFailure, Called, Staged},
    engine::Inner as EngineInner,
    host::Host,
    outcome,
    sandbox::{self, Ended},
    store::{CallState, Given, Witness},
    workers::Begin,
};
use futures::future::BoxFuture;
use manifest::Manifest;
use model::{grant::EffectSet, id::Digest, limits::CallLimits};
use std::sync::Arc;
use wasmtime::Store;

/// Cheap to clone.
#[derive(Clone)]
pub struct Plugin {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    engine: Arc<EngineInner>,
    manifest: Manifest,
    digest: Digest,
    pub(crate) entry: Entry,
}

/// Type-checked against its world, ready to be instantiated. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Entry {
    Tool(ToolPluginPre<CallState>),
    Persona(PersonaPluginPre<CallState>),
}

type Outcome = Result<guest::Outcome, guest::ToolError>;

impl Plugin {
    pub(crate) fn new(engine: Arc<EngineInner>, manifest: Manifest, digest: Digest, entry: Entry) -> Self {
        Self { inner: Arc::new(Inner { engine, manifest, digest, entry }) }
    }

    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.inner.manifest
    }

    /// Of the component.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.inner.digest
    }

    /// Calls a tool. Dropping the future ends the call; its store is thrown away in every case.
    pub async fn call(&self, call: Call) -> Called {
        let inner = self.inner.clone();
        let begin = Begin::of(&call.grants);
        let called = self.inner.engine.run(begin, async move { inner.call(call).await }).await;
        called.unwrap_or_else(|failure| Called { end: CallEnd::Failed(failure), seen: Vec::new() })
    }

    /// Runs `work` with nothing granted.
    pub(crate) async fn enter<T, F, W>(&self, limits: &CallLimits, work: W) -> Result<T, CallFailure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, CallFailure>> + Send + 'static,
        W: FnOnce(Arc<Inner>, Nothing) -> F,
    {
        let nothing = Nothing { limits: self.inner.limits(limits) };
        self.inner.engine.run(Begin::Here, work(self.inner.clone(), nothing)).await?
    }
}

/// An entry without a host.
pub(crate) struct Nothing {
    limits: CallLimits,
}

impl Inner {
    async fn call(&self, call: Call) -> Called {
        let Call { tool, input, context, limits, grants, host } = call;
        let Entry::Tool(pre) = &self.entry else {
            let failure = CallFailure::setup(format!("{} is not a tool plugin", self.manifest.id));
            return Called { end: CallEnd::Failed(failure), seen: Vec::new() };
        };
        let pre = pre.clone();
        let (witness, mut wanted) = Witness::new();
        let limits = self.limits(&limits);
        let given =
            Given { host, grants, limits, witness: witness.clone(), budget: self.engine.budget.clone() };
        let mut staged: Vec<Staged> = Vec::new();
        let ended: Ended<Outcome> = sandbox::run(
            &self.engine,
            given,
            &mut wanted,
            move |store| {
                Box::pin(async move {
                    let instance = pre.instantiate_async(&mut *store).await?;
                    instance.vteam_plugin_tool().call_call(store, tool.as_str(), &input, &context).await
                })
            },
            |state, outcome| {
                staged = std::mem::take(&mut state.staged);
                Ok(outcome)
            },
        )
        .await;
        let end = match ended {
            Ended::Returned(outcome) => outcome::end(outcome, staged, limits.output_bytes),
            Ended::Wanted(wanted) => {
                CallEnd::NeedsApproval { effect: wanted.effect, subject: wanted.subject }
            }
            Ended::Failed(failure) => CallEnd::Failed(failure),
        };
        Called { end, seen: witness.take() }
    }

    /// An entry that is given nothing and may want nothing.
    pub(crate) async fn empty<T>(
        &self,
        Nothing { limits }: Nothing,
        enter: impl Enter<T>,
    ) -> Result<T, CallFailure> {
        empty(&self.engine, limits, enter).await
    }

    /// A manifest can only lower what the host allows.
    fn limits(&self, host: &CallLimits) -> CallLimits {
        let Some(asked) = self.manifest.limits else { return *host };
        host.strictest(CallLimits {
            memory_bytes: asked.memory_bytes.unwrap_or(host.memory_bytes),
            cpu_ms: asked.cpu_ms.unwrap_or(host.cpu_ms),
            wall_ms: asked.wall_ms.unwrap_or(host.wall_ms),
            output_bytes: asked.output_bytes.unwrap_or(host.output_bytes),
            ..*host
        })
    }
}

/// Instantiates and calls in a store.
pub(crate) trait Enter<T>:
    for<'a> FnOnce(&'a mut Store<CallState>) -> BoxFuture<'a, wasmtime::Result<T>>
{
}

impl<T, F> Enter<T> for F where
    F: for<'a> FnOnce(&'a mut Store<CallState>) -> BoxFuture<'a, wasmtime::Result<T>>
{
}

async fn empty<T>(engine: &EngineInner, limits: CallLimits, enter: impl Enter<T>) -> Result<T, CallFailure> {
    let (witness, mut wanted) = Witness::new();
    let (host, grants, budget) = (Host::empty(), EffectSet::new(), engine.budget.clone());
    let given = Given { host, grants, limits, witness, budget };
    match sandbox::run(engine, given, &mut wanted, enter, |_, value| Ok(value)).await {
        Ended::Returned(value) => Ok(value),
        Ended::Failed(failure) => Err(failure),
        Ended::Wanted(wanted) => {
            Err(CallFailure::plugin(format!("it wanted {} in an empty sandbox", wanted.effect)))
        }
    }
}

/// The guest's own account of itself.
pub(crate) async fn describe(
    engine: &EngineInner,
    entry: &Entry,
    limits: CallLimits,
) -> Result<String, CallFailure> {
    let entry = entry.clone();
    empty(engine, limits, move |store: &mut Store<CallState>| {
        Box::pin(async move {
            match entry {
                Entry::Tool(pre) => {
                    let instance = pre.instantiate_async(&mut *store).await?;
                    instance.vteam_plugin_tool().call_describe(store).await
                }
                Entry::Persona(pre) => {
                    let instance = pre.instantiate_async(&mut *store).await?;
                    instance.vteam_plugin_persona().call_describe(store).await
                }
            }
        })
    })
    .await
}
