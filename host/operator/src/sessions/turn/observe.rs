//! What `model::plan` is told of a session on a cluster.

use super::Turn;
use crate::{
    clock,
    sessions::{
        judge::Wish,
        seen::{Cause, PodSeen, Runner as Process},
        word,
    },
};
use model::{
    id::{Epoch, UnixMillis},
    lifecycle::Phase,
    plan::{Observed, Policy, Runner},
};
use resources::session::status::Work;
use std::time::Duration;

/// A runner whose work is done ends by itself; the server's word on that may take longer than kubelet's.
const WORD: Duration = Duration::from_secs(10);

pub(super) struct Seen {
    pub(super) observed: Observed,
    /// Why the runner is gone.
    pub(super) cause: Option<Cause>,
    /// When to look again at the latest: the run under way has used its time, or a word that was waited for did not come.
    pub(super) deadline: Option<UnixMillis>,
    /// Nobody is in the middle of anything: the pod may be deleted.
    pub(super) may_end: bool,
}

impl Seen {
    pub(super) fn is_live(&self) -> bool {
        matches!(self.observed.runner, Runner::Starting { .. } | Runner::Connected { .. })
    }

    pub(super) fn is_draining(&self) -> bool {
        let phase = self.observed.phase;
        self.is_live() && (phase.is_settled() || matches!(phase, Phase::Stopping | Phase::Suspending))
    }
}

/// How long a runner may take from where it is.
struct Start {
    since: UnixMillis,
    within: Duration,
}

impl Turn<'_> {
    pub(super) fn observe(&mut self, wish: &Wish) -> Seen {
        let (status, work) = (self.draft.status.clone(), self.facts.view.work.clone());
        let (phase, now) = (self.draft.phase(), self.facts.now);
        let has_work = match &work {
            Some(work) if phase.is_settled() => word::is_woken(status.observed_work, work),
            Some(work) => work.has_work,
            None if phase.is_settled() => false,
            None => !wish.accepted.prompt.trim().is_empty(),
        };
        let (runner, within, cause) = self.runner(work.as_ref());
        let deadline = work.as_ref().and_then(|work| work.deadline.as_deref()).map(clock::parse);
        let deadline = deadline.filter(|_| has_work && !phase.is_settled());
        let timeouts = self.facts.timeouts;
        let overdue = deadline.is_some_and(|deadline| now >= deadline);
        let observed = Observed {
            now,
            phase,
            desired: wish.accepted.desired,
            runner,
            has_work,
            last_epoch: Epoch(status.epoch.unwrap_or(0)),
            losses: status.losses.unwrap_or(0),
            lost_at: status.lost_time.as_deref().map(clock::parse),
            // The server counts a run's time; here is known only when it is over.
            run_active: if overdue { wish.accepted.timeout } else { Duration::ZERO },
            idle_since: work.as_ref().and_then(|work| work.idle_since.as_deref()).map(clock::parse),
            changed_at: status
                .completion_time
                .as_deref()
                .or(status.start_time.as_deref())
                .map_or(now, clock::parse),
            policy: Policy {
                start_timeout: within,
                run_timeout: wish.accepted.timeout,
                inactivity: wish.accepted.inactivity.unwrap_or(Duration::MAX),
                retention: wish.accepted.retention,
                max_losses: timeouts.max_losses,
                backoff_base: timeouts.backoff_base,
                backoff_cap: timeouts.backoff_cap,
            },
        };
        // Whose object is being deleted is gone to the server: it says nothing more.
        let may_end = self.facts.view.deleting || work.is_none_or(|work| may_end(&work, status.epoch));
        let awaited = self.recorded().and_then(|pod| self.word_until(pod));
        let deadline = deadline.filter(|_| !overdue).into_iter().chain(awaited).min();
        Seen { observed, cause, deadline, may_end }
    }

    /// The runner of this epoch, how long it may take to start, and why it is gone.
    fn runner(&mut self, work: Option<&Work>) -> (Runner, Duration, Option<Cause>) {
        let timeouts = self.facts.timeouts;
        let (Some(epoch), Some(uid)) = (self.draft.status.epoch, self.draft.status.pod_uid.clone()) else {
            return (Runner::None, timeouts.pending, None);
        };
        let Some(pod) = self.recorded().cloned() else {
            return (
                Runner::Gone { epoch: Epoch(epoch) },
                timeouts.pending,
                Some(self.ended(&uid, Cause::deleted())),
            );
        };
        if let Some(cause) = self.over(&pod) {
            return (Runner::Gone { epoch: Epoch(epoch) }, timeouts.pending, Some(self.ended(&uid, cause)));
        }
        let connected = work.is_some_and(|work| work.connected_epoch == Some(epoch));
        let was = matches!(self.draft.phase(), Phase::Running | Phase::Waiting);
        let away = self.memory.connection(epoch, connected, was, self.facts.now);
        if connected {
            return (Runner::Connected { epoch: Epoch(epoch) }, timeouts.start, None);
        }
        let Start { since, within } = self.start_of(&pod, away);
        (Runner::Starting { epoch: Epoch(epoch), since }, within, None)
    }

    /// Why the process that the epoch stands for is over, if it is.
    fn over(&self, pod: &PodSeen) -> Option<Cause> {
        let process = self.draft.status.pod_restarts.unwrap_or(0);
        if self.word_until(pod).is_some() {
            return None;
        }
        if pod.over.is_some() {
            return pod.over.clone();
        }
        if pod.ending.is_some() && self.facts.now >= self.given_up(pod) {
            return Some(Cause::node_lost());
        }
        match &pod.runner {
            Process::Over { cause, .. } if pod.restarts >= process => Some(cause.clone()),
            _ if pod.restarts > process => Some(pod.before.clone().unwrap_or_else(Cause::deleted)),
            _ => None,
        }
    }

    /// Until when the end of a runner that ended by itself is no loss yet.
    fn word_until(&self, pod: &PodSeen) -> Option<UnixMillis> {
        let process = self.draft.status.pod_restarts.unwrap_or(0);
        match pod.runner {
            Process::Over { at, again: false, .. } if pod.restarts >= process && pod.ending.is_none() => {
                Some(clock::after(at, WORD)).filter(|until| self.facts.now < *until)
            }
            _ => None,
        }
    }

    /// A pod that was deleted for what its runner did not do.
    fn ended(&self, uid: &str, cause: Cause) -> Cause {
        if self.memory.killed.as_deref() == Some(uid) {
            return Cause::never_dialled_in(self.facts.timeouts.start.as_secs());
        }
        cause
    }

    fn start_of(&self, pod: &PodSeen, away: Option<UnixMillis>) -> Start {
        let timeouts = self.facts.timeouts;
        let process = self.draft.status.pod_restarts.unwrap_or(0);
        match pod.runner {
            _ if pod.gated => Start { since: self.facts.now, within: timeouts.pending },
            Process::Running { since } if pod.restarts >= process => {
                Start { since: since.max(away.unwrap_or_default()), within: timeouts.start }
            }
            Process::Over { at, .. } => Start { since: at, within: timeouts.pending },
            Process::Running { .. } | Process::Waiting => {
                Start { since: pod.created, within: timeouts.pending }
            }
        }
    }
}

fn may_end(work: &Work, epoch: Option<u64>) -> bool {
    let connected = epoch.is_some() && work.connected_epoch == epoch;
    !connected || !work.has_work && work.phase.is_some_and(Phase::is_settled)
}
