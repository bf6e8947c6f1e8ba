//! Tool calls: checked, granted, asked for where a person decides, run, recorded.
//!
//! Invariant: a call with effects begins only after the server has committed its intent.

use super::{Agent, Ended};
use crate::{
    beneath::FileError,
    changes::{ChangeError, Changes},
    conversation::OpenUse,
    host::{
        Bases, completions::OfSession, fetch::ByBroker, gate::CallGate, news::News, processes::OfPlugin,
        state::PluginStore,
    },
    link::Answer,
    prompt::{Prompt, SUBMIT},
    strict,
    tools::{self, Tool},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use engine::{Call, CallEnd, Called, Host, Staged, Verdict};
use futures::{StreamExt as _, stream};
use model::{
    approval::{ApprovalRequest, Decision, Question, Subject},
    event::{Blame, CallFinished, CallIntended, CallOutcome, Event, Observation},
    grant::{EffectSet, effects},
    id::{AskId, CallId, Digest, Effect, RunId},
    limits::CallLimits,
    message::Block,
};
use protocol::control::Ask;
use serde_json::{Value, json};
use std::{
    sync::{Arc, atomic::AtomicU32},
    time::{Duration, Instant},
};

/// How often one call may come back with a question or for an approval.
const ROUNDS: usize = 16;

/// How a call ended, for the log and the model.
struct Outcome {
    outcome: CallOutcome,
    content: Vec<Block>,
    observations: Vec<Observation>,
}

/// A call under way.
struct Attempt<'a> {
    id: CallId,
    tool: &'a Tool,
    input: String,
    gate: Arc<CallGate>,
    host: Host,
    /// Answer and state of a question, once it was answered.
    answered: Vec<(String, String)>,
}

impl Agent {
    /// Calls that may overlap do; the others wait for those before them.
    pub(super) async fn calls(&self, run: &RunId, prompt: &Prompt, uses: &[OpenUse]) -> Result<(), Ended> {
        let mut rest = uses;
        while !rest.is_empty() {
            let together = rest.iter().take_while(|used| self.is_parallel(prompt, used)).count().max(1);
            let (now, later) = rest.split_at(together.min(rest.len()));
            let limit = self.binding.limits.session.concurrent_calls.max(1) as usize;
            let calls: Vec<_> = now.iter().map(|used| self.call(run, prompt, used)).collect();
            let ended: Vec<_> = stream::iter(calls).buffer_unordered(limit).collect().await;
            ended.into_iter().collect::<Result<(), Ended>>()?;
            rest = later;
        }
        Ok(())
    }

    fn is_parallel(&self, prompt: &Prompt, used: &OpenUse) -> bool {
        offered(prompt, &used.name)
            && self.toolbox.find(&used.name).is_some_and(|tool| tool.declared.parallel)
    }

    async fn call(&self, run: &RunId, prompt: &Prompt, used: &OpenUse) -> Result<(), Ended> {
        if self.analyses() && used.name == SUBMIT {
            return self.submit(run, used).await;
        }
        let began = Instant::now();
        let (Outcome { outcome, content, observations }, waited) = match self.admit(prompt, used) {
            Ok(tool) => self.carry_out(run, used, tool).await,
            Err(refusal) => (Outcome::failed(Blame::Model, refusal), Duration::ZERO),
        };
        self.say(Event::CallFinished(CallFinished {
            run: run.clone(),
            call: call_id(used),
            message: used.message.clone(),
            tool_use_id: used.id.clone(),
            tool: used.name.as_str().into(),
            outcome,
            content,
            observations,
            duration_ms: u64::try_from(began.elapsed().saturating_sub(waited).as_millis())
                .unwrap_or(u64::MAX),
        }));
        if self.toolbox.find(&used.name).is_some_and(|tool| tool.runs_programs()) {
            self.usage.look().await;
        }
        Ok(())
    }

    /// The tool, if the model may call it like this.
    fn admit<'a>(&'a self, prompt: &Prompt, used: &OpenUse) -> Result<&'a Arc<Tool>, String> {
        let tool = self.toolbox.find(&used.name).filter(|_| offered(prompt, &used.name));
        let tool = tool.ok_or_else(|| {
            format!("There is no tool of that name here. The tools are: {}.", tools::names(&prompt.tools))
        })?;
        if let Some(refusal) = strict::refusal(&used.input) {
            return Err(refusal);
        }
        let wrong = |wrong| format!("The input does not fit the schema of {}:\n{wrong}", used.name);
        tool.check(&used.input).map_err(wrong)?;
        Ok(tool)
    }

    /// Also says how long a person was waited for.
    async fn carry_out(&self, run: &RunId, used: &OpenUse, tool: &Tool) -> (Outcome, Duration) {
        let id = call_id(used);
        // One that waits again for a person was said by the runner before.
        if !self.past().is_begun(&id) {
            let intended = self.say(Event::CallIntended(intent(run, used, tool)));
            if tool.has_effects() {
                self.link.committed(intended).await;
            }
        }
        let gate = Arc::new(CallGate::new(self.permissions.clone(), tool.bound.binding.id.clone()));
        let host = self.host(run, &id, tool, gate.clone());
        let input = strict::canonical(&used.input);
        let mut attempt = Attempt { id, tool, input, gate, host, answered: vec![] };
        let (mut waited, mut seen) = (Duration::ZERO, Vec::new());
        let mut outcome = Outcome::failed(Blame::Plugin, "The tool asked too often.");
        for _ in 0..ROUNDS {
            if let Some(ended) = self.round(&mut attempt, &mut waited, &mut seen).await {
                outcome = ended;
                break;
            }
        }
        outcome.observations.append(&mut seen);
        (outcome, waited)
    }

    /// One invocation; `None` when it has to be repeated after a person answered.
    async fn round(
        &self,
        attempt: &mut Attempt<'_>,
        waited: &mut Duration,
        seen: &mut Vec<Observation>,
    ) -> Option<Outcome> {
        if attempt.tool.has_effects()
            && let Some(refused) = self.uncovered()
        {
            return Some(refused);
        }
        let plugin = match attempt.tool.bound.plugin().await {
            Ok(plugin) => plugin,
            Err(failure) => return Some(Outcome::failed(failure.blame, failure.message)),
        };
        let Called { end, seen: now } = plugin.call(attempt.call(self)).await;
        seen.extend(now);
        match end {
            CallEnd::Done { content, observations, staged } => {
                let done = Outcome { outcome: CallOutcome::Done, content, observations };
                Some(self.apply(attempt, staged, done, waited).await)
            }
            CallEnd::Refused(error) => {
                Some(Outcome::failed(error.blame(), attempt.tool.explained(error.message().raw())))
            }
            CallEnd::Failed(failure) => Some(Outcome::failed(failure.blame, failure.message)),
            CallEnd::NeedsInput { request, state } => {
                let answer = self.question(attempt, request, waited).await?;
                attempt.answered = vec![
                    ("answer".to_owned(), answer.to_string()),
                    ("state".to_owned(), Value::String(STANDARD.encode(state)).to_string()),
                ];
                None
            }
            CallEnd::NeedsApproval { effect, subject } => {
                match self.approval(attempt, &effect, &subject, waited).await {
                    Decision::Once => attempt.gate.let_through(effect, &subject),
                    Decision::Session => self.permissions.approve(&attempt.tool.bound.binding.id, &subject),
                    Decision::Deny { reason } => return Some(Outcome::declined(reason.raw())),
                }
                None
            }
        }
    }

    /// Staged changes: asked for as one subject where policy says so, then applied together.
    async fn apply(
        &self,
        attempt: &Attempt<'_>,
        staged: Vec<Staged>,
        done: Outcome,
        waited: &mut Duration,
    ) -> Outcome {
        if staged.is_empty() {
            return done;
        }
        let root = self.root.clone();
        let prepared = tokio::task::spawn_blocking(move || Changes::prepare(&root, staged)).await;
        let changes = match prepared {
            Ok(Ok(changes)) => changes,
            Ok(Err(error)) => return Outcome::change_failed(&error),
            Err(_) => return Outcome::failed(Blame::Setup, "the change broke inside the host"),
        };
        if changes.is_empty() {
            return done;
        }
        let subject = changes.subject();
        let Ok(effect) = effects::FS_WRITE.parse::<Effect>() else { return done };
        match attempt.gate.verdict(&effect, &subject) {
            Verdict::Allow => {}
            Verdict::Refuse(why) => return Outcome::failed(Blame::Setup, why),
            Verdict::Ask => match self.approval(attempt, &effect, &subject, waited).await {
                Decision::Once => {}
                Decision::Session => self.permissions.approve(&attempt.tool.bound.binding.id, &subject),
                Decision::Deny { reason } => return Outcome::declined(reason.raw()),
            },
        }
        // A person may have taken their time.
        if let Some(refused) = self.uncovered() {
            return refused;
        }
        let growth = changes.growth();
        if let Err(no_room) = self.usage.take(growth) {
            return Outcome::change_failed(&no_room.into());
        }
        let root = self.root.clone();
        let applied = tokio::task::spawn_blocking(move || changes.apply(&root)).await;
        if !matches!(applied, Ok(Ok(()))) {
            self.usage.give_back(growth);
        }
        match applied {
            Ok(Ok(())) => done.with(observed(&subject)),
            Ok(Err(error)) => Outcome::change_failed(&error),
            Err(_) => Outcome::failed(Blame::Setup, "the change broke inside the host"),
        }
    }

    /// Nothing is done in a person's folder whose git lies open.
    fn uncovered(&self) -> Option<Outcome> {
        let lifted = self.covers.as_deref()?.lifted().next()?;
        let message = format!(
            "{} was replaced or moved from outside while this session ran, and nothing lies over it any more. Nothing is \
changed or run until the session was stopped and started again with a further message.",
            lifted.display()
        );
        Some(Outcome::failed(Blame::Setup, message))
    }

    async fn approval(
        &self,
        attempt: &Attempt<'_>,
        effect: &Effect,
        subject: &Subject,
        waited: &mut Duration,
    ) -> Decision {
        let began = Instant::now();
        let subject_digest = subject.digest();
        let binding = &attempt.tool.bound.binding;
        let request = ApprovalRequest {
            id: ask_id(&attempt.id, &subject_digest),
            call: attempt.id.clone(),
            tool: attempt.tool.declared.name.clone(),
            plugin: binding.id.clone(),
            plugin_digest: binding.digest.clone(),
            input_digest: Digest::of(attempt.input.as_bytes()),
            effect: effect.clone(),
            subject: subject.clone(),
            subject_digest,
        };
        let answer = self.link.ask(Ask::Approval(Box::new(request))).await;
        *waited += began.elapsed();
        match answer {
            Some(Answer::Decided(decided)) => decided.decision,
            _ => Decision::Deny { reason: "it was not decided".into() },
        }
    }

    async fn question(&self, attempt: &Attempt<'_>, request: Value, waited: &mut Duration) -> Option<Value> {
        let began = Instant::now();
        let id = ask_id(&attempt.id, &Digest::of(strict::canonical(&request).as_bytes()));
        let (call, tool) = (attempt.id.clone(), attempt.tool.declared.name.clone());
        let answer = self.link.ask(Ask::Question(Question { id, call, tool, request })).await;
        *waited += began.elapsed();
        match answer {
            Some(Answer::Answered(answered)) => Some(answered.answer),
            _ => None,
        }
    }

    fn host(&self, run: &RunId, call: &CallId, tool: &Tool, gate: Arc<CallGate>) -> Host {
        let (binding, plugin) = (&self.binding, tool.bound.binding.id.clone());
        let news = Arc::new(News {
            link: self.link.clone(),
            run: run.clone(),
            call: call.clone(),
            plugin: plugin.clone(),
            lines: AtomicU32::new(0),
        });
        Host {
            workspace: Some(self.workspace.clone()),
            gate,
            process: Some(Arc::new(OfPlugin {
                launcher: self.launcher.clone(),
                plugin: plugin.clone(),
                network: binding.policy.process_network,
                env: binding.environment.clone(),
                longest_ms: binding.limits.session.run_ms,
            })),
            state: Some(Arc::new(PluginStore {
                stored: self.state.clone(),
                plugin,
                quota: binding.limits.session.state_bytes,
                link: self.link.clone(),
            })),
            fetch: Some(Arc::new(ByBroker { http: self.http.clone(), run: run.clone(), call: call.clone() })),
            model: Some(Arc::new(OfSession {
                http: self.http.clone(),
                run: run.clone(),
                model: binding.model.clone(),
                max_tokens: binding.max_output_tokens,
            })),
            changes: Some(Arc::new(Bases(self.root.clone()))),
            progress: news.clone(),
            log: news,
            config: tool.bound.binding.config.clone(),
        }
    }
}

impl Agent {
    fn limits_of(&self, grants: &EffectSet) -> CallLimits {
        let limits = self.binding.limits.call;
        let runs_programs = grants.iter().any(|effect| effect.as_str() == effects::PROCESS);
        if runs_programs { limits.with_programs() } else { limits }
    }
}

impl Attempt<'_> {
    fn call(&self, agent: &Agent) -> Call {
        let mut context = crate::prompt::context(&agent.binding);
        context.push(("call-id".to_owned(), json!(self.id.as_str()).to_string()));
        if let Some(persona) = &agent.binding.persona {
            context.push(("persona".to_owned(), json!(persona.as_str()).to_string()));
        }
        context.extend(self.answered.iter().cloned());
        Call {
            tool: self.tool.declared.name.clone(),
            input: self.input.clone(),
            context,
            limits: agent.limits_of(&self.tool.grants),
            grants: self.tool.grants.clone(),
            host: self.host.clone(),
        }
    }
}

impl Outcome {
    fn failed(blame: Blame, message: impl Into<String>) -> Self {
        let content = vec![Block::text(message.into())];
        Self { outcome: CallOutcome::Failed { blame }, content, observations: vec![] }
    }

    fn declined(reason: &str) -> Self {
        let text = if reason.trim().is_empty() {
            "The user declined this, without giving a reason.".to_owned()
        } else {
            format!("The user declined: {reason}")
        };
        Self { outcome: CallOutcome::Denied, content: vec![Block::text(text)], observations: vec![] }
    }

    fn change_failed(error: &ChangeError) -> Self {
        let blame = match error {
            ChangeError::File(FileError::Full | FileError::Failed { .. }) => Blame::Setup,
            _ => Blame::Model,
        };
        Self::failed(blame, format!("Nothing was changed: {error}"))
    }

    fn with(mut self, observation: Observation) -> Self {
        self.observations.push(observation);
        self
    }
}

fn intent(run: &RunId, used: &OpenUse, tool: &Tool) -> CallIntended {
    CallIntended {
        run: run.clone(),
        call: call_id(used),
        message: used.message.clone(),
        tool_use_id: used.id.clone(),
        tool: tool.declared.name.clone(),
        plugin: tool.bound.binding.id.clone(),
        plugin_digest: tool.bound.binding.digest.clone(),
        input: used.input.clone(),
        effects: tool.grants.iter().cloned().collect(),
    }
}

fn offered(prompt: &Prompt, name: &str) -> bool {
    prompt.tools.iter().any(|tool| tool.name == name)
}

/// What the host did for a call, without the content.
fn observed(subject: &Subject) -> Observation {
    let files: Vec<Value> = match subject {
        Subject::Changes { files } => {
            let file = |f: &model::approval::FileChange| json!({"path": f.path, "before": f.before, "after": f.after});
            files.iter().map(file).collect()
        }
        _ => vec![],
    };
    Observation { by: "host".to_owned(), kind: "changes".to_owned(), value: Value::Array(files) }
}

/// The same for the same use, also in a later runner.
pub(super) fn call_id(used: &OpenUse) -> CallId {
    derived("c", &[used.message.as_str(), &used.id])
}

/// The same for the same question of the same call.
fn ask_id(call: &CallId, subject: &Digest) -> AskId {
    derived("a", &[call.as_str(), subject.as_str()])
}

#[expect(clippy::expect_used, reason = "a letter, a dash and hex digits are always an id")]
fn derived<T: std::str::FromStr<Err: std::fmt::Debug>>(prefix: &str, parts: &[&str]) -> T {
    let digest = Digest::of(parts.join("\0").as_bytes());
    let short: String = digest.hex().chars().take(32).collect();
    format!("{prefix}-{short}").parse().expect("an id")
}
