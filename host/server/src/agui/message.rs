//! One assistant message on its way to a reader: what of it the reader has, and what is open.

use super::Event;

/// A place within a message: block, and bytes of that block.
type Place = (u32, usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Nothing,
    Text,
    Reasoning(u32),
}

#[derive(Debug)]
pub(super) struct Shown {
    id: String,
    /// Where what comes next belongs; `None` while the beginning was missed, until the whole message comes.
    at: Option<Place>,
    had: Place,
    open: Open,
}

impl Shown {
    pub(super) const fn new(id: String) -> Self {
        Self { id, at: None, had: (0, 0), open: Open::Nothing }
    }

    /// A reader that has the message up to `had`, from an earlier stream.
    pub(super) const fn resumed(id: String, had: Place) -> Self {
        Self { id, at: None, had, open: Open::Nothing }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) const fn had(&self) -> Place {
        self.had
    }

    /// A live block begins. Blocks count only without a gap from the first one.
    pub(super) fn begin(&mut self, index: u32) {
        self.at = match (self.at, index) {
            (_, 0) => Some((0, 0)),
            (Some((before, _)), index) if index == before + 1 => Some((index, 0)),
            _ => None,
        };
    }

    /// The block of the durable message comes next, whole.
    pub(super) const fn at_block(&mut self, index: u32) {
        self.at = Some((index, 0));
    }

    pub(super) fn text(&mut self, index: u32, chunk: &str, out: &mut Vec<Event>) {
        let Some(delta) = self.news(index, chunk) else { return };
        self.switch(Open::Text, out);
        out.push(Event::TextMessageContent { message_id: self.id.clone(), delta });
    }

    pub(super) fn thinking(&mut self, index: u32, chunk: &str, out: &mut Vec<Event>) {
        let Some(delta) = self.news(index, chunk) else { return };
        self.switch(Open::Reasoning(index), out);
        out.push(Event::ReasoningMessageContent { message_id: self.reasoning(index), delta });
    }

    pub(super) fn close(&mut self, out: &mut Vec<Event>) {
        self.switch(Open::Nothing, out);
    }

    /// The part of this chunk that the reader does not have.
    fn news(&mut self, index: u32, chunk: &str) -> Option<String> {
        let (block, start) = self.at.filter(|(block, _)| *block == index)?;
        let end = (block, start + chunk.len());
        self.at = Some(end);
        if end <= self.had {
            return None;
        }
        let known = if self.had.0 == block { self.had.1.saturating_sub(start) } else { 0 };
        self.had = end;
        chunk.get(known..).filter(|news| !news.is_empty()).map(str::to_owned)
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
