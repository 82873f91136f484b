//! The default: tokens live as long as the process.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::slot::Slot;
use super::{Claim, Claimed, Committed, StoreError, StoredToken, TokenKey, TokenStore};

/// Keeps tokens in memory. Clones are the same store: give one to each client that shares sign-ins in this process.
///
/// ```
/// use payman_sdk::{Config, MemoryTokenStore};
///
/// let store = MemoryTokenStore::new();
/// let one = Config::new("client-id").subject("alice").token_store(store.clone());
/// let other = Config::new("client-id").subject("alice").token_store(store);
/// ```
#[derive(Clone)]
pub struct MemoryTokenStore(Arc<Inner>);

struct Inner {
    slots: Mutex<HashMap<TokenKey, Slot>>,
    began: Instant,
}

impl MemoryTokenStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Inner { slots: Mutex::default(), began: Instant::now() }))
    }

    fn with<T>(&self, key: &TokenKey, act: impl FnOnce(&mut Slot, u64) -> T) -> T {
        let now = u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut slots = self.0.slots.lock().unwrap_or_else(PoisonError::into_inner);
        act(slots.entry(key.clone()).or_default(), now)
    }
}

impl Default for MemoryTokenStore {
    fn default() -> Self {
        Self::new()
    }
}

/// By hand: it holds tokens.
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
        Box::pin(async move { Ok(self.with(key, |slot, _| slot.token().cloned())) })
    }

    fn claim<'a>(
        &'a self,
        key: &'a TokenKey,
        generation: u64,
    ) -> BoxFuture<'a, Result<Claimed, StoreError>> {
        Box::pin(async move { Ok(self.with(key, |slot, now| slot.claim(key, generation, now).0)) })
    }

    fn commit<'a>(
        &'a self,
        claim: &'a Claim,
        token: &'a StoredToken,
    ) -> BoxFuture<'a, Result<Committed, StoreError>> {
        Box::pin(async move { Ok(self.with(claim.key(), |slot, _| slot.commit(claim, token).0)) })
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.with(claim.key(), |slot, _| slot.release(claim));
            Ok(())
        })
    }
}
