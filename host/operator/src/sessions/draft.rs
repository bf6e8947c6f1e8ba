//! A session's status while it is decided on, and what of it is worth a write.

use super::{view::View, word};
use crate::clock;
use model::{
    id::UnixMillis,
    lifecycle::{Phase, Reason, Trigger, step},
    render,
};
use resources::{
    Condition, ConditionStatus,
    condition::operator::{LIFE, POD, POD_CREATED},
    session::{
        phase,
        status::{OperatorStatus, StoppedReason, Work},
    },
};

const MESSAGE_CHARACTERS: usize = 2000;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Draft {
    pub(crate) status: OperatorStatus,
    pub(crate) conditions: Vec<Condition>,
    now: UnixMillis,
    generation: Option<u64>,
    /// Of the server's word that is decided by.
    seq: Option<u64>,
}

impl Draft {
    pub(crate) fn of(view: &View, now: UnixMillis) -> Self {
        let mut draft = Self {
            status: view.status.clone(),
            conditions: view.conditions.clone(),
            now,
            generation: view.generation,
            seq: view.work.as_ref().map(|work: &Work| work.seq),
        };
        match phase::phase(&draft.conditions) {
            Some(phase) => draft.status.phase = Some(phase),
            // A new one, or of an operator that said the phase alone.
            None => draft.enter(view.status.phase.unwrap_or(Phase::Pending)),
        }
        draft
    }

    pub(crate) fn phase(&self) -> Phase {
        phase::phase(&self.conditions).unwrap_or(Phase::Pending)
    }

    /// Says by conditions that it is in this phase.
    fn enter(&mut self, phase: Phase) {
        for (kind, status) in phase::aspects(phase) {
            match status {
                Some(status) => self.condition(kind, status, &phase.to_string(), ""),
                None => self.conditions.retain(|one| one.kind != kind),
            }
        }
        match phase {
            Phase::Creating => self.condition(POD_CREATED, ConditionStatus::True, "Created", ""),
            // What was made is gone, or on its way out.
            Phase::Pending => {
                let made = |one: &Condition| one.kind == POD_CREATED && one.status == ConditionStatus::True;
                self.conditions.retain(|one| !made(one));
            }
            _ => {}
        }
        self.status.phase = Some(self.phase());
    }

    /// Moves the life cycle on; `false` where the trigger means nothing in this phase.
    pub(crate) fn step(&mut self, trigger: Trigger, reason: &Reason, message: &str) -> bool {
        let from = self.phase();
        let Some(phase) = step(from, trigger) else {
            tracing::debug!(%from, ?trigger, "means nothing in this phase");
            return false;
        };
        self.enter(phase);
        let status = &mut self.status;
        // Only what is decided about the phase is decided by the log: see `word::is_woken`.
        status.observed_work = self.seq;
        // Anew also where one that slept is stopped: how long it is kept counts from there.
        status.completion_time = phase.is_settled().then(|| clock::second(self.now));
        if matches!(phase, Phase::Running | Phase::Waiting) {
            status.workspace_used = Some(true);
        }
        match trigger {
            Trigger::StopRequested => status.stopped_reason = stopped(reason),
            Trigger::Message => {
                status.stopped_reason = None;
                self.forget_losses();
            }
            _ => {}
        }
        self.say(reason, message);
        true
    }

    /// Why it is in its phase.
    pub(crate) fn say(&mut self, reason: &Reason, message: &str) {
        self.status.reason = Some(word::text(reason));
        let message = render::line(&message.into(), MESSAGE_CHARACTERS);
        self.status.message = (!message.is_empty()).then_some(message);
    }

    pub(crate) fn lose(&mut self, counts: bool) {
        let losses = self.status.losses.unwrap_or(0).saturating_add(u32::from(counts));
        self.status.losses = (losses > 0).then_some(losses);
        self.status.lost_time = Some(clock::exact(self.now));
    }

    pub(crate) fn forget_losses(&mut self) {
        self.status.losses = None;
        self.status.lost_time = None;
    }

    /// What is true of one aspect. Its time changes with its status only.
    pub(crate) fn condition(&mut self, kind: &str, status: ConditionStatus, reason: &str, message: &str) {
        let message = render::line(&message.into(), MESSAGE_CHARACTERS);
        let before = self.conditions.iter().find(|one| one.kind == kind);
        let same = before.is_some_and(|one| one.status == status);
        let condition = Condition {
            kind: kind.to_owned(),
            status,
            reason: reason.to_owned(),
            message,
            last_transition_time: before
                .filter(|_| same)
                .map_or_else(|| clock::second(self.now), |one| one.last_transition_time.clone()),
            observed_generation: self.generation,
        };
        self.put(condition);
    }

    /// A condition that was made elsewhere, with the same care for its time.
    pub(crate) fn adopt(&mut self, condition: &Condition) {
        self.condition(&condition.kind, condition.status, &condition.reason, &condition.message);
    }

    fn put(&mut self, condition: Condition) {
        match self.conditions.iter_mut().find(|one| one.kind == condition.kind) {
            Some(before) => {
                // What a pod is at does not depend on the specification: the same word again is no news.
                let about_pod = POD.contains(&condition.kind.as_str());
                let generation = if about_pod && says_the_same(before, &condition) {
                    before.observed_generation
                } else {
                    condition.observed_generation
                };
                *before = Condition { observed_generation: generation, ..condition };
            }
            None => self.conditions.push(condition),
        }
    }

    pub(crate) fn find(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|one| one.kind == kind)
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&Condition) -> bool) {
        self.conditions.retain(keep);
    }

    /// Whether anybody would want to know at once. That a pod was created, found its node and started goes along with the
    /// next word: each would be a write, and the phase says as much. What the phase follows from changes with it.
    pub(crate) fn is_news(&self, view: &View) -> bool {
        self.status != view.status || loud(&self.conditions) != loud(&view.conditions)
    }
}

fn loud(conditions: &[Condition]) -> Vec<&Condition> {
    let is_quiet = |one: &Condition| {
        let kind = one.kind.as_str();
        LIFE.contains(&kind) || POD.contains(&kind) && one.status != ConditionStatus::False
    };
    let mut loud: Vec<_> = conditions.iter().filter(|one| !is_quiet(one)).collect();
    loud.sort_by(|one, other| one.kind.cmp(&other.kind));
    loud
}

fn says_the_same(one: &Condition, other: &Condition) -> bool {
    (one.status, &one.reason, &one.message) == (other.status, &other.reason, &other.message)
}

const fn stopped(reason: &Reason) -> Option<StoppedReason> {
    match reason {
        Reason::StoppedByUser => Some(StoppedReason::User),
        Reason::Inactivity => Some(StoppedReason::Inactivity),
        _ => None,
    }
}
