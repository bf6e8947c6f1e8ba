//! What the operator remembers of a session beside its object: moments that nobody wrote down. After a restart of the
//! operator they are taken anew, which gives whoever is waited for a little more time.

use model::id::UnixMillis;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// The runner of this epoch was connected, or not since that time.
    connection: Option<(u64, Option<UnixMillis>)>,
    /// Since when its runner is to end.
    pub(crate) draining: Option<UnixMillis>,
    /// The pod that was deleted because of its runner's own failure.
    pub(crate) killed: Option<String>,
}

impl Memory {
    /// Notes whether the runner of `epoch` is connected. Returns since when it is not, where it was before; `was` says
    /// whether it had ever been, as far as the object tells.
    pub(crate) fn connection(
        &mut self,
        epoch: u64,
        connected: bool,
        was: bool,
        now: UnixMillis,
    ) -> Option<UnixMillis> {
        let known = self.connection.filter(|(of, _)| *of == epoch);
        let away = match (connected, known) {
            (true, _) => None,
            (false, Some((_, Some(since)))) => Some(since),
            (false, Some((_, None))) => Some(now),
            (false, None) => was.then_some(now),
        };
        if connected || away.is_some() {
            self.connection = Some((epoch, away));
        }
        away
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_when_a_runner_is_away() {
        let mut memory = Memory::default();
        let mut check = |epoch, connected, was, now, expected: Option<u64>| {
            let got = memory.connection(epoch, connected, was, UnixMillis(now));
            assert_eq!(got, expected.map(UnixMillis), "{epoch} {connected} at {now}");
        };
        check(1, false, false, 1, None);
        check(1, true, false, 2, None);
        check(1, false, true, 3, Some(3));
        check(1, false, true, 4, Some(3));
        check(1, true, true, 5, None);
        check(2, false, false, 6, None);
        // The operator was started again while a run was under way.
        check(3, false, true, 7, Some(7));
        check(3, false, true, 8, Some(7));
    }
}
