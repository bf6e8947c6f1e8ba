//! Being asked to end by a signal, as a pod that is deleted asks: what is to be said is said, as when the server asks.

use protocol::control::FromServer;
use std::{io, time::Duration};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::timeout,
};

/// Of the time that there is, what is left for the end of the process itself.
const LAST: Duration = Duration::from_millis(300);

pub(super) struct Termination(Signal);

impl Termination {
    /// From here on the signal has no other effect. One that was held comes now.
    pub(super) fn heed() -> io::Result<Self> {
        let heard = signal(SignalKind::terminate())?;
        confine::release_termination();
        Ok(Self(heard))
    }

    /// The first signal asks for a drain by `inbox`; returns when another one comes or the time is over.
    pub(super) async fn over(mut self, inbox: mpsc::UnboundedSender<FromServer>, grace: Duration) {
        self.0.recv().await;
        tracing::info!("asked to end");
        let deadline_ms = u64::try_from(grace.saturating_sub(LAST).as_millis()).unwrap_or(u64::MAX);
        // Whoever received the messages may be about to end already.
        drop(inbox.send(FromServer::Drain { deadline_ms }));
        drop(timeout(grace, self.0.recv()).await);
    }
}
