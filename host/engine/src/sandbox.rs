//! Runs one entry into a component in a fresh store, through all limits, and says how it ended.

use crate::{
    call::CallFailure,
    engine::Inner,
    limiter::Denied,
    store::{CallState, Given, Wanted},
};
use futures::future::BoxFuture;
use model::limits::CallLimits;
use rustix::time::{ClockId, clock_gettime};
use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};
use tokio::{sync::mpsc, time::timeout};
use wasmtime::{Store, Trap, UpdateDeadline};

pub(crate) enum Ended<T> {
    Returned(T),
    Wanted(Wanted),
    Failed(CallFailure),
}

/// `enter` instantiates and calls; its future is dropped when the call has to end before it.
pub(crate) async fn run<T>(
    engine: &Inner,
    given: Given,
    wanted: &mut mpsc::UnboundedReceiver<Wanted>,
    enter: impl for<'a> FnOnce(&'a mut Store<CallState>) -> BoxFuture<'a, wasmtime::Result<T>>,
    finish: impl FnOnce(&mut CallState, T) -> Result<T, CallFailure>,
) -> Ended<T> {
    let limits = given.limits;
    let state = match CallState::new(given) {
        Ok(state) => state,
        Err(failure) => return Ended::Failed(failure),
    };
    let meter = Arc::new(Meter::default());
    let mut store = store(engine, state, &meter);
    let returned = {
        let guest = timeout(limits.wall(), Metered { meter: &meter, guest: enter(&mut store) });
        let guest = pin!(guest);
        tokio::select! {
            biased;
            Some(wanted) = wanted.recv() => return Ended::Wanted(wanted),
            returned = guest => returned,
        }
    };
    match returned {
        Ok(Ok(value)) => finish(store.data_mut(), value).map_or_else(Ended::Failed, Ended::Returned),
        Ok(Err(error)) => Ended::Failed(explain(&error, store.data().limiter.denied, &limits)),
        Err(_) => Ended::Failed(CallFailure::plugin(format!(
            "the call was stopped after {} s: it may take no longer",
            seconds(limits.wall_ms)
        ))),
    }
}

fn store(engine: &Inner, state: CallState, meter: &Arc<Meter>) -> Store<CallState> {
    let limits = state.limits;
    let mut store = Store::new(&engine.engine, state);
    store.limiter(|state| &mut state.limiter);
    store.set_hostcall_fuel(usize::try_from(limits.hostcall_bytes).unwrap_or(usize::MAX));
    store.set_max_component_handles(limits.handles as usize + crate::store::BASE_HANDLES);
    store.set_epoch_deadline(1);
    let meter = meter.clone();
    store.epoch_deadline_callback(move |_| {
        if meter.spent_ms() >= limits.cpu_ms { Err(CpuSpent.into()) } else { Ok(UpdateDeadline::Yield(1)) }
    });
    store
}

#[derive(Debug, thiserror::Error)]
#[error("processor time is spent")]
struct CpuSpent;

fn explain(error: &wasmtime::Error, denied: Option<Denied>, limits: &CallLimits) -> CallFailure {
    match denied {
        Some(Denied::CallMemory) => {
            return CallFailure::plugin(format!(
                "the plugin needed more memory than the {} that a call may use",
                mib(limits.memory_bytes)
            ));
        }
        Some(Denied::SessionMemory) => {
            return CallFailure::setup(
                "all calls of this session together need more memory than it may use: try fewer at once",
            );
        }
        Some(Denied::Table) => {
            return CallFailure::plugin(format!(
                "the plugin needs more than {} table elements",
                limits.table_elements
            ));
        }
        None => {}
    }
    if error.is::<CpuSpent>() {
        return CallFailure::plugin(format!(
            "the plugin used its {} s of processor time",
            seconds(limits.cpu_ms)
        ));
    }
    if error.is::<wasmtime_wasi::I32Exit>() {
        return CallFailure::plugin("the plugin exited instead of answering; its log may say why");
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::UnreachableCodeReached) => {
            CallFailure::plugin("the plugin crashed (a panic); its log may say why")
        }
        Some(Trap::StackOverflow) => CallFailure::plugin("the plugin ran out of stack: it recursed too deep"),
        Some(trap) => CallFailure::plugin(format!("the plugin crashed: {trap}")),
        None => CallFailure::plugin(format!(
            "the plugin was stopped: {}",
            limit_text(&error.root_cause().to_string(), limits)
        )),
    }
}

/// wasmtime's words for two limits say what it counted, not what to do.
fn limit_text(cause: &str, limits: &CallLimits) -> String {
    if cause.contains("resource table has no free keys") || cause.contains("handle limit") {
        return format!("it holds more than {} files or other handles open", limits.handles);
    }
    if cause.contains("copied between the host and the guest") {
        return format!("it handed over more than {} at once", mib(limits.hostcall_bytes));
    }
    cause.to_owned()
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

#[expect(clippy::cast_precision_loss, reason = "shown to people")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

/// Processor time of one call, whichever thread polls it. Waiting does not count.
#[derive(Default)]
struct Meter {
    used_ns: AtomicU64,
    /// The polling thread's clock when the poll began.
    since_ns: AtomicU64,
}

impl Meter {
    fn spent_ms(&self) -> u64 {
        let running = thread_ns().saturating_sub(self.since_ns.load(Ordering::Relaxed));
        (self.used_ns.load(Ordering::Relaxed) + running) / 1_000_000
    }
}

struct Metered<'a, T> {
    meter: &'a Meter,
    guest: BoxFuture<'a, T>,
}

impl<T> Future for Metered<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let begun = thread_ns();
        self.meter.since_ns.store(begun, Ordering::Relaxed);
        let polled = self.guest.as_mut().poll(context);
        self.meter.used_ns.fetch_add(thread_ns().saturating_sub(begun), Ordering::Relaxed);
        polled
    }
}

fn thread_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}
