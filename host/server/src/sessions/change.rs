//! A change of a session: its new state and the events that say so, to be committed together. Pure; the rules of runs and
//! phases are here.

use model::{
    Untrusted,
    event::{Event, PhaseChanged, RunFinished, RunOutcome, RunStarted, RunnerLost, UserMessage, Warning},
    id::{Epoch, RunId, UnixMillis},
    lifecycle::{Phase, Reason, Trigger, step},
    money::{MicroUsd, Usage},
    plan::Desired,
};
use std::time::Duration;
use store::{NewEvent, SessionState};

#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) state: SessionState,
    pub(super) events: Vec<NewEvent>,
    now: UnixMillis,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub(super) struct Finish {
    pub(super) outcome: RunOutcome,
    pub(super) reason: Reason,
    pub(super) message: Untrusted,
    pub(super) turns: u32,
}

impl Finish {
    pub(super) fn failed(reason: Reason, message: impl Into<Untrusted>) -> Self {
        Self { outcome: RunOutcome::Failed, reason, message: message.into(), turns: 0 }
    }

    pub(super) fn interrupted() -> Self {
        Self {
            outcome: RunOutcome::Interrupted,
            reason: Reason::StoppedByUser,
            message: Untrusted::default(),
            turns: 0,
        }
    }
}

/// What becomes of a session whose run is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Afterwards {
    /// Open for messages.
    Idle,
    /// Open for messages until a run is completed, then stopped.
    Stop,
    /// Done.
    Complete,
}

impl Change {
    /// `active`: active time of the run that the state does not count yet.
    pub(super) fn new(state: &SessionState, now: UnixMillis, active: Duration) -> Self {
        let mut state = state.clone();
        let active = u64::try_from(active.as_millis()).unwrap_or(u64::MAX);
        state.run_active_ms = state.run_active_ms.saturating_add(active);
        state.updated_at = now;
        Self { state, events: vec![], now }
    }

    pub(super) fn push(&mut self, event: Event) {
        self.events.push(event.into());
    }

    pub(super) fn warn(&mut self, reason: &str, message: impl Into<Untrusted>) {
        self.push(Event::Warning(Warning { reason: reason.to_owned(), message: message.into() }));
    }

    /// Moves the life cycle on; `false` where the trigger means nothing in this phase. A run under way ends with the
    /// session: no settled phase but `Suspended` leaves one open.
    pub(super) fn step(&mut self, trigger: Trigger, reason: Reason, message: impl Into<Untrusted>) -> bool {
        let from = self.state.phase;
        let Some(phase) = step(from, trigger) else {
            tracing::debug!(%from, ?trigger, "means nothing in this phase");
            return false;
        };
        let message = message.into();
        match phase {
            Phase::Stopped | Phase::Completed => self.finish(Finish::interrupted()),
            Phase::Failed => self.finish(Finish::failed(reason.clone(), message.clone())),
            _ => {}
        }
        self.state.phase = phase;
        self.state.settled_at = phase.is_settled().then_some(self.now);
        self.state.reason = reason.clone();
        self.state.message = message.clone();
        self.push(Event::PhaseChanged(PhaseChanged { phase, reason, message }));
        true
    }

    /// Ends the run under way, if there is one, without saying what becomes of the session.
    pub(super) fn finish(&mut self, finish: Finish) {
        let Some(run) = self.state.run.take() else { return };
        let Finish { outcome, reason, message, turns } = finish;
        let totals = &mut self.state.totals;
        let (cost, usage) = (std::mem::take(&mut totals.run_cost), std::mem::take(&mut totals.run_usage));
        totals.runs += 1;
        totals.turns += u64::from(turns);
        self.state.run_active_ms = 0;
        self.state.losses = 0;
        self.state.idle_since = Some(self.now);
        self.push(Event::RunFinished(RunFinished { run, outcome, reason, message, cost, usage, turns }));
    }

    /// Ends the run under way and decides what follows: the next message, or what `afterwards` says.
    pub(super) fn conclude(&mut self, finish: Finish, afterwards: Afterwards) {
        if self.state.run.is_none() {
            return;
        }
        let Finish { outcome, reason, message, .. } = finish.clone();
        self.finish(finish);
        if matches!(self.state.phase, Phase::Stopping | Phase::Suspending) {
            return;
        }
        if self.state.phase == Phase::Waiting {
            self.step(Trigger::Answered, Reason::Working, "");
        }
        if self.begin_next().is_some() {
            return;
        }
        match (outcome, afterwards) {
            (RunOutcome::Completed, Afterwards::Complete) => {
                self.step(Trigger::RunCompleted, Reason::Finished, message)
            }
            (RunOutcome::Completed, Afterwards::Stop) => {
                self.step(Trigger::StopRequested, Reason::Finished, message)
            }
            (RunOutcome::Completed, Afterwards::Idle) => {
                self.step(Trigger::RunIdle, Reason::MessageAwaited, message)
            }
            (RunOutcome::Interrupted, Afterwards::Complete) => {
                self.step(Trigger::StopRequested, reason, message)
            }
            (RunOutcome::Failed, Afterwards::Complete) => self.step(Trigger::Failed, reason, message),
            (_, Afterwards::Idle | Afterwards::Stop) => self.step(Trigger::RunIdle, reason, message),
        };
    }

    /// Begins the run of the first message that waits, unless one is under way. Wakes a settled session.
    pub(super) fn begin_next(&mut self) -> Option<RunId> {
        if self.state.run.is_some() || self.state.queue.is_empty() {
            return None;
        }
        let next = self.state.queue.remove(0);
        let run = next.run.clone();
        self.push(Event::RunStarted(RunStarted { run: run.clone() }));
        let store::Queued { run: of, message, content, sent_by } = next;
        self.push(Event::UserMessage(UserMessage { run: of, message, content, sent_by }));
        self.state.run = Some(run.clone());
        self.state.run_active_ms = 0;
        self.state.idle_since = None;
        self.state.totals.run_cost = MicroUsd::default();
        self.state.totals.run_usage = Usage::default();
        self.wake();
        Some(run)
    }

    /// What a person wants of the session from now on.
    pub(super) fn want(&mut self, desired: Desired) {
        self.state.desired = desired;
        if desired == Desired::Stop && !self.state.queue.is_empty() {
            let dropped = std::mem::take(&mut self.state.queue).len();
            self.warn("MessagesDropped", format!("{dropped} messages that waited were dropped by the stop"));
        }
        if desired == Desired::Run && self.begin_next().is_none() && self.state.run.is_some() {
            self.wake();
        }
    }

    /// Out of a settled or idle phase.
    pub(super) fn wake(&mut self) {
        match self.state.phase {
            Phase::Waiting => {
                self.step(Trigger::Message, Reason::Working, "");
            }
            phase if phase.is_settled() => {
                self.state.losses = 0;
                self.state.lost_at = None;
                self.step(Trigger::Message, Reason::Accepted, "");
            }
            _ => {}
        }
    }

    /// The runner is gone and was not to go: nothing that it says later counts.
    pub(super) fn lose(&mut self, epoch: Epoch, message: impl Into<Untrusted>) {
        let message = message.into();
        self.fence(epoch);
        self.state.losses += 1;
        self.state.lost_at = Some(self.now);
        self.push(Event::RunnerLost(RunnerLost { epoch, message: message.clone() }));
        self.step(Trigger::RunnerLost, Reason::RunnerLost, message);
    }

    /// Nothing that a runner of this epoch says counts from here on.
    pub(super) fn fence(&mut self, epoch: Epoch) {
        self.state.fence = self.state.fence.max(epoch.next());
        self.state.token_hash = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::{Queued, Totals};

    pub(crate) fn state(phase: Phase, run: bool, queued: usize) -> SessionState {
        let message = |n: usize| Queued {
            run: format!("q{n}").parse().unwrap(),
            message: format!("m{n}").parse().unwrap(),
            content: vec![],
            sent_by: "me".into(),
        };
        SessionState {
            phase,
            reason: Reason::Working,
            message: "".into(),
            desired: Desired::Run,
            updated_at: UnixMillis(0),
            settled_at: None,
            epoch: Epoch(1),
            fence: Epoch(1),
            token_hash: None,
            losses: 2,
            lost_at: None,
            run: run.then(|| "r".parse().unwrap()),
            run_active_ms: 5,
            idle_since: None,
            queue: (0..queued).map(message).collect(),
            budget: Default::default(),
            reserved: Default::default(),
            settled: vec![],
            totals: Totals::default(),
            pins: vec![],
            pod: None,
            snapshot: None,
        }
    }

    fn told(change: &Change) -> String {
        let line = |new: &NewEvent| match &new.event {
            Event::RunStarted(run) => format!("+{}", run.run),
            Event::UserMessage(message) => format!("{}", message.message),
            Event::RunFinished(run) => format!("-{} {:?} {:?}", run.run, run.outcome, run.reason),
            Event::PhaseChanged(changed) => format!("{} {:?}", changed.phase, changed.reason),
            Event::RunnerLost(lost) => format!("lost {}", lost.epoch),
            other => format!("{other:?}"),
        };
        change.events.iter().map(line).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn what_follows_a_run() {
        use Afterwards::{Complete, Idle, Stop};
        let done =
            Finish { outcome: RunOutcome::Completed, reason: Reason::Finished, message: "".into(), turns: 1 };
        let failed = Finish::failed(Reason::TurnLimit, "");
        let check = |phase, queued, finish: &Finish, afterwards, expected: &str| {
            let mut change = Change::new(&state(phase, true, queued), UnixMillis(9), Duration::ZERO);
            change.conclude(finish.clone(), afterwards);
            assert_eq!(told(&change), expected, "{phase} {finish:?} {afterwards:?}");
        };
        check(Phase::Running, 0, &done, Complete, "-r Completed Finished, Completed Finished");
        check(Phase::Running, 0, &done, Idle, "-r Completed Finished, Waiting MessageAwaited");
        check(Phase::Running, 0, &done, Stop, "-r Completed Finished, Stopping Finished");
        check(Phase::Running, 1, &done, Complete, "-r Completed Finished, +q0, m0");
        check(Phase::Running, 0, &failed, Complete, "-r Failed TurnLimit, Failed TurnLimit");
        check(Phase::Running, 0, &failed, Idle, "-r Failed TurnLimit, Waiting TurnLimit");
        check(
            Phase::Waiting,
            0,
            &done,
            Idle,
            "-r Completed Finished, Running Working, Waiting MessageAwaited",
        );
        check(Phase::Stopping, 1, &Finish::interrupted(), Complete, "-r Interrupted StoppedByUser");
        check(
            Phase::Running,
            0,
            &Finish::interrupted(),
            Complete,
            "-r Interrupted StoppedByUser, Stopping StoppedByUser",
        );
    }

    #[test]
    fn no_settled_phase_but_suspended_leaves_a_run_open() {
        let check = |phase, trigger, expected: &str| {
            let mut change = Change::new(&state(phase, true, 0), UnixMillis(9), Duration::ZERO);
            change.step(trigger, Reason::Inactivity, "");
            assert_eq!(told(&change), expected, "{phase} {trigger:?}");
        };
        check(Phase::Stopping, Trigger::RunnerGone, "-r Interrupted StoppedByUser, Stopped Inactivity");
        check(Phase::Pending, Trigger::StopRequested, "-r Interrupted StoppedByUser, Stopped Inactivity");
        check(Phase::Running, Trigger::Failed, "-r Failed Inactivity, Failed Inactivity");
        check(Phase::Suspending, Trigger::RunnerGone, "Suspended Inactivity");
        check(Phase::Completed, Trigger::Failed, "");
    }

    #[test]
    fn messages_wake() {
        let check = |phase, expected: &str| {
            let mut change = Change::new(&state(phase, false, 1), UnixMillis(9), Duration::ZERO);
            change.begin_next();
            assert_eq!(told(&change), expected, "{phase}");
        };
        check(Phase::Waiting, "+q0, m0, Running Working");
        check(Phase::Stopped, "+q0, m0, Pending Accepted");
        check(Phase::Failed, "+q0, m0, Pending Accepted");
        check(Phase::Pending, "+q0, m0");
    }

    #[test]
    fn a_lost_runner_is_fenced() {
        let mut change =
            Change::new(&state(Phase::Waiting, true, 0), UnixMillis(9), Duration::from_millis(7));
        change.lose(Epoch(1), "killed");
        assert_eq!(told(&change), "lost 1, Pending RunnerLost");
        assert_eq!((change.state.fence, change.state.losses, change.state.run_active_ms), (Epoch(2), 3, 12));
    }
}
