//! Signing a user out.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::runtime::Handle;

use super::commit::{end, next_sign_in};
use super::{ManagerInner, TokenManager, events};
use crate::auth::store::{Committed, Owner, StoredToken, Version};
use crate::error::{Error, Result};

impl TokenManager {
    /// Forgets a user's token, here and in the store.
    pub(crate) async fn sign_out(&self) -> Result<()> {
        if self.0.options.owner == Owner::App {
            return Err(Error::invalid_input(
                "the app itself cannot be signed out: this is not a user's client",
            ));
        }
        let runtime = Handle::try_current().map_err(|_| Error::no_runtime())?;
        let manager = Arc::clone(&self.0);
        // Spawned for cancellation safety: a dropped caller must not interrupt the sign-out.
        let task = runtime.spawn(async move { manager.sign_out().await });
        task.await.unwrap_or_else(|error| Err(Error::sign_out_failed(error)))
    }
}

impl ManagerInner {
    async fn sign_out(&self) -> Result<()> {
        loop {
            let before = self.store.load().await.map_err(Error::sign_out_failed)?;
            let ended = {
                let state = self.read();
                if before.is_none() && state.token.is_empty() && state.pending.is_none() {
                    return Ok(());
                }
                ended_after(&state.token.to_stored(), before)
            };
            let claim = self.no_claim(ended.generation - 1);
            match self.store.commit(&claim, &ended).await.map_err(Error::sign_out_failed)? {
                Committed::Saved => {
                    self.forget(ended.version());
                    return Ok(());
                }
                // Another sign-in or sign-out was stored first: this one is numbered after it.
                Committed::Superseded(_) => {}
            }
        }
    }

    fn forget(&self, version: Version) {
        {
            let mut state = self.write();
            state.pending = None;
            state.lease = None;
            if version < state.token.version() {
                return;
            }
            let error = Error::reauthorization_required("they were signed out");
            end(&mut state.token, version, error, Owner::User);
            state.token.access = None;
            state.token.loaded = true;
        }
        events::signed_out(version.generation);
        self.wake.notify_one();
    }
}

/// Returns the record of a sign-out: later than every sign-in, and without a token. Renewals and
/// sign-ins that are stored late do not replace it.
fn ended_after(held: &StoredToken, before: Option<StoredToken>) -> StoredToken {
    let newest = match before {
        Some(stored) if stored.version() >= held.version() => stored,
        _ => held.clone(),
    };
    StoredToken {
        sign_in: next_sign_in(&newest),
        generation: newest.generation.max(held.generation) + 1,
        known: newest.known_to_successor(),
        access: None,
        refresh: None,
        ended: true,
        refused: false,
        expires_at: SystemTime::now(),
        ..newest
    }
}
