//! What the runner says to the server, in order, across reconnects.
//!
//! [`Link`] is what the rest of the runner holds: it records events, passes live news on and asks people. It knows no
//! socket; [`connection`] carries what waits here to the server and brings the answers.

pub mod connection;

use crate::journal::Journal;
use model::{
    event::{ApprovalDecided, Event, Live, QuestionAnswered},
    id::{AskId, RunnerSeq},
};
use protocol::control::{Ask, FromRunner, Reply, RequestError, Sequenced};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{Notify, oneshot, watch};

/// Live news beyond this are dropped: whoever watches has the whole message later.
const LIVE_WAITING: usize = 4096;
/// Events are sent together up to about this many bytes.
const BATCH_BYTES: usize = 1 << 20;

#[derive(Clone)]
pub struct Link(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    wake: Notify,
    acked: watch::Sender<RunnerSeq>,
    connected: watch::Sender<bool>,
    /// Nothing waits to be sent.
    empty: watch::Sender<bool>,
    /// Asks that are open: time that passes meanwhile is a person's.
    waiting: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    last: RunnerSeq,
    unacked: VecDeque<(Sequenced, usize)>,
    outbox: VecDeque<Out>,
    live: usize,
    asks: BTreeMap<AskId, (Ask, oneshot::Sender<Answer>)>,
    journal: Option<Journal>,
}

enum Out {
    Event(RunnerSeq),
    Ask(AskId),
    Live(Live),
    Message(FromRunner),
}

/// What a person said.
#[derive(Debug)]
pub enum Answer {
    Decided(ApprovalDecided),
    Answered(QuestionAnswered),
}

impl Default for Link {
    fn default() -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            wake: Notify::new(),
            acked: watch::Sender::new(RunnerSeq(0)),
            connected: watch::Sender::new(false),
            empty: watch::Sender::new(true),
            waiting: watch::Sender::new(0),
        }))
    }
}

impl Link {
    /// From here on events are journalled before they are sent.
    pub fn keep_in(&self, journal: Journal) {
        self.state().journal = Some(journal);
    }

    /// Says an event; it is sent until the server has committed it.
    pub fn record(&self, event: Event) -> RunnerSeq {
        let mut state = self.state();
        let seq = state.last.next();
        state.last = seq;
        let event = Sequenced { runner_seq: seq, event };
        if let Some(Err(error)) = state.journal.as_mut().map(|journal| journal.append(&event)) {
            tracing::warn!(%error, "an event could not be journalled; it is kept in memory");
        }
        let bytes = serde_json::to_vec(&event).map_or(0, |json| json.len());
        state.unacked.push_back((event, bytes));
        state.outbox.push_back(Out::Event(seq));
        drop(state);
        self.0.wake.notify_one();
        seq
    }

    /// Waits until the server has committed everything up to `seq`.
    pub async fn committed(&self, seq: RunnerSeq) {
        let mut acked = self.0.acked.subscribe();
        // The sender lives as long as self.
        drop(acked.wait_for(|acked| *acked >= seq).await);
    }

    /// Waits until the server has committed all that was said.
    pub async fn settled(&self) {
        let last = self.state().last;
        self.committed(last).await;
    }

    pub fn live(&self, live: Live) {
        let mut state = self.state();
        if state.live < LIVE_WAITING && *self.0.connected.borrow() {
            state.live += 1;
            state.outbox.push_back(Out::Live(live));
            drop(state);
            self.0.wake.notify_one();
        }
    }

    pub fn respond(&self, id: u64, result: Result<Reply, RequestError>) {
        self.say(FromRunner::Response { id, result });
    }

    pub fn say(&self, message: FromRunner) {
        self.0.empty.send_replace(false);
        self.state().outbox.push_back(Out::Message(message));
        self.0.wake.notify_one();
    }

    /// Waits until nothing waits to be sent any more.
    pub async fn flushed(&self) {
        let mut empty = self.0.empty.subscribe();
        drop(empty.wait_for(|empty| *empty).await);
    }

    /// Asks a person and waits, for days if need be. Dropping the future takes the question back.
    pub async fn ask(&self, ask: Ask) -> Option<Answer> {
        let id = ask.id().clone();
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.state();
            state.asks.insert(id.clone(), (ask, sender));
            state.outbox.push_back(Out::Ask(id.clone()));
        }
        self.0.wake.notify_one();
        let _open = Open::new(self, id);
        receiver.await.ok()
    }

    /// Whether there is a connection, as it changes.
    #[must_use]
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.0.connected.subscribe()
    }

    /// How many questions are open, as it changes.
    #[must_use]
    pub fn waiting(&self) -> watch::Receiver<usize> {
        self.0.waiting.subscribe()
    }

    fn answer(&self, id: &AskId, answer: Answer) {
        if let Some((_, sender)) = self.state().asks.remove(id) {
            // Nobody waits any more: the run was stopped.
            drop(sender.send(answer));
        }
    }

    fn acknowledge(&self, seq: RunnerSeq) {
        let mut state = self.state();
        while state.unacked.front().is_some_and(|(event, _)| event.runner_seq <= seq) {
            state.unacked.pop_front();
        }
        if state.unacked.is_empty()
            && let Some(journal) = &mut state.journal
        {
            journal.settled();
        }
        drop(state);
        self.0.acked.send_if_modified(|acked| {
            let news = seq > *acked;
            *acked = seq.max(*acked);
            news
        });
    }

    /// A new connection: everything that was not committed and every open question is said again.
    fn rewind(&self) {
        let mut state = self.state();
        let kept = std::mem::take(&mut state.outbox).into_iter().filter(|out| matches!(out, Out::Message(_)));
        let events = state.unacked.iter().map(|(event, _)| Out::Event(event.runner_seq));
        let asks = state.asks.keys().cloned().map(Out::Ask);
        state.outbox = events.chain(asks).chain(kept).collect();
        state.live = 0;
    }

    /// What was given to the connection is on its way.
    fn sent(&self) {
        let empty = self.state().outbox.is_empty();
        self.0.empty.send_replace(empty);
    }

    /// The next message to send.
    fn next_message(&self) -> Option<FromRunner> {
        let mut state = self.state();
        loop {
            match state.outbox.pop_front()? {
                Out::Event(seq) => {
                    let events = state.batch(seq);
                    if !events.is_empty() {
                        return Some(FromRunner::Events { events });
                    }
                }
                Out::Ask(id) => {
                    if let Some((ask, _)) = state.asks.get(&id) {
                        return Some(FromRunner::Ask { ask: ask.clone() });
                    }
                }
                Out::Live(live) => {
                    state.live -= 1;
                    return Some(FromRunner::Live { live });
                }
                Out::Message(message) => return Some(message),
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock; were it so, what it guards is still whole.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// This event and those that follow it at once in the outbox.
    fn batch(&mut self, first: RunnerSeq) -> Vec<Sequenced> {
        let (mut events, mut bytes, mut wanted) = (Vec::new(), 0, Some(first));
        while let Some(seq) = wanted {
            let at = self.unacked.partition_point(|(event, _)| event.runner_seq < seq);
            if let Some((event, size)) = self.unacked.get(at).filter(|(event, _)| event.runner_seq == seq) {
                events.push(event.clone());
                bytes += size;
            }
            wanted = match self.outbox.front() {
                Some(Out::Event(next)) if bytes < BATCH_BYTES => Some(*next),
                _ => None,
            };
            if wanted.is_some() {
                self.outbox.pop_front();
            }
        }
        events
    }
}

struct Open<'a> {
    link: &'a Link,
    id: AskId,
}

impl<'a> Open<'a> {
    fn new(link: &'a Link, id: AskId) -> Self {
        link.0.waiting.send_modify(|open| *open += 1);
        Self { link, id }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.link.state().asks.remove(&self.id);
        self.link.0.waiting.send_modify(|open| *open -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::event::RunStarted;

    fn event() -> Event {
        Event::RunStarted(RunStarted { run: "r".parse().unwrap() })
    }

    fn sent(link: &Link) -> Vec<String> {
        let line = |message| match message {
            FromRunner::Events { events } => {
                events.iter().map(|e| e.runner_seq.to_string()).collect::<Vec<_>>().join(" ")
            }
            FromRunner::Bye { .. } => "bye".into(),
            FromRunner::Live { .. } => "live".into(),
            _ => "?".into(),
        };
        std::iter::from_fn(|| link.next_message().map(line)).collect()
    }

    #[test]
    fn order_is_kept_and_uncommitted_events_are_said_again() {
        let link = Link::default();
        link.0.connected.send_replace(true);
        link.record(event());
        link.record(event());
        link.live(Live::Unknown(model::event::Unknown { kind: "x".into(), data: serde_json::Value::Null }));
        link.record(event());
        assert_eq!(sent(&link), ["1 2", "live", "3"]);
        link.acknowledge(RunnerSeq(1));
        link.say(FromRunner::Bye { message: "".into() });
        link.rewind();
        assert_eq!(sent(&link), ["2 3", "bye"]);
        link.acknowledge(RunnerSeq(3));
        link.rewind();
        assert_eq!(sent(&link), Vec::<String>::new());
    }

    #[tokio::test]
    async fn waiting_ends_with_the_commit() {
        let link = Link::default();
        let seq = link.record(event());
        let waiter = tokio::spawn({
            let link = link.clone();
            async move { link.committed(seq).await }
        });
        link.acknowledge(seq);
        waiter.await.unwrap();
    }
}
