//! Whether and when a refused request is sent again. Pure; the rules are those of the provider's own clients.

use super::failure::Told;
use http::{HeaderMap, StatusCode};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// How often one call is sent again.
    pub retries: u32,
    /// The first pause where the endpoint names none; it doubles from there.
    pub first: Duration,
    pub longest: Duration,
    /// An endpoint that asks for a longer pause than this ends the call instead.
    pub longest_asked: Duration,
}

impl RetryPolicy {
    #[must_use]
    pub const fn shipped() -> Self {
        Self {
            retries: 4,
            first: Duration::from_millis(500),
            longest: Duration::from_secs(8),
            longest_asked: Duration::from_secs(60),
        }
    }

    /// The pause before attempt number `attempt` + 1; `jitter` is in 0..1 and takes up to a quarter off.
    pub(super) fn pause(&self, attempt: u32, jitter: f64) -> Option<Duration> {
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(attempt)).min(self.longest);
        (attempt < self.retries).then(|| doubled.mul_f64(1.0 - 0.25 * jitter.clamp(0.0, 1.0)))
    }
}

/// An endpoint's refusal, as far as retrying is concerned.
pub(super) struct Refused<'a> {
    pub(super) status: StatusCode,
    pub(super) headers: &'a HeaderMap,
    pub(super) told: &'a Told,
}

impl Refused<'_> {
    /// The pause before the next attempt, or `None` when this refusal is the answer.
    pub(super) fn pause(
        &self,
        policy: &RetryPolicy,
        attempt: u32,
        jitter: f64,
        now: SystemTime,
    ) -> Option<Duration> {
        let own = policy.pause(attempt, jitter)?;
        if !self.should_retry() {
            return None;
        }
        match self.asked(now) {
            Some(asked) => (asked <= policy.longest_asked).then_some(asked),
            None => Some(own),
        }
    }

    fn should_retry(&self) -> bool {
        match self.header("x-should-retry") {
            Some("true") => true,
            Some("false") => false,
            _ => matches!(self.status.as_u16(), 408 | 409 | 429 | 500..) && !self.told.spend_limit,
        }
    }

    fn asked(&self, now: SystemTime) -> Option<Duration> {
        let number =
            |name: &str| self.header(name)?.trim().parse::<f64>().ok().filter(|n| (0.0..1e9).contains(n));
        number("retry-after-ms")
            .map(|ms| Duration::from_secs_f64(ms / 1000.0))
            .or_else(|| number("retry-after").map(Duration::from_secs_f64))
            .or_else(|| {
                let at = jiff::fmt::rfc2822::parse(self.header("retry-after")?).ok()?.timestamp().as_second();
                let now = now.duration_since(UNIX_EPOCH).ok()?;
                Some(Duration::from_secs(u64::try_from(at).ok()?).saturating_sub(now))
            })
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, headers: &[(&'static str, &'static str)], body: &str, expected_ms: Option<u64>) {
        let headers =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let refused = Refused {
            status: StatusCode::from_u16(status).unwrap(),
            headers: &headers,
            told: &Told::read(body.as_bytes()),
        };
        let now = UNIX_EPOCH + Duration::from_secs(1_445_412_470);
        let pause = refused.pause(&RetryPolicy::shipped(), 1, 0.0, now);
        assert_eq!(pause, expected_ms.map(Duration::from_millis), "{status} {headers:?} {body}");
    }

    #[test]
    fn statuses_and_headers_decide() {
        let backoff = Some(1000);
        for status in [408, 409, 429, 500, 502, 503, 529] {
            check(status, &[], "", backoff);
        }
        for status in [400, 401, 403, 404, 413, 422] {
            check(status, &[], "", None);
        }
        check(400, &[("x-should-retry", "true")], "", backoff);
        check(529, &[("x-should-retry", "false")], "", None);
        check(429, &[("retry-after", "2")], "", Some(2000));
        check(429, &[("retry-after", "1.5")], "", Some(1500));
        check(429, &[("retry-after-ms", "30"), ("retry-after", "2")], "", Some(30));
        check(429, &[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")], "", Some(10_000));
        check(429, &[("retry-after", "Wed, 21 Oct 2015 07:00:00 GMT")], "", Some(0));
        check(429, &[("retry-after", "3600")], "", None);
        check(429, &[("retry-after", "soon")], "", backoff);
        check(429, &[("retry-after", "-1")], "", backoff);
        check(429, &[], r#"{"error":{"details":{"error_code":"enforced_spend_limit_reached"}}}"#, None);
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_end() {
        let policy = RetryPolicy { retries: 6, ..RetryPolicy::shipped() };
        let pauses: Vec<_> =
            (0..7).map(|attempt| policy.pause(attempt, 0.0).map(|p| p.as_millis())).collect();
        assert_eq!(pauses, [Some(500), Some(1000), Some(2000), Some(4000), Some(8000), Some(8000), None]);
        assert_eq!(policy.pause(0, 1.0), Some(Duration::from_millis(375)));
    }
}
