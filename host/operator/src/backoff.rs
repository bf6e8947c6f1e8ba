//! How long to wait before an object that failed is tried again: for each object by itself, longer each time, and no sooner
//! because another process tries.

use crate::clock;
use model::id::UnixMillis;
use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::Duration,
};

const BASE: Duration = Duration::from_millis(500);
const CAP: Duration = Duration::from_secs(300);

pub(crate) struct Backoff<K> {
    attempts: Mutex<HashMap<K, u32>>,
    begun: UnixMillis,
}

impl<K: Eq + Hash> Backoff<K> {
    pub(crate) fn new() -> Self {
        Self { attempts: Mutex::default(), begun: clock::now() }
    }

    /// The pause after one more failure. What failed `since` before this process began has been tried by then.
    pub(crate) fn failed(&self, key: K, since: Option<UnixMillis>) -> Duration {
        let before = since.map_or(0, |since| tried(self.begun.since(since)));
        let mut attempts = self.attempts();
        let count = attempts.entry(key).or_insert(before);
        *count = count.saturating_add(1);
        pause(*count, rand::random_range(0.5..1.0))
    }

    /// It went well, or it is gone.
    pub(crate) fn forget(&self, key: &K) {
        self.attempts().remove(key);
    }

    fn attempts(&self) -> std::sync::MutexGuard<'_, HashMap<K, u32>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often, for so long.
fn tried(time: Duration) -> u32 {
    (time.as_millis() / BASE.as_millis() + 1).ilog2()
}

/// `share` of the whole pause: those that failed together do not come back together.
fn pause(count: u32, share: f64) -> Duration {
    let factor = 1u32.checked_shl(count.saturating_sub(1)).unwrap_or(u32::MAX);
    BASE.saturating_mul(factor).min(CAP).mul_f64(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_cap() {
        let check = |count, seconds: f64| assert_eq!(pause(count, 1.0), Duration::from_secs_f64(seconds));
        check(1, 0.5);
        check(2, 1.0);
        check(5, 8.0);
        check(11, 300.0);
        check(u32::MAX, 300.0);
        assert_eq!(pause(2, 0.5), Duration::from_millis(500));
    }

    #[test]
    fn each_object_counts_for_itself() {
        let backoff = Backoff::new();
        assert!(backoff.failed("a", None) < Duration::from_millis(501));
        assert!(backoff.failed("a", None) >= Duration::from_millis(500));
        assert!(backoff.failed("b", None) < Duration::from_millis(501));
        backoff.forget(&"a");
        assert!(backoff.failed("a", None) < Duration::from_millis(501));
    }

    #[test]
    fn another_process_goes_on_where_the_one_before_was() {
        let check =
            |seconds: u64, expected| assert_eq!(tried(Duration::from_secs(seconds)), expected, "{seconds} s");
        check(0, 0);
        check(1, 1);
        // After pauses of 0.5, 1, 2 and 4 seconds.
        check(8, 4);
        let backoff = Backoff::new();
        let hour = UnixMillis(backoff.begun.0 - 3_600_000);
        assert!(backoff.failed("a", Some(hour)) >= CAP / 2);
        let now = clock::after(backoff.begun, Duration::from_secs(60));
        assert!(backoff.failed("b", Some(now)) < Duration::from_millis(501));
    }
}
