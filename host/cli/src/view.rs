//! The readable stream of a session: one view for `run`, `attach`, `logs` and the demo.
//!
//! Fed with the log's events and, between them, with what is live. What was shown live is not shown again when the
//! whole message arrives. It decides nothing and asks nobody.

pub(crate) mod call;
mod flow;
pub(crate) mod patch;
mod streamed;
pub(crate) mod style;
pub(crate) mod subject;

use flow::Flow;
use model::{
    Untrusted,
    event::{
        AnalysisJudged, AssistantMessage, CallFinished, CallIntended, Event, Live, PhaseChanged, RunFinished,
        RunOutcome, Stored,
    },
    id::{CallId, MessageId},
    lifecycle::Phase,
    message::{Block, Delta},
    reading::Reading,
    render,
};
use std::{
    collections::HashMap,
    io::{self, Write},
};
use streamed::Streamed;
use style::Style;

pub(crate) struct View<W> {
    out: W,
    style: Style,
    /// The block that is being streamed, and how it flows.
    open: Option<(MessageId, u32, Flow)>,
    /// The message under way, and how much of it was shown live.
    reading: Option<(MessageId, Reading)>,
    /// The call whose line has no end yet: its outcome goes there when nothing comes between.
    line_of: Option<CallId>,
    /// The call whose lines were printed last: its outcome needs no name.
    tail_of: Option<CallId>,
    calls: HashMap<CallId, String>,
    /// Calls whose output was shown live.
    streamed: HashMap<CallId, Streamed>,
    /// A prompt stands on the last line, and nothing came after it.
    prompted: bool,
    /// Why the last run failed: the phase that follows does not say it again.
    failure: Option<Untrusted>,
    started_at: Option<model::id::UnixMillis>,
    calls_made: u64,
}

impl<W: Write> View<W> {
    pub(crate) fn new(out: W, style: Style) -> Self {
        Self {
            out,
            style,
            open: None,
            reading: None,
            line_of: None,
            tail_of: None,
            calls: HashMap::new(),
            streamed: HashMap::new(),
            prompted: false,
            failure: None,
            started_at: None,
            calls_made: 0,
        }
    }

    /// # Errors
    /// When the output is gone.
    pub(crate) fn stored(&mut self, stored: &Stored) -> io::Result<()> {
        match &stored.event {
            Event::RunStarted(_) => {
                self.started_at = Some(stored.at);
                self.calls_made = 0;
                self.failure = None;
                Ok(())
            }
            Event::UserMessage(message) => self.user(&message.content),
            Event::PersonaPrompted(persona) => {
                let name = self.style.name(&format!("● {}", render::line(&persona.name, 60)));
                let rest = self.style.dim(&format!("{}, {}", persona.persona, verb(&persona.purpose)));
                self.block(&format!("{name}  {rest}\n"))
            }
            Event::AssistantMessage(message) => self.assistant(message),
            Event::CallIntended(call) => self.intended(call),
            Event::CallFinished(call) => self.finished(call),
            Event::ApprovalRequested(request) => {
                let text = subject::approval(request, self.style);
                self.block(&text)
            }
            Event::ApprovalDecided(decided) => {
                let text = self.decision(&decided.decision, &decided.decided_by);
                self.block(&text)
            }
            Event::QuestionAsked(question) => {
                let text = subject::question(question, self.style);
                self.block(&text)
            }
            Event::AnalysisJudged(judged) => self.judged(judged),
            Event::ContextCompacted(_) => {
                self.note("the conversation was summarised to fit the model's window")
            }
            Event::Warning(warning) => {
                let text =
                    format!("{} {}", self.style.yellow("warning:"), render::line(&warning.message, 400));
                self.block(&format!("{text}\n"))
            }
            Event::RunnerLost(lost) => {
                self.note(&format!("the runner ended unexpectedly: {}", render::line(&lost.message, 300)))
            }
            Event::PhaseChanged(phase) => self.phase(phase),
            Event::RunFinished(finished) => self.run_finished(finished, stored),
            _ => Ok(()),
        }
    }

    /// # Errors
    /// When the output is gone.
    pub(crate) fn live(&mut self, live: &Live) -> io::Result<()> {
        match live {
            Live::BlockStarted { message, index, block, .. } => {
                if *index == 0 {
                    self.read(message);
                }
                if let Some(reading) = self.reading_of(message) {
                    reading.begin(*index);
                }
                match block {
                    Block::Text { text } => self.stream(message, *index, text, false),
                    Block::Thinking { thinking, .. } => self.stream(message, *index, thinking, true),
                    _ => Ok(()),
                }
            }
            Live::MessageDelta { message, index, delta, .. } => match delta {
                Delta::Text { text } => self.stream(message, *index, text, false),
                Delta::Thinking { thinking } => self.stream(message, *index, thinking, true),
                _ => Ok(()),
            },
            Live::CallOutput { call, text, .. } => self.output(call, text),
            Live::Unknown(_) => Ok(()),
        }
    }

    /// The stream was cut: of a message under way, something may be missing.
    pub(crate) fn cut(&mut self) {
        if let Some((_, reading)) = &mut self.reading {
            reading.lost();
        }
    }

    /// Ends what is open, so that something else can be printed.
    ///
    /// # Errors
    /// When the output is gone.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        self.tail_of = None;
        if let Some((_, _, mut flow)) = self.open.take() {
            let rest = flow.end();
            self.write(&rest)?;
        }
        if self.line_of.take().is_some() {
            self.write("\n")?;
        }
        Ok(())
    }

    /// Somebody writes a prompt, which has no end of line: what comes next begins below it.
    ///
    /// # Errors
    /// When the output is gone.
    pub(crate) fn prompt(&mut self) -> io::Result<()> {
        self.close()?;
        self.prompted = true;
        Ok(())
    }

    /// Something was typed, which ended the prompt's line.
    pub(crate) fn answered(&mut self) {
        self.prompted = false;
    }

    /// Whether a prompt is the last thing to be seen.
    pub(crate) fn is_prompted(&self) -> bool {
        self.prompted
    }

    /// A line that belongs to no event.
    ///
    /// # Errors
    /// When the output is gone.
    pub(crate) fn note(&mut self, text: &str) -> io::Result<()> {
        let text = self.style.dim(text);
        self.block(&format!("{text}\n"))
    }

    fn block(&mut self, text: &str) -> io::Result<()> {
        self.close()?;
        self.write(text)
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        if !text.is_empty() && std::mem::take(&mut self.prompted) {
            self.out.write_all(b"\n")?;
        }
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    fn user(&mut self, content: &[Block]) -> io::Result<()> {
        self.close()?;
        for block in content {
            if let Block::Text { text } = block {
                for line in render::terminal(text).lines() {
                    let line = format!("{} {}\n", self.style.cyan(">"), self.style.bold(line));
                    self.write(&line)?;
                }
            }
        }
        Ok(())
    }

    /// From here on this message is under way.
    fn read(&mut self, message: &MessageId) {
        if self.reading_of(message).is_none() {
            self.reading = Some((message.clone(), Reading::default()));
        }
    }

    fn reading_of(&mut self, message: &MessageId) -> Option<&mut Reading> {
        self.reading.as_mut().filter(|(id, _)| id == message).map(|(_, reading)| reading)
    }

    /// Shows of this piece what was not shown yet.
    fn stream(&mut self, message: &MessageId, index: u32, text: &Untrusted, dim: bool) -> io::Result<()> {
        let Some(news) = self.reading_of(message).and_then(|reading| reading.news(index, text.raw())) else {
            return Ok(());
        };
        let same = self.open.as_ref().is_some_and(|(open, at, _)| open == message && *at == index);
        if !same {
            self.close()?;
            self.open = Some((message.clone(), index, Flow::new(self.style, 2, dim)));
        }
        let out = self.open.as_mut().map(|(_, _, flow)| flow.push(&news.into())).unwrap_or_default();
        self.write(&out)
    }

    fn assistant(&mut self, message: &AssistantMessage) -> io::Result<()> {
        self.read(&message.message);
        for (index, block) in (0u32..).zip(&message.content) {
            if let Some(reading) = self.reading_of(&message.message) {
                reading.at_block(index);
            }
            match block {
                Block::Text { text } => self.stream(&message.message, index, text, false)?,
                Block::Thinking { thinking, .. } => self.stream(&message.message, index, thinking, true)?,
                _ => {}
            }
        }
        self.reading = None;
        self.close()
    }

    fn intended(&mut self, call: &CallIntended) -> io::Result<()> {
        self.close()?;
        self.calls_made += 1;
        let about = call::about(call.tool.as_str(), &call.input);
        let title = format!("{} {about}", self.style.bold(call.tool.as_str()));
        self.write(&format!("  {} {}", self.style.cyan("▸"), title.trim_end()))?;
        self.calls.insert(call.call.clone(), title);
        let detail = call::detail(call.tool.as_str(), &call.input, self.style);
        if detail.is_empty() {
            self.line_of = Some(call.call.clone());
            return Ok(());
        }
        self.tail_of = Some(call.call.clone());
        self.write(&format!("\n{detail}"))
    }

    fn finished(&mut self, finished: &CallFinished) -> io::Result<()> {
        let outcome = call::outcome(finished, self.style);
        let title = self.calls.remove(&finished.call);
        let streamed = self.streamed.remove(&finished.call);
        if let Some(tail) = streamed.as_ref().and_then(|live| self.tail(live, finished)) {
            self.close()?;
            self.tail_of = Some(finished.call.clone());
            self.write(&tail)?;
        }
        if self.line_of.as_ref() == Some(&finished.call) {
            self.line_of = None;
            self.write(&format!("  {outcome}\n"))?;
        } else if self.tail_of.take().as_ref() == Some(&finished.call) {
            self.write(&format!("  {} {outcome}\n", self.style.dim("└")))?;
        } else {
            self.close()?;
            let title = title.unwrap_or_else(|| render::line(&finished.tool, 64));
            self.write(&format!("  {} {}  {outcome}\n", self.style.dim("└"), title.trim_end()))?;
        }
        let result = call::result(finished, streamed.is_some(), self.style);
        self.write(&result)
    }

    /// Whole lines only; the rest waits for its end.
    fn output(&mut self, call: &CallId, text: &Untrusted) -> io::Result<()> {
        let Some(lines) = self.streamed.entry(call.clone()).or_default().take(text.raw()) else {
            return Ok(());
        };
        self.close()?;
        self.tail_of = Some(call.clone());
        let quoted = call::quoted(&lines, usize::MAX, self.style);
        self.write(&quoted)
    }

    /// What is left to show of a call that printed while it ran.
    fn tail(&self, live: &Streamed, finished: &CallFinished) -> Option<String> {
        match live.skipped() {
            0 if live.rest().is_empty() => None,
            0 => Some(call::quoted(live.rest(), usize::MAX, self.style)),
            skipped => Some(call::end_of_flood(finished, skipped, self.style)),
        }
    }

    fn decision(&self, decision: &model::approval::Decision, by: &Untrusted) -> String {
        use model::approval::Decision;
        let by = self.style.dim(&format!("by {}", render::line(by, 60)));
        match decision {
            Decision::Once => format!("  {} {by}\n", self.style.green("allowed once")),
            Decision::Session => format!("  {} {by}\n", self.style.green("allowed for this session")),
            Decision::Deny { reason } => {
                let declined = self.style.red("declined");
                match render::line(reason, 200) {
                    reason if reason.is_empty() => format!("  {declined} {by}\n"),
                    reason => format!("  {declined} {by}: {reason}\n"),
                }
            }
        }
    }

    fn judged(&mut self, judged: &AnalysisJudged) -> io::Result<()> {
        self.close()?;
        let which =
            if judged.revision == 0 { "answer".to_owned() } else { format!("revision {}", judged.revision) };
        if judged.accepted {
            let text =
                format!("  {} {which} accepted by {}'s judge\n", self.style.green("✓"), judged.persona);
            self.write(&text)?;
            let answer = serde_json::to_string_pretty(&judged.answer).unwrap_or_default();
            return self.write(&format!("{}\n", render::terminal(&answer.into())));
        }
        self.write(&format!(
            "  {} {which} sent back by {}'s judge\n",
            self.style.yellow("↺"),
            judged.persona
        ))?;
        for reason in &judged.reasons {
            self.write(&format!("    - {}\n", render::line(reason, 300)))?;
        }
        Ok(())
    }

    fn phase(&mut self, changed: &PhaseChanged) -> io::Result<()> {
        let why = because(&changed.reason, &changed.message, 400);
        match changed.phase {
            Phase::Failed if self.failure.as_ref() == Some(&changed.message) => Ok(()),
            Phase::Failed => self.block(&format!("{} {why}\n", self.style.red("failed:"))),
            Phase::Stopped | Phase::Suspended => self.note(&format!("{}: {why}", changed.phase)),
            _ => Ok(()),
        }
    }

    fn run_finished(&mut self, finished: &RunFinished, stored: &Stored) -> io::Result<()> {
        let (mark, word) = match finished.outcome {
            RunOutcome::Completed => (self.style.green("✓"), "done"),
            RunOutcome::Interrupted => (self.style.yellow("■"), "interrupted"),
            RunOutcome::Failed => (self.style.red("✗"), "failed"),
        };
        let mut parts = Vec::new();
        if let Some(started) = self.started_at {
            let time = stored.at.since(started).as_millis();
            parts.push(call::duration(u64::try_from(time).unwrap_or(u64::MAX)));
        }
        parts.push(counted(finished.turns.into(), "turn"));
        parts.push(counted(self.calls_made, "call"));
        let usage = finished.usage;
        let input = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens;
        parts.push(format!("{} tokens in, {} out", tokens(input), tokens(usage.output_tokens)));
        parts.push(format!("${:.4}", finished.cost.dollars()));
        let mut text = format!("\n{mark} {} {}\n", self.style.bold(word), self.style.dim(&parts.join(" · ")));
        if finished.outcome != RunOutcome::Completed {
            text.push_str(&format!("  {}\n", because(&finished.reason, &finished.message, 600)));
            self.failure = Some(finished.message.clone());
        }
        self.block(&text)
    }
}

fn verb(purpose: &str) -> &'static str {
    if purpose == "analyse" { "analyses" } else { "works" }
}

/// A reason, and the words that came with it.
fn because(name: &model::lifecycle::Reason, message: &Untrusted, most: usize) -> String {
    match render::line(message, most) {
        message if message.is_empty() => reason(name),
        message => format!("{}: {message}", reason(name)),
    }
}

/// `1 turn`, `2 turns`.
fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// A reason's name, as it stands on the wire.
pub(crate) fn reason(reason: &model::lifecycle::Reason) -> String {
    let name =
        serde_json::to_value(reason).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
    render::line(&name.into(), 64)
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn tokens(count: u64) -> String {
    match count {
        0..1000 => count.to_string(),
        1000..1_000_000 => format!("{:.1}k", count as f64 / 1e3),
        _ => format!("{:.1}M", count as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests;
