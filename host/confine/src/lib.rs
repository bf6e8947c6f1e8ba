//! Confines processes: the runner and the compiler confine themselves with [`runner`] and [`compiler`]; native
//! programs run under `vteam-exec` ([`launch`]), one per session beside the runner.
//!
//! Confinement is a table of properties. Each has a mechanism and a canary that tries to break it, and what the canary
//! could do is what counts; [`doctor`] shows the table of this host.
//!
//! It deliberately knows nothing of sessions, approvals, plugins or WebAssembly: whoever may ask for a program was
//! decided before the request arrives here.

mod compiler;
mod cover;
mod doctor;
mod domain;
pub mod launch;
mod limits;
mod mask;
mod privileges;
mod runner;
mod seccomp;
mod sys;

pub use compiler::compiler;
pub use cover::{CoverError, Covers, Git, GitKind, Gits, gits, take_stock, work_in_place};
pub use doctor::{DoctorError, doctor};
pub use limits::ProgramLimits;
pub use mask::{BadMask, Features, Mask};
pub use runner::{Dial, RunnerPaths, runner};
pub use sys::{hold_termination, inherit, release_termination};

/// What a process that confined itself is held by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confined {
    /// Version of Landlock in force, 0 for none: then files are not restricted.
    pub landlock_abi: u32,
    /// Whether the capability bounding set is empty too; a process without privileges cannot empty it, and
    /// no-new-privileges makes it moot.
    pub bounding_set_empty: bool,
}

/// Why a process could not confine itself. It must end: it may hold half of what it should.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    #[error("capabilities could not be given up")]
    Privileges(#[source] std::io::Error),
    #[error("the Landlock domain could not be entered")]
    Landlock(#[source] landlock::RulesetError),
    #[error("the system call filter could not be installed")]
    Seccomp(#[source] seccomp::FilterError),
    #[error("a resource limit could not be set")]
    Limits(#[source] std::io::Error),
}
