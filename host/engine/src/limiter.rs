//! Memory, tables and instances of one call, and the memory of all calls together.

use model::limits::CallLimits;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use wasmtime::ResourceLimiter;

/// Linear memory of all calls under way.
#[derive(Debug)]
pub(crate) struct Budget {
    left: AtomicU64,
}

impl Budget {
    pub(crate) fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(bytes) })
    }

    fn take(&self, bytes: u64) -> bool {
        self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(bytes)).is_ok()
    }

    fn give(&self, bytes: u64) {
        self.left.fetch_add(bytes, Ordering::AcqRel);
    }
}

/// What a call asked for and did not get: says why it trapped after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    CallMemory,
    SessionMemory,
    Table,
}

#[derive(Debug)]
pub(crate) struct Limiter {
    budget: Arc<Budget>,
    limits: CallLimits,
    memory: u64,
    last_growth: u64,
    table_elements: usize,
    pub(crate) denied: Option<Denied>,
}

impl Limiter {
    pub(crate) fn new(budget: Arc<Budget>, limits: CallLimits) -> Self {
        Self { budget, limits, memory: 0, last_growth: 0, table_elements: 0, denied: None }
    }

    fn deny(&mut self, why: Denied) -> wasmtime::Result<bool> {
        self.denied = Some(why);
        Ok(false)
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current) as u64;
        if self.memory.saturating_add(growth) > self.limits.memory_bytes {
            return self.deny(Denied::CallMemory);
        }
        if !self.budget.take(growth) {
            return self.deny(Denied::SessionMemory);
        }
        self.memory += growth;
        self.last_growth = growth;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        let growth = std::mem::take(&mut self.last_growth);
        self.memory -= growth;
        self.budget.give(growth);
        self.denied = Some(Denied::CallMemory);
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.table_elements.saturating_add(desired.saturating_sub(current));
        if total > self.limits.table_elements as usize {
            return self.deny(Denied::Table);
        }
        self.table_elements = total;
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.limits.instances as usize
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.budget.give(self.memory);
    }
}
