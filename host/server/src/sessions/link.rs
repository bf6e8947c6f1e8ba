//! One connection of a runner, as sessions see it.

use protocol::{
    control::{FromServer, Resume, Versions},
    exec::Property,
};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_util::sync::CancellationToken;

/// Messages that a runner has left unread before its connection ends. One that reads has a few at most.
const UNREAD: usize = 256;

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
pub struct ToRunner {
    messages: mpsc::Sender<FromServer>,
    overflown: CancellationToken,
}

impl ToRunner {
    /// With the other end, and what says that the runner does not read: it is to dial in again then.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<FromServer>, CancellationToken) {
        let (messages, other_end) = mpsc::channel(UNREAD);
        let overflown = CancellationToken::new();
        (Self { messages, overflown: overflown.clone() }, other_end, overflown)
    }

    /// Does not wait: whoever decides about a session has others to listen to.
    pub(super) fn send(&self, message: FromServer) {
        if let Err(TrySendError::Full(_)) = self.messages.try_send(message) {
            self.overflown.cancel();
        }
    }
}

/// Distinguishes a session's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub(super) u64);
