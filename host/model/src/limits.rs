//! Limits. None has a `Default`: [`Limits::shipped`] is the one place where somebody decided them.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What one call of a component may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CallLimits {
    /// Linear memory of all instances of the call, bytes.
    pub memory_bytes: u64,
    /// Elements of all tables.
    pub table_elements: u32,
    /// Core instances of one component.
    pub instances: u32,
    /// Processor time of the guest, in milliseconds (counted in epoch ticks of 10 ms).
    pub cpu_ms: u64,
    /// Time from start to end, host waits included, in milliseconds. Waiting for a person does not count.
    pub wall_ms: u64,
    /// Bytes of the outcome.
    pub output_bytes: u64,
    /// Bytes to the plugin's log, stdout and stderr together.
    pub log_bytes: u64,
    /// Bytes that a guest may hand over in one call of the host, that it may fetch, and that its progress may have.
    pub hostcall_bytes: u64,
    /// Open resources: files, children, requests.
    pub handles: u32,
    /// Bytes staged in `changes`.
    pub staged_bytes: u64,
}

/// What a runner may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionLimits {
    /// Calls of components under way at once.
    pub concurrent_calls: u32,
    /// Linear memory of all calls under way, bytes.
    pub memory_bytes: u64,
    /// Model requests of one run.
    pub max_turns: u32,
    /// Active time of one run, milliseconds. Hard.
    pub run_ms: u64,
    /// Bytes below the workspace.
    pub workspace_bytes: u64,
    /// Bytes of events that the session may store.
    pub event_bytes: u64,
    /// Bytes of plugin state per plugin.
    pub state_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    pub call: CallLimits,
    pub session: SessionLimits,
}

impl Limits {
    /// What is in force where nobody said otherwise.
    #[must_use]
    pub const fn shipped() -> Self {
        const MIB: u64 = 1 << 20;
        Self {
            call: CallLimits {
                memory_bytes: 64 * MIB,
                table_elements: 20_000,
                instances: 16,
                cpu_ms: 10_000,
                wall_ms: 120_000,
                output_bytes: MIB,
                log_bytes: 256 << 10,
                hostcall_bytes: 64 * MIB,
                handles: 64,
                staged_bytes: 16 * MIB,
            },
            session: SessionLimits {
                concurrent_calls: 8,
                memory_bytes: 256 * MIB,
                max_turns: 200,
                run_ms: 4 * 60 * 60 * 1000,
                workspace_bytes: 4096 * MIB,
                event_bytes: 512 * MIB,
                state_bytes: MIB,
            },
        }
    }
}

impl CallLimits {
    /// The stricter of the two, field by field: what a manifest asks can only lower what the host allows.
    #[must_use]
    pub fn strictest(self, asked: Self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.min(asked.memory_bytes),
            table_elements: self.table_elements.min(asked.table_elements),
            instances: self.instances.min(asked.instances),
            cpu_ms: self.cpu_ms.min(asked.cpu_ms),
            wall_ms: self.wall_ms.min(asked.wall_ms),
            output_bytes: self.output_bytes.min(asked.output_bytes),
            log_bytes: self.log_bytes.min(asked.log_bytes),
            hostcall_bytes: self.hostcall_bytes.min(asked.hostcall_bytes),
            handles: self.handles.min(asked.handles),
            staged_bytes: self.staged_bytes.min(asked.staged_bytes),
        }
    }

    /// Of a call that may run native programs: those may take ten minutes, and the call one more to tell of it.
    #[must_use]
    pub fn with_programs(self) -> Self {
        Self { wall_ms: self.wall_ms.max(11 * 60 * 1000), ..self }
    }

    #[must_use]
    pub const fn wall(&self) -> Duration {
        Duration::from_millis(self.wall_ms)
    }
}
