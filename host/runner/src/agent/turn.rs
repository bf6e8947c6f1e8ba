//! One answer of the model: asked for, streamed, recorded whole. And the summary that makes room for more.

use super::{Agent, Ended};
use crate::{
    assemble::{Answer, Assembly, News},
    conversation::{self, cache_marks, estimate_tokens},
    prompt::{Prompt, SUBMIT},
};
use futures::StreamExt as _;
use model::{
    event::{AssistantMessage, ContextCompacted, Event, Live, RunEnd},
    id::{MessageId, RunId},
    message::{
        Block, Message, ModelEvent, ModelFailure, ModelFailureKind, ModelRequest, Role, StopReason,
        ToolChoice,
    },
};
use protocol::http::ModelCall;
use std::{sync::PoisonError, time::Duration};

/// How often a failure that may pass is tried again, beyond what the broker did.
const RETRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A conversation is summarised when it is estimated to fill this share of the window, in percent.
const FULL_PERCENT: u64 = 80;
/// Of each tool result, when a conversation is summarised.
const SUMMARY_RESULT_BYTES: usize = 2000;

const SUMMARISE: &str = "The conversation has to be shortened. Write a summary from which you can go on without the \
messages above: what the person wants, in their words; what was done, with the files and lines concerned; what was found \
out; decisions and why; what is left to do. Write only the summary.";

/// An answer that is being streamed.
pub struct UnderWay {
    pub(super) assembly: Assembly,
    message: MessageId,
    model: String,
}

impl UnderWay {
    pub(super) fn message(
        &self,
        run: &RunId,
        content: Vec<Block>,
        stop_reason: StopReason,
    ) -> AssistantMessage {
        let (message, model) = (self.message.clone(), self.model.clone());
        AssistantMessage { run: run.clone(), message, model, content, stop_reason }
    }
}

impl Agent {
    pub(super) async fn turn(&self, run: &RunId, prompt: &Prompt) -> Result<(), Ended> {
        let max = self.binding.limits.session.max_turns;
        if self.past().turns.get(run).is_some_and(|turns| *turns >= max) {
            return Err(Ended::new(RunEnd::TurnLimit, format!("the run used its {max} turns")));
        }
        let request = self.request(run, prompt);
        if self.is_full(&request) {
            return self.compact(run, prompt).await;
        }
        match self.ask(run, request, true).await {
            Ok((message, answer)) => {
                let model = answer.model.unwrap_or_else(|| self.binding.model.clone());
                let (content, stop_reason) = (answer.content, answer.stop_reason);
                let said = AssistantMessage { run: run.clone(), message, model, content, stop_reason };
                self.say(Event::AssistantMessage(said));
                Ok(())
            }
            Err(failure) if failure.kind == ModelFailureKind::TooLong => self.compact(run, prompt).await,
            Err(failure) => Err(ended(failure)),
        }
    }

    /// A summary takes the place of the conversation so far.
    pub(super) async fn compact(&self, run: &RunId, prompt: &Prompt) -> Result<(), Ended> {
        let full = || {
            Ended::new(
                RunEnd::Internal,
                "the conversation does not fit the model's window, and cannot be shortened",
            )
        };
        let Some(upto) = self.past().conversation.last_message(run) else { return Err(full()) };
        let mut request = self.request(run, prompt);
        let before = estimate_tokens(&request.messages);
        if request.messages.len() < 2 {
            return Err(full());
        }
        request.messages.iter_mut().for_each(shorten);
        if request.messages.last().is_some_and(|last| last.role == Role::Assistant) {
            request.messages.push(Message { role: Role::User, content: vec![] });
        }
        if let Some(last) = request.messages.last_mut() {
            last.content.push(Block::text(SUMMARISE));
        }
        request.tool_choice = (!request.tools.is_empty()).then_some(ToolChoice::None);
        let (_, answer) = self.ask(run, request, false).await.map_err(ended)?;
        let summary = conversation::text(&answer.content);
        if summary.trim().is_empty() {
            return Err(full());
        }
        self.say(Event::ContextCompacted(ContextCompacted {
            run: run.clone(),
            upto,
            summary: summary.into(),
        }));
        if estimate_tokens(&self.request(run, prompt).messages) >= before { Err(full()) } else { Ok(()) }
    }

    fn request(&self, run: &RunId, prompt: &Prompt) -> ModelRequest {
        let past = self.past();
        let messages = past.conversation.messages(run, self.nudge());
        // Asked once more after its answer was no submission.
        let must_submit =
            self.analyses() && past.conversation.need(run) == conversation::Need::End { refused: false };
        ModelRequest {
            model: self.binding.model.clone(),
            max_tokens: self.binding.max_output_tokens,
            system: prompt.system.clone(),
            cache: cache_marks(&messages),
            messages,
            tools: prompt.tools.clone(),
            tool_choice: must_submit.then(|| ToolChoice::Tool { name: SUBMIT.to_owned() }),
            stop_sequences: vec![],
        }
    }

    fn is_full(&self, request: &ModelRequest) -> bool {
        let window = self.binding.context_tokens;
        let fixed: usize = request.system.iter().map(String::len).sum::<usize>()
            + request
                .tools
                .iter()
                .map(|tool| tool.description.len() + tool.input_schema.to_string().len())
                .sum::<usize>();
        let used = estimate_tokens(&request.messages) + (fixed / 3) as u64;
        request.messages.len() > 2 && used > window * FULL_PERCENT / 100
    }

    /// Asks until there is a whole answer, as far as trying again makes sense.
    async fn ask(
        &self,
        run: &RunId,
        request: ModelRequest,
        live: bool,
    ) -> Result<(MessageId, Answer), ModelFailure> {
        let mut pause = FIRST_PAUSE;
        for attempt in 0.. {
            // Only the link's end closes this, and then the process ends.
            drop(self.link.connected().wait_for(|connected| *connected).await);
            let message = new_message();
            match self.ask_once(run, &message, request.clone(), live).await {
                Err(failure) if failure.retryable && attempt < RETRIES => {
                    tracing::info!(kind = ?failure.kind, attempt, "the model is asked again");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                result => return result.map(|answer| (message, answer)),
            }
        }
        Err(crate::assemble::cut())
    }

    async fn ask_once(
        &self,
        run: &RunId,
        message: &MessageId,
        request: ModelRequest,
        live: bool,
    ) -> Result<Answer, ModelFailure> {
        let model = request.model.clone();
        let call = ModelCall { run: run.clone(), idempotency_key: message.to_string(), request };
        let mut stream = self.http.model(&call).await?;
        self.toolbox.has_spare_time();
        if !live {
            let mut assembly = Assembly::default();
            while let Some(event) = stream.next().await {
                assembly.apply(event?)?;
            }
            return assembly.finish();
        }
        self.under_way(|answer| {
            *answer = Some(UnderWay { assembly: Assembly::default(), message: message.clone(), model });
        });
        let streamed = async {
            while let Some(event) = stream.next().await {
                self.show(run, message, event?)?;
            }
            Ok(())
        };
        let streamed = streamed.await;
        let whole =
            self.under_way(Option::take).map_or_else(|| Err(crate::assemble::cut()), |u| u.assembly.finish());
        streamed.and(whole)
    }

    fn show(&self, run: &RunId, message: &MessageId, event: ModelEvent) -> Result<(), ModelFailure> {
        let news = self.under_way(|answer| answer.as_mut().map(|under_way| under_way.assembly.apply(event)));
        let (run, message) = (run.clone(), message.clone());
        match news.transpose()? {
            Some(News::Block(index, block)) => {
                self.link.live(Live::BlockStarted { run, message, index, block })
            }
            Some(News::Delta(index, delta)) => {
                self.link.live(Live::MessageDelta { run, message, index, delta })
            }
            Some(News::Stopped | News::Nothing) | None => {}
        }
        Ok(())
    }

    fn under_way<T>(&self, work: impl FnOnce(&mut Option<UnderWay>) -> T) -> T {
        work(&mut self.answer.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn ended(failure: ModelFailure) -> Ended {
    let end = match failure.kind {
        ModelFailureKind::Unauthorized => RunEnd::ModelUnauthorized,
        ModelFailureKind::Budget => RunEnd::BudgetSpent,
        ModelFailureKind::Invalid | ModelFailureKind::TooLong => RunEnd::Internal,
        ModelFailureKind::Unavailable | ModelFailureKind::Truncated | ModelFailureKind::Unknown => {
            RunEnd::ModelUnavailable
        }
    };
    Ended::new(end, failure.message)
}

/// For a summary the beginning of each tool result is enough, and no image is needed.
fn shorten(message: &mut Message) {
    for block in &mut message.content {
        match block {
            Block::ToolResult { content, .. } => {
                let text = conversation::text(content);
                let end = text.floor_char_boundary(SUMMARY_RESULT_BYTES);
                *content = vec![Block::text(text.get(..end).unwrap_or_default())];
            }
            Block::Image { .. } => *block = Block::text("[an image]"),
            _ => {}
        }
    }
}

#[expect(clippy::expect_used, reason = "a prefix and a UUID are always a message id")]
fn new_message() -> MessageId {
    format!("m-{}", uuid::Uuid::now_v7()).parse().expect("letters, digits and dashes")
}
