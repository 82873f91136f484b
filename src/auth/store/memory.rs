//! Tokens in memory: they are lost when the process ends.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::slot::{Decision, MAX_REFUSED, Slot};
use super::{Claim, Claimed, Committed, StoreError, StoredToken, TokenKey, TokenStore};

/// Keeps tokens in memory. Clones are the same store: pass one to each client that shares sign-ins
/// in this process.
///
/// ```
/// use payman_sdk::{Config, MemoryTokenStore};
///
/// let store = MemoryTokenStore::new();
/// let one = Config::new("client-id").subject("alice").token_store(store.clone());
/// let other = Config::new("client-id").subject("alice").token_store(store);
/// ```
#[derive(Clone)]
pub struct MemoryTokenStore(Arc<MemoryStoreInner>);

struct MemoryStoreInner {
    slots: Mutex<HashMap<TokenKey, Slot>>,
    created: Instant,
}

impl MemoryTokenStore {
    /// Creates an empty store.
    ///
    /// ```
    /// use payman_sdk::MemoryTokenStore;
    ///
    /// let store = MemoryTokenStore::new(); // shared by its clones
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(MemoryStoreInner { slots: Mutex::default(), created: Instant::now() }))
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<TokenKey, Slot>> {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slots().len()
    }

    pub(crate) fn get(&self, key: &TokenKey) -> Option<StoredToken> {
        self.slots().get(key).and_then(Slot::token).cloned()
    }

    /// Applies a rule to a slot, which is created if it is missing.
    fn decide<T>(&self, key: &TokenKey, rule: impl FnOnce(&mut Slot, u64) -> Decision<T>) -> T {
        // A lease is counted by the clock that tests can pause; the wall clock does not matter
        // within a process.
        let now = u64::try_from(self.0.created.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut slots = self.slots();
        let slot = slots.entry(key.clone()).or_default();
        let answer = rule(slot, now).answer;
        let (is_empty, is_refused) = (slot.is_empty(), slot.refused_at().is_some());
        if is_empty {
            slots.remove(key);
        } else if is_refused {
            forget_refused(&mut slots);
        }
        answer
    }
}

/// Forgets the oldest records of refused sign-ins, once there are twice as many as are kept.
fn forget_refused(slots: &mut HashMap<TokenKey, Slot>) {
    let mut refused: Vec<_> = slots.values().filter_map(Slot::refused_at).collect();
    if refused.len() <= 2 * MAX_REFUSED {
        return;
    }
    refused.sort_unstable();
    let keep_after = refused.get(refused.len() - MAX_REFUSED).copied().unwrap_or_default();
    slots.retain(|_, slot| slot.refused_at().is_none_or(|at| at >= keep_after));
}

impl Default for MemoryTokenStore {
    fn default() -> Self {
        Self::new()
    }
}

/// Written by hand, because the store holds tokens.
impl fmt::Debug for MemoryTokenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTokenStore").finish_non_exhaustive()
    }
}

impl TokenStore for MemoryTokenStore {
    fn load<'a>(
        &'a self,
        key: &'a TokenKey,
    ) -> BoxFuture<'a, Result<Option<StoredToken>, StoreError>> {
        Box::pin(async move { Ok(self.get(key)) })
    }

    fn claim<'a>(
        &'a self,
        key: &'a TokenKey,
        generation: u64,
    ) -> BoxFuture<'a, Result<Claimed, StoreError>> {
        Box::pin(async move { Ok(self.decide(key, |slot, now| slot.claim(key, generation, now))) })
    }

    fn commit<'a>(
        &'a self,
        claim: &'a Claim,
        token: &'a StoredToken,
    ) -> BoxFuture<'a, Result<Committed, StoreError>> {
        Box::pin(async move { Ok(self.decide(claim.key(), |slot, _| slot.commit(claim, token))) })
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.decide(claim.key(), |slot, _| slot.release(claim));
            Ok(())
        })
    }
}
