//! Delays between attempts, and the retry budget.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Waits that grow, each drawn at random from nothing to its bound ("full jitter"), so that many
/// callers who failed together do not come back together.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    bound: Duration,
    most: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { bound: first, most }
    }

    pub(crate) fn next_wait(&mut self) -> Duration {
        let bound = self.bound.min(self.most);
        self.bound = bound.saturating_mul(2);
        bound.mul_f64(fastrand::f64())
    }
}

/// How many retries all clients of one pool may still make: where everything fails, retries
/// must not multiply the load. Each exchange that succeeds earns a fraction of a retry back.
#[derive(Debug)]
pub(crate) struct RetryBudget(AtomicU32);

const BUDGET: u32 = 500;
const RETRY_COST: u32 = 5;

impl Default for RetryBudget {
    fn default() -> Self {
        Self(AtomicU32::new(BUDGET))
    }
}

impl RetryBudget {
    /// Takes one retry out; false where there is none left.
    pub(crate) fn withdraw(&self) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(RETRY_COST))
            .is_ok()
    }

    /// An exchange succeeded.
    pub(crate) fn deposit(&self) {
        // A full budget is the usual case: it is only read, so that clones do not fight for the cache line.
        if self.0.load(Ordering::Relaxed) < BUDGET {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}
