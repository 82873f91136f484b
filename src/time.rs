//! Helpers for points in time and durations.

use std::pin::pin;
use std::time::Duration;

use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout};

/// The running time that a future gets after its time limit.
const GRACE: Duration = Duration::from_secs(2);
/// A runtime that stands still again uses up one step of it.
const GRACE_STEPS: u32 = 8;

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

/// Waits for a future for up to `limit`, and then for a short grace period.
///
/// A runtime that stood still (a blocked thread, a machine that slept) finds the timer expired and
/// the reply in the socket at the same moment, and polls them in any order. A reply that is there
/// takes a few more polls to reach its reader.
pub(crate) async fn timeout_with_grace<F: Future>(
    limit: Duration,
    future: F,
) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut result = timeout(limit, &mut future).await;
    for _ in 0..GRACE_STEPS {
        if result.is_ok() {
            break;
        }
        result = timeout(GRACE / GRACE_STEPS, &mut future).await;
    }
    result
}
