//! A sign-in that ends because someone wants it to.

use std::sync::Arc;
use std::time::SystemTime;

use super::super::store::{Claim, Committed, Owner, StoreError, StoredToken};
use super::commit::end;
use super::refresh::{ask_store, connect_again};
use super::{Inner, TokenManager, events};
use crate::error::{Error, ErrorKind, Outcome, Result};

impl TokenManager {
    /// Forgets a user's token, here and in the store.
    pub(crate) async fn sign_out(&self) -> Result<()> {
        if self.0.options.owner == Owner::App {
            return Err(Error::invalid_input(
                "the app itself cannot be signed out: this is not a user's client",
            ));
        }
        let inner = Arc::clone(&self.0);
        // In a task of its own: a caller who leaves does not leave a sign-in behind that should be gone.
        let task = tokio::spawn(async move { inner.sign_out().await });
        task.await.unwrap_or_else(|error| Err(failed(error.into())))
    }
}

impl Inner {
    async fn sign_out(&self) -> Result<()> {
        loop {
            let before = ask_store(self.store.load(&self.key)).await.map_err(failed)?;
            if before.is_none() && self.token().is_empty() {
                return Ok(());
            }
            let ended = self.ended_after(before);
            let claim = Claim::new(self.key.clone(), ended.generation - 1, 0, 0);
            match ask_store(self.store.commit(&claim, &ended)).await.map_err(failed)? {
                Committed::Saved => {
                    self.forget(ended.generation);
                    return Ok(());
                }
                // A renewal was quicker: the end comes after it.
                Committed::Superseded(_) => {}
            }
        }
    }

    /// The last generation of this sign-in: newer than any, and without a token. A renewal under way comes too late.
    fn ended_after(&self, before: Option<StoredToken>) -> StoredToken {
        let held = self.token();
        let newest = before.unwrap_or_else(|| held.to_stored());
        StoredToken {
            generation: newest.generation.max(held.generation) + 1,
            access: None,
            refresh: None,
            ended: true,
            expires_at: SystemTime::now(),
            ..newest
        }
    }

    fn forget(&self, generation: u64) {
        {
            let mut state = self.state();
            state.unsaved = None;
            state.claim = None;
            state.store_behind = false;
        }
        {
            let mut held = self.token_mut();
            if generation < held.generation {
                return;
            }
            end(&mut held, generation, connect_again("they were signed out"), Owner::User);
            held.access = None;
            held.loaded = true;
        }
        events::signed_out(generation);
        self.wake.notify_one();
    }
}

fn failed(error: StoreError) -> Error {
    let message = "the user is not signed out: the token store failed";
    Error::new(ErrorKind::TokenStore, Outcome::NotDone, message).with_source(error)
}
