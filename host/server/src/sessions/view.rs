//! What people see of a session and say of a new one.

use model::{
    Untrusted,
    id::{SessionName, SessionRef},
    limits::Limits,
};
use resources::Accepted;
use secrecy::SecretString;
use std::{sync::Arc, time::Duration};
use store::SessionRecord;

/// Who asks, as authenticated.
#[derive(Debug, Clone)]
pub struct Caller {
    pub name: Untrusted,
    /// What they proved it with, where it proves them elsewhere too. Never logged or stored.
    pub credential: Option<Arc<SecretString>>,
}

#[derive(Debug, Clone)]
pub struct NewSession {
    pub name: Option<SessionName>,
    /// Without a name: this and five random characters.
    pub generate_name: Option<String>,
    pub spec: Accepted,
}

/// A session that somebody else keeps the record of.
#[derive(Debug, Clone)]
pub struct Object {
    pub reference: SessionRef,
    pub created_by: Untrusted,
    pub spec: Accepted,
    /// It ran before: where its log is not here, it is not begun again.
    pub ran: bool,
}

#[derive(Debug, Clone)]
pub struct SessionView {
    pub record: SessionRecord,
    pub accepted: Accepted,
    /// Its runner is connected.
    pub connected: bool,
    /// Approvals and questions that wait.
    pub pending: usize,
    /// It rests, and its workspace ended with its pod: a further run would have none to go on in.
    pub workspace_gone: bool,
}

/// Times and limits that somebody decided.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// What a session may use where its specification does not say less.
    pub limits: Limits,
    /// How long an idle session keeps its runner where nobody said otherwise.
    pub inactivity: Duration,
    /// How long a runner may take to dial in, also again after its connection broke.
    pub start_timeout: Duration,
    /// Runners lost in a row before the session fails.
    pub max_losses: u32,
    pub backoff_base: Duration,
    pub backoff_cap: Duration,
    /// How long an interrupted run may take to end, and then a draining runner.
    pub drain: Duration,
    /// How long a runner may take for the diff of its workspace.
    pub snapshot: Duration,
}

impl Settings {
    #[must_use]
    pub const fn shipped() -> Self {
        Self {
            limits: Limits::shipped(),
            inactivity: Duration::from_secs(24 * 60 * 60),
            start_timeout: Duration::from_secs(30),
            max_losses: 3,
            backoff_base: Duration::from_secs(1),
            backoff_cap: Duration::from_secs(60),
            drain: Duration::from_secs(10),
            snapshot: Duration::from_secs(120),
        }
    }
}
