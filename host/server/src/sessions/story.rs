//! What the log says that decisions depend on, folded from its events. Pure: the same log gives the same story, whether it
//! was read after a restart or followed as it grew.

use model::{
    approval::{ApprovalRequest, Decision, Subject},
    event::{ApprovalDecided, Event, PhaseChanged, QuestionAnswered, RunEnded, Stored},
    id::{AskId, CallId, Epoch, RunnerSeq, Seq},
    lifecycle::{Phase, Reason},
};
use protocol::control::Ask;
use std::collections::{HashMap, HashSet};

#[derive(Default)]
pub(super) struct Story {
    pub(super) last: Seq,
    /// What waits for a person, oldest first.
    pub(super) pending: Vec<Ask>,
    pub(super) decided: HashMap<AskId, ApprovalDecided>,
    pub(super) answered: HashMap<AskId, QuestionAnswered>,
    /// The runner's word on the run under way, when it has given it.
    pub(super) ended: Option<RunEnded>,
    /// When the session was last given something to do.
    pub(super) woken: Seq,
    /// The last thing that the runner of the latest epoch said.
    said: (Epoch, RunnerSeq),
    approved: Approved,
}

/// What may be fetched by a person's word.
#[derive(Default)]
struct Approved {
    once: HashSet<(CallId, String)>,
    /// Method and origin.
    session: HashSet<(String, String)>,
}

impl Story {
    pub(super) fn apply(&mut self, stored: &Stored) {
        self.last = stored.seq;
        if let Some(origin) = stored.origin {
            self.said = (origin.epoch, origin.runner_seq);
        }
        match &stored.event {
            Event::ApprovalRequested(request) => self.pending.push(Ask::Approval(Box::new(request.clone()))),
            Event::QuestionAsked(question) => self.pending.push(Ask::Question(question.clone())),
            Event::ApprovalDecided(decided) => {
                if let Some(Ask::Approval(request)) = self.close(&decided.id) {
                    self.approved.note(&request, &decided.decision);
                }
                self.decided.insert(decided.id.clone(), decided.clone());
            }
            Event::QuestionAnswered(answered) => {
                self.close(&answered.id);
                self.answered.insert(answered.id.clone(), answered.clone());
            }
            Event::RunStarted(_) => {
                self.ended = None;
                self.woken = stored.seq;
            }
            Event::PhaseChanged(PhaseChanged { phase: Phase::Pending, reason: Reason::Accepted, .. }) => {
                self.woken = stored.seq;
            }
            Event::RunEnded(ended) => self.ended = Some(ended.clone()),
            Event::RunFinished(_) => {
                self.ended = None;
                self.pending.clear();
            }
            _ => {}
        }
    }

    fn close(&mut self, id: &AskId) -> Option<Ask> {
        let at = self.pending.iter().position(|ask| ask.id() == id)?;
        Some(self.pending.remove(at))
    }

    pub(super) fn is_pending(&self, id: &AskId) -> bool {
        self.pending.iter().any(|ask| ask.id() == id)
    }

    /// The last event committed of what this epoch's runner said.
    pub(super) fn said(&self, epoch: Epoch) -> RunnerSeq {
        if self.said.0 == epoch { self.said.1 } else { RunnerSeq(0) }
    }

    /// Whether a person let this call fetch this, or the session fetch from its origin.
    pub(super) fn may_fetch(&self, call: &CallId, method: &str, url: &str) -> bool {
        self.approved.once.contains(&(call.clone(), fetched(method, url)))
            || self.approved.session.contains(&(method.to_owned(), origin(url)))
    }
}

impl Approved {
    fn note(&mut self, request: &ApprovalRequest, decision: &Decision) {
        let Subject::Fetch { method, url } = &request.subject else { return };
        if matches!(decision, Decision::Once | Decision::Session) {
            self.once.insert((request.call.clone(), fetched(method, url.raw())));
        }
        if matches!(decision, Decision::Session) {
            self.session.insert((method.clone(), origin(url.raw())));
        }
    }
}

fn fetched(method: &str, url: &str) -> String {
    let url = url::Url::parse(url).map_or_else(|_| url.to_owned(), String::from);
    format!("{method} {url}")
}

/// Scheme, host and port.
fn origin(url: &str) -> String {
    url::Url::parse(url).map_or_else(|_| url.to_owned(), |url| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{event::RunFinished, id::UnixMillis, lifecycle::Reason};
    use serde_json::json;

    fn story(events: &[serde_json::Value]) -> Story {
        let mut story = Story::default();
        for (index, event) in events.iter().enumerate() {
            let event: Event = serde_json::from_value(event.clone()).unwrap();
            assert!(!matches!(event, Event::Unknown(_)), "{event:?}");
            story.apply(&Stored { seq: Seq(index as u64 + 1), at: UnixMillis(0), origin: None, event });
        }
        story
    }

    fn asked(id: &str, call: &str, url: &str) -> serde_json::Value {
        let digest = model::id::Digest::of(b"x");
        json!({"kind": "approval.requested", "data": {
            "id": id, "call": call, "tool": "WebFetch", "plugin": "vteam.web", "pluginDigest": digest,
            "inputDigest": digest, "effect": "net.fetch", "subjectDigest": digest,
            "subject": {"type": "fetch", "method": "GET", "url": url},
        }})
    }

    fn decided(id: &str, decision: &str) -> serde_json::Value {
        json!({"kind": "approval.decided", "data": {"id": id, "decision": decision, "decidedBy": "me"}})
    }

    #[test]
    fn approvals_let_through_what_was_shown() {
        let check = |events: &[serde_json::Value], call: &str, url: &str, expected: bool| {
            assert_eq!(
                story(events).may_fetch(&call.parse().unwrap(), "GET", url),
                expected,
                "{events:?} {url}"
            );
        };
        let ask = asked("a", "c1", "https://x.example/p");
        check(&[], "c1", "https://x.example/p", false);
        check(std::slice::from_ref(&ask), "c1", "https://x.example/p", false);
        check(&[ask.clone(), decided("a", "once")], "c1", "https://x.example/p", true);
        check(&[ask.clone(), decided("a", "once")], "c1", "https://x.example/other", false);
        check(&[ask.clone(), decided("a", "once")], "c2", "https://x.example/p", false);
        check(&[ask.clone(), decided("a", "session")], "c2", "https://x.example/other", true);
        check(&[ask.clone(), decided("a", "session")], "c2", "https://x.example.evil/", false);
        check(&[ask.clone(), decided("a", "session")], "c2", "http://x.example/p", false);
        check(&[ask, decided("a", "deny")], "c1", "https://x.example/p", false);
    }

    #[test]
    fn a_finished_run_leaves_nothing_pending() {
        let ask = asked("a", "c1", "https://x.example/p");
        assert_eq!(story(std::slice::from_ref(&ask)).pending.len(), 1);
        let finished = Event::RunFinished(RunFinished {
            run: "r".parse().unwrap(),
            outcome: model::event::RunOutcome::Interrupted,
            reason: Reason::StoppedByUser,
            message: "".into(),
            cost: Default::default(),
            usage: Default::default(),
            turns: 0,
        });
        assert!(story(&[ask, serde_json::to_value(finished).unwrap()]).pending.is_empty());
    }
}
