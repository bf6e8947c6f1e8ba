//! The agent: what a session does in a run, from the person's message to the end of the turn.
//!
//! What comes next is read from the conversation alone ([`crate::conversation::Need`]), so a runner that takes over in
//! the middle goes on from the log. Whatever is said is recorded and applied in one place, [`Agent::say`].

mod analysis;
mod calls;
mod turn;

use crate::{
    beneath::Root,
    conversation::Need,
    host::{gate::Permissions, processes::Launcher, state},
    http::Http,
    link::Link,
    past::Past,
    prompt::{self, Prompt, SUBMIT_NOW},
    tools::Toolbox,
    workspace::Usage,
};
use confine::Covers;
use model::{
    event::{CallFinished, CallOutcome, Event, PersonaPrompted, RunEnd, RunEnded},
    id::{CallId, Digest, MessageId, RunId},
    message::{Block, StopReason},
};
use protocol::control::{Binding, Purpose};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

const LOST: &str = "This call was interrupted: the process that ran it ended. Whether it took effect is not known, and it \
was not repeated. Check before you try again.";
const INTERRUPTED: &str = "This call was stopped before it ended, with the run.";

pub struct Agent {
    pub binding: Binding,
    pub link: Link,
    pub http: Http,
    pub toolbox: Toolbox,
    pub permissions: Arc<Permissions>,
    pub root: Root,
    /// Where the workspace is a person's own folder: what lies over git's files.
    pub covers: Option<Arc<Covers>>,
    pub workspace: PathBuf,
    pub usage: Usage,
    pub launcher: Option<Launcher>,
    pub state: state::Stored,
    pub past: Mutex<Past>,
    /// The answer under way, for what can be kept of it.
    pub answer: Mutex<Option<turn::UnderWay>>,
}

/// Why a run is over.
#[derive(Debug)]
pub struct Ended {
    end: RunEnd,
    message: String,
}

impl Ended {
    fn new(end: RunEnd, message: impl Into<String>) -> Self {
        Self { end, message: message.into() }
    }
}

impl Agent {
    /// Works on a run until it is over, and says so. `stop` becomes true when a person wants it to end.
    pub async fn run(&self, run: &RunId, mut stop: watch::Receiver<bool>) {
        self.usage.begin().await;
        let ended = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => Ended::new(RunEnd::Interrupted, ""),
            () = self.out_of_time() => Ended::new(RunEnd::Timeout, "the run took longer than its limit"),
            () = self.usage.overrun() => Ended::new(RunEnd::WorkspaceFull, self.usage.too_much()),
            ended = self.work(run) => ended,
        };
        // What goes on in a person's folder after its end would not be in what they are shown.
        if self.covers.is_some()
            && let Some(launcher) = &self.launcher
        {
            launcher.end_all().await;
        }
        self.settle(run);
        let turns = self.past().turns.get(run).copied().unwrap_or(0);
        let Ended { end, message } = ended;
        self.say(Event::RunEnded(RunEnded { run: run.clone(), end, message: message.into(), turns }));
    }

    async fn work(&self, run: &RunId) -> Ended {
        self.settle_lost(run);
        let prompt = match self.prompt(run).await {
            Ok(prompt) => prompt,
            Err(error) => return Ended::new(RunEnd::PersonaFailed, error.to_string()),
        };
        loop {
            if let Err(ended) = self.step(run, &prompt).await {
                return ended;
            }
        }
    }

    async fn step(&self, run: &RunId, prompt: &Prompt) -> Result<(), Ended> {
        let need = {
            let past = self.past();
            if past.judged.get(run).is_some_and(|(_, accepted)| *accepted) {
                return Err(Ended::new(RunEnd::Done, ""));
            }
            past.conversation.need(run)
        };
        match need {
            Need::Calls(uses) => self.calls(run, prompt, &uses).await,
            Need::Compaction => self.compact(run, prompt).await,
            Need::Model => self.turn(run, prompt).await,
            Need::End { refused: true } => {
                Err(Ended::new(RunEnd::Refused, "the model refused to go on with this conversation"))
            }
            Need::End { refused: false } if self.analyses() => self.ask_for_answer(run, prompt).await,
            Need::End { refused: false } => Err(Ended::new(RunEnd::Done, "")),
        }
    }

    async fn prompt(&self, run: &RunId) -> Result<Prompt, prompt::PromptError> {
        let task = self.past().conversation.task(run);
        let prompt = prompt::make(&self.binding, &self.toolbox, &self.root, &task).await?;
        if let Some(spoken) = &prompt.persona {
            self.say(Event::PersonaPrompted(PersonaPrompted {
                run: run.clone(),
                persona: spoken.key.clone(),
                name: spoken.name.as_str().into(),
                plugin_digest: spoken.plugin.clone(),
                prompt_digest: Digest::of(prompt.system.join("\n\n").as_bytes()),
                purpose: if self.analyses() { "analyse" } else { "act" }.to_owned(),
            }));
        }
        Ok(prompt)
    }

    fn analyses(&self) -> bool {
        self.binding.purpose == Purpose::Analyse
    }

    fn nudge(&self) -> &'static str {
        if self.analyses() { SUBMIT_NOW } else { "" }
    }

    /// Returns once the run's active time is used up; time in which a person is waited for is not active.
    async fn out_of_time(&self) {
        let mut left = Duration::from_millis(self.binding.limits.session.run_ms);
        let mut waiting = self.link.waiting();
        loop {
            let began = Instant::now();
            tokio::select! {
                () = tokio::time::sleep(left) => return,
                _ = waiting.wait_for(|open| *open > 0) => left = left.saturating_sub(began.elapsed()),
            }
            // The link outlives the agent.
            drop(waiting.wait_for(|open| *open == 0).await);
        }
    }

    /// Ends programs, those in the background too, when the workspace holds too much. Never returns.
    pub async fn guard_room(&self) {
        let launcher = self.launcher.as_ref();
        let busy = || launcher.is_some_and(Launcher::is_busy);
        self.usage.guard(busy, || launcher.into_iter().for_each(Launcher::kill_all)).await;
    }

    /// Calls that an earlier runner left in the middle are over, but for those that had done nothing yet.
    fn settle_lost(&self, run: &RunId) {
        let lost: Vec<_> = {
            let past = self.past();
            let lost = past.unfinished.iter().filter(|u| u.intended.run == *run && !u.may_begin_again());
            lost.map(|u| u.intended.clone()).collect()
        };
        for call in lost {
            let (message, id) = (call.message, call.tool_use_id);
            self.close(run, call.call, message, id, call.tool.as_str(), CallOutcome::Lost, LOST);
        }
    }

    /// At the end of a run nothing of it is left open.
    fn settle(&self, run: &RunId) {
        let said = self.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(under_way) = said {
            let content = under_way.assembly.said();
            if !content.is_empty() {
                let stop = StopReason::Other("interrupted".to_owned());
                self.say(Event::AssistantMessage(under_way.message(run, content, stop)));
            }
        }
        let need = self.past().conversation.need(run);
        if let Need::Calls(open) = need {
            for used in open {
                let call = calls::call_id(&used);
                self.close(
                    run,
                    call,
                    used.message,
                    used.id,
                    &used.name,
                    CallOutcome::Interrupted,
                    INTERRUPTED,
                );
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one event, in its order")]
    fn close(
        &self,
        run: &RunId,
        call: CallId,
        message: MessageId,
        tool_use_id: String,
        tool: &str,
        outcome: CallOutcome,
        text: &str,
    ) {
        self.say(Event::CallFinished(CallFinished {
            run: run.clone(),
            call,
            message,
            tool_use_id,
            tool: tool.into(),
            outcome,
            content: vec![Block::text(text)],
            observations: vec![],
            duration_ms: 0,
        }));
    }

    /// Records an event; the server has it when the answer's number is committed.
    fn say(&self, event: Event) -> model::id::RunnerSeq {
        let mut past = self.past();
        past.apply(&event);
        self.link.record(event)
    }

    pub fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
