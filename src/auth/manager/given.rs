//! A sign-in that was given in code, next to the one that the store holds.

use tokio::time::Instant;

use super::commit::CommitOutcome;
use super::refresh::{LONGEST_CLAIM_WAIT, Renewal, SHORTEST_POLL};
use crate::auth::store::{Claim, Claimed, StoredToken};
use crate::error::{Error, Result};

impl Renewal<'_> {
    /// Adopts the stored token if it is newer. A sign-in that was given in code and that
    /// the store has no record of is newer than the stored one, and replaces it.
    ///
    /// Several holders may have been given the same one at the same time. Each would number it
    /// after the stored one, and so end the claim of the one before. So it begins with the claim of
    /// the stored generation, which also keeps that generation the newest.
    pub(super) async fn adopt_stored(&self, mut stored: StoredToken) -> Result<()> {
        let give_up_at = Instant::now() + LONGEST_CLAIM_WAIT;
        let mut poll = SHORTEST_POLL;
        while self.manager.compare_with_stored(&stored) == CommitOutcome::NewSignIn {
            match self.manager.store.claim(stored.generation).await {
                Ok(Claimed::Granted(claim)) => match self.begin_given(claim).await? {
                    Some(changed) => stored = changed,
                    None => return Ok(()),
                },
                Ok(_) if Instant::now() >= give_up_at => return Err(Error::token_claim_held()),
                Ok(Claimed::Newer(newer)) => stored = newer,
                Ok(Claimed::Held(left)) => {
                    self.wait(left, &mut poll).await;
                    if let Ok(Some(present)) = self.manager.store.load().await {
                        stored = present;
                    }
                }
                Err(error) => return Err(Error::no_consent_of_token_store(error)),
            }
        }
        Ok(())
    }

    /// Stores the sign-in that was given in code, unless another holder just did. Returns what the
    /// store holds where that is another generation than the claimed one.
    async fn begin_given(&self, claim: Claim) -> Result<Option<StoredToken>> {
        let present = self.manager.store.load().await.map_err(Error::no_consent_of_token_store);
        let lacks = |stored: &StoredToken| {
            self.manager.compare_with_stored(stored) == CommitOutcome::NewSignIn
        };
        match present {
            Ok(Some(stored)) if stored.generation == claim.generation() && lacks(&stored) => {
                let pending = self.manager.number_given(&stored, claim);
                self.manager.commit(pending).await;
                self.manager.ensure_committing();
                Ok(None)
            }
            present => {
                self.manager.release(Some(claim)).await;
                present
            }
        }
    }
}
