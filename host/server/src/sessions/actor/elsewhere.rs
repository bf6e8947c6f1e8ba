//! Where somebody else decides about the session's runner: taking that up, and saying what has become of its runs.

use super::Actor;
use crate::sessions::{
    follow::{Own, follow, is_over},
    registry,
    seams::{Decided, Life},
};
use model::{
    Untrusted,
    id::{Epoch, SessionRef, UnixMillis},
    lifecycle::Phase,
    plan::{Action, Runner},
    render,
};
use protocol::control::Ask;
use resources::{
    Accepted,
    session::status::{ServerStatus, Usage, Work},
};
use std::time::Duration;
use store::SessionState;

const MESSAGE_CHARACTERS: usize = 2000;
const RESULT_CHARACTERS: usize = 4000;

impl Actor {
    pub(super) async fn decided(&mut self, decided: Decided, spec: Option<Accepted>) {
        let limit = spec.as_ref().map_or(self.record.state.budget.limit, |spec| spec.budget);
        if let Some(spec) = spec {
            self.edited(spec);
        }
        let state = &self.record.state;
        if (state.desired != decided.desired || state.budget.limit != limit) && !decided.gone {
            let mut change = self.change();
            change.state.budget.limit = limit;
            if change.state.desired != decided.desired {
                change.want(decided.desired);
            }
            if let Err(error) = self.commit(change).await {
                // It comes again with the object's next change, and at the latest with the next server.
                let error = telemetry::field::chain(&error);
                tracing::error!(session = %self.record.reference, error, "what is wanted cannot be written");
                return;
            }
        }
        let own = self.own();
        if let (true, Runner::Starting { epoch, .. } | Runner::Connected { epoch }) =
            (is_over(&decided, &own), self.runner)
        {
            self.link = None;
            self.stop_counting();
            self.give_up_snapshot();
            self.killing = None;
            let message = self.exited.take().unwrap_or_else(|| render::line(&decided.message, 500));
            self.gone(epoch, message);
        }
        self.decided = Some(decided);
    }

    /// Takes over what may change of a specification: what is read again each time somebody decides. It is not stored:
    /// the next server reads the object again.
    fn edited(&mut self, spec: Accepted) {
        let now = &mut self.accepted;
        now.timeout = spec.timeout;
        now.inactivity = spec.inactivity;
        now.retention = spec.retention;
        now.interactive = spec.interactive;
        now.stop_on_run_finished = spec.stop_on_run_finished;
        now.budget = spec.budget;
        now.display_name = spec.display_name;
        now.spec = spec.spec;
    }

    pub(super) fn followed(&mut self) -> Vec<Action> {
        let Some(decided) = &self.decided else { return vec![] };
        let actions = follow(decided, &self.own());
        if actions
            .iter()
            .any(|action| matches!(action, Action::FailRun { reason } if *reason == decided.reason))
        {
            // What people are told is what was said of it.
            self.exited = Some(render::line(&decided.message, MESSAGE_CHARACTERS));
        }
        actions
    }

    /// How far its runner is before it has dialled in is known to whoever starts it.
    pub(super) fn tell_start(&self, state: &mut SessionState) {
        let is_start = |phase| matches!(phase, Phase::Pending | Phase::Creating);
        let Some(decided) = self.decided.as_ref().filter(|decided| is_start(decided.phase)) else { return };
        if is_start(state.phase) {
            state.phase = decided.phase;
            state.reason.clone_from(&decided.reason);
            state.message.clone_from(&decided.message);
        }
    }

    fn own(&self) -> Own {
        let state = &self.record.state;
        let active = self.active_since.map_or(Duration::ZERO, |since| since.elapsed());
        Own {
            phase: state.phase,
            runner: self.runner,
            epoch: state.epoch,
            has_run: state.run.is_some(),
            overdue: Duration::from_millis(state.run_active_ms).saturating_add(active) >= self.run_timeout(),
            woken: self.story.woken,
        }
    }

    /// Tells whoever decides what has become of the session, where that is new to them.
    pub(super) fn report(&mut self) {
        let Life::Followed(elsewhere) = &self.registry.life else { return };
        let state = &self.record.state;
        let has_work = state.has_work();
        let first = state.epoch <= Epoch(1) && matches!(state.phase, Phase::Pending | Phase::Creating);
        let bound = self.link.as_ref().is_some_and(|link| link.bound);
        if first && !bound && self.told.is_none() && has_work != self.accepted.prompt.is_empty() {
            // As everybody sees from the specification.
            return;
        }
        let status = self.status();
        if self.told.as_ref().is_some_and(|told| same(told, &status)) {
            return;
        }
        // That it works is news while it was being started. One that waited is reckoned with as idle until this is told.
        let phase = |status: &ServerStatus| status.work.as_ref().and_then(|work| work.phase);
        let may_wait = phase(&status) == Some(Phase::Running) && self.told.as_ref().and_then(phase).is_none();
        elsewhere.tell(&self.record.reference, &self.record.uid, status.clone(), may_wait);
        self.told = Some(status);
    }

    fn status(&self) -> ServerStatus {
        let state = &self.record.state;
        let settled = state.phase.is_settled();
        let connected = self.link.as_ref().filter(|link| link.bound && !settled).map(|_| state.epoch.0);
        // What the operator decides alone, it has to decide again.
        let said = match state.phase {
            Phase::Stopping | Phase::Stopped => Some(Phase::Stopped),
            Phase::Running | Phase::Waiting | Phase::Completed | Phase::Failed => Some(state.phase),
            Phase::Pending | Phase::Creating | Phase::Suspending | Phase::Suspended => None,
        };
        let work = Work {
            seq: self.story.last.0,
            woken: Some(self.story.woken.0),
            has_work: state.has_work(),
            connected_epoch: connected,
            phase: said,
            reason: said.map(|_| state.reason.word()),
            message: said
                .map(|_| render::line(&self.message(), MESSAGE_CHARACTERS))
                .filter(|message| !message.is_empty()),
            workspace_used: Some(state.was_bound()),
            deadline: self.deadline().and_then(time),
            idle_since: state.idle_since.filter(|_| state.run.is_none()).and_then(time),
        };
        let totals = &state.totals;
        ServerStatus {
            model: self.accepted.model.clone(),
            run: state.run.as_ref().map(ToString::to_string),
            work: Some(work),
            pending: Some(u32::try_from(self.story.pending.len()).unwrap_or(u32::MAX)).filter(|n| *n > 0),
            last_activity_time: time(state.updated_at),
            session_id: Some(self.record.uid.to_string()),
            num_turns: Some(totals.turns),
            total_cost_usd: Some(totals.cost.dollars()),
            usage: Some(Usage {
                input_tokens: totals.usage.input_tokens,
                output_tokens: totals.usage.output_tokens,
                cache_creation_input_tokens: totals.usage.cache_write_tokens,
                cache_read_input_tokens: totals.usage.cache_read_tokens,
            }),
            subtype: settled.then(|| state.reason.word()),
            is_error: settled.then_some(state.phase == Phase::Failed),
            result: Some(render::line(&state.message, RESULT_CHARACTERS))
                .filter(|r| settled && !r.is_empty()),
            ..ServerStatus::default()
        }
    }

    /// Whoever looks at the session alone is told, too, what it waits for and how to answer.
    pub(super) fn message(&self) -> Untrusted {
        let said = self.record.state.message.clone();
        let Some(ask) = self.story.pending.first().filter(|_| said.is_empty()) else { return said };
        let SessionRef { project, name } = &self.record.reference;
        let (verb, more) = match ask {
            Ask::Approval(_) => ("approve", ""),
            Ask::Question(_) => ("answer", " TEXT"),
        };
        let at = match self.registry.life {
            Life::Followed(_) => " --context CONTEXT [--service-account NAME]",
            Life::Planned => "",
        };
        let (waiting, id) = (self.story.pending.len(), ask.id());
        format!("{waiting} waiting: vteam{at} --project {project} sessions {verb} {name} {id}{more}").into()
    }

    /// When the run under way has used its time, if it goes on as it does.
    fn deadline(&self) -> Option<UnixMillis> {
        self.active_since?;
        let counted = Duration::from_millis(self.record.state.run_active_ms);
        let active = self.active_since.map_or(Duration::ZERO, |since| since.elapsed());
        let left = self.run_timeout().saturating_sub(counted).saturating_sub(active);
        Some(UnixMillis(
            registry::now().0.saturating_add(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
        ))
    }
}

/// Whether there is nothing in it that anybody decides by or waits for: the rest is told along with what there is.
fn same(told: &ServerStatus, now: &ServerStatus) -> bool {
    let essence = |status: &ServerStatus| {
        let mut status = status.clone();
        status.last_activity_time = None;
        status.num_turns = None;
        status.total_cost_usd = None;
        status.usage = None;
        if let Some(work) = &mut status.work {
            work.seq = 0;
            work.deadline = work.deadline.take().map(|_| String::new());
        }
        status
    };
    essence(told) == essence(now)
}

fn time(at: UnixMillis) -> Option<String> {
    let second = i64::try_from(at.0 / 1000).ok()?;
    jiff::Timestamp::from_second(second).ok().map(|time| time.to_string())
}
