//! Helpers for points in time and durations.

use std::time::Duration;

use tokio::time::Instant;

/// Returns the point in time after a wait from now; see [`instant_of`].
pub(crate) fn instant_after(wait: Duration) -> Instant {
    instant_of(Instant::now(), wait)
}

/// Returns the point in time after a wait from `start`, or one so far off that it never comes.
pub(crate) fn instant_of(start: Instant, wait: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    start + wait.min(NEVER)
}

/// Returns the milliseconds since `started`, for the field `duration_ms` of a span.
pub(crate) fn millis_since(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}
