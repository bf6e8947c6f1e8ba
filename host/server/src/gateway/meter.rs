//! How fast one runner may speak. Pure.

use std::time::Duration;

/// Bytes at once.
const BURST: f64 = 16.0 * 1024.0 * 1024.0;
/// Bytes per second, in the long run.
const RATE: f64 = 8.0 * 1024.0 * 1024.0;

/// A token bucket. Who speaks faster is read more slowly.
#[derive(Debug)]
pub(super) struct Meter {
    left: f64,
}

impl Default for Meter {
    fn default() -> Self {
        Self { left: BURST }
    }
}

impl Meter {
    /// Counts `bytes`, `since` the last time; returns how long to wait before reading on.
    pub(super) fn count(&mut self, bytes: usize, since: Duration) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "a frame is far below 2^52 bytes")]
        let bytes = bytes as f64;
        self.left = (self.left + since.as_secs_f64() * RATE).min(BURST) - bytes;
        if self.left >= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(-self.left / RATE) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_pass_and_floods_are_slowed() {
        let mut meter = Meter::default();
        assert_eq!(meter.count(16 << 20, Duration::ZERO), Duration::ZERO);
        assert_eq!(meter.count(8 << 20, Duration::ZERO), Duration::from_secs(1));
        assert_eq!(meter.count(0, Duration::from_secs(1)), Duration::ZERO);
        assert_eq!(meter.count(16 << 20, Duration::from_secs(100)), Duration::ZERO);
    }
}
