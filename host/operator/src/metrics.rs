//! What the operator counts.

use std::time::Duration;
use telemetry::metrics::{Counter, Family, Gauge, Histogram, seconds};

#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    all: telemetry::Metrics,
    writes: Family<[(&'static str, &'static str); 1], Counter>,
    conflicts: Counter,
    errors: Counter,
    turns: Histogram,
    leading: Gauge,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Write {
    Status,
    PodCreate,
    PodDelete,
    ClaimCreate,
    SessionDelete,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let all = telemetry::Metrics::new();
        Self {
            writes: all.add("operator_writes", "Writes to the API server", Family::default()),
            conflicts: all.add("operator_conflicts", "Writes that came too late", Counter::default()),
            errors: all.add("operator_errors", "Turns that ended in an error", Counter::default()),
            turns: all.add("operator_turn_seconds", "Time of a turn of one session", seconds()),
            leading: all.add("operator_leading", "Whether this operator works", Gauge::default()),
            all,
        }
    }

    pub(crate) fn wrote(&self, what: Write) {
        let what = match what {
            Write::Status => "status",
            Write::PodCreate => "pod_create",
            Write::PodDelete => "pod_delete",
            Write::ClaimCreate => "claim_create",
            Write::SessionDelete => "session_delete",
        };
        self.writes.get_or_create(&[("what", what)]).inc();
    }

    pub(crate) fn conflict(&self) {
        self.conflicts.inc();
    }

    pub(crate) fn error(&self) {
        self.errors.inc();
    }

    pub(crate) fn turn(&self, took: Duration) {
        self.turns.observe(took.as_secs_f64());
    }

    pub(crate) fn leads(&self, leads: bool) {
        self.leading.set(i64::from(leads));
    }

    pub(crate) fn encode(&self) -> String {
        self.all.encode()
    }
}
