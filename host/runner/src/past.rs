//! What the log says, folded: everything that a runner of a later epoch has to know. Pure.
//!
//! Calls that an earlier runner left unfinished are sorted here: one that waited for a person had done nothing yet and
//! is begun again; any other is lost, and never repeated.

use crate::conversation::Conversation;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use model::{
    approval::{Decision, session_key},
    event::{CallIntended, Event, PluginState, Stored},
    id::{AskId, CallId, Epoch, PluginId, RunId, RunnerSeq, Seq},
};
use std::collections::{BTreeMap, HashMap, HashSet};

#[derive(Debug, Default)]
pub struct Past {
    pub conversation: Conversation,
    pub seq: Seq,
    /// Runs begun and not ended, in order.
    pub open_runs: Vec<RunId>,
    /// Model answers so far, by run.
    pub turns: HashMap<RunId, u32>,
    /// Analyses judged so far, by run, and whether the last one was accepted.
    pub judged: HashMap<RunId, (u32, bool)>,
    /// Calls begun and not finished, in order.
    pub unfinished: Vec<Unfinished>,
    pub state: BTreeMap<(PluginId, String), Vec<u8>>,
    /// [`session_key`]s that a person approved.
    pub approved: HashSet<String>,
    /// The last event of each epoch.
    pub committed: HashMap<Epoch, RunnerSeq>,
    subjects: HashMap<AskId, Subject>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Unfinished {
    pub intended: CallIntended,
    asked: Asked,
}

/// How far a call got with the person that it waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Not,
    Open,
    /// Whether its runner heard of the answer is not known yet.
    Answered,
    /// It was begun again, or may have been.
    Heard,
}

impl Unfinished {
    /// It waited for a person when its runner ended: nothing was done, and it may be begun again.
    #[must_use]
    pub fn may_begin_again(&self) -> bool {
        matches!(self.asked, Asked::Open | Asked::Answered)
    }
}

/// What a person was asked.
#[derive(Debug)]
struct Subject {
    call: CallId,
    /// What a decision for the session would cover.
    key: Option<String>,
}

impl Past {
    pub fn absorb(&mut self, stored: &Stored) {
        self.seq = stored.seq;
        if let Some(origin) = stored.origin {
            self.committed.insert(origin.epoch, origin.runner_seq);
        }
        self.apply(&stored.event);
    }

    /// An event of this runner, as it is said.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::RunStarted(run) => self.open_runs.push(run.run.clone()),
            Event::RunFinished(run) => self.close(&run.run),
            Event::RunEnded(run) => self.close(&run.run),
            Event::UserMessage(said) => self.conversation.user(said),
            Event::AssistantMessage(said) => {
                *self.turns.entry(said.run.clone()).or_default() += 1;
                self.conversation.assistant(said);
            }
            Event::ContextCompacted(compacted) => self.conversation.compacted(compacted),
            Event::AnalysisJudged(judged) => {
                self.judged.insert(judged.run.clone(), (judged.revision + 1, judged.accepted));
            }
            Event::PluginState(state) => self.keep(state),
            event => self.absorb_call(event),
        }
    }

    fn absorb_call(&mut self, event: &Event) {
        match event {
            Event::CallIntended(call) => {
                self.unfinished.retain(|u| u.intended.call != call.call);
                self.unfinished.push(Unfinished { intended: call.clone(), asked: Asked::Not });
            }
            Event::CallFinished(call) => {
                self.unfinished.retain(|u| u.intended.call != call.call);
                self.conversation.finished(call);
            }
            Event::ApprovalRequested(ask) => {
                let key = session_key(&ask.plugin, &ask.subject);
                self.ask(&ask.id, Subject { call: ask.call.clone(), key });
            }
            Event::QuestionAsked(ask) => self.ask(&ask.id, Subject { call: ask.call.clone(), key: None }),
            Event::ApprovalDecided(decided) => {
                self.answer(&decided.id, decided.decision == Decision::Session)
            }
            Event::QuestionAnswered(answered) => self.answer(&answered.id, false),
            // Whatever was answered before this line may have reached that runner.
            Event::RunnerLost(_) => self.step(|_| true, Asked::Answered, Asked::Heard),
            _ => {}
        }
    }

    fn ask(&mut self, id: &AskId, subject: Subject) {
        // A second question of one call: the answer to the first one was heard.
        self.step(|u| u.intended.call == subject.call, Asked::Answered, Asked::Heard);
        self.step(|u| u.intended.call == subject.call, Asked::Not, Asked::Open);
        self.subjects.insert(id.clone(), subject);
    }

    fn answer(&mut self, id: &AskId, for_session: bool) {
        let Some(subject) = self.subjects.remove(id) else { return };
        self.step(|u| u.intended.call == subject.call, Asked::Open, Asked::Answered);
        if for_session {
            self.approved.extend(subject.key);
        }
    }

    fn step(&mut self, which: impl Fn(&Unfinished) -> bool, from: Asked, to: Asked) {
        for unfinished in self.unfinished.iter_mut().filter(|u| which(u) && u.asked == from) {
            unfinished.asked = to;
        }
    }

    /// Its intent is in the log, and no end.
    #[must_use]
    pub fn is_begun(&self, call: &CallId) -> bool {
        self.unfinished.iter().any(|unfinished| unfinished.intended.call == *call)
    }

    fn close(&mut self, run: &RunId) {
        self.open_runs.retain(|r| r != run);
        self.unfinished.retain(|u| u.intended.run != *run);
    }

    fn keep(&mut self, state: &PluginState) {
        let key = (state.plugin.clone(), state.key.clone());
        match state.value.as_deref().map(|value| STANDARD.decode(value)) {
            Some(Ok(value)) => drop(self.state.insert(key, value)),
            Some(Err(_)) => {}
            None => drop(self.state.remove(&key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn past(events: &[Value]) -> Past {
        let mut past = Past::default();
        for (at, event) in events.iter().enumerate() {
            let mut stored = event.clone();
            stored["seq"] = json!(at + 1);
            stored["at"] = json!(0);
            let stored: Stored = serde_json::from_value(stored).unwrap();
            assert!(!matches!(stored.event, Event::Unknown(_)), "{event}");
            past.absorb(&stored);
        }
        past
    }

    fn intended() -> Value {
        json!({"kind": "call.intended", "origin": {"epoch": 1, "runnerSeq": 4}, "data": {"run": "r1", "call": "c1",
            "message": "a1", "toolUseId": "t1", "tool": "Bash", "plugin": "vteam.shell",
            "pluginDigest": model::id::Digest::of(b""), "input": {}, "effects": ["process"]}})
    }

    fn asked(id: &str) -> Value {
        let subject = json!({"type": "process", "argv": ["ls"], "cwd": "/workspace", "network": "none"});
        let digest = model::id::Digest::of(b"");
        json!({"kind": "approval.requested", "data": {"id": id, "call": "c1", "tool": "Bash", "plugin": "vteam.shell",
            "pluginDigest": digest, "inputDigest": digest, "effect": "process", "subject": subject, "subjectDigest": digest}})
    }

    fn decided(id: &str, decision: &str) -> Value {
        json!({"kind": "approval.decided", "data": {"id": id, "decision": decision, "decidedBy": "me"}})
    }

    fn lost() -> Value {
        json!({"kind": "runner.lost", "data": {"epoch": 1, "message": ""}})
    }

    #[test]
    fn only_a_call_that_did_nothing_is_begun_again() {
        let check = |name: &str, events: &[Value], again: bool| {
            let past = past(events);
            assert_eq!(
                past.unfinished.iter().map(Unfinished::may_begin_again).collect::<Vec<_>>(),
                [again],
                "{name}"
            );
        };
        check("never asked", &[intended(), lost()], false);
        check("waited", &[intended(), asked("q1"), lost()], true);
        check("decided meanwhile", &[intended(), asked("q1"), lost(), decided("q1", "once")], true);
        check("decided before", &[intended(), asked("q1"), decided("q1", "once"), lost()], false);
        check("asked twice", &[intended(), asked("q1"), decided("q1", "once"), asked("q2"), lost()], false);
        check("lost twice", &[intended(), asked("q1"), lost(), decided("q1", "once"), lost()], false);
    }

    #[test]
    fn approvals_for_the_session_are_kept() {
        let subject = serde_json::from_value(asked("q1")["data"]["subject"].clone()).unwrap();
        let key = session_key(&"vteam.shell".parse().unwrap(), &subject).unwrap();
        assert!(past(&[intended(), asked("q1"), decided("q1", "session")]).approved.contains(&key));
        assert!(past(&[intended(), asked("q1"), decided("q1", "once")]).approved.is_empty());
    }

    #[test]
    fn runs_turns_state_and_origins_are_folded() {
        let run = |kind: &str, run: &str| json!({"kind": kind, "data": {"run": run}});
        let state = |value: Value| json!({"kind": "plugin.state", "data": {"plugin": "a.b", "key": "k", "value": value}});
        let ended = json!({"kind": "run.ended", "data": {"run": "r1", "end": "done", "turns": 1}});
        let said = json!({"kind": "assistant.message", "origin": {"epoch": 2, "runnerSeq": 7}, "data": {"run": "r2",
            "message": "m", "model": "x", "content": [], "stopReason": "end_turn"}});
        let past =
            past(&[run("run.started", "r1"), run("run.started", "r2"), ended, said, state(json!("YQ=="))]);
        assert_eq!(past.open_runs, ["r2".parse().unwrap()]);
        assert_eq!(past.turns.get(&"r2".parse::<RunId>().unwrap()), Some(&1));
        assert_eq!(past.state.get(&("a.b".parse().unwrap(), "k".to_owned())), Some(&b"a".to_vec()));
        assert_eq!((past.seq, past.committed.get(&Epoch(2))), (Seq(5), Some(&RunnerSeq(7))));
    }
}
