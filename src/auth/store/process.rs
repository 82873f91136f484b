//! The default store of clients without one: shared by the clients of this process that were given
//! the same token.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use futures::future::BoxFuture;

use super::memory::MemoryTokenStore;
use super::{Claim, Claimed, Committed, StoreError, StoredToken, TokenKey, TokenStore};

/// The stores in use, by key. An entry is removed with its last client.
static STORES: LazyLock<Mutex<HashMap<TokenKey, Weak<ProcessTokenStore>>>> =
    LazyLock::new(Mutex::default);

fn stores() -> MutexGuard<'static, HashMap<TokenKey, Weak<ProcessTokenStore>>> {
    STORES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The store of one key, while a client uses it.
pub(crate) struct ProcessTokenStore {
    key: TokenKey,
    store: MemoryTokenStore,
}

impl ProcessTokenStore {
    /// Returns the store that the other clients with this key use, or a new one.
    pub(crate) fn shared(key: &TokenKey) -> Arc<Self> {
        let mut stores = stores();
        if let Some(store) = stores.get(key).and_then(Weak::upgrade) {
            return store;
        }
        let store = Arc::new(Self { key: key.clone(), store: MemoryTokenStore::new() });
        stores.insert(key.clone(), Arc::downgrade(&store));
        store
    }

    /// Returns the token that another client stored.
    pub(crate) fn present(&self) -> Option<StoredToken> {
        self.store.get(&self.key)
    }
}

impl Drop for ProcessTokenStore {
    fn drop(&mut self) {
        let mut stores = stores();
        // Another client may have created a new entry in the meantime.
        if stores.get(&self.key).is_some_and(|store| store.strong_count() == 0) {
            stores.remove(&self.key);
        }
    }
}

impl TokenStore for ProcessTokenStore {
    fn load<'a>(
        &'a self,
        key: &'a TokenKey,
    ) -> BoxFuture<'a, Result<Option<StoredToken>, StoreError>> {
        self.store.load(key)
    }

    fn claim<'a>(
        &'a self,
        key: &'a TokenKey,
        generation: u64,
    ) -> BoxFuture<'a, Result<Claimed, StoreError>> {
        self.store.claim(key, generation)
    }

    fn commit<'a>(
        &'a self,
        claim: &'a Claim,
        token: &'a StoredToken,
    ) -> BoxFuture<'a, Result<Committed, StoreError>> {
        self.store.commit(claim, token)
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<(), StoreError>> {
        self.store.release(claim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::store::Owner;

    #[test]
    fn an_entry_is_removed_with_its_last_client() {
        let key = TokenKey::new(Owner::User, "id", "http://process.test", "one");
        let (one, other) = (ProcessTokenStore::shared(&key), ProcessTokenStore::shared(&key));
        assert!(Arc::ptr_eq(&one, &other));
        drop(one);
        assert!(stores().contains_key(&key));
        drop(other);
        assert!(!stores().contains_key(&key));
    }
}
