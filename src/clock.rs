//! The time, asked for in one place so that tests can step it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use time::OffsetDateTime;

/// The present moment in UTC.
#[must_use]
pub fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// Milliseconds since 1970-01-01 UTC, as kept in the index.
#[must_use]
pub fn unix_millis() -> i64 {
    i64::try_from(now().unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

/// Times of this process for what has an order: a clock that is set back stands still here until it has caught up.
#[derive(Debug)]
pub struct Rising(AtomicI64);

impl Default for Rising {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }
}

impl Rising {
    /// A time, or the latest one before if that is later.
    #[must_use]
    pub fn at(&self, unix_millis: i64) -> i64 {
        self.0.fetch_max(unix_millis, Ordering::Relaxed).max(unix_millis)
    }
}

/// A monotonic stopwatch for latencies.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(std::time::Instant);

impl Stopwatch {
    /// Starts to measure.
    #[must_use]
    pub fn start() -> Self {
        Self(std::time::Instant::now())
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A time of the index for people, to the second.
#[must_use]
pub fn utc_text(unix_millis: i64) -> String {
    let Ok(at) = OffsetDateTime::from_unix_timestamp(unix_millis.div_euclid(1000)) else { return "?".to_owned() };
    let (hour, minute, second) = at.time().as_hms();
    format!("{} {hour:02}:{minute:02}:{second:02} UTC", at.date())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_makes_nothing_older() {
        let rising = Rising::default();
        for (clock, expected) in [(5, 5), (3, 5), (5, 5), (9, 9), (-1, 9), (10, 10)] {
            assert_eq!(rising.at(clock), expected);
        }
    }
}
