//! The times at which lookups are made.

use std::time::Duration;

use tokio::time::Instant;

use super::Follower;
use crate::delivery::lookup::{LOOKUP_TIMEOUT, last_start, lookup_backoff};
use crate::time::instant_after;
use crate::transport::backoff::Backoff;

/// The waits between two lookups of a running task. They grow, and have no jitter, since one caller
/// polls one task.
pub(super) struct PollBackoff(Duration);

impl PollBackoff {
    pub(super) fn new() -> Self {
        Self(Duration::from_millis(250))
    }

    pub(super) fn next_wait(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 8 / 5).min(Duration::from_secs(5));
        wait
    }
}

/// The time in which failing lookups are repeated. The last one is made at its end.
#[derive(Clone, Copy)]
pub(super) struct Window {
    ends: Instant,
    deadline: Instant,
    /// The time by which `Retry-After` may still extend the window.
    extension: Duration,
    backoff: Backoff,
    /// The shortest time limit of one lookup.
    shortest: Duration,
    last: LastLookup,
}

/// A lookup this shortly before the last one is omitted.
const LEAST_DISTANCE: Duration = Duration::from_millis(100);

/// Tells whether the lookup at the end of the window was begun.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LastLookup {
    Ahead,
    Begun,
}

impl Window {
    pub(super) fn new(follower: &Follower) -> Self {
        let timeout = follower.platform.policy.recovery_timeout;
        Self {
            ends: instant_after(timeout),
            deadline: follower.deadline,
            extension: follower.ask.limits().idle_timeout,
            backoff: lookup_backoff(),
            shortest: timeout.clamp(Duration::from_millis(250), Duration::from_secs(1)),
            last: LastLookup::Ahead,
        }
    }

    /// Ends the time at `deadline`, if that comes first.
    pub(super) fn ending_at(mut self, deadline: Instant) -> Self {
        self.deadline = self.deadline.min(deadline);
        self
    }

    /// Returns the deadline of one lookup: at most half of the time that is left, so that a server
    /// that stalls once can be asked again.
    pub(super) fn one_lookup(&self, follower: &Follower) -> Instant {
        let left = self.ends.min(self.deadline).saturating_duration_since(Instant::now());
        let longest = LOOKUP_TIMEOUT.min(follower.ask.limits().reply_timeout);
        instant_after(longest.min((left / 2).max(self.shortest))).min(self.deadline)
    }

    /// Returns the time at which the next lookup begins; `None` after the last one.
    ///
    /// A wait that the server asked for does not count against the window. One that is over
    /// already, such as a date in the past, does not bring the next lookup forward.
    pub(super) fn next_try(&mut self, retry_after: Option<Duration>) -> Option<Instant> {
        if self.last == LastLookup::Begun {
            return None;
        }
        let now = Instant::now();
        let wait = self.backoff.next_wait().max(retry_after.unwrap_or_default());
        if let Some(asked) = retry_after
            && asked <= self.extension
            && now + asked < self.deadline
        {
            self.extension -= asked;
            self.ends += asked;
        }
        let last = last_start(self.ends, self.deadline);
        let left = last.saturating_duration_since(now);
        if wait + LEAST_DISTANCE < left {
            return Some(now + wait);
        }
        self.last = LastLookup::Begun;
        Some(now + left)
    }
}
