//! Times as the cluster writes them, and as the model counts them.

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use model::id::UnixMillis;
use std::time::Duration;

pub(crate) fn now() -> UnixMillis {
    of(Timestamp::now())
}

pub(crate) fn of(time: Timestamp) -> UnixMillis {
    UnixMillis(u64::try_from(time.as_millisecond()).unwrap_or_default())
}

/// RFC 3339; what is no time is the beginning of all.
pub(crate) fn parse(text: &str) -> UnixMillis {
    text.parse::<Timestamp>().map(of).unwrap_or_default()
}

/// RFC 3339 with milliseconds: of what is calculated with.
pub(crate) fn exact(at: UnixMillis) -> String {
    timestamp(at).to_string()
}

/// RFC 3339 in whole seconds, as Kubernetes writes it.
pub(crate) fn second(at: UnixMillis) -> String {
    let whole = TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Trunc);
    let at = timestamp(at);
    at.round(whole).unwrap_or(at).to_string()
}

pub(crate) fn after(at: UnixMillis, time: Duration) -> UnixMillis {
    UnixMillis(at.0.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
}

fn timestamp(at: UnixMillis) -> Timestamp {
    i64::try_from(at.0).ok().and_then(|at| Timestamp::from_millisecond(at).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read() {
        let at = UnixMillis(1_795_721_491_250);
        assert_eq!(
            (exact(at), second(at)),
            ("2026-11-26T19:31:31.25Z".into(), "2026-11-26T19:31:31Z".into())
        );
        assert_eq!(parse(&exact(at)), at);
        assert_eq!(parse("soon"), UnixMillis(0));
        assert_eq!(exact(UnixMillis(u64::MAX)).get(..4), Some("9999"));
    }
}
