//! The time, asked for in one place so that tests can step it.

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
