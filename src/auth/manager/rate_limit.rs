//! The rate of token requests.

use std::time::Duration;

use tokio::time::Instant;

/// The number of requests that may be sent without an interval.
const BURST: u32 = 4;
/// The interval between further requests.
const INTERVAL: Duration = Duration::from_millis(500);

/// Limits the rate of token requests of one sign-in, independent of their cause and result: a
/// server that refuses every token must not get a request from every caller.
#[derive(Debug, Default)]
pub(super) struct RateLimit {
    /// The time at which all reserved requests would have been sent at the sustained rate.
    reserved_until: Option<Instant>,
}

impl RateLimit {
    /// Reserves the next request, and returns when it may be sent.
    pub(super) fn reserve(&mut self, now: Instant) -> Instant {
        let reserved = self.reserved_until.map_or(now, |until| until.max(now));
        self.reserved_until = Some(reserved + INTERVAL);
        let ahead = reserved.saturating_duration_since(now);
        now + ahead.saturating_sub(INTERVAL * (BURST - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_followed_by_a_steady_rate() {
        let (mut limit, now) = (RateLimit::default(), Instant::now());
        let waits: Vec<_> = (0..8).map(|_| (limit.reserve(now) - now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 500, 1000, 1500, 2000]);
        let later = now + Duration::from_secs(60);
        assert_eq!(limit.reserve(later), later);
    }
}
