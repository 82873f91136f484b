//! One key's place in a store: the newest token and at most one claim. Pure, so that it can be tested
//! without a store; the Redis store says the same in Lua.

use std::time::Duration;

use secrecy::ExposeSecret;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Claim, Claimed, Committed, StoreError, StoredToken, TokenKey};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Slot {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<Kept>,
    /// The number of the last claim.
    #[serde(default)]
    fence: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claim: Option<Held>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Held {
    generation: u64,
    fence: u64,
    abandoned: u32,
    /// Milliseconds, on the store's clock.
    until: u64,
}

/// A stored token as JSON inside JSON.
#[derive(Clone, Debug)]
struct Kept(StoredToken);

impl Serialize for Kept {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw =
            serde_json::value::RawValue::from_string(self.0.to_json().expose_secret().to_owned());
        raw.map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<serde_json::value::RawValue>::deserialize(deserializer)?;
        StoredToken::from_json(raw.get()).map(Self).map_err(serde::de::Error::custom)
    }
}

/// Whether the slot changed, and so must be written.
pub(super) type Changed = bool;

impl Slot {
    pub(super) fn token(&self) -> Option<&StoredToken> {
        self.token.as_ref().map(|kept| &kept.0)
    }

    pub(super) fn claim(
        &mut self,
        key: &TokenKey,
        generation: u64,
        now: u64,
    ) -> (Claimed, Changed) {
        if let Some(token) = self.token().filter(|token| token.generation > generation) {
            return (Claimed::Newer(token.clone()), false);
        }
        let lease = u64::try_from(Claim::LEASE.as_millis()).unwrap_or(u64::MAX);
        let mut abandoned = 0;
        if let Some(held) = self.claim.as_ref().filter(|held| held.generation >= generation) {
            // A clock that was set back must not make a claim longer than it was.
            let left = held.until.saturating_sub(now).min(lease);
            if left > 0 {
                return (Claimed::Held(Duration::from_millis(left)), false);
            }
            if held.generation == generation {
                abandoned = held.abandoned.saturating_add(1);
            }
        }
        self.fence = self.fence.saturating_add(1);
        self.claim = Some(Held {
            generation,
            fence: self.fence,
            abandoned,
            until: now.saturating_add(lease),
        });
        (Claimed::Granted(Claim::new(key.clone(), generation, self.fence, abandoned)), true)
    }

    pub(super) fn commit(&mut self, claim: &Claim, token: &StoredToken) -> (Committed, Changed) {
        if let Some(held) = self.token().filter(|held| held.generation >= token.generation) {
            if held.to_json().expose_secret() == token.to_json().expose_secret() {
                return (Committed::Saved, false);
            }
            return (Committed::Superseded(held.clone()), false);
        }
        self.token = Some(Kept(token.clone()));
        self.claim = self
            .claim
            .take()
            .filter(|held| held.generation >= token.generation && held.fence != claim.fence());
        (Committed::Saved, true)
    }

    pub(super) fn release(&mut self, claim: &Claim) -> Changed {
        let ours = self.claim.as_ref().is_some_and(|held| held.fence == claim.fence());
        if ours {
            self.claim = None;
        }
        ours
    }

    /// True for one that no one can need again: no claim, no refresh token, long past.
    pub(super) fn is_stale(&self, now: u64) -> bool {
        const MONTH: u64 = 30 * 24 * 60 * 60 * 1000;
        let Some(token) = self.token().filter(|token| token.refresh.is_none()) else {
            return false;
        };
        self.claim.is_none() && super::millis(token.expires_at).saturating_add(MONTH) < now
    }
}

/// What a store's text was read from.
pub(super) fn unreadable(what: &str) -> StoreError {
    format!("{what} holds something else than this version's tokens").into()
}
