//! The server's word on a session's runs, and what it moves.

use model::lifecycle::{Phase, Reason, Trigger};
use resources::session::status::Work;

/// The triggers that bring a session to where its runs are. The server's word may be the first one in a while, so they are as
/// many as it takes.
pub(crate) fn triggers(phase: Phase, epoch: Option<u64>, work: &Work) -> &'static [Trigger] {
    use Trigger::{Asked, Failed, RunBegun, RunCompleted, RunIdle, RunnerStarted, StopRequested};
    // What a runner does that is not this epoch's is over.
    let live = epoch.is_some() && work.connected_epoch == epoch;
    match (work.phase, phase) {
        (Some(Phase::Running), Phase::Creating | Phase::Waiting) if live => &[RunBegun],
        (Some(Phase::Waiting), Phase::Creating | Phase::Running) if live && work.has_work => &[Asked],
        (Some(Phase::Waiting), Phase::Creating | Phase::Running) if live => &[RunIdle],
        (Some(Phase::Completed), Phase::Pending) => &[RunnerStarted, RunBegun, RunCompleted],
        (Some(Phase::Completed), Phase::Creating) => &[RunBegun, RunCompleted],
        (Some(Phase::Completed), Phase::Running | Phase::Waiting) => &[RunCompleted],
        (Some(Phase::Failed), phase) if !phase.is_settled() => &[Failed],
        (
            Some(Phase::Stopped),
            Phase::Pending
            | Phase::Creating
            | Phase::Running
            | Phase::Waiting
            | Phase::Suspending
            | Phase::Suspended,
        ) => &[StopRequested],
        _ => &[],
    }
}

/// Whether the session was given something to do that this settled phase does not know of.
pub(crate) fn is_woken(observed: Option<u64>, work: &Work) -> bool {
    let after = |seq: u64| seq > observed.unwrap_or(0);
    match work.woken {
        Some(woken) => work.has_work && after(woken),
        // Of a server that does not say so: where it has decided nothing of its own since.
        None => work.has_work && work.phase.is_none() && after(work.seq),
    }
}

pub(crate) fn reason(word: Option<&str>, phase: Phase) -> Reason {
    let known = |word: &str| {
        serde_json::from_value(serde_json::Value::from(word))
            .unwrap_or_else(|_| Reason::Other(word.to_owned()))
    };
    word.map_or_else(|| usual(phase), known)
}

pub(crate) fn text(reason: &Reason) -> String {
    match reason {
        Reason::Other(word) => word.clone(),
        known => format!("{known:?}"),
    }
}

const fn usual(phase: Phase) -> Reason {
    match phase {
        Phase::Pending => Reason::Accepted,
        Phase::Creating => Reason::RunnerStarting,
        Phase::Running => Reason::Working,
        Phase::Waiting => Reason::MessageAwaited,
        Phase::Completed => Reason::Finished,
        Phase::Failed => Reason::Internal,
        Phase::Suspending | Phase::Suspended | Phase::Stopping | Phase::Stopped => Reason::StoppedByUser,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::lifecycle::step;

    fn work(phase: Option<Phase>) -> Work {
        Work { seq: 7, has_work: true, connected_epoch: Some(2), phase, ..Work::default() }
    }

    /// Every trigger means something where it is pulled, and the way leads to where the runs are.
    #[test]
    fn each_way_is_one_of_the_table() {
        for word in Phase::ALL {
            for from in Phase::ALL {
                let mut phase = from;
                for trigger in triggers(from, Some(2), &work(Some(word))) {
                    phase = step(phase, *trigger).unwrap_or_else(|| panic!("{from} {word}: {trigger:?}"));
                }
                let arrived = phase == word || (word, phase) == (Phase::Stopped, Phase::Stopping);
                assert!(phase == from || arrived, "{from} {word}: {phase}");
            }
        }
    }

    #[test]
    fn a_runner_of_before_moves_nothing() {
        let check = |word, from, epoch, expected: &[Trigger]| {
            assert_eq!(triggers(from, epoch, &work(Some(word))), expected, "{word} {from} {epoch:?}");
        };
        check(Phase::Running, Phase::Creating, Some(2), &[Trigger::RunBegun]);
        check(Phase::Running, Phase::Creating, Some(3), &[]);
        check(Phase::Waiting, Phase::Running, Some(3), &[]);
        check(Phase::Running, Phase::Creating, None, &[]);
        // Its end is its end.
        check(Phase::Failed, Phase::Creating, Some(3), &[Trigger::Failed]);
        check(Phase::Running, Phase::Pending, Some(2), &[]);
    }

    #[test]
    fn what_wakes() {
        let check = |observed, woken, has_work, phase, expected: bool| {
            let work = Work { woken, has_work, ..work(phase) };
            assert_eq!(is_woken(observed, &work), expected, "{observed:?} {work:?}");
        };
        check(Some(5), Some(6), true, None, true);
        check(Some(6), Some(6), true, None, false);
        check(Some(5), Some(6), false, None, false);
        check(None, Some(1), true, None, true);
        check(Some(6), None, true, None, true);
        check(Some(7), None, true, None, false);
        check(Some(6), None, true, Some(Phase::Running), false);
    }
}
