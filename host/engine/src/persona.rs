//! What the host asks a persona. A persona imports nothing, so each answer is a function of what it is given.

use crate::{
    bindings::persona::{
        PersonaPlugin,
        exports::vteam::plugin::persona::{Leaf as GuestLeaf, Verdict},
    },
    call::CallFailure,
    plugin::{Entry, Inner, Nothing, Plugin},
    store::CallState,
};
use futures::future::BoxFuture;
use model::{Untrusted, limits::CallLimits};
use std::sync::Arc;
use wasmtime::Store;

/// A scalar of a submitted answer: RFC 6901 pointer, and the value as JSON text. Empty arrays and objects are `[]` and `{}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    pub pointer: String,
    pub value: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    Accept,
    /// What the model has to mend.
    Revise(Vec<Untrusted>),
}

type Context = Vec<(String, String)>;

impl Plugin {
    /// What shapes an acting session. `context` values are JSON text.
    ///
    /// # Errors
    /// When the component fails or is no persona.
    pub async fn system_prompt(
        &self,
        task: String,
        context: Context,
        limits: &CallLimits,
    ) -> Result<Untrusted, CallFailure> {
        let ask = ask(move |persona, store| {
            Box::pin(async move {
                persona.vteam_plugin_persona().call_system_prompt(store, &task, &context).await
            })
        });
        self.ask(limits, ask).await.map(Untrusted::new)
    }

    /// What asks for a structured answer.
    ///
    /// # Errors
    /// When the component fails or is no persona.
    pub async fn analysis_prompt(
        &self,
        task: String,
        context: Context,
        limits: &CallLimits,
    ) -> Result<Untrusted, CallFailure> {
        let ask = ask(move |persona, store| {
            Box::pin(async move {
                persona.vteam_plugin_persona().call_analysis_prompt(store, &task, &context).await
            })
        });
        self.ask(limits, ask).await.map(Untrusted::new)
    }

    /// JSON Schema of its analysis, as the component gives it; the manifest's is what was admitted.
    ///
    /// # Errors
    /// When the component fails or is no persona.
    pub async fn answer_schema(&self, limits: &CallLimits) -> Result<String, CallFailure> {
        let ask = ask(|persona, store| {
            Box::pin(async move { persona.vteam_plugin_persona().call_answer_schema(store).await })
        });
        self.ask(limits, ask).await
    }

    /// The gate, for an answer that was checked against the schema. A verdict of a later contract does not accept.
    ///
    /// # Errors
    /// When the component fails or is no persona.
    pub async fn judge(
        &self,
        answer: Vec<Leaf>,
        context: Context,
        limits: &CallLimits,
    ) -> Result<Judgement, CallFailure> {
        let leaves: Vec<GuestLeaf> =
            answer.into_iter().map(|Leaf { pointer, value }| GuestLeaf { pointer, value }).collect();
        let ask = ask(move |persona, store| {
            Box::pin(async move { persona.vteam_plugin_persona().call_judge(store, &leaves, &context).await })
        });
        Ok(match self.ask(limits, ask).await? {
            Verdict::Accept => Judgement::Accept,
            Verdict::Revise(reasons) => Judgement::Revise(reasons.into_iter().map(Untrusted::new).collect()),
            Verdict::Other(other) => Judgement::Revise(vec![other.value.into()]),
        })
    }

    async fn ask<T, A>(&self, limits: &CallLimits, ask: A) -> Result<T, CallFailure>
    where
        T: Send + 'static,
        A: for<'a> FnOnce(PersonaPlugin, &'a mut Store<CallState>) -> BoxFuture<'a, wasmtime::Result<T>>
            + Send
            + 'static,
    {
        self.enter(limits, move |inner, nothing| async move { inner.ask(nothing, ask).await }).await
    }
}

impl Inner {
    async fn ask<T, A>(self: Arc<Self>, nothing: Nothing, ask: A) -> Result<T, CallFailure>
    where
        T: Send + 'static,
        A: for<'a> FnOnce(PersonaPlugin, &'a mut Store<CallState>) -> BoxFuture<'a, wasmtime::Result<T>>
            + Send
            + 'static,
    {
        let Entry::Persona(pre) = &self.entry else {
            return Err(CallFailure::setup("this plugin is not a persona"));
        };
        let pre = pre.clone();
        self.empty(nothing, move |store: &mut Store<CallState>| {
            Box::pin(async move {
                let persona = pre.instantiate_async(&mut *store).await?;
                ask(persona, store).await
            })
        })
        .await
    }
}

/// Pins the closure's type: inference does not find the higher-ranked lifetime by itself.
fn ask<T, A>(ask: A) -> A
where
    A: for<'a> FnOnce(PersonaPlugin, &'a mut Store<CallState>) -> BoxFuture<'a, wasmtime::Result<T>>
        + Send
        + 'static,
{
    ask
}
