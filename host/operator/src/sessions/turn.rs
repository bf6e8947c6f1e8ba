//! One turn of deciding about a session: what is seen, what `model::plan` says to it, and what that means for an object and a
//! pod. Pure: whoever drives it makes the pods that [`Turn::next`] asks for, and writes what [`Turn::finish`] leaves.

mod observe;
mod outcome;

use super::{
    draft::Draft,
    judge::{Judged, Verdict, Wish},
    memory::Memory,
    pod,
    seen::{Cause, PodSeen},
    view::View,
    word,
};
use crate::{clock, settings::Timeouts};
use model::{
    id::{Epoch, UnixMillis},
    lifecycle::{Phase, Reason, Trigger},
    plan::{Action, Desired, Runner, plan},
};
use observe::Seen;
pub(crate) use outcome::{Delete, Outcome};
use resources::{
    Condition, ConditionStatus,
    condition::operator::{ACCEPTED, ALL, POD_CREATED, POD_STARTED},
};

/// More would be a circle.
const ROUNDS: usize = 8;
/// Of what is to end at once.
const AT_ONCE: u32 = 1;

pub(crate) const NOT_ACCEPTED: &str = "NotAccepted";

/// What a turn is about.
pub(crate) struct Facts<'a> {
    pub(crate) now: UnixMillis,
    pub(crate) view: &'a View,
    pub(crate) judged: &'a Judged,
    pub(crate) timeouts: &'a Timeouts,
    /// All of the session's.
    pub(crate) pods: Vec<PodSeen>,
}

pub(crate) struct Turn<'a> {
    facts: Facts<'a>,
    memory: Memory,
    draft: Draft,
    deletes: Vec<Delete>,
    until: Option<UnixMillis>,
    remove: bool,
    /// Something was refused that may be granted later.
    retry: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// A pod for this epoch; then [`Turn::created`] or [`Turn::refused`].
    Create(Epoch),
    Done,
}

/// Why a pod could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) word: String,
    pub(crate) message: String,
    pub(crate) kind: RefusalKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RefusalKind {
    /// It may be granted later: try again after longer and longer pauses.
    Later,
    /// What is waited for makes itself known.
    Known,
    /// As long as the session is what it is.
    Never(Reason),
}

impl<'a> Turn<'a> {
    pub(crate) fn new(facts: Facts<'a>, memory: Memory) -> Self {
        let draft = Draft::of(facts.view, facts.now);
        let mut turn =
            Self { facts, memory, draft, deletes: vec![], until: None, remove: false, retry: false };
        turn.judge();
        turn
    }

    pub(crate) fn next(&mut self) -> Next {
        for _ in 0..ROUNDS {
            let Some(wish) = &self.facts.judged.wish else { return Next::Done };
            if self.retry || self.waits_for_verdict() {
                return Next::Done;
            }
            self.follow();
            let seen = self.observe(wish);
            match self.act(&seen, wish) {
                Round::Acted => {}
                Round::Create(epoch) => return Next::Create(epoch),
                Round::Rest => return Next::Done,
            }
        }
        tracing::warn!(session = %self.facts.view.name, uid = self.facts.view.uid, "decisions go round in a circle");
        Next::Done
    }

    /// The pod is there.
    pub(crate) fn created(&mut self, epoch: Epoch, pod: PodSeen) {
        let status = &mut self.draft.status;
        status.epoch = Some(epoch.0);
        status.pod_name = Some(pod.name.clone());
        status.pod_uid = Some(pod.uid.clone());
        status.pod_restarts = (pod.restarts > 0).then_some(pod.restarts);
        self.draft.retain(|one| one.kind != POD_STARTED);
        self.draft.step(Trigger::RunnerStarted, &Reason::RunnerStarting, "");
        self.facts.pods.retain(|one| one.uid != pod.uid);
        self.facts.pods.push(pod);
    }

    pub(crate) fn refused(&mut self, refusal: Refusal) {
        let Refusal { word, message, kind } = refusal;
        self.draft.condition(POD_CREATED, ConditionStatus::False, &word, &message);
        match kind {
            RefusalKind::Never(reason) => {
                self.draft.step(Trigger::Failed, &reason, &message);
            }
            RefusalKind::Later | RefusalKind::Known => {
                self.draft.say(&Reason::Other(word), &message);
                self.retry = kind == RefusalKind::Later;
                self.until = None;
            }
        }
    }

    /// What the specification is worth, as conditions.
    fn judge(&mut self) {
        let Facts { view, judged, now, .. } = &self.facts;
        let (draft, now) = (&mut self.draft, *now);
        draft.status.observed_generation = view.generation;
        let accepted = judged.wish.as_ref().map(|wish| &wish.accepted);
        let warnings: Vec<Condition> = accepted
            .into_iter()
            .flat_map(|accepted| &accepted.warnings)
            .map(|warning| Condition::without_effect(warning, clock::second(now), view.generation))
            .collect();
        draft.retain(|one| ALL.contains(&one.kind.as_str()) || warnings.iter().any(|w| w.kind == one.kind));
        warnings.iter().for_each(|warning| draft.adopt(warning));
        let fresh = draft.status.epoch.is_none();
        // Who works in it stays, whatever the project's default becomes.
        if let Some(accepted) = accepted.filter(|_| fresh) {
            draft.status.persona = accepted.persona.as_ref().map(ToString::to_string);
        }
        match &judged.verdict {
            Verdict::Accepted => {
                draft.condition(ACCEPTED, ConditionStatus::True, "Accepted", "");
                draft.status.start_time.get_or_insert_with(|| clock::second(now));
                if draft.status.reason.is_none() {
                    draft.say(&Reason::Accepted, "");
                }
                // Whoever mended it, or its project's settings, wants it to run.
                if fresh
                    && draft.phase() == Phase::Failed
                    && draft.status.reason.as_deref() == Some(NOT_ACCEPTED)
                {
                    draft.step(Trigger::Message, &Reason::Accepted, "");
                }
            }
            Verdict::Malformed(why) => {
                draft.condition(ACCEPTED, ConditionStatus::False, "Malformed", why);
                draft.step(Trigger::Failed, &not_accepted(), why);
            }
            Verdict::Refused(why) => {
                draft.condition(ACCEPTED, ConditionStatus::False, "NotPermitted", why);
                if fresh {
                    draft.step(Trigger::Failed, &not_accepted(), why);
                }
            }
            Verdict::Open { reason, message } => {
                draft.condition(ACCEPTED, ConditionStatus::False, reason, message);
                if fresh && draft.phase() == Phase::Pending {
                    draft.say(&Reason::Other((*reason).to_owned()), message);
                }
            }
        }
    }

    /// It was never begun, and whether it may be is open.
    fn waits_for_verdict(&self) -> bool {
        matches!(self.facts.judged.verdict, Verdict::Open { .. }) && self.draft.status.epoch.is_none()
    }

    /// Brings the phase to where the session's runs are.
    fn follow(&mut self) {
        let Some(work) = &self.facts.view.work else { return };
        // Whatever became of its runner since.
        if work.workspace_used.unwrap_or(work.phase.is_some()) {
            self.draft.status.workspace_used = Some(true);
        }
        for trigger in word::triggers(self.draft.phase(), self.draft.status.epoch, work) {
            let reason = word::reason(work.reason.as_deref(), work.phase.unwrap_or(Phase::Pending));
            self.draft.step(*trigger, &reason, work.message.as_deref().unwrap_or_default());
        }
        if !work.has_work && self.draft.status.losses.is_some() {
            self.draft.forget_losses();
        }
        let run = self.facts.judged.wish.as_ref().is_some_and(|wish| wish.accepted.desired == Desired::Run);
        let settled = self.draft.phase().is_settled();
        let resumed = self.draft.phase() == Phase::Suspended && work.has_work;
        if run && settled && (resumed || word::is_woken(self.draft.status.observed_work, work)) {
            self.draft.step(Trigger::Message, &Reason::Accepted, "");
        }
    }

    fn act(&mut self, seen: &Seen, wish: &Wish) -> Round {
        let phase = self.draft.phase();
        let live = matches!(seen.observed.runner, Runner::Starting { .. } | Runner::Connected { .. });
        if phase == Phase::Pending && live {
            // Of before it was woken: it is on its way out.
            self.delete_recorded(None);
            self.until = self.recorded().map(|pod| self.given_up(pod));
            return Round::Rest;
        }
        if !seen.is_draining() {
            self.memory.draining = None;
        }
        self.until = seen.deadline;
        let actions = plan(&seen.observed);
        let overdue = matches!(actions.as_slice(), [Action::KillRunner { .. }]);
        let mut acted = false;
        for action in actions {
            match action {
                Action::StartRunner { epoch } => match self.start(epoch, wish) {
                    Round::Acted => acted = true,
                    other => return other,
                },
                Action::DrainRunner { .. } => self.drain(seen),
                Action::KillRunner { .. } if overdue => acted |= self.give_up_start(seen),
                Action::KillRunner { .. } => {
                    let stops = seen.observed.desired != Desired::Run;
                    self.delete_recorded((!stops).then_some(AT_ONCE));
                }
                Action::FailRun { reason } => {
                    let message = self.why_failed(&reason);
                    acted |= self.draft.step(Trigger::Failed, &reason, &message);
                }
                Action::Step { trigger, reason } => acted |= self.step(trigger, &reason, seen, wish),
                Action::Remove => self.remove = true,
                Action::Wait { until } => self.come_back(until),
            }
        }
        if acted { Round::Acted } else { Round::Rest }
    }

    fn start(&mut self, epoch: Epoch, wish: &Wish) -> Round {
        match &self.facts.judged.verdict {
            Verdict::Accepted => {}
            Verdict::Open { reason, message } => {
                self.draft.say(&Reason::Other((*reason).to_owned()), message);
                return Round::Rest;
            }
            Verdict::Refused(why) | Verdict::Malformed(why) => {
                self.draft.step(Trigger::Failed, &not_accepted(), why);
                return Round::Acted;
            }
        }
        if let Some(pod) = self.recorded().filter(|pod| pod.has_future()) {
            // Kubelet starts the runner anew in the same pod, with the same files.
            let restarts = pod.next_restarts();
            self.draft.status.epoch = Some(epoch.0);
            self.draft.status.pod_restarts = (restarts > 0).then_some(restarts);
            return Round::Acted;
        }
        if self.is_workspace_lost(wish) {
            self.draft.step(Trigger::Failed, &Reason::WorkspaceLost, WORKSPACE_LOST);
            return Round::Acted;
        }
        // Two pods would write to one volume.
        let before = self.facts.pods.iter().filter(|pod| wish.accepted.persistent && pod.epoch < epoch.0);
        let ending = before.filter(|pod| self.facts.now < self.given_up(pod));
        if let Some(until) = ending.map(|pod| self.given_up(pod)).max() {
            self.come_back(until);
            return Round::Rest;
        }
        Round::Create(epoch)
    }

    fn step(&mut self, trigger: Trigger, reason: &Reason, seen: &Seen, wish: &Wish) -> bool {
        match trigger {
            Trigger::RunnerLost => self.lose(seen.cause.clone().unwrap_or_else(Cause::deleted), wish),
            Trigger::RunnerGone => {
                let reason = word::reason(self.draft.status.reason.as_deref(), self.draft.phase());
                self.draft.step(trigger, &reason, self.what_went(wish))
            }
            Trigger::StopRequested if self.draft.phase() == Phase::Suspended => {
                self.draft.step(trigger, reason, self.what_went(wish))
            }
            _ => self.draft.step(trigger, reason, ""),
        }
    }

    fn lose(&mut self, cause: Cause, wish: &Wish) -> bool {
        let Cause { word, message, counts, hopeless } = cause;
        let stays = self.recorded().is_some_and(PodSeen::has_future);
        self.draft.condition(POD_STARTED, ConditionStatus::False, &word, &message);
        if let Some(reason) = hopeless {
            return self.draft.step(Trigger::Failed, &reason, &message);
        }
        if !stays && self.is_workspace_lost(wish) {
            let message = format!("{message}. {WORKSPACE_LOST}");
            return self.draft.step(Trigger::Failed, &Reason::WorkspaceLost, &message);
        }
        self.draft.lose(counts);
        self.draft.step(Trigger::RunnerLost, &Reason::RunnerLost, &message)
    }

    /// With its pod, for people.
    fn what_went(&self, wish: &Wish) -> &'static str {
        if self.is_workspace_lost(wish) { GONE_WITH_POD } else { "" }
    }

    /// A new pod would have an empty one.
    fn is_workspace_lost(&self, wish: &Wish) -> bool {
        !wish.accepted.persistent && self.draft.status.workspace_used == Some(true)
    }

    /// The runner did not come in time.
    fn give_up_start(&mut self, seen: &Seen) -> bool {
        let trouble = self.recorded().and_then(|pod| self.what_hinders(pod));
        self.delete_recorded(Some(AT_ONCE));
        if let Some(trouble) = trouble {
            let message = format!("the pod did not start in time: {}", trouble.message);
            return self.draft.step(Trigger::Failed, &Reason::Other(trouble.word), &message);
        }
        self.memory.killed = self.draft.status.pod_uid.clone();
        if let Some(pod) = self.recorded().filter(|_| seen.is_live()) {
            self.until = Some(self.given_up(pod));
        }
        false
    }

    fn drain(&mut self, seen: &Seen) {
        let since = *self.memory.draining.get_or_insert(self.facts.now);
        let until = clock::after(since, self.facts.timeouts.drain);
        if seen.may_end || self.facts.now >= until {
            self.delete_recorded(None);
            if let Some(pod) = self.recorded() {
                self.until = Some(self.given_up(pod));
            }
        } else {
            self.come_back(until);
        }
    }

    /// Once. What is ending already is only hurried.
    fn delete_recorded(&mut self, grace_seconds: Option<u32>) {
        let Some(pod) = self.recorded() else { return };
        let hurried = grace_seconds.map(i64::from);
        let enough =
            pod.ending.is_some_and(|ending| hurried.is_none_or(|grace| ending.grace_seconds <= grace));
        if !enough {
            self.deletes.push(Delete::of(pod, grace_seconds));
        }
    }

    fn recorded(&self) -> Option<&PodSeen> {
        let uid = self.draft.status.pod_uid.as_deref()?;
        self.facts.pods.iter().find(|pod| pod.uid == uid)
    }

    /// When a pod that is to end counts as gone, whatever its node says.
    fn given_up(&self, pod: &PodSeen) -> UnixMillis {
        let until = pod.ending.map_or(clock::after(self.facts.now, pod::GRACE), |ending| ending.until);
        clock::after(until, self.facts.timeouts.lost)
    }

    fn come_back(&mut self, at: UnixMillis) {
        self.until = Some(self.until.map_or(at, |until| until.min(at)));
    }

    fn why_failed(&self, reason: &Reason) -> String {
        let status = &self.draft.status;
        match reason {
            Reason::Timeout => "the run has used its time".to_owned(),
            Reason::RunnerCrashLoop => {
                let (losses, last) =
                    (status.losses.unwrap_or(0), status.message.as_deref().unwrap_or_default());
                format!("the runner failed {losses} times in a row, at last: {last}")
            }
            _ => String::new(),
        }
    }
}

const WORKSPACE_LOST: &str = "The workspace was not persistent and went with its pod; make a new session, with workspace.persistent where \
    it has to outlive a pod";
const GONE_WITH_POD: &str = "its workspace was not persistent and went with its pod";

fn not_accepted() -> Reason {
    Reason::Other(NOT_ACCEPTED.to_owned())
}

enum Round {
    Acted,
    Create(Epoch),
    Rest,
}

#[cfg(test)]
mod tests;
