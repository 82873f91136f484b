//! Helpers for points in time and durations.

use std::time::Duration;

use tokio::time::Instant;

/// The point in time, or one so far off that it never comes.
pub(crate) fn instant_after(wait: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    Instant::now() + wait.min(NEVER)
}

/// For the spans' field `duration_ms`.
pub(crate) fn millis_since(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}
