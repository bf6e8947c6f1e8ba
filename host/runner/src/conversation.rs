//! The conversation as the log tells it, and as a model is shown it. Pure.
//!
//! Invariant: what [`Conversation::messages`] gives is always a valid request, whatever the log holds: roles alternate,
//! each tool use is followed by its result, blocks that a request may not carry are left out.

use model::{
    Untrusted,
    event::{AssistantMessage, CallFinished, CallOutcome, ContextCompacted, UserMessage},
    id::{MessageId, RunId},
    message::{Block, CacheMark, Message, Role, StopReason},
};
use serde_json::Value;
use std::collections::HashMap;

/// What the model is told where its answer was cut and it should go on.
const CONTINUE: &str = "Continue from where you stopped.";
const NOT_RUN: &str = "This call was not carried out: the run was stopped before it began.";

#[derive(Debug, Default)]
pub struct Conversation {
    /// In the order in which they take their turns, whatever order their messages came in.
    runs: Vec<RunId>,
    entries: Vec<Entry>,
    results: HashMap<(MessageId, String), Outcome>,
}

#[derive(Debug)]
struct Entry {
    run: RunId,
    /// `None` for a summary.
    id: Option<MessageId>,
    turn: Turn,
}

#[derive(Debug)]
enum Turn {
    User(Vec<Block>),
    Assistant { content: Vec<Block>, stop_reason: StopReason },
    Summary(Untrusted),
}

#[derive(Debug)]
struct Outcome {
    content: Vec<Block>,
    is_error: bool,
}

/// A tool use that has no result yet.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenUse {
    pub message: MessageId,
    pub id: String,
    pub name: String,
    pub input: Value,
}

/// What a run needs next.
#[derive(Debug, PartialEq)]
pub enum Need {
    /// The model has the word.
    Model,
    /// These calls, in this order.
    Calls(Vec<OpenUse>),
    /// The window is full.
    Compaction,
    /// The model ended its turn.
    End { refused: bool },
}

impl Conversation {
    pub fn user(&mut self, said: &UserMessage) {
        self.insert(Entry {
            run: said.run.clone(),
            id: Some(said.message.clone()),
            turn: Turn::User(said.content.clone()),
        });
    }

    pub fn assistant(&mut self, said: &AssistantMessage) {
        let turn = Turn::Assistant { content: said.content.clone(), stop_reason: said.stop_reason.clone() };
        self.insert(Entry { run: said.run.clone(), id: Some(said.message.clone()), turn });
    }

    pub fn finished(&mut self, call: &CallFinished) {
        let outcome = Outcome { content: call.content.clone(), is_error: call.outcome != CallOutcome::Done };
        self.results.insert((call.message.clone(), call.tool_use_id.clone()), outcome);
    }

    /// The summary takes the place of everything up to its message, but for the last thing that a person said there.
    pub fn compacted(&mut self, compacted: &ContextCompacted) {
        let Some(upto) = self.entries.iter().position(|e| e.id.as_ref() == Some(&compacted.upto)) else {
            return;
        };
        let rest = self.entries.split_off(upto + 1);
        let asked = std::mem::take(&mut self.entries).into_iter().rfind(|e| matches!(e.turn, Turn::User(_)));
        let summary =
            Entry { run: compacted.run.clone(), id: None, turn: Turn::Summary(compacted.summary.clone()) };
        self.entries.push(summary);
        self.entries.extend(asked);
        self.entries.extend(rest);
    }

    /// What the person asked for in this run.
    #[must_use]
    pub fn task(&self, run: &RunId) -> String {
        let of_run = self.entries.iter().filter(|e| e.run == *run);
        let texts =
            of_run.filter_map(|e| if let Turn::User(content) = &e.turn { Some(text(content)) } else { None });
        texts.collect::<Vec<_>>().join("\n\n")
    }

    #[must_use]
    pub fn need(&self, run: &RunId) -> Need {
        let Some(last) = self.entries.iter().rfind(|e| e.run == *run) else { return Need::Model };
        let (Some(id), Turn::Assistant { content, stop_reason }) = (&last.id, &last.turn) else {
            return Need::Model;
        };
        let open = self.open(id, content);
        match stop_reason {
            _ if !open.is_empty() => Need::Calls(open),
            _ if uses(content).next().is_some() => Need::Model,
            StopReason::MaxTokens | StopReason::PauseTurn => Need::Model,
            StopReason::ModelContextWindowExceeded => Need::Compaction,
            StopReason::Refusal => Need::End { refused: true },
            _ => Need::End { refused: false },
        }
    }

    /// How many of the model's last messages in this run used no tool. One that was cut or paused is part of the next.
    #[must_use]
    pub fn only_spoke(&self, run: &RunId) -> usize {
        let of_run = self.entries.iter().rev().filter(|e| e.run == *run);
        let said = of_run.filter_map(|e| match &e.turn {
            Turn::Assistant { stop_reason: StopReason::MaxTokens | StopReason::PauseTurn, .. } => None,
            Turn::Assistant { content, .. } => Some(uses(content).next().is_none()),
            _ => None,
        });
        said.take_while(|spoke| *spoke).count()
    }

    /// The last message of those that `run` sees: what a compaction would reach to.
    #[must_use]
    pub fn last_message(&self, run: &RunId) -> Option<MessageId> {
        self.visible(run).filter_map(|e| e.id.clone()).last()
    }

    /// What the model is shown in this run. `nudge` is said where the model spoke last and has to go on.
    #[must_use]
    pub fn messages(&self, run: &RunId, nudge: &str) -> Vec<Message> {
        let mut messages = Vec::new();
        let mut paused = false;
        for entry in self.visible(run) {
            match &entry.turn {
                Turn::User(content) => push(&mut messages, Role::User, sendable(content)),
                Turn::Summary(summary) => {
                    push(&mut messages, Role::User, vec![Block::text(summarised(summary))])
                }
                Turn::Assistant { content, stop_reason } => {
                    let content = sendable(content);
                    if !content.is_empty() && !paused && ends_with(&messages, Role::Assistant) {
                        push(&mut messages, Role::User, vec![Block::text(CONTINUE)]);
                    }
                    let results = self.answers(entry, &content);
                    push(&mut messages, Role::Assistant, content);
                    push(&mut messages, Role::User, results);
                    paused = *stop_reason == StopReason::PauseTurn;
                }
            }
        }
        if !paused && !ends_with(&messages, Role::User) {
            push(
                &mut messages,
                Role::User,
                vec![Block::text(if nudge.is_empty() { CONTINUE } else { nudge })],
            );
        }
        messages
    }

    fn visible(&self, run: &RunId) -> impl Iterator<Item = &Entry> {
        let turn = self.turn_of(run).unwrap_or(usize::MAX);
        self.entries.iter().filter(move |e| self.turn_of(&e.run).is_none_or(|of| of <= turn))
    }

    fn turn_of(&self, run: &RunId) -> Option<usize> {
        self.runs.iter().position(|r| r == run)
    }

    /// After the last entry of its own run or of an earlier one.
    fn insert(&mut self, entry: Entry) {
        if !self.runs.contains(&entry.run) {
            self.runs.push(entry.run.clone());
        }
        let turn = self.turn_of(&entry.run);
        let after = self.entries.iter().rposition(|e| self.turn_of(&e.run) <= turn);
        self.entries.insert(after.map_or(0, |at| at + 1), entry);
    }

    fn open(&self, message: &MessageId, content: &[Block]) -> Vec<OpenUse> {
        let open =
            uses(content).filter(|(id, ..)| !self.results.contains_key(&(message.clone(), (*id).to_owned())));
        let open = open.map(|(id, name, input)| OpenUse {
            message: message.clone(),
            id: id.to_owned(),
            name: name.to_owned(),
            input: input.clone(),
        });
        open.collect()
    }

    fn answers(&self, entry: &Entry, content: &[Block]) -> Vec<Block> {
        let result = |id: &str| entry.id.as_ref().and_then(|m| self.results.get(&(m.clone(), id.to_owned())));
        let answers = uses(content).map(|(id, ..)| {
            let (content, is_error) = result(id).map_or((vec![Block::text(NOT_RUN)], true), |outcome| {
                (sendable(&outcome.content), outcome.is_error)
            });
            Block::ToolResult { tool_use_id: id.to_owned(), content, is_error }
        });
        answers.collect()
    }
}

/// Where the provider may cut its cache: what never changes, the person's previous turn, and all of it.
#[must_use]
pub fn cache_marks(messages: &[Message]) -> Vec<CacheMark> {
    let users = messages.iter().enumerate().rev().filter(|(_, m)| m.role == Role::User).map(|(at, _)| at);
    let mut last: Vec<_> = users.take(2).map(CacheMark::Message).collect();
    last.reverse();
    [CacheMark::Tools, CacheMark::System].into_iter().chain(last).collect()
}

/// Tokens of these messages, about; rather too many. An image counts as what providers charge at most for one.
#[must_use]
pub fn estimate_tokens(messages: &[Message]) -> u64 {
    messages.iter().flat_map(|m| &m.content).map(block_tokens).sum()
}

fn block_tokens(block: &Block) -> u64 {
    let of_text = |bytes: usize| (bytes as u64).div_ceil(3) + 4;
    match block {
        Block::Image { .. } => 1600,
        Block::Text { text } => of_text(text.len()),
        Block::Thinking { thinking, signature } => of_text(thinking.len() + signature.len()),
        Block::RedactedThinking { data } => of_text(data.len()),
        Block::ToolUse { input, .. } => of_text(input.to_string().len()) + 16,
        Block::ToolResult { content, .. } => content.iter().map(block_tokens).sum::<u64>() + 16,
        Block::Other(value) => of_text(value.to_string().len()),
    }
}

/// The text of these blocks.
#[must_use]
pub fn text(content: &[Block]) -> String {
    let texts = content
        .iter()
        .filter_map(|block| if let Block::Text { text } = block { Some(text.raw()) } else { None });
    texts.collect::<Vec<_>>().join("\n")
}

fn uses(content: &[Block]) -> impl Iterator<Item = (&str, &str, &Value)> {
    content.iter().filter_map(|block| match block {
        Block::ToolUse { id, name, input } => Some((id.as_str(), name.as_str(), input)),
        _ => None,
    })
}

/// Without what a provider refuses in a request: empty text, thinking that is not signed, blocks that we do not know.
fn sendable(content: &[Block]) -> Vec<Block> {
    let wanted = content.iter().filter(|block| match block {
        Block::Text { text } => !text.raw().trim().is_empty(),
        Block::Thinking { signature, .. } => !signature.is_empty(),
        Block::Other(_) => false,
        _ => true,
    });
    wanted.cloned().collect()
}

fn push(messages: &mut Vec<Message>, role: Role, content: Vec<Block>) {
    match messages.last_mut() {
        _ if content.is_empty() => {}
        Some(last) if last.role == role => last.content.extend(content),
        _ => messages.push(Message { role, content }),
    }
}

fn ends_with(messages: &[Message], role: Role) -> bool {
    messages.last().is_some_and(|m| m.role == role)
}

fn summarised(summary: &Untrusted) -> String {
    format!("[The conversation so far was summarised to save space.]\n\n{}", summary.raw())
}

#[cfg(test)]
mod tests;
