//! What `/health` and `/ready` answer from: is the process up, has it started, and what is degraded.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Cheap to clone; all clones are one state.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    ready: bool,
    degraded: BTreeMap<String, String>,
}

impl Health {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Start-up is over, or (at the end) draining has begun.
    pub fn set_ready(&self, ready: bool) {
        self.lock().ready = ready;
    }

    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.lock().ready
    }

    /// Notes that a part works less well than it should, and what to do about it.
    pub fn degrade(&self, part: impl Into<String>, what_to_do: impl Into<String>) {
        self.lock().degraded.insert(part.into(), what_to_do.into());
    }

    pub fn recover(&self, part: &str) {
        self.lock().degraded.remove(part);
    }

    /// Parts that are degraded, by name, each with what to do.
    #[must_use]
    pub fn degraded(&self) -> BTreeMap<String, String> {
        self.lock().degraded.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn degraded_parts_come_and_go() {
        let health = Health::new();
        assert!(!health.is_ready());
        health.clone().set_ready(true);
        health.degrade("plugin acme.linter", "the new file is not valid; the last good one is in use");
        assert!(health.is_ready());
        assert_eq!(health.degraded().len(), 1);
        health.recover("plugin acme.linter");
        assert!(health.degraded().is_empty());
    }
}
