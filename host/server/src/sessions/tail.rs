//! Following a session: its log without gaps, and what is only shown as it happens.

use super::{
    live::{Channel, Joined},
    registry::Registry,
};
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
    /// Never stored; some may be missed by a slow reader. Who joins in mid-message, or missed something, is given that
    /// message from its first block on, as far as it was said.
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
    /// Of the message under way, to be shown after this event.
    said: Option<(Seq, Vec<Live>)>,
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
        let stored = registry.store().tail(&uid).await.ok()?;
        let Joined { coming, after: head, said } = join(&registry.live(&uid), &stored);
        // Asked last: one that is deleted from here on closes what was subscribed to.
        if registry.store().session_by_uid(&uid).await.ok()?.is_none() {
            registry.forget(&uid);
            return None;
        }
        Some(Self {
            registry,
            uid,
            cursor: after,
            ready: VecDeque::new(),
            stored,
            live: coming,
            said: Some((head, said)),
        })
    }

    async fn next(&mut self) -> Option<Tail> {
        loop {
            if let Some(tail) = self.ready.pop_front() {
                return Some(tail);
            }
            if let Some((after, said)) = self.said.take() {
                if self.cursor < after {
                    self.read(after).await?;
                    self.said = Some((after, said));
                } else {
                    self.ready.extend(said.into_iter().map(|live| Tail::Live(Box::new(live))));
                }
                continue;
            }
            // Taken first: what was live before this event was stored is in the channel by now.
            let head = *self.stored.borrow_and_update();
            match self.live.try_recv() {
                Ok((after, live)) => self.shown(after, live).await?,
                Err(TryRecvError::Lagged(_)) => self.join_again()?,
                Err(TryRecvError::Closed) => return None,
                Err(TryRecvError::Empty) if head > self.cursor => self.read(head).await?,
                Err(TryRecvError::Empty) => self.wait().await?,
            }
        }
    }

    /// Where something was missed, the message under way is told again from its beginning.
    fn join_again(&mut self) -> Option<()> {
        let channel = self.registry.still_live(&self.uid)?;
        let Joined { coming, after, said } = join(&channel, &self.stored);
        (self.live, self.said) = (coming, Some((after, said)));
        Some(())
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
                Err(broadcast::error::RecvError::Lagged(_)) => self.join_again(),
                Err(broadcast::error::RecvError::Closed) => None,
            },
            () = registry.closing.cancelled() => None,
        }
    }
}

/// What is under way now is not whole in any event that was stored up to now.
fn join(channel: &Channel, stored: &watch::Receiver<Seq>) -> Joined {
    let head = *stored.borrow();
    let joined = channel.join();
    Joined { after: joined.after.max(head), ..joined }
}
