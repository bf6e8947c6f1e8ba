//! What is only shown as it happens, to whoever follows a session; and of the message under way what was said so far, so
//! that who joins in its middle has its beginning.

use model::{
    event::{Event, Live},
    id::{MessageId, Seq},
    message::{Block, Delta},
};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;

/// Live items that a slow reader may be behind before it misses some.
const BEHIND: usize = 4096;
/// Bytes of a message under way that are kept. Of a longer one, who joins late has the whole at its end.
const KEPT: usize = 1 << 20;

/// Of one session. Each item comes with the event that was stored last before it.
#[derive(Default)]
pub(super) struct Channel(Mutex<Open>);

#[derive(Default)]
struct Open {
    said: Said,
    /// While somebody listens: room for all that one may be behind is most of what a session takes.
    sender: Option<broadcast::Sender<(Seq, Live)>>,
}

/// What one has who joins.
pub(super) struct Joined {
    pub(super) coming: broadcast::Receiver<(Seq, Live)>,
    /// Of the message under way, to be shown after this event.
    pub(super) after: Seq,
    pub(super) said: Vec<Live>,
}

/// The message under way: its blocks, each followed by what it has so far.
#[derive(Default)]
struct Said {
    items: Vec<Live>,
    bytes: usize,
    /// The event that was stored last before the newest of it.
    after: Seq,
}

impl Channel {
    pub(super) fn send(&self, after: Seq, live: Live) {
        let mut open = self.open();
        open.said.add(after, &live);
        // Within the lock: what one is given as said does not come again.
        if open.sender.as_ref().is_some_and(|sender| sender.send((after, live)).is_err()) {
            open.sender = None;
        }
    }

    pub(super) fn join(&self) -> Joined {
        let mut open = self.open();
        let coming = open.sender.get_or_insert_with(|| broadcast::Sender::new(BEHIND)).subscribe();
        Joined { coming, after: open.said.after, said: open.said.items.clone() }
    }

    /// Before these events are stored. Invariant: nobody is given as under way what the log they have read holds whole.
    pub(super) fn before<'e>(&self, mut events: impl Iterator<Item = &'e Event>) {
        let mut open = self.open();
        if events.any(ends_a_message) {
            open.said = Said::default();
        }
        if open.sender.as_ref().is_some_and(|sender| sender.receiver_count() == 0) {
            open.sender = None;
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ends_a_message(event: &Event) -> bool {
    match event {
        Event::AssistantMessage(_) | Event::RunFinished(_) | Event::RunnerLost(_) => true,
        Event::PhaseChanged(changed) => changed.phase.is_settled(),
        _ => false,
    }
}

impl Said {
    fn add(&mut self, after: Seq, live: &Live) {
        match live {
            Live::BlockStarted { index: 0, block, .. } => {
                *self = Self { items: vec![live.clone()], bytes: size(block), after };
            }
            Live::BlockStarted { message, block, .. } if self.is_of(message) => {
                self.bytes = self.bytes.saturating_add(size(block));
                self.items.push(live.clone());
            }
            Live::MessageDelta { message, index, delta, .. } if self.is_of(message) => {
                self.bytes = self.bytes.saturating_add(length(delta));
                let appended = match self.items.last_mut() {
                    Some(Live::MessageDelta { index: at, delta: had, .. }) if at == index => {
                        append(had, delta)
                    }
                    _ => false,
                };
                if !appended {
                    self.items.push(live.clone());
                }
            }
            _ => return,
        }
        self.after = after;
        if self.bytes > KEPT {
            *self = Self::default();
        }
    }

    fn is_of(&self, id: &MessageId) -> bool {
        matches!(self.items.first(), Some(Live::BlockStarted { message, .. }) if message == id)
    }
}

/// Of a block that begins; never nothing, or a flood of empty ones would be kept.
fn size(block: &Block) -> usize {
    serde_json::to_vec(block).map_or(KEPT, |json| json.len().max(1))
}

fn length(delta: &Delta) -> usize {
    let length = match delta {
        Delta::Text { text } => text.len(),
        Delta::Thinking { thinking } => thinking.len(),
        Delta::InputJson { partial_json } => partial_json.len(),
        Delta::Signature { signature } => signature.len(),
        Delta::Other(value) => value.to_string().len(),
    };
    length.max(1)
}

/// Whether both are of one kind, and so become one.
fn append(had: &mut Delta, more: &Delta) -> bool {
    match (had, more) {
        (Delta::Text { text: had }, Delta::Text { text: more })
        | (Delta::Thinking { thinking: had }, Delta::Thinking { thinking: more }) => {
            *had = (std::mem::take(had).into_raw() + more.raw()).into();
        }
        (Delta::InputJson { partial_json: had }, Delta::InputJson { partial_json: more })
        | (Delta::Signature { signature: had }, Delta::Signature { signature: more }) => had.push_str(more),
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn live(kind: &str, message: &str, index: u32, rest: (&str, Value)) -> Live {
        let mut data = json!({"run": "r", "message": message, "index": index});
        data[rest.0] = rest.1;
        serde_json::from_value(json!({"kind": kind, "data": data})).unwrap()
    }

    fn begin(message: &str, index: u32) -> Live {
        live("blockStarted", message, index, ("block", json!({"type": "text", "text": ""})))
    }

    fn text(message: &str, index: u32, text: &str) -> Live {
        live("messageDelta", message, index, ("delta", json!({"type": "text", "text": text})))
    }

    fn check(sent: &[Live], expected: &[Live]) {
        let channel = Channel::default();
        sent.iter().for_each(|live| channel.send(Seq(1), live.clone()));
        assert_eq!(channel.join().said, expected, "{sent:?}");
    }

    #[test]
    fn who_joins_has_what_was_said_so_far() {
        check(&[], &[]);
        let both = [begin("m", 0), text("m", 0, "Hel"), text("m", 0, "lo"), begin("m", 1), text("m", 1, "x")];
        check(&both, &[begin("m", 0), text("m", 0, "Hello"), begin("m", 1), text("m", 1, "x")]);
        check(&[begin("m", 0), text("m", 0, "a"), begin("n", 0)], &[begin("n", 0)]);
        check(&[text("m", 0, "its beginning was before this server"), begin("m", 1)], &[]);
        check(&[begin("m", 0), text("other", 0, "x")], &[begin("m", 0)]);
        let signed = live("messageDelta", "m", 0, ("delta", json!({"type": "signature", "signature": "s"})));
        check(
            &[begin("m", 0), text("m", 0, "a"), signed.clone()],
            &[begin("m", 0), text("m", 0, "a"), signed],
        );
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let large = "x".repeat(KEPT / 2);
        check(
            &[begin("m", 0), text("m", 0, &large), text("m", 0, &large), text("m", 0, "more"), begin("m", 1)],
            &[],
        );
    }

    #[test]
    fn room_is_kept_while_somebody_listens() {
        let channel = Channel::default();
        channel.send(Seq(1), begin("m", 0));
        assert!(channel.open().sender.is_none(), "nobody listens yet");
        let (mut first, second) = (channel.join().coming, channel.join().coming);
        drop(second);
        channel.send(Seq(1), text("m", 0, "x"));
        assert_eq!(first.try_recv().unwrap(), (Seq(1), text("m", 0, "x")));
        drop(first);
        channel.send(Seq(1), text("m", 0, "y"));
        assert!(channel.open().sender.is_none(), "nobody listens any more");
        drop(channel.join());
        channel.before(std::iter::empty());
        assert!(channel.open().sender.is_none(), "nor here");
    }

    #[test]
    fn what_is_whole_is_not_under_way() {
        let channel = Channel::default();
        channel.send(Seq(1), begin("m", 0));
        let event = |json: Value| serde_json::from_value::<Event>(json).unwrap();
        let warning = event(json!({"kind": "warning", "data": {"reason": "r", "message": "m"}}));
        channel.before([&warning].into_iter());
        assert_eq!(channel.join().said.len(), 1);
        let lost = event(json!({"kind": "runner.lost", "data": {"epoch": 1, "message": "m"}}));
        channel.before([&warning, &lost].into_iter());
        assert_eq!(channel.join().said.len(), 0);
    }
}
