//! Delays between attempts, and the retry budget.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Waits that grow, each drawn at random from a quarter of its bound up to its bound, so that many
/// callers who failed together do not come back together, and none comes back at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    bound: Duration,
    most: Duration,
}

/// The least share of the bound that is waited.
const FLOOR: f64 = 0.25;

impl Backoff {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { bound: first, most }
    }

    pub(crate) fn next_wait(&mut self) -> Duration {
        let bound = self.bound.min(self.most);
        self.bound = bound.saturating_mul(2);
        bound.mul_f64(FLOOR + (1.0 - FLOOR) * fastrand::f64())
    }
}

/// The number of retries that all clients of one pool may still make: where everything fails,
/// retries must not multiply the load. Each exchange that succeeds pays a fraction of a retry back.
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
    /// Withdraws one retry. Returns false where there is none left.
    pub(crate) fn withdraw(&self) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(RETRY_COST))
            .is_ok()
    }

    /// Deposits a fraction of a retry: an exchange succeeded.
    pub(crate) fn deposit(&self) {
        // A full budget is the usual case: it is only read, so that clones do not contend for the
        // line.
        if self.0.load(Ordering::Relaxed) < BUDGET {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}
