//! The log as AG-UI 1.0: a pure projection of stored and live events into what AG-UI clients read.
//!
//! Text streams as it is written and is completed from the durable message, never doubled: the projection knows how far
//! its reader is ([`Cursor`]). Tool calls come from durable events only. Outside of a run AG-UI allows no event, so what
//! happens there (phases after the end, for one) is in the raw log and not here.

mod event;
mod message;
mod subject;

pub use event::{Event, Outcome};
pub use subject::rendered;

use event::Interrupt;
use message::Shown;
use model::{
    event::{self as log, Event as Logged, Live, RunOutcome, Stored},
    id::{AskId, RunId, Seq},
    message::{Block, Delta},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt, str::FromStr};

/// How far a reader is: after a stored event, and possibly within the message that follows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cursor {
    pub seq: Seq,
    /// The message under way, and how much of it the reader has: block, and bytes of it.
    pub within: Option<(String, (u32, usize))>,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.within {
            None => write!(f, "{}", self.seq),
            Some((message, (block, bytes))) => write!(f, "{}.{block}.{bytes}.{message}", self.seq),
        }
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let mut parts = text.splitn(4, '.');
        let mut next = || parts.next().ok_or(InvalidCursor);
        let seq = Seq(next()?.parse().map_err(|_| InvalidCursor)?);
        let Ok(block) = next() else { return Ok(Self { seq, within: None }) };
        let block = block.parse().map_err(|_| InvalidCursor)?;
        let bytes = next()?.parse().map_err(|_| InvalidCursor)?;
        Ok(Self { seq, within: Some((next()?.to_owned(), (block, bytes))) })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an event id is a number, as the stream gave it")]
pub struct InvalidCursor;

/// An event and where the reader is after it.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// `None` for all but the last event of a step that is whole or not at all.
    pub cursor: Option<Cursor>,
    pub event: Event,
}

/// Whom the projection is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    /// Everything of the session: run after run; an approval does not end a run.
    Watch,
    /// One run, as AG-UI means it: it ends with the run, or with an interrupt that waits for a person.
    Run {
        run: RunId,
        /// The caller's own name of it.
        shown_as: String,
    },
}

#[derive(Debug)]
pub struct Projection {
    thread: String,
    view: View,
    seq: Seq,
    run: Option<RunId>,
    shown: Option<Shown>,
    pending: BTreeMap<AskId, Interrupt>,
    /// The reader knows their answers, whatever the log says up to where it is.
    answered: Vec<AskId>,
    calls: Vec<model::id::CallId>,
    ended: bool,
    out: Vec<Event>,
}

impl Projection {
    /// `answered`: what the reader has just answered does not interrupt it again.
    #[must_use]
    pub const fn new(thread: String, view: View, answered: Vec<AskId>) -> Self {
        Self {
            thread,
            view,
            seq: Seq(0),
            run: None,
            shown: None,
            pending: BTreeMap::new(),
            answered,
            calls: Vec::new(),
            ended: false,
            out: Vec::new(),
        }
    }

    /// Nothing comes after what was already given.
    #[must_use]
    pub const fn ended(&self) -> bool {
        self.ended
    }

    /// Something that the reader has seen before, or does not want: only what it changes is kept.
    pub fn unseen(&mut self, stored: &Stored) {
        self.ended = false;
        self.stored(stored);
        self.ended = false;
    }

    /// Takes up a reader at its cursor, after everything up to it was [`Projection::unseen`]: opens the run and, when its
    /// next part comes, the message that it is in.
    pub fn resume(&mut self, cursor: &Cursor) -> Vec<Frame> {
        self.shown = cursor.within.clone().map(|(id, had)| Shown::resumed(id, had));
        self.ended = false;
        if let Some(run) = self.run.clone() {
            self.start(&run);
            if matches!(self.view, View::Run { .. }) && !self.pending.is_empty() {
                self.interrupted();
            }
        }
        self.frames(Some(cursor.clone()))
    }

    pub fn stored(&mut self, stored: &Stored) -> Vec<Frame> {
        if stored.seq <= self.seq {
            return Vec::new();
        }
        self.seq = stored.seq;
        if !self.ended {
            self.event(&stored.event);
        }
        self.frames(Some(self.cursor()))
    }

    pub fn live(&mut self, live: &Live) -> Vec<Frame> {
        if self.ended {
            return Vec::new();
        }
        match live {
            Live::BlockStarted { run, message, index, block } if self.shows(run) => {
                if self.shown.as_ref().is_none_or(|shown| shown.id() != message.as_str()) && *index == 0 {
                    self.close();
                    self.shown = Some(Shown::new(message.to_string()));
                }
                if let Some(shown) = self.shown_as(message.as_str()) {
                    shown.begin(*index);
                }
                match block {
                    Block::Text { text } => self.text(message.as_str(), *index, text.raw()),
                    Block::Thinking { thinking, .. } => {
                        self.thinking(message.as_str(), *index, thinking.raw())
                    }
                    _ => {}
                }
            }
            Live::MessageDelta { run, message, index, delta } if self.shows(run) => match delta {
                Delta::Text { text } => self.text(message.as_str(), *index, text.raw()),
                Delta::Thinking { thinking } => self.thinking(message.as_str(), *index, thinking.raw()),
                Delta::InputJson { .. } | Delta::Signature { .. } | Delta::Other(_) => {}
            },
            Live::CallOutput { run, call, stream, text } if self.shows(run) => {
                self.custom("call.output", json!({"toolCallId": call, "stream": stream, "text": text}));
            }
            _ => {}
        }
        self.frames(Some(self.cursor()))
    }

    /// The session is gone: nothing stays open.
    pub fn gone(&mut self) -> Vec<Frame> {
        if self.run.take().is_some() && !self.ended {
            self.close();
            self.out.push(Event::RunError {
                message: "the stream ends: the session was deleted or the server stops".to_owned(),
                code: "StreamEnded".to_owned(),
            });
        }
        self.ended = true;
        self.frames(None)
    }

    fn event(&mut self, event: &Logged) {
        match event {
            Logged::RunStarted(started) => self.begin(&started.run),
            Logged::RunFinished(finished) if self.shows(&finished.run) => self.finish(finished),
            Logged::UserMessage(said) if self.shows(&said.run) && self.view == View::Watch => self.said(said),
            Logged::AssistantMessage(message) if self.shows(&message.run) => self.whole(message),
            Logged::CallIntended(call) if self.shows(&call.run) => {
                self.call(&call.call, call.tool.as_str(), call.message.as_str(), &call.input);
            }
            Logged::CallFinished(call) if self.shows(&call.run) => self.called(call),
            Logged::ApprovalRequested(request) => {
                let value = json!({"request": request, "rendered": rendered(&request.subject)});
                self.custom("approval.requested", value);
                self.ask(request.id.clone(), Interrupt::approval(request));
            }
            Logged::QuestionAsked(question) => {
                self.custom("question.asked", json!(question));
                self.ask(question.id.clone(), Interrupt::question(question));
            }
            Logged::ApprovalDecided(decided) => {
                self.pending.remove(&decided.id);
                self.custom("approval.decided", json!(decided));
            }
            Logged::QuestionAnswered(answered) => {
                self.pending.remove(&answered.id);
                self.custom("question.answered", json!(answered));
            }
            other => self.noted(other),
        }
    }

    /// What AG-UI has no event for.
    fn noted(&mut self, event: &Logged) {
        let (name, value) = match event {
            Logged::PhaseChanged(phase) => ("phase", json!(phase)),
            Logged::Warning(warning) => ("warning", json!(warning)),
            Logged::Usage(usage) => ("usage", json!(usage)),
            Logged::PersonaPrompted(persona) => ("persona", json!(persona)),
            Logged::AnalysisJudged(judged) => ("analysis", json!(judged)),
            Logged::ContextCompacted(compacted) => ("context.compacted", json!(compacted)),
            Logged::RunnerBound(bound) => ("runner.bound", json!(bound)),
            Logged::RunnerLost(lost) => {
                self.close();
                ("runner.lost", json!(lost))
            }
            Logged::Snapshot(snapshot) => ("workspace.snapshot", json!(snapshot)),
            _ => return,
        };
        self.custom(name, value);
    }

    fn shows(&self, run: &RunId) -> bool {
        self.run.as_ref() == Some(run)
    }

    fn begin(&mut self, run: &RunId) {
        if matches!(&self.view, View::Run { run: wanted, .. } if wanted != run) {
            return;
        }
        self.run = Some(run.clone());
        self.calls.clear();
        self.start(run);
    }

    fn start(&mut self, run: &RunId) {
        let run_id = self.run_name(run);
        self.out.push(Event::RunStarted { thread_id: self.thread.clone(), run_id, protocol_version: "1.0" });
    }

    fn run_name(&self, run: &RunId) -> String {
        match &self.view {
            View::Run { shown_as, .. } => shown_as.clone(),
            View::Watch => run.to_string(),
        }
    }

    fn finish(&mut self, finished: &log::RunFinished) {
        self.close();
        self.run = None;
        self.pending.clear();
        self.ended = matches!(self.view, View::Run { .. });
        let outcome = match finished.outcome {
            RunOutcome::Completed => Outcome::Success,
            RunOutcome::Interrupted => Outcome::Cancelled,
            RunOutcome::Failed => {
                let code = json!(finished.reason).as_str().unwrap_or_default().to_owned();
                let said = model::render::line(&finished.message, 2000);
                let message = if said.is_empty() { code.clone() } else { said };
                return self.out.push(Event::RunError { message, code });
            }
        };
        let (thread_id, run_id) = (self.thread.clone(), self.run_name(&finished.run));
        self.out.push(Event::RunFinished {
            thread_id,
            run_id,
            outcome,
            usage: vec![event::usage(finished.usage)],
        });
    }

    fn ask(&mut self, id: AskId, interrupt: Interrupt) {
        if self.answered.contains(&id) {
            return;
        }
        self.pending.insert(id, interrupt);
        if matches!(self.view, View::Run { .. }) && self.run.is_some() {
            self.interrupted();
        }
    }

    fn interrupted(&mut self) {
        let Some(run) = self.run.clone() else { return };
        self.close();
        self.ended = true;
        let outcome = Outcome::Interrupt { interrupts: self.pending.values().cloned().collect() };
        let (thread_id, run_id) = (self.thread.clone(), self.run_name(&run));
        self.out.push(Event::RunFinished { thread_id, run_id, outcome, usage: Vec::new() });
    }

    fn said(&mut self, said: &log::UserMessage) {
        let message_id = said.message.to_string();
        let delta = event::text(&said.content);
        self.out.push(Event::TextMessageStart { message_id: message_id.clone(), role: "user" });
        if !delta.is_empty() {
            self.out.push(Event::TextMessageContent { message_id: message_id.clone(), delta });
        }
        self.out.push(Event::TextMessageEnd { message_id });
    }

    fn whole(&mut self, message: &log::AssistantMessage) {
        let id = message.message.as_str();
        if self.shown.as_ref().is_none_or(|shown| shown.id() != id) {
            self.close();
            self.shown = Some(Shown::new(id.to_owned()));
        }
        for (index, block) in (0u32..).zip(&message.content) {
            if let Some(shown) = self.shown_as(id) {
                shown.at_block(index);
            }
            match block {
                Block::Text { text } => self.text(id, index, text.raw()),
                Block::Thinking { thinking, .. } => self.thinking(id, index, thinking.raw()),
                _ => {}
            }
        }
        self.close();
    }

    fn shown_as(&mut self, id: &str) -> Option<&mut Shown> {
        self.shown.as_mut().filter(|shown| shown.id() == id)
    }

    fn text(&mut self, id: &str, index: u32, chunk: &str) {
        if let Some(shown) = self.shown.as_mut().filter(|shown| shown.id() == id) {
            shown.text(index, chunk, &mut self.out);
        }
    }

    fn thinking(&mut self, id: &str, index: u32, chunk: &str) {
        if let Some(shown) = self.shown.as_mut().filter(|shown| shown.id() == id) {
            shown.thinking(index, chunk, &mut self.out);
        }
    }

    fn close(&mut self) {
        if let Some(mut shown) = self.shown.take() {
            shown.close(&mut self.out);
        }
    }

    fn call(&mut self, call: &model::id::CallId, name: &str, message: &str, input: &Value) {
        if self.calls.contains(call) {
            return;
        }
        self.calls.push(call.clone());
        let tool_call_id = call.to_string();
        let (tool_call_name, parent_message_id) = (name.to_owned(), message.to_owned());
        self.out.push(Event::ToolCallStart {
            tool_call_id: tool_call_id.clone(),
            tool_call_name,
            parent_message_id,
        });
        self.out.push(Event::ToolCallArgs { tool_call_id: tool_call_id.clone(), delta: input.to_string() });
        self.out.push(Event::ToolCallEnd { tool_call_id });
    }

    fn called(&mut self, call: &log::CallFinished) {
        // One that never began: no such tool, or an input that does not parse.
        self.call(&call.call, &model::render::line(&call.tool, 64), call.message.as_str(), &json!({}));
        self.out.push(Event::ToolCallResult {
            message_id: format!("result-{}", call.call),
            tool_call_id: call.call.to_string(),
            content: event::text(&call.content),
            role: "tool",
        });
        let (outcome, seen) = (&call.outcome, &call.observations);
        let value = json!({"toolCallId": call.call, "tool": call.tool, "outcome": outcome, "durationMs": call.duration_ms, "observations": seen});
        self.custom("call.finished", value);
    }

    fn cursor(&self) -> Cursor {
        let within = self.shown.as_ref().map(|shown| (shown.id().to_owned(), shown.had()));
        Cursor { seq: self.seq, within }
    }

    fn custom(&mut self, name: &str, value: Value) {
        if self.run.is_some() {
            self.out.push(Event::Custom { name: format!("vteam.{name}"), value });
        }
    }

    fn frames(&mut self, cursor: Option<Cursor>) -> Vec<Frame> {
        let last = self.out.len().saturating_sub(1);
        let frame = |(at, event)| Frame { cursor: cursor.clone().filter(|_| at == last), event };
        std::mem::take(&mut self.out).into_iter().enumerate().map(frame).collect()
    }
}

#[cfg(test)]
mod tests;
