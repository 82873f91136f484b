//! The lifetime of an access token, and the time of its refresh.

use std::time::Duration;

use tokio::time::Instant;

use crate::auth::clock::{Deadline, Moment};

/// The upper bound of a server's stated lifetime: ten years. Sums with it stay in range.
pub(crate) const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// The assumed lifetime of a token whose server stated none. It is short, because an overestimate
/// costs a refused ask.
pub(crate) const UNSTATED: Duration = Duration::from_secs(5 * 60);
/// A token with a shorter lifetime is renewed on demand and not ahead of time, which would be a
/// busy loop.
const SHORTEST_KEPT_FRESH: Duration = Duration::from_secs(1);
const HEADROOM: Duration = Duration::from_secs(60);

/// The validity of an access token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetime {
    pub(crate) issued: Moment,
    pub(crate) expires: Deadline,
}

impl Lifetime {
    pub(crate) fn new(issued: Moment, lifetime: Duration) -> Self {
        Self { issued, expires: Deadline::after(issued, lifetime.min(LONGEST)) }
    }

    /// Builds the lifetime from a server's seconds, which may be missing, zero, negative or
    /// absurdly large.
    pub(crate) fn of_seconds(issued: Moment, seconds: Option<i64>) -> Self {
        let lifetime = seconds
            .map_or(UNSTATED, |seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
        Self::new(issued, lifetime)
    }

    pub(super) fn length(self) -> Duration {
        self.expires.monotonic.saturating_duration_since(self.issued.monotonic)
    }

    /// Draws the time of the refresh at random from 80 to 90 % of the lifetime, and a minute before
    /// its end where both are possible.
    pub(super) fn refresh_at(self) -> Option<Instant> {
        let length = self.length();
        if length < SHORTEST_KEPT_FRESH {
            return None;
        }
        let (early, late) = (length.mul_f64(0.8), length.mul_f64(0.9));
        let late = late.min(length.saturating_sub(HEADROOM)).max(early.min(late));
        let late = if late < early { early } else { late };
        Some(self.issued.monotonic + early + (late - early).mul_f64(fastrand::f64()))
    }
}
