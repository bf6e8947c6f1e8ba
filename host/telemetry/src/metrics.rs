//! The process's metrics: one registry, handed to whoever measures, read by `/metrics`.

use prometheus_client::{encoding::text, registry::Registry};
use std::sync::{Arc, Mutex, PoisonError};

pub use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};

/// `Content-Type` of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Cheap to clone; all clones are one registry.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// Every metric's name gets the prefix `vteam_`.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Registry::with_prefix("vteam"))))
    }

    /// Adds a metric and returns it. `name` without prefix and unit suffix; counters get `_total` by themselves.
    pub fn add<M>(&self, name: &str, help: &str, metric: M) -> M
    where
        M: prometheus_client::registry::Metric + Clone,
    {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).register(name, help, metric.clone());
        metric
    }

    /// All metrics in the OpenMetrics text format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = String::new();
        let registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a `String` cannot fail.
        let _ = text::encode(&mut out, &registry);
        out
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Buckets for what takes microseconds to minutes, in seconds.
#[must_use]
pub fn seconds() -> Histogram {
    Histogram::new([
        0.000_05, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_read() {
        let metrics = Metrics::new();
        let runs = metrics.add("runs", "Runs started", Counter::<u64>::default());
        metrics.add("call_seconds", "Time of a tool call", seconds()).observe(0.2);
        runs.inc();
        let text = metrics.encode();
        assert!(text.contains("vteam_runs_total 1"), "{text}");
        assert!(text.contains("vteam_call_seconds_count 1"), "{text}");
    }
}
