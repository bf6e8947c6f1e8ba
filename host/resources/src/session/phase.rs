//! Where a session is in its life, as its conditions say it: the phase follows from them, and is written beside them for people
//! and older clients.

use crate::condition::{
    Condition, ConditionStatus,
    operator::{DRAINING, FINISHED, POD_CREATED, SUSPENDED, WORKING},
};
use model::lifecycle::Phase;

/// What a condition is to be; absent: there is none of the type.
pub type Aspect = (&'static str, Option<ConditionStatus>);

/// The phase that these conditions come to. `None`: they are not of an operator that says so (`Finished` is always there).
#[must_use]
pub fn phase(conditions: &[Condition]) -> Option<Phase> {
    let find = |kind: &str| conditions.iter().find(|one| one.kind == kind);
    let holds = |one: &&Condition| one.status == ConditionStatus::True;
    find(FINISHED)?;
    let over = [FINISHED, SUSPENDED, DRAINING].into_iter().filter_map(find).find(holds);
    match over.or_else(|| find(WORKING)) {
        Some(one) => Phase::ALL.into_iter().find(|phase| phase.to_string() == one.reason),
        None if find(POD_CREATED).is_some_and(|one| holds(&one)) => Some(Phase::Creating),
        None => Some(Phase::Pending),
    }
}

/// The conditions that come to this phase; each has the phase's name as its reason where it decides.
#[must_use]
pub fn aspects(phase: Phase) -> [Aspect; 4] {
    use ConditionStatus::{False, True};
    let finished = matches!(phase, Phase::Completed | Phase::Stopped | Phase::Failed);
    let working = match phase {
        Phase::Running => Some(True),
        Phase::Waiting => Some(False),
        _ => None,
    };
    [
        (FINISHED, Some(if finished { True } else { False })),
        (SUSPENDED, (phase == Phase::Suspended).then_some(True)),
        (DRAINING, matches!(phase, Phase::Stopping | Phase::Suspending).then_some(True)),
        (WORKING, working),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(phase: Phase, pod_created: bool) -> Vec<Condition> {
        let condition = |kind: &str, status: ConditionStatus, reason: &str| Condition {
            kind: kind.to_owned(),
            status,
            reason: reason.to_owned(),
            message: String::new(),
            last_transition_time: "2026-01-01T00:00:00Z".to_owned(),
            observed_generation: None,
        };
        let said = aspects(phase).into_iter();
        let mut conditions: Vec<_> =
            said.filter_map(|(kind, status)| Some(condition(kind, status?, &phase.to_string()))).collect();
        conditions.extend(pod_created.then(|| condition(POD_CREATED, ConditionStatus::True, "Created")));
        conditions
    }

    #[test]
    fn each_phase_follows_from_its_conditions() {
        for expected in Phase::ALL {
            // What had a pod has one until it waits for the next.
            let created = expected != Phase::Pending;
            assert_eq!(phase(&of(expected, created)), Some(expected), "{expected}");
            if ![Phase::Pending, Phase::Creating].contains(&expected) {
                assert_eq!(phase(&of(expected, false)), Some(expected), "{expected} without a pod");
            }
        }
        assert_eq!(phase(&[]), None);
    }
}
