//! The rules of a token store: one key's newest token and at most one claim.
//!
//! The rules are pure, so that every store can apply them in its own way: memory under a lock, a
//! file under a file lock, SQL in a transaction (read the row, decide, write it back where
//! [`Decision::changed`] is true). The Redis store states the same rules in Lua.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Claim, Claimed, Committed, StoreError, StoredToken, TokenKey, millis};
use crate::auth::clock::LeaseTime;

/// The record of one key in a store.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Slot {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<SlotToken>,
    /// The number of the last claim.
    #[serde(default)]
    fence: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claim: Option<SlotClaim>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct SlotClaim {
    generation: u64,
    fence: u64,
    abandoned: u32,
    /// The end of the lease, in milliseconds since 1970 on the store's clock.
    until: u64,
}

/// A stored token, written as an object inside the slot's JSON.
#[derive(Clone, Debug)]
struct SlotToken(StoredToken);

impl Serialize for SlotToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw =
            serde_json::value::RawValue::from_string(self.0.to_json().expose_secret().to_owned());
        raw.map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SlotToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<serde_json::value::RawValue>::deserialize(deserializer)?;
        StoredToken::from_json(raw.get()).map(Self).map_err(serde::de::Error::custom)
    }
}

/// The answer to a call, and whether the slot changed and so must be written before the answer is
/// given.
#[derive(Debug)]
pub(crate) struct Decision<T> {
    pub(crate) answer: T,
    pub(crate) changed: bool,
}

impl<T> Decision<T> {
    pub(crate) fn map<U>(self, into: impl FnOnce(T) -> U) -> Decision<U> {
        Decision { answer: into(self.answer), changed: self.changed }
    }

    fn changed(answer: T) -> Self {
        Self { answer, changed: true }
    }

    fn unchanged(answer: T) -> Self {
        Self { answer, changed: false }
    }
}

/// The time for which a slot that cannot be renewed is kept.
const RETENTION_MS: u64 = 30 * 24 * 60 * 60 * 1000;

impl Slot {
    /// Reads what [`to_json`](Self::to_json) wrote. The error does not quote the text, which holds
    /// tokens.
    pub(crate) fn from_json(json: &str, place: &str) -> Result<Self, StoreError> {
        serde_json::from_str(json).map_err(|_| unreadable(place))
    }

    /// Returns the slot as JSON, with its tokens in plain text.
    #[cfg_attr(
        not(any(feature = "sqlite", feature = "postgres")),
        expect(dead_code, reason = "for SQL stores")
    )]
    pub(crate) fn to_json(&self) -> Result<SecretString, StoreError> {
        Ok(SecretString::from(serde_json::to_string(self)?))
    }

    pub(crate) fn token(&self) -> Option<&StoredToken> {
        self.token.as_ref().map(|token| &token.0)
    }

    /// Decides on [`TokenStore::claim`](super::TokenStore::claim). `now` is in milliseconds since
    /// 1970 on the store's clock.
    pub(crate) fn claim(&mut self, key: &TokenKey, generation: u64, now: u64) -> Decision<Claimed> {
        self.claim_between(key, generation, now, now)
    }

    /// Decides on a claim by the clock of a machine, which may be set.
    ///
    /// A claim dated further in the future than a lease was made by a clock that was ahead, or seen
    /// by one that was set back: it is honored for one lease from now, as the slot records.
    /// A claim that only the wall clock has passed may be older than a step: the steady time
    /// decides.
    pub(crate) fn claim_at(
        &mut self,
        key: &TokenKey,
        generation: u64,
        now: LeaseTime,
    ) -> Decision<Claimed> {
        self.claim_between(key, generation, millis(now.steady), millis(now.wall))
    }

    fn claim_between(
        &mut self,
        key: &TokenKey,
        generation: u64,
        steady: u64,
        now: u64,
    ) -> Decision<Claimed> {
        if let Some(token) = self.token().filter(|token| token.generation > generation) {
            return Decision::unchanged(Claimed::Newer(token.clone()));
        }
        let lease = u64::try_from(Claim::LEASE.as_millis()).unwrap_or(u64::MAX);
        let mut abandoned = 0;
        if let Some(held) = self.claim.as_mut().filter(|held| held.generation >= generation) {
            let latest = now.saturating_add(lease);
            let redated = held.until > latest;
            held.until = held.until.min(latest);
            let is_dated_before = held.until <= now;
            let left = held.until.saturating_sub(if is_dated_before { steady } else { now });
            let left = left.min(lease);
            if left > 0 {
                let answer = Claimed::Held(Duration::from_millis(left));
                return Decision { answer, changed: redated };
            }
            if held.generation == generation {
                abandoned = held.abandoned.saturating_add(1);
            }
        }
        // The first number is the time with a random part, so that numbers do not repeat when a
        // slot is deleted and created again.
        let first = now.saturating_add(fastrand::u64(1..1 << 20)).min(MAX_NUMBER / 2);
        self.fence = if self.fence == 0 { first } else { self.fence.saturating_add(1) };
        let fence = self.fence;
        self.claim =
            Some(SlotClaim { generation, fence, abandoned, until: now.saturating_add(lease) });
        Decision::changed(Claimed::Granted(Claim::new(key.clone(), generation, fence, abandoned)))
    }

    /// Decides on [`TokenStore::commit`](super::TokenStore::commit): the newest sign-in wins, and
    /// within one sign-in the newest generation.
    pub(crate) fn commit(&mut self, claim: &Claim, token: &StoredToken) -> Decision<Committed> {
        if let Some(held) = self.token().filter(|held| held.version() >= token.version()) {
            let same = held.to_json().expose_secret() == token.to_json().expose_secret();
            let answer = if same { Committed::Saved } else { Committed::Superseded(held.clone()) };
            return Decision { answer, changed: self.release(claim).changed };
        }
        let is_new_sign_in = self.token().is_some_and(|held| held.sign_in < token.sign_in);
        self.token = Some(SlotToken(token.clone()));
        // A claim belongs to the sign-in that was stored when it was granted.
        self.claim = self.claim.take().filter(|held| {
            !is_new_sign_in && held.generation >= token.generation && held.fence != claim.fence()
        });
        Decision::changed(Committed::Saved)
    }

    /// Decides on [`TokenStore::release`](super::TokenStore::release).
    pub(crate) fn release(&mut self, claim: &Claim) -> Decision<()> {
        let ours = self.claim.as_ref().is_some_and(|held| held.fence == claim.fence());
        if ours {
            self.claim = None;
        }
        Decision { answer: (), changed: ours }
    }

    /// Returns true for a slot that holds neither a token nor a claim.
    pub(crate) fn is_empty(&self) -> bool {
        self.token.is_none() && self.claim.is_none()
    }

    /// Returns true for a slot that is empty, or whose contents are no longer of use.
    pub(crate) fn is_stale(&self, now: u64) -> bool {
        let Some(token) = self.token() else {
            return self.claim.is_none();
        };
        self.claim.is_none()
            && token.refresh.is_none()
            && millis(token.expires_at).saturating_add(RETENTION_MS) < now
    }

    /// Returns the time at which a refresh token was refused permanently. Such records save other
    /// processes a request, and the oldest ones may be removed.
    pub(crate) fn refused_at(&self) -> Option<u64> {
        let token = self.token().filter(|token| token.refused && self.claim.is_none())?;
        Some(millis(token.expires_at))
    }
}

/// The maximum number of records of refused sign-ins in a store.
pub(crate) const MAX_REFUSED: usize = 64;

/// The largest number that every store can hold and compare: the largest integer that a double
/// represents exactly.
pub(crate) const MAX_NUMBER: u64 = (1 << 53) - 1;

/// Builds the error for text that no version of this crate wrote.
pub(crate) fn unreadable(place: &str) -> StoreError {
    format!("{place} does not hold tokens that this version of the SDK can read").into()
}
