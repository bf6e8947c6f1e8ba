//! One assistant message on its way to a reader: what of it the reader has, and what is open.

use super::Event;
use model::reading::{Place, Reading};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Nothing,
    Text,
    Reasoning(u32),
}

#[derive(Debug)]
pub(super) struct Shown {
    id: String,
    reading: Reading,
    open: Open,
}

impl Shown {
    pub(super) fn new(id: String) -> Self {
        Self { id, reading: Reading::default(), open: Open::Nothing }
    }

    /// A reader that has the message up to `had`, from an earlier stream.
    pub(super) const fn resumed(id: String, had: Place) -> Self {
        Self { id, reading: Reading::resumed(had), open: Open::Nothing }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) const fn had(&self) -> Place {
        self.reading.had()
    }

    /// A live block begins.
    pub(super) fn begin(&mut self, index: u32) {
        self.reading.begin(index);
    }

    /// The block of the durable message comes next, whole.
    pub(super) const fn at_block(&mut self, index: u32) {
        self.reading.at_block(index);
    }

    pub(super) fn text(&mut self, index: u32, chunk: &str, out: &mut Vec<Event>) {
        let Some(delta) = self.reading.news(index, chunk).map(str::to_owned) else { return };
        self.switch(Open::Text, out);
        out.push(Event::TextMessageContent { message_id: self.id.clone(), delta });
    }

    pub(super) fn thinking(&mut self, index: u32, chunk: &str, out: &mut Vec<Event>) {
        let Some(delta) = self.reading.news(index, chunk).map(str::to_owned) else { return };
        self.switch(Open::Reasoning(index), out);
        out.push(Event::ReasoningMessageContent { message_id: self.reasoning(index), delta });
    }

    pub(super) fn close(&mut self, out: &mut Vec<Event>) {
        self.switch(Open::Nothing, out);
    }

    fn reasoning(&self, index: u32) -> String {
        format!("{}-thinking-{index}", self.id)
    }

    fn switch(&mut self, to: Open, out: &mut Vec<Event>) {
        if self.open == to {
            return;
        }
        match self.open {
            Open::Nothing => {}
            Open::Text => out.push(Event::TextMessageEnd { message_id: self.id.clone() }),
            Open::Reasoning(index) => {
                let message_id = self.reasoning(index);
                out.push(Event::ReasoningMessageEnd { message_id: message_id.clone() });
                out.push(Event::ReasoningEnd { message_id });
            }
        }
        match to {
            Open::Nothing => {}
            Open::Text => {
                out.push(Event::TextMessageStart { message_id: self.id.clone(), role: "assistant" });
            }
            Open::Reasoning(index) => {
                let message_id = self.reasoning(index);
                out.push(Event::ReasoningStart { message_id: message_id.clone() });
                out.push(Event::ReasoningMessageStart { message_id, role: "reasoning" });
            }
        }
        self.open = to;
    }
}
