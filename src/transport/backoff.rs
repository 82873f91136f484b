//! Delays between attempts, and the retry budget.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Exponential backoff with jitter: each wait is random, between a quarter of its bound and its
/// bound. The jitter prevents a thundering herd of callers that failed together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    bound: Duration,
    most: Duration,
}

/// The smallest wait as a fraction of its bound.
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

/// The number of retries that all clients of one pool may still make, so that retries do not
/// multiply the load when every request fails. Each successful exchange deposits a fraction of a
/// retry.
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
    /// Withdraws one retry. Returns false if none is left.
    pub(crate) fn withdraw(&self) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(RETRY_COST))
            .is_ok()
    }

    /// Deposits a fraction of a retry after a successful exchange.
    pub(crate) fn deposit(&self) {
        // A full budget is the usual case. It is only read, so that clones do not contend for the
        // cache line.
        if self.0.load(Ordering::Relaxed) < BUDGET {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}
