//! Calls of a token store that may hang, panic or return inconsistent answers.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::store::slot::MAX_NUMBER;
use crate::auth::store::{
    Claim, Claimed, Committed, StoreError, StoredToken, TokenKey, TokenStore,
};
use crate::time::timeout_with_grace;
use futures::FutureExt;

/// The time limit of one call.
const STORE_LIMIT: Duration = Duration::from_secs(10);

/// A store whose answers are checked, with the key of one token.
#[derive(Clone)]
pub(crate) struct CheckedStore {
    store: Arc<dyn TokenStore>,
    key: TokenKey,
}

impl CheckedStore {
    pub(crate) fn new(store: Arc<dyn TokenStore>, key: TokenKey) -> Self {
        Self { store, key }
    }

    pub(crate) fn key(&self) -> &TokenKey {
        &self.key
    }

    pub(crate) async fn load(&self) -> Result<Option<StoredToken>, StoreError> {
        let stored = limited(async { self.store.load(&self.key).await }).await?;
        stored.map(checked).transpose()
    }

    /// Asks for a claim. One that is granted after the time limit is released, not left to expire.
    pub(crate) async fn claim(&self, generation: u64) -> Result<Claimed, StoreError> {
        let (store, key) = (Arc::clone(&self.store), self.key.clone());
        let mut asking = tokio::spawn(async move { store.claim(&key, generation).await });
        let Ok(joined) = timeout_with_grace(STORE_LIMIT, &mut asking).await else {
            let store = self.clone();
            tokio::spawn(async move {
                if let Ok(Ok(Claimed::Granted(claim))) = asking.await {
                    // If that fails too, the claim expires.
                    let _ = store.release(&claim).await;
                }
            });
            return Err(late());
        };
        match joined.unwrap_or_else(|_| Err(panicked()))? {
            Claimed::Newer(stored) if stored.generation <= generation => {
                Err("the token store answered a claim with a token that is not newer".into())
            }
            Claimed::Newer(stored) => checked(stored).map(Claimed::Newer),
            Claimed::Granted(claim) if claim.generation() != generation => {
                Err("the token store granted a claim of another generation".into())
            }
            claimed => Ok(claimed),
        }
    }

    pub(crate) async fn commit(
        &self,
        claim: &Claim,
        token: &StoredToken,
    ) -> Result<Committed, StoreError> {
        match limited(async { self.store.commit(claim, token).await }).await? {
            Committed::Superseded(stored) if stored.version() < token.version() => {
                Err("the token store kept an older token than the one to be stored".into())
            }
            Committed::Superseded(stored) => checked(stored).map(Committed::Superseded),
            Committed::Saved => Ok(Committed::Saved),
        }
    }

    pub(crate) async fn release(&self, claim: &Claim) -> Result<(), StoreError> {
        limited(async { self.store.release(claim).await }).await
    }
}

/// Reports a store that hangs or panics as a failed store.
async fn limited<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match timeout_with_grace(STORE_LIMIT, AssertUnwindSafe(call).catch_unwind()).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(panicked()),
        Err(_) => Err(late()),
    }
}

/// Rejects a token with a number that no sign-in reaches, so that arithmetic stays in range.
fn checked(stored: StoredToken) -> Result<StoredToken, StoreError> {
    if stored.generation >= MAX_NUMBER || stored.sign_in >= MAX_NUMBER {
        return Err("the token store holds a token with a number out of range".into());
    }
    Ok(stored)
}

fn late() -> StoreError {
    "the token store did not answer in time".into()
}

fn panicked() -> StoreError {
    "the token store panicked".into()
}
