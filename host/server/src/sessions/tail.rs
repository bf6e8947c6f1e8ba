//! Following a session: its log without gaps, and what is only shown as it happens.

use super::registry::Registry;
use futures::{Stream, stream};
use model::{
    event::{Live, Stored},
    id::{Seq, SessionUid},
};
use std::{collections::VecDeque, sync::Arc};
use tokio::sync::{
    broadcast::{self, error::TryRecvError},
    watch,
};

#[derive(Debug, Clone, PartialEq)]
pub enum Tail {
    Stored(Box<Stored>),
    /// Never stored, not repeated; some may be missed by a slow reader.
    Live(Box<Live>),
}

/// Events read at once.
const PAGE: usize = 256;

struct Follower {
    registry: Arc<Registry>,
    uid: SessionUid,
    cursor: Seq,
    ready: VecDeque<Tail>,
    stored: watch::Receiver<Seq>,
    live: broadcast::Receiver<(Seq, Live)>,
}

pub(super) fn tail(
    registry: Arc<Registry>,
    uid: SessionUid,
    after: Seq,
) -> impl Stream<Item = Tail> + Send + 'static {
    stream::unfold(None, move |follower| {
        let (registry, uid) = (Arc::clone(&registry), uid.clone());
        async move {
            let mut follower = match follower {
                Some(follower) => follower,
                None => Follower::start(registry, uid, after).await?,
            };
            let next = follower.next().await?;
            Some((next, Some(follower)))
        }
    })
}

impl Follower {
    async fn start(registry: Arc<Registry>, uid: SessionUid, after: Seq) -> Option<Self> {
        let live = registry.live(&uid).subscribe();
        let stored = registry.store().tail(&uid).await.ok()?;
        // Asked last: one that is deleted from here on closes what was subscribed to.
        if registry.store().session_by_uid(&uid).await.ok()?.is_none() {
            registry.forget(&uid);
            return None;
        }
        Some(Self { registry, uid, cursor: after, ready: VecDeque::new(), stored, live })
    }

    async fn next(&mut self) -> Option<Tail> {
        loop {
            if let Some(tail) = self.ready.pop_front() {
                return Some(tail);
            }
            // Taken first: what was live before this event was stored is in the channel by now.
            let head = *self.stored.borrow_and_update();
            match self.live.try_recv() {
                Ok((after, live)) => self.shown(after, live).await?,
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Closed) => return None,
                Err(TryRecvError::Empty) if head > self.cursor => self.read(head).await?,
                Err(TryRecvError::Empty) => self.wait().await?,
            }
        }
    }

    /// Something live that was said after the event `after`: whatever comes before it first.
    async fn shown(&mut self, after: Seq, live: Live) -> Option<()> {
        while self.cursor < after {
            self.read(after).await?;
        }
        self.ready.push_back(Tail::Live(Box::new(live)));
        Some(())
    }

    async fn read(&mut self, upto: Seq) -> Option<()> {
        let page = self.registry.store().events(&self.uid, self.cursor, PAGE).await;
        let page = page.inspect_err(|error| tracing::warn!(uid = %self.uid, %error, "cannot follow")).ok()?;
        // What is known to be there is gone with its session only.
        page.first()?;
        for event in page.into_iter().take_while(|event| event.seq <= upto) {
            self.cursor = event.seq;
            self.ready.push_back(Tail::Stored(Box::new(event)));
        }
        Some(())
    }

    async fn wait(&mut self) -> Option<()> {
        let (registry, stored) = (&self.registry, &mut self.stored);
        tokio::select! {
            changed = stored.changed() => changed.ok(),
            live = self.live.recv() => match live {
                Ok((after, live)) => self.shown(after, live).await,
                Err(broadcast::error::RecvError::Lagged(_)) => Some(()),
                Err(broadcast::error::RecvError::Closed) => None,
            },
            () = registry.closing.cancelled() => None,
        }
    }
}
