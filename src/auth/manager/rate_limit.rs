//! The rate of token requests.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use crate::auth::store::TokenKey;

/// The number of requests that may be sent without an interval.
const BURST: u32 = 4;
/// The interval between further requests.
const INTERVAL: Duration = Duration::from_millis(500);

/// One entry per sign-in that a client uses. An entry is removed with its last client.
static LIMITS: LazyLock<Mutex<HashMap<TokenKey, Weak<RateLimit>>>> = LazyLock::new(Mutex::default);

fn limits() -> MutexGuard<'static, HashMap<TokenKey, Weak<RateLimit>>> {
    LIMITS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Limits the rate of token requests of one sign-in, independent of their cause and result: a
/// server that refuses every token must not get a request from every caller.
#[derive(Debug)]
pub(super) struct RateLimit {
    key: TokenKey,
    /// The time at which all reserved requests would have been sent at the sustained rate.
    reserved_until: Mutex<Option<Instant>>,
}

impl RateLimit {
    /// Creates a limit of its own.
    pub(super) fn new(key: TokenKey) -> Self {
        Self { key, reserved_until: Mutex::default() }
    }

    pub(super) fn key(&self) -> &TokenKey {
        &self.key
    }

    /// Returns the limit that the other clients of this sign-in in this process use, or a new one.
    pub(super) fn shared(key: &TokenKey) -> Arc<Self> {
        let mut limits = limits();
        if let Some(limit) = limits.get(key).and_then(Weak::upgrade) {
            return limit;
        }
        let limit = Arc::new(Self::new(key.clone()));
        limits.insert(key.clone(), Arc::downgrade(&limit));
        limit
    }

    /// Reserves the next request, and returns when it may be sent.
    pub(super) fn reserve(&self, now: Instant) -> Instant {
        let mut reserved_until = self.reserved_until.lock().unwrap_or_else(PoisonError::into_inner);
        let reserved = reserved_until.map_or(now, |until| until.max(now));
        *reserved_until = Some(reserved + INTERVAL);
        let ahead = reserved.saturating_duration_since(now);
        now + ahead.saturating_sub(INTERVAL * (BURST - 1))
    }
}

impl Drop for RateLimit {
    fn drop(&mut self) {
        let mut limits = limits();
        // Another client may have begun anew in the meantime.
        if limits.get(&self.key).is_some_and(|limit| limit.strong_count() == 0) {
            limits.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::store::Owner;

    fn key(subject: &str) -> TokenKey {
        TokenKey::new(Owner::User, "id", "http://rate.test", subject)
    }

    #[test]
    fn a_burst_is_followed_by_a_steady_rate() {
        let (limit, now) = (RateLimit::new(key("burst")), Instant::now());
        let waits: Vec<_> = (0..8).map(|_| (limit.reserve(now) - now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 500, 1000, 1500, 2000]);
        let later = now + Duration::from_secs(60);
        assert_eq!(limit.reserve(later), later);
    }

    #[test]
    fn clients_of_one_sign_in_share_a_limit_while_there_is_one() {
        let one = RateLimit::shared(&key("one"));
        assert!(Arc::ptr_eq(&one, &RateLimit::shared(&key("one"))));
        assert!(!Arc::ptr_eq(&one, &RateLimit::shared(&key("other"))));
        assert!(!limits().contains_key(&key("other")), "it was removed with its last client");
        drop(one);
        assert!(!limits().contains_key(&key("one")));
    }
}
