//! What to do next for a session about which somebody else decides: pure, as `model::plan` is, and with the same actions.
//!
//! Two logs are brought together: what was decided (epochs, losses, ends) and what the runs have come to, which the
//! session knows better. Where both speak of the same thing, the later one counts: see [`Decided::observed`].

use super::seams::Decided;
use model::{
    id::{Epoch, Seq},
    lifecycle::{Phase, Reason, Trigger},
    plan::{Action, Desired, Runner},
};

/// What the session knows by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) phase: Phase,
    pub(super) runner: Runner,
    pub(super) epoch: Epoch,
    /// A run is unfinished.
    pub(super) has_run: bool,
    /// The run under way has used its time.
    pub(super) overdue: bool,
    /// When it was last given something to do.
    pub(super) woken: Seq,
}

/// Whether the runner that the session knows is over by what was decided.
pub(super) fn is_over(decided: &Decided, own: &Own) -> bool {
    let started = !matches!(own.phase, Phase::Pending);
    match own.runner {
        Runner::Starting { epoch, .. } | Runner::Connected { epoch } => {
            decided.gone
                || decided.epoch > epoch
                || started && decided.epoch == epoch && decided.phase == Phase::Pending
                || decided.phase.is_settled() && decided.phase != Phase::Completed && heeded(decided, own)
        }
        Runner::None | Runner::Gone { .. } => false,
    }
}

/// An end that was decided before the session was given something to do is none.
fn heeded(decided: &Decided, own: &Own) -> bool {
    decided.observed >= own.woken
}

pub(super) fn follow(decided: &Decided, own: &Own) -> Vec<Action> {
    if decided.gone {
        return vec![Action::Remove];
    }
    if own.phase.is_settled() {
        return match own.runner {
            Runner::Starting { epoch, .. } | Runner::Connected { epoch } => {
                vec![Action::DrainRunner { epoch }]
            }
            Runner::None | Runner::Gone { .. }
                if own.phase == Phase::Suspended && decided.desired == Desired::Stop =>
            {
                vec![step(Trigger::StopRequested, Reason::StoppedByUser)]
            }
            Runner::None | Runner::Gone { .. } => vec![],
        };
    }
    let ending = matches!(own.phase, Phase::Stopping | Phase::Suspending);
    match (own.runner, decided.desired) {
        (Runner::Gone { .. } | Runner::None, _) if ending => {
            vec![step(Trigger::RunnerGone, Reason::Finished)]
        }
        (Runner::Connected { epoch }, _) if ending => vec![Action::DrainRunner { epoch }],
        // Its end is said by whoever started it.
        (Runner::Starting { .. }, _) if ending => vec![],
        (runner, Desired::Stop) => end(runner, Trigger::StopRequested, Reason::StoppedByUser),
        (runner, Desired::Suspend) => end(runner, Trigger::SuspendRequested, Reason::StoppedByUser),
        _ if decided.phase == Phase::Failed && heeded(decided, own) => {
            vec![Action::FailRun { reason: decided.reason.clone() }]
        }
        (Runner::Gone { .. }, _) if own.phase != Phase::Pending => {
            vec![step(Trigger::RunnerLost, Reason::RunnerLost)]
        }
        (runner, _) if matches!(decided.phase, Phase::Stopping | Phase::Stopped) && !own.has_run => {
            end(runner, Trigger::StopRequested, decided.reason.clone())
        }
        (Runner::None | Runner::Gone { .. }, _) if decided.epoch > own.epoch => {
            vec![Action::StartRunner { epoch: decided.epoch }]
        }
        (Runner::Connected { epoch }, _) if own.has_run && own.overdue => {
            vec![Action::FailRun { reason: Reason::Timeout }, Action::KillRunner { epoch }]
        }
        _ => vec![],
    }
}

fn end(runner: Runner, trigger: Trigger, reason: Reason) -> Vec<Action> {
    let step = step(trigger, reason);
    match runner {
        Runner::Connected { epoch } => vec![step, Action::DrainRunner { epoch }],
        Runner::Starting { .. } | Runner::None | Runner::Gone { .. } => vec![step],
    }
}

const fn step(trigger: Trigger, reason: Reason) -> Action {
    Action::Step { trigger, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::id::UnixMillis;

    fn decided(phase: Phase, epoch: u64) -> Decided {
        Decided {
            desired: Desired::Run,
            phase,
            reason: Reason::Working,
            message: "".into(),
            epoch: Epoch(epoch),
            pod: None,
            observed: Seq(10),
            gone: false,
        }
    }

    fn own(phase: Phase, runner: Runner) -> Own {
        Own { phase, runner, epoch: Epoch(1), has_run: true, overdue: false, woken: Seq(5) }
    }

    const CONNECTED: Runner = Runner::Connected { epoch: Epoch(1) };
    const STARTING: Runner = Runner::Starting { epoch: Epoch(1), since: UnixMillis(0) };
    const GONE: Runner = Runner::Gone { epoch: Epoch(1) };

    fn check(name: &str, decided: &Decided, own: &Own, expected: &[Action]) {
        assert_eq!(follow(decided, own), expected, "{name}");
    }

    #[test]
    fn what_was_decided_becomes_actions() {
        use Phase::{Completed, Creating, Failed, Pending, Running, Stopped, Stopping, Suspended, Waiting};
        let drain = Action::DrainRunner { epoch: Epoch(1) };
        check("nothing yet", &decided(Pending, 0), &own(Pending, Runner::None), &[]);
        check(
            "a runner was started",
            &decided(Creating, 2),
            &own(Pending, Runner::None),
            &[Action::StartRunner { epoch: Epoch(2) }],
        );
        check("it runs", &decided(Running, 1), &own(Running, CONNECTED), &[]);
        check(
            "another was, so the one before is lost first",
            &decided(Creating, 2),
            &own(Running, GONE),
            &[step(Trigger::RunnerLost, Reason::RunnerLost)],
        );
        check(
            "a finished session's runner goes",
            &decided(Running, 1),
            &own(Completed, CONNECTED),
            std::slice::from_ref(&drain),
        );
        let stop = Decided { desired: Desired::Stop, ..decided(Running, 1) };
        check(
            "a person stops it",
            &stop,
            &own(Running, CONNECTED),
            &[step(Trigger::StopRequested, Reason::StoppedByUser), drain.clone()],
        );
        check("and waits for its end", &stop, &own(Stopping, STARTING), &[]);
        check("which comes", &stop, &own(Stopping, GONE), &[step(Trigger::RunnerGone, Reason::Finished)]);
        check(
            "or it was only asleep",
            &stop,
            &own(Suspended, Runner::None),
            &[step(Trigger::StopRequested, Reason::StoppedByUser)],
        );
        let idle = Own { has_run: false, ..own(Waiting, CONNECTED) };
        let unused = Decided { reason: Reason::Inactivity, ..decided(Stopping, 1) };
        check(
            "nothing happened for long",
            &unused,
            &idle,
            &[step(Trigger::StopRequested, Reason::Inactivity), drain],
        );
        check("but a message came meanwhile", &unused, &own(Running, CONNECTED), &[]);
        check("also when it was stopped", &decided(Stopped, 1), &own(Pending, Runner::None), &[]);
        let failed = Decided { reason: Reason::RunnerCrashLoop, ..decided(Failed, 3) };
        check(
            "it was given up",
            &failed,
            &own(Pending, Runner::None),
            &[Action::FailRun { reason: Reason::RunnerCrashLoop }],
        );
        let later = Own { woken: Seq(11), ..own(Pending, Runner::None) };
        let before = Decided { epoch: Epoch(1), ..failed };
        check("before it was woken again", &before, &later, &[]);
        let overdue = Own { overdue: true, ..own(Running, CONNECTED) };
        check(
            "a run has a hard end",
            &decided(Running, 1),
            &overdue,
            &[Action::FailRun { reason: Reason::Timeout }, Action::KillRunner { epoch: Epoch(1) }],
        );
        check("gone is gone", &Decided { gone: true, ..decided(Running, 1) }, &overdue, &[Action::Remove]);
    }

    #[test]
    fn when_a_runner_is_over() {
        let over = |decided: &Decided, own: &Own| is_over(decided, own);
        assert!(over(&decided(Phase::Creating, 2), &own(Phase::Running, CONNECTED)), "the next one began");
        assert!(over(&decided(Phase::Pending, 1), &own(Phase::Running, CONNECTED)), "it was lost");
        assert!(over(&decided(Phase::Failed, 1), &own(Phase::Running, STARTING)), "it was given up");
        assert!(!over(&decided(Phase::Creating, 1), &own(Phase::Running, CONNECTED)), "old news");
        assert!(!over(&decided(Phase::Completed, 1), &own(Phase::Completed, CONNECTED)), "it is drained");
        let woken = Own { woken: Seq(11), ..own(Phase::Running, CONNECTED) };
        assert!(!over(&decided(Phase::Stopped, 1), &woken), "decided before the last message");
    }
}
