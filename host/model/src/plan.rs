//! What to do next for a session: pure, the same for the local scheduler and the operator.
//!
//! `plan(observed)` has no clock and no client. Applying its actions is idempotent; planning again after they took
//! effect gives none.

use crate::{
    id::{Epoch, UnixMillis},
    lifecycle::{self, Phase, Reason, Trigger},
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What a person wants of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum Desired {
    #[default]
    Run,
    Stop,
    Suspend,
    Delete,
}

/// What is seen of the session's runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runner {
    None,
    /// Started, has not dialled in.
    Starting {
        epoch: Epoch,
        since: UnixMillis,
    },
    Connected {
        epoch: Epoch,
    },
    /// It was connected or starting and is gone.
    Gone {
        epoch: Epoch,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    pub now: UnixMillis,
    pub phase: Phase,
    pub desired: Desired,
    pub runner: Runner,
    /// A run is unfinished or a message is queued.
    pub has_work: bool,
    /// The last epoch that was ever started.
    pub last_epoch: Epoch,
    /// Runners lost in a row without a run having made progress.
    pub losses: u32,
    /// When the last one was lost.
    pub lost_at: Option<UnixMillis>,
    /// Active time of the run under way so far.
    pub run_active: Duration,
    /// Since when nothing has happened in an idle session.
    pub idle_since: Option<UnixMillis>,
    /// When the session last changed; for a settled one, since when it is.
    pub changed_at: UnixMillis,
    pub policy: Policy,
}

/// Times and counts that somebody decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How long a runner may take to dial in.
    pub start_timeout: Duration,
    /// Hard limit of a run's active time.
    pub run_timeout: Duration,
    /// How long an idle session keeps its runner.
    pub inactivity: Duration,
    /// How long a settled session is kept; for ever where nobody said.
    pub retention: Option<Duration>,
    pub max_losses: u32,
    pub backoff_base: Duration,
    pub backoff_cap: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    StartRunner {
        epoch: Epoch,
    },
    /// Ask it to end in order.
    DrainRunner {
        epoch: Epoch,
    },
    /// End it now, with everything that it started.
    KillRunner {
        epoch: Epoch,
    },
    /// End the run under way as failed.
    FailRun {
        reason: Reason,
    },
    /// Move the life cycle on.
    Step {
        trigger: Trigger,
        reason: Reason,
    },
    /// Remove everything of the session.
    Remove,
    /// Nothing to do before then.
    Wait {
        until: UnixMillis,
    },
}

/// How long to wait after the `losses`-th loss in a row. A loss that is not counted, as it was nobody's failure, has the
/// first one's pause: what takes runners away may do so again at once.
#[must_use]
pub fn backoff(policy: &Policy, losses: u32) -> Duration {
    let factor = 1u32.checked_shl(losses.saturating_sub(1)).unwrap_or(u32::MAX);
    policy.backoff_base.saturating_mul(factor).min(policy.backoff_cap)
}

#[must_use]
pub fn plan(seen: &Observed) -> Vec<Action> {
    let actions = match seen.desired {
        Desired::Delete => remove(seen),
        Desired::Stop => end(seen, Trigger::StopRequested, Reason::StoppedByUser),
        Desired::Suspend => end(seen, Trigger::SuspendRequested, Reason::StoppedByUser),
        Desired::Run => run(seen),
    };
    if actions.is_empty() { retire(seen) } else { actions }
}

/// A session that came to rest goes when its time is over. A suspended one is only asleep.
fn retire(seen: &Observed) -> Vec<Action> {
    let rests = seen.phase.is_settled() && seen.phase != Phase::Suspended && !seen.has_work;
    match (seen.policy.retention, seen.runner) {
        (Some(kept), Runner::None | Runner::Gone { .. }) if rests => {
            let until = UnixMillis(seen.changed_at.0.saturating_add(millis(kept)));
            if seen.now >= until { vec![Action::Remove] } else { vec![Action::Wait { until }] }
        }
        _ => vec![],
    }
}

fn remove(seen: &Observed) -> Vec<Action> {
    match seen.runner {
        Runner::Starting { epoch, .. } | Runner::Connected { epoch } => vec![Action::KillRunner { epoch }],
        Runner::None | Runner::Gone { .. } => vec![Action::Remove],
    }
}

fn end(seen: &Observed, trigger: Trigger, reason: Reason) -> Vec<Action> {
    let settled = seen.phase.is_settled();
    let ending = matches!(seen.phase, Phase::Stopping | Phase::Suspending);
    match seen.runner {
        Runner::None | Runner::Gone { .. } if ending => {
            vec![Action::Step { trigger: Trigger::RunnerGone, reason }]
        }
        Runner::None | Runner::Gone { .. } if lifecycle::step(seen.phase, trigger).is_none() => vec![],
        Runner::None | Runner::Gone { .. } => vec![Action::Step { trigger, reason }],
        Runner::Starting { epoch, .. } | Runner::Connected { epoch } if settled => {
            vec![Action::DrainRunner { epoch }]
        }
        Runner::Starting { epoch, .. } => {
            vec![Action::Step { trigger, reason }, Action::KillRunner { epoch }]
        }
        Runner::Connected { epoch } if ending => vec![Action::DrainRunner { epoch }],
        Runner::Connected { epoch } => vec![Action::Step { trigger, reason }, Action::DrainRunner { epoch }],
    }
}

fn run(seen: &Observed) -> Vec<Action> {
    let Policy { start_timeout, run_timeout, inactivity, max_losses, .. } = seen.policy;
    match (seen.phase, seen.runner) {
        (Phase::Stopping | Phase::Suspending, Runner::None | Runner::Gone { .. }) => {
            vec![Action::Step { trigger: Trigger::RunnerGone, reason: Reason::Finished }]
        }
        (
            Phase::Stopping | Phase::Suspending,
            Runner::Starting { epoch, .. } | Runner::Connected { epoch },
        ) => {
            vec![Action::DrainRunner { epoch }]
        }
        (phase, Runner::Starting { epoch, .. } | Runner::Connected { epoch }) if phase.is_settled() => {
            vec![Action::DrainRunner { epoch }]
        }
        (phase, _) if phase.is_settled() => vec![],
        (_, Runner::Connected { epoch }) if seen.has_work && seen.run_active >= run_timeout => {
            vec![Action::FailRun { reason: Reason::Timeout }, Action::KillRunner { epoch }]
        }
        (_, Runner::Starting { epoch, since }) => {
            let deadline = UnixMillis(since.0.saturating_add(millis(start_timeout)));
            if seen.now >= deadline {
                vec![Action::KillRunner { epoch }]
            } else {
                vec![Action::Wait { until: deadline }]
            }
        }
        (Phase::Creating | Phase::Running | Phase::Waiting, Runner::Gone { .. }) => {
            vec![Action::Step { trigger: Trigger::RunnerLost, reason: Reason::RunnerLost }]
        }
        (_, Runner::None | Runner::Gone { .. }) if seen.losses > max_losses => {
            vec![
                Action::FailRun { reason: Reason::RunnerCrashLoop },
                Action::Step { trigger: Trigger::Failed, reason: Reason::RunnerCrashLoop },
            ]
        }
        (_, Runner::None | Runner::Gone { .. }) if seen.has_work => start(seen),
        (_, Runner::Connected { epoch }) if !seen.has_work => match seen.idle_since {
            Some(since) => {
                let deadline = UnixMillis(since.0.saturating_add(millis(inactivity)));
                if seen.now >= deadline {
                    vec![
                        Action::Step { trigger: Trigger::StopRequested, reason: Reason::Inactivity },
                        Action::DrainRunner { epoch },
                    ]
                } else {
                    vec![Action::Wait { until: deadline }]
                }
            }
            None => vec![],
        },
        _ => vec![],
    }
}

fn start(seen: &Observed) -> Vec<Action> {
    if let Some(lost_at) = seen.lost_at {
        let until = UnixMillis(lost_at.0.saturating_add(millis(backoff(&seen.policy, seen.losses))));
        if seen.now < until {
            return vec![Action::Wait { until }];
        }
    }
    vec![
        Action::StartRunner { epoch: seen.last_epoch.next() },
        Action::Step { trigger: Trigger::RunnerStarted, reason: Reason::RunnerStarting },
    ]
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::step;

    fn seen() -> Observed {
        Observed {
            now: UnixMillis(1_000_000),
            phase: Phase::Pending,
            desired: Desired::Run,
            runner: Runner::None,
            has_work: true,
            last_epoch: Epoch(0),
            losses: 0,
            lost_at: None,
            run_active: Duration::ZERO,
            idle_since: None,
            changed_at: UnixMillis(900_000),
            policy: Policy {
                start_timeout: Duration::from_secs(30),
                run_timeout: Duration::from_secs(300),
                inactivity: Duration::from_secs(3600),
                retention: None,
                max_losses: 3,
                backoff_base: Duration::from_secs(1),
                backoff_cap: Duration::from_secs(60),
            },
        }
    }

    fn check(name: &str, seen: &Observed, expected: &[Action]) {
        assert_eq!(plan(seen), expected, "{name}");
    }

    #[test]
    fn decisions() {
        let connected = Runner::Connected { epoch: Epoch(1) };
        let step = |trigger, reason| Action::Step { trigger, reason };
        check(
            "a new session gets a runner",
            &seen(),
            &[Action::StartRunner { epoch: Epoch(1) }, step(Trigger::RunnerStarted, Reason::RunnerStarting)],
        );
        check(
            "a lost runner is noted",
            &Observed { phase: Phase::Running, runner: Runner::Gone { epoch: Epoch(1) }, ..seen() },
            &[step(Trigger::RunnerLost, Reason::RunnerLost)],
        );
        check(
            "and followed by another, after a pause",
            &Observed { losses: 1, lost_at: Some(UnixMillis(999_500)), last_epoch: Epoch(1), ..seen() },
            &[Action::Wait { until: UnixMillis(1_000_500) }],
        );
        check(
            "also where the loss is not counted",
            &Observed { losses: 0, lost_at: Some(UnixMillis(999_500)), last_epoch: Epoch(1), ..seen() },
            &[Action::Wait { until: UnixMillis(1_000_500) }],
        );
        check(
            "but not for ever",
            &Observed { losses: 4, lost_at: Some(UnixMillis(0)), ..seen() },
            &[
                Action::FailRun { reason: Reason::RunnerCrashLoop },
                step(Trigger::Failed, Reason::RunnerCrashLoop),
            ],
        );
        check(
            "a run has a hard end",
            &Observed {
                phase: Phase::Running,
                runner: connected,
                run_active: Duration::from_secs(300),
                ..seen()
            },
            &[Action::FailRun { reason: Reason::Timeout }, Action::KillRunner { epoch: Epoch(1) }],
        );
        check(
            "stop drains",
            &Observed { phase: Phase::Running, desired: Desired::Stop, runner: connected, ..seen() },
            &[step(Trigger::StopRequested, Reason::StoppedByUser), Action::DrainRunner { epoch: Epoch(1) }],
        );
        let kept = |phase, seconds| {
            let policy = Policy { retention: Some(Duration::from_secs(seconds)), ..seen().policy };
            Observed { phase, has_work: false, policy, ..seen() }
        };
        check(
            "what rests is kept for a time",
            &kept(Phase::Completed, 101),
            &[Action::Wait { until: UnixMillis(1_001_000) }],
        );
        check("and then removed", &kept(Phase::Failed, 100), &[Action::Remove]);
        check("but not what sleeps", &kept(Phase::Suspended, 100), &[]);
        check(
            "until a person stops it",
            &Observed { desired: Desired::Stop, ..kept(Phase::Suspended, 100) },
            &[step(Trigger::StopRequested, Reason::StoppedByUser)],
        );
        let stopped = Observed { desired: Desired::Stop, ..kept(Phase::Stopped, 100) };
        check("also where a person stopped it", &stopped, &[Action::Remove]);
        check("delete removes", &Observed { desired: Desired::Delete, ..seen() }, &[Action::Remove]);
    }

    /// Applies actions to what is seen, as an instant and faithful world would.
    fn apply(mut seen: Observed, actions: &[Action]) -> Observed {
        for action in actions {
            match action {
                Action::StartRunner { epoch } => {
                    seen.runner = Runner::Starting { epoch: *epoch, since: seen.now };
                    seen.last_epoch = *epoch;
                }
                Action::DrainRunner { epoch } | Action::KillRunner { epoch } => {
                    seen.runner = Runner::Gone { epoch: *epoch }
                }
                Action::FailRun { .. } => seen.has_work = false,
                Action::Step { trigger, .. } => {
                    if let Some(phase) = step(seen.phase, *trigger) {
                        if phase != seen.phase && *trigger == Trigger::RunnerLost {
                            seen.runner = Runner::None;
                        }
                        seen.phase = phase;
                    }
                }
                Action::Remove | Action::Wait { .. } => {}
            }
        }
        seen
    }

    #[test]
    fn running_it_again_settles() {
        let runners = [
            Runner::None,
            Runner::Starting { epoch: Epoch(1), since: UnixMillis(999_000) },
            Runner::Starting { epoch: Epoch(1), since: UnixMillis(0) },
            Runner::Connected { epoch: Epoch(1) },
            Runner::Gone { epoch: Epoch(1) },
        ];
        for phase in Phase::ALL {
            for desired in [Desired::Run, Desired::Stop, Desired::Suspend, Desired::Delete] {
                for runner in runners {
                    for has_work in [true, false] {
                        for losses in [0, 4] {
                            let start = Observed { phase, desired, runner, has_work, losses, ..seen() };
                            let mut now = start;
                            let mut rounds = 0;
                            loop {
                                let actions = plan(&now);
                                if actions.iter().all(|a| matches!(a, Action::Wait { .. } | Action::Remove)) {
                                    break;
                                }
                                rounds += 1;
                                assert!(rounds < 6, "does not settle: {start:?} -> {now:?} -> {actions:?}");
                                now = apply(now, &actions);
                            }
                        }
                    }
                }
            }
        }
    }
}
