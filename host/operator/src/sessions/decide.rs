//! What a session is to be next: pure. Its object, its pod and the time go in; a new status and what is to be done come out.

use super::{
    object::{Session, Task},
    pods::Seen,
    status::Next,
};
use crate::{clock, settings::Timeouts};
use model::{
    id::{Epoch, UnixMillis},
    lifecycle::{Phase, Reason, Trigger, step},
    plan::{Action, Desired, Observed, Policy, Runner, plan},
};
use resources::session::status::{StoppedReason, Work};
use std::time::Duration;

/// Rounds of deciding; the plan settles in fewer (its own test holds that).
const ROUNDS: usize = 12;
/// How long an idle session keeps its runner where nobody said otherwise.
const INACTIVITY: Duration = Duration::from_secs(24 * 60 * 60);

/// What is to be done, once the status says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Make the pod of this epoch. Its uid completes the status.
    CreatePod { epoch: u64 },
    /// `grace`: what the pod itself says, where absent.
    DeletePod { name: String, uid: String, grace: Option<u32> },
    /// Remove the object.
    Remove,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decision {
    pub(crate) next: Next,
    pub(crate) deeds: Vec<Deed>,
    /// When to look again, if nothing changes.
    pub(crate) again: Option<UnixMillis>,
}

/// Since when something is as it is, as this operator has seen it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Since {
    /// The runner is not connected.
    pub(crate) unconnected: UnixMillis,
    /// It is to be drained.
    pub(crate) draining: UnixMillis,
}

struct Deciding<'a> {
    task: &'a Task,
    pod: Option<&'a Seen>,
    work: Option<&'a Work>,
    now: UnixMillis,
    since: Since,
    timeouts: &'a Timeouts,
    next: Next,
    runner: Runner,
    deeds: Vec<Deed>,
    again: Option<UnixMillis>,
}

pub(crate) fn decide(
    session: &Session,
    task: &Task,
    pod: Option<&Seen>,
    now: UnixMillis,
    since: Since,
    timeouts: &Timeouts,
) -> Decision {
    let next = Next::of(session, task);
    let mut deciding = Deciding {
        task,
        pod,
        work: session.status.server.work.as_ref(),
        now,
        since,
        timeouts,
        runner: Runner::None,
        next,
        deeds: vec![],
        again: None,
    };
    deciding.runner = deciding.seen_runner();
    deciding.heed_work();
    let desired = if session.deleting { Desired::Delete } else { session.desired };
    for _ in 0..ROUNDS {
        if !deciding.round(desired) {
            break;
        }
    }
    deciding.explain();
    let Deciding { next, deeds, again, .. } = deciding;
    Decision { next, deeds, again }
}

impl Deciding<'_> {
    /// The pod that the status names, if it is there.
    fn named_pod(&self) -> Option<&Seen> {
        self.pod.filter(|pod| Some(&pod.uid) == self.next.pod_uid.as_ref())
    }

    fn seen_runner(&self) -> Runner {
        let epoch = Epoch(self.next.epoch);
        let active = !matches!(self.next.phase, Phase::Pending) && !self.next.phase.is_settled();
        let Some(pod) = self.named_pod().filter(|_| epoch.0 > 0) else {
            return if active && epoch.0 > 0 { Runner::Gone { epoch } } else { Runner::None };
        };
        let given_up = pod.ends.is_some_and(|ends| self.now >= clock::after(ends, self.timeouts.lost));
        if pod.over || given_up || pod.restarts > self.next.pod_restarts {
            return if active { Runner::Gone { epoch } } else { Runner::None };
        }
        if self.work.is_some_and(|work| work.connected_epoch == Some(epoch.0)) {
            return Runner::Connected { epoch };
        }
        Runner::Starting { epoch, since: self.since.unconnected }
    }

    /// Takes what the server says the runs have come to as triggers.
    fn heed_work(&mut self) {
        let Some(work) = self.work else { return };
        if work.phase.is_some() {
            self.next.workspace_used = true;
        }
        let woken = work.woken.unwrap_or(0) > self.next.observed_work;
        self.next.observed_work = work.seq;
        let said = || {
            let reason = work.reason.clone().map_or(Reason::Working, Reason::from_word);
            (reason, work.message.clone().unwrap_or_default())
        };
        if self.next.phase.is_settled() && work.has_work && woken {
            self.step(Trigger::Message, Reason::Accepted, "");
            self.next.losses = 0;
            self.next.lost = None;
        }
        let Some(phase) = work.phase else { return };
        let (reason, message) = said();
        match phase {
            Phase::Running if matches!(self.next.phase, Phase::Creating) => {
                self.step(Trigger::RunBegun, reason, &message);
            }
            Phase::Running if self.next.phase == Phase::Waiting => {
                self.step(Trigger::Answered, reason, &message);
            }
            Phase::Waiting if matches!(self.next.phase, Phase::Creating | Phase::Running) => {
                self.step(Trigger::Asked, reason, &message);
            }
            // What it waits for may change while it waits.
            Phase::Waiting if self.next.phase == Phase::Waiting => self.next.because(reason, &message),
            Phase::Completed if !work.has_work && !self.next.phase.is_settled() => {
                // As quick as this, some of the way was not seen.
                self.step(Trigger::RunnerStarted, Reason::RunnerStarting, "");
                self.step(Trigger::RunBegun, Reason::Working, "");
                self.step(Trigger::RunCompleted, reason, &message);
            }
            Phase::Failed if !work.has_work && !self.next.phase.is_settled() => {
                self.step(Trigger::Failed, reason, &message);
            }
            Phase::Stopped if !work.has_work && !self.next.phase.is_settled() => {
                self.step(Trigger::StopRequested, reason, &message);
            }
            _ => {}
        }
        if !work.has_work {
            self.next.losses = 0;
            self.next.lost = None;
        }
    }

    fn observed(&self, desired: Desired) -> Observed {
        let accepted = &self.task.accepted;
        let has_work = match self.work {
            Some(work) => work.has_work,
            None => !accepted.prompt.is_empty() && !self.next.phase.is_settled(),
        };
        let run_timeout = accepted.timeout.saturating_add(self.timeouts.drain);
        // The server counts; here stands only when the time is over.
        let deadline = self.work.and_then(|work| work.deadline.as_deref()).map(clock::parse);
        let over = deadline.is_some_and(|deadline| self.now >= clock::after(deadline, self.timeouts.drain));
        let running = self.named_pod().is_some_and(|pod| pod.running);
        Observed {
            now: self.now,
            phase: self.next.phase,
            desired,
            runner: self.runner,
            has_work,
            last_epoch: Epoch(self.next.epoch),
            losses: self.next.losses,
            lost_at: self.next.lost,
            run_active: if over { run_timeout } else { Duration::ZERO },
            idle_since: self.work.and_then(|work| work.idle_since.as_deref()).map(clock::parse),
            changed_at: self.next.completed.unwrap_or(self.now),
            policy: Policy {
                start_timeout: if running { self.timeouts.start } else { self.timeouts.pending },
                run_timeout,
                inactivity: accepted.inactivity.unwrap_or(INACTIVITY),
                retention: accepted.retention,
                max_losses: self.timeouts.max_losses,
                backoff_base: self.timeouts.backoff_base,
                backoff_cap: self.timeouts.backoff_cap,
            },
        }
    }

    /// Whether another round is needed.
    fn round(&mut self, desired: Desired) -> bool {
        let seen = self.observed(desired);
        let mut acted = false;
        for action in plan(&seen) {
            acted |= self.apply(action);
        }
        if let Some(deadline) = self.work.and_then(|work| work.deadline.as_deref()).map(clock::parse) {
            self.at(clock::after(deadline, self.timeouts.drain));
        }
        acted
    }

    fn apply(&mut self, action: Action) -> bool {
        match action {
            Action::StartRunner { epoch } => self.start(epoch.0),
            Action::DrainRunner { .. } => {
                self.drain();
                false
            }
            Action::KillRunner { .. } => {
                self.delete_pod(Some(1));
                false
            }
            Action::FailRun { reason } => {
                let why = self.why();
                self.step(Trigger::Failed, reason, &why)
            }
            // With the pod, where there is one.
            Action::Step { trigger: Trigger::RunnerStarted, .. } => false,
            Action::Step { trigger: Trigger::RunnerLost, reason } => self.lose(reason),
            Action::Step { trigger: Trigger::RunnerGone, .. } => {
                let (reason, message) = (self.next.reason.clone(), self.next.message.clone());
                self.runner = Runner::None;
                self.step(Trigger::RunnerGone, reason, &message)
            }
            Action::Step { trigger, reason } => {
                if trigger == Trigger::StopRequested {
                    let idle = reason == Reason::Inactivity;
                    self.next.stopped_by =
                        Some(if idle { StoppedReason::Inactivity } else { StoppedReason::User });
                }
                let why = if trigger == Trigger::Failed { self.why() } else { String::new() };
                self.step(trigger, reason, &why)
            }
            Action::Remove => {
                self.deeds.push(Deed::Remove);
                false
            }
            Action::Wait { until } => {
                self.at(until);
                false
            }
        }
    }

    fn step(&mut self, trigger: Trigger, reason: Reason, message: &str) -> bool {
        let Some(phase) = step(self.next.phase, trigger) else { return false };
        self.next.enter(phase, self.now);
        self.next.because(reason, message);
        true
    }

    fn lose(&mut self, reason: Reason) -> bool {
        let why = self.why();
        // A pod that somebody took away is nobody's failure, and neither is what the cluster says is one.
        let failed = self.named_pod().is_some_and(|pod| !pod.disrupted && pod.ends.is_none());
        if failed {
            self.next.losses = self.next.losses.saturating_add(1);
        }
        self.next.lost = Some(self.now);
        self.runner = Runner::None;
        self.step(Trigger::RunnerLost, reason, &why)
    }

    fn start(&mut self, epoch: u64) -> bool {
        // The runner's container was started again in its pod: that is the next epoch, with all files.
        if let Some(pod) = self.named_pod().filter(|pod| pod.ends.is_none() && !pod.over).cloned() {
            if pod.restarts == self.next.pod_restarts {
                return false;
            }
            self.next.pod_restarts = pod.restarts;
            self.begin(epoch);
            return true;
        }
        if let Some(pod) = self.pod.cloned() {
            let given_up = pod.ends.is_some_and(|ends| self.now >= clock::after(ends, self.timeouts.lost));
            if !given_up {
                // Two runners never share a workspace: the one before goes first.
                self.delete_pod(None);
                if let Some(ends) = pod.ends {
                    self.at(clock::after(ends, self.timeouts.lost));
                }
                return false;
            }
        }
        if self.next.workspace_used && !self.persistent() {
            let message = "the pod with the session's workspace is gone: ask for workspace.persistent where that must not end a session";
            return self.step(Trigger::Failed, Reason::WorkspaceLost, message);
        }
        self.deeds.push(Deed::CreatePod { epoch });
        self.next.pod_uid = None;
        self.next.pod_name = None;
        self.next.pod_restarts = 0;
        self.begin(epoch);
        true
    }

    fn begin(&mut self, epoch: u64) {
        self.next.epoch = epoch;
        self.runner = Runner::Starting { epoch: Epoch(epoch), since: self.now };
        self.step(Trigger::RunnerStarted, Reason::RunnerStarting, "");
    }

    fn persistent(&self) -> bool {
        self.task.spec.workspace.as_ref().is_some_and(|workspace| workspace.persistent)
    }

    /// The server ends the run first, where there is one.
    fn drain(&mut self) {
        let connected = matches!(self.runner, Runner::Connected { .. });
        let has_work = self.work.is_some_and(|work| work.has_work);
        let until = clock::after(self.since.draining, self.timeouts.drain);
        if connected && has_work && self.now < until {
            self.at(until);
        } else {
            self.delete_pod(None);
        }
    }

    fn delete_pod(&mut self, grace: Option<u32>) {
        let Some(pod) = self.pod else { return };
        if pod.ends.is_none() && !self.deeds.iter().any(|deed| matches!(deed, Deed::DeletePod { .. })) {
            self.deeds.push(Deed::DeletePod { name: pod.name.clone(), uid: pod.uid.clone(), grace });
        }
        if let Some(ends) = pod.ends {
            self.at(clock::after(ends, self.timeouts.lost));
        }
    }

    /// For people: why the runner is not there.
    fn why(&self) -> String {
        match self.pod {
            Some(Seen { trouble: Some((reason, message)), .. }) => format!("{reason}: {message}"),
            Some(_) => "its runner ended".to_owned(),
            None => "its pod is gone".to_owned(),
        }
    }

    /// What a start waits for is the reason of its phase.
    fn explain(&mut self) {
        if self.next.phase == Phase::Creating
            && let Some((reason, message)) = self.named_pod().and_then(|pod| pod.trouble.clone())
        {
            self.next.because(Reason::from_word(reason), &message);
        }
    }

    fn at(&mut self, at: UnixMillis) {
        self.again = Some(self.again.map_or(at, |again| again.min(at)));
    }
}
