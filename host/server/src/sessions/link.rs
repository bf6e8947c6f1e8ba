//! One connection of a runner, as sessions see it.

use protocol::{
    control::{FromServer, Resume, Versions},
    exec::Property,
};
use tokio::sync::mpsc;

/// What the runner said first.
#[derive(Debug, Clone)]
pub struct Hello {
    pub versions: Versions,
    pub runner_version: String,
    pub engine_id: String,
    pub target: String,
    pub confinement: Vec<Property>,
    pub resumes: Option<Resume>,
}

/// Messages to the runner, in order. The connection ends when the session drops its side.
pub type ToRunner = mpsc::UnboundedSender<FromServer>;

/// Distinguishes a session's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub(super) u64);
