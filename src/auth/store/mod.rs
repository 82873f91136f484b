//! Token stores: they keep tokens beyond the life of a process, and decide who may spend a refresh
//! token.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

pub(crate) mod file;
mod known;
pub(crate) mod memory;
pub(crate) mod process;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub(crate) mod slot;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) mod sql;

pub(crate) use known::KnownTokens;

/// The error of a [`TokenStore`]. It must hold no secret, because it is logged.
pub type StoreError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Keeps tokens beyond the life of a process, and shares them among processes.
///
/// A refresh token may be good for one use only: servers that rotate refresh tokens take a second
/// use for theft and end the sign-in. So among all processes that share a sign-in one at a time may
/// spend the refresh token, and the token that it receives must be stored before it is used:
///
/// 1. [`load`](Self::load) returns the newest token. A newer one than the client's is used instead.
/// 2. [`claim`](Self::claim) grants the exclusive right to spend the refresh token of one
///    generation.
/// 3. The client spends the refresh token.
/// 4. [`commit`](Self::commit) stores the new generation and ends the claim.
///
/// [`MemoryTokenStore`](crate::MemoryTokenStore), [`FileTokenStore`](crate::FileTokenStore) and,
/// with their features, `RedisTokenStore` and `SqlTokenStore` are included. Another store keeps,
/// per key, the newest [`StoredToken`] as [JSON](StoredToken::to_json) and at most one claim, and
/// makes `claim` and `commit` atomic.
///
/// Futures may be dropped before they complete: what was begun must then be done completely or not
/// at all.
///
/// # Errors
///
/// Each method returns the error that kept the store from doing its work. The client treats the
/// outcome as unknown and tries again. A store that panics, or returns inconsistent answers, is
/// reported as [`ErrorKind::TokenStore`](crate::ErrorKind::TokenStore).
pub trait TokenStore: Send + Sync + 'static {
    /// Returns the newest token of a key.
    fn load<'a>(
        &'a self,
        key: &'a TokenKey,
    ) -> BoxFuture<'a, Result<Option<StoredToken>, StoreError>>;

    /// Asks for the exclusive right to spend the refresh token of `generation`, for
    /// [`Claim::LEASE`].
    ///
    /// The claim must be durable when it is granted: a claim that is lost in a restart of the store
    /// does not prevent a second spend.
    ///
    /// * The store holds a newer generation: [`Claimed::Newer`].
    /// * Another claim of this or a newer generation has not expired: [`Claimed::Held`].
    /// * Otherwise it is granted, also where the store holds an older generation or nothing. The
    ///   claims of a key have increasing numbers ([`Claim::fence`]). [`Claim::abandoned`] says how
    ///   many claims of the same generation expired before, neither committed nor released.
    ///
    /// A claim whose end lies further in the future than a lease was dated by a clock that was
    /// ahead. It must be honored for one lease from when it is first seen, and no longer.
    fn claim<'a>(
        &'a self,
        key: &'a TokenKey,
        generation: u64,
    ) -> BoxFuture<'a, Result<Claimed, StoreError>>;

    /// Stores `token` durably and ends the claim.
    ///
    /// Tokens are ordered by [`StoredToken::sign_in`], then by [`StoredToken::generation`]. The
    /// newest wins, whether or not the claim has expired: [`Committed::Saved`] where `token` is
    /// newer than the stored one, or the very same (a commit may be repeated). Otherwise the stored
    /// one stays and is returned, [`Committed::Superseded`]. A new sign-in ends all claims of the
    /// one before.
    fn commit<'a>(
        &'a self,
        claim: &'a Claim,
        token: &'a StoredToken,
    ) -> BoxFuture<'a, Result<Committed, StoreError>>;

    /// Returns a claim whose refresh token was not spent, so that others need not wait until it
    /// expires.
    ///
    /// A claim that is not the present one is ignored. The default does nothing.
    fn release<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<(), StoreError>> {
        let _ = claim;
        Box::pin(async { Ok(()) })
    }
}

impl<S: TokenStore + ?Sized> TokenStore for Arc<S> {
    fn load<'a>(
        &'a self,
        key: &'a TokenKey,
    ) -> BoxFuture<'a, Result<Option<StoredToken>, StoreError>> {
        (**self).load(key)
    }

    fn claim<'a>(
        &'a self,
        key: &'a TokenKey,
        generation: u64,
    ) -> BoxFuture<'a, Result<Claimed, StoreError>> {
        (**self).claim(key, generation)
    }

    fn commit<'a>(
        &'a self,
        claim: &'a Claim,
        token: &'a StoredToken,
    ) -> BoxFuture<'a, Result<Committed, StoreError>> {
        (**self).commit(claim, token)
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<(), StoreError>> {
        (**self).release(claim)
    }
}

/// Identifies a token: the app's or a user's, of one client id, at one base URL, of one subject.
///
/// The key holds no secret, so it may be used in names of files and database keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenKey(Arc<str>);

impl TokenKey {
    /// An app's key never equals a user's: no client can adopt another identity's token.
    pub(crate) fn new(owner: Owner, client_id: &str, base_url: &str, subject: &str) -> Self {
        let owner = match owner {
            Owner::App => "app",
            Owner::User => "user",
        };
        // A JSON array, so that no two keys have the same text.
        Self(serde_json::Value::from(vec![owner, client_id, base_url, subject]).to_string().into())
    }

    /// Returns the key as text. Equal keys have equal texts, in all versions of this crate.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The identity that a token stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    App,
    User,
}

/// The right to spend one generation's refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claim {
    key: TokenKey,
    generation: u64,
    fence: u64,
    abandoned: u32,
}

impl Claim {
    /// The duration of a claim: longer than two token requests with their time limits (30 s each).
    pub const LEASE: Duration = Duration::from_secs(90);

    /// Creates a claim; for implementations of [`TokenStore::claim`].
    #[must_use]
    pub fn new(key: TokenKey, generation: u64, fence: u64, abandoned: u32) -> Self {
        Self { key, generation, fence, abandoned }
    }

    /// Returns the key of the claimed token.
    #[must_use]
    pub fn key(&self) -> &TokenKey {
        &self.key
    }

    /// Returns the generation whose refresh token may be spent.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns the number of the claim among all claims of its key.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// Returns how many claims of this generation expired before: their holders may have spent the
    /// refresh token.
    #[must_use]
    pub fn abandoned(&self) -> u32 {
        self.abandoned
    }
}

/// The answer to [`TokenStore::claim`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Claimed {
    /// The caller has the exclusive right to spend the refresh token.
    Granted(Claim),
    /// The store holds a newer token, so that no refresh token is to be spent.
    Newer(StoredToken),
    /// Another holder has the right, for at most this long.
    Held(Duration),
}

/// The answer to [`TokenStore::commit`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Committed {
    /// The token is stored.
    Saved,
    /// The store holds this other token, of the same or a newer version.
    Superseded(StoredToken),
}

/// The position of a token among all tokens of its key: sign-ins first, then the renewals of one
/// sign-in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) sign_in: u64,
    pub(crate) generation: u64,
}

/// A sign-in's token as a store keeps it.
#[derive(Clone)]
#[non_exhaustive]
pub struct StoredToken {
    pub(crate) sign_in: u64,
    pub(crate) generation: u64,
    pub(crate) access: Option<SecretString>,
    pub(crate) issued_at: SystemTime,
    pub(crate) expires_at: SystemTime,
    pub(crate) refresh: Option<SecretString>,
    pub(crate) scope: Option<String>,
    /// The fingerprint of the refresh token that the sign-in began with.
    pub(crate) seed: Option<String>,
    /// Fingerprints of refresh tokens that this subject had before.
    pub(crate) known: KnownTokens,
    /// True if only the user can sign in again: the refresh token was refused, or the user was
    /// signed out.
    pub(crate) ended: bool,
    /// True if the sign-in ended because its refresh token was refused.
    pub(crate) refused: bool,
}

/// The JSON of a [`StoredToken`]. Unknown fields are skipped, so that versions of the crate can
/// share a store.
#[derive(Serialize, Deserialize)]
struct StoredTokenJson {
    #[serde(default, skip_serializing_if = "is_zero")]
    sign_in: u64,
    generation: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    access_token: Option<String>,
    /// The time of issue, in milliseconds since 1970.
    issued_at: u64,
    expires_at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seed: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    earlier_seeds: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    known: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ended: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    refused: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl StoredToken {
    /// Returns the number that orders sign-ins: the newest wins, independent of the generations.
    ///
    /// It is the time of the sign-in or sign-out in milliseconds since 1970, and at least one more
    /// than the number before. Tokens of earlier versions of the crate have 0.
    #[must_use]
    pub fn sign_in(&self) -> u64 {
        self.sign_in
    }

    /// Returns how often the sign-in was renewed: the newest of one sign-in wins.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn version(&self) -> Version {
        Version { sign_in: self.sign_in, generation: self.generation }
    }

    /// Returns when the access token expires.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    /// Returns true if only the user can sign in again: the refresh token was refused, or the user
    /// was signed out.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Returns true where a refresh token with this fingerprint is, or was, one of this subject's.
    pub(crate) fn knows(&self, fingerprint: &str) -> bool {
        let present = self.refresh.as_ref().map(self::fingerprint);
        self.seed.as_deref() == Some(fingerprint)
            || present.as_deref() == Some(fingerprint)
            || self.known.contains(fingerprint)
    }

    /// Returns the fingerprints to be kept in the successor of this token.
    pub(crate) fn known_to_successor(&self) -> KnownTokens {
        let mut known = self.known.clone();
        if let Some(seed) = self.seed.clone() {
            known.add_seed(seed);
        }
        if let Some(present) = self.refresh.as_ref().map(fingerprint) {
            known.add_spent(present);
        }
        known
    }

    /// Returns the token as JSON, with its secrets in plain text. Equal tokens have equal texts.
    #[must_use]
    pub fn to_json(&self) -> SecretString {
        let json = StoredTokenJson {
            sign_in: self.sign_in,
            generation: self.generation,
            access_token: self.access.as_ref().map(|token| token.expose_secret().to_owned()),
            issued_at: millis(self.issued_at),
            expires_at: millis(self.expires_at),
            refresh_token: self.refresh.as_ref().map(|token| token.expose_secret().to_owned()),
            scope: self.scope.clone(),
            seed: self.seed.clone(),
            earlier_seeds: self.known.seeds.clone(),
            known: self.known.spent.clone(),
            ended: self.ended,
            refused: self.refused,
        };
        // Serializing strings and numbers does not fail.
        SecretString::from(serde_json::to_string(&json).unwrap_or_default())
    }

    /// Reads what [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    ///
    /// Returns an error for any other text, without quoting it.
    pub fn from_json(json: &str) -> Result<Self, StoreError> {
        let Ok(json) = serde_json::from_str::<StoredTokenJson>(json) else {
            return Err("the stored token is not one that this version of the SDK can read".into());
        };
        Ok(Self {
            sign_in: json.sign_in,
            generation: json.generation,
            access: json.access_token.map(SecretString::from),
            issued_at: from_millis(json.issued_at),
            expires_at: from_millis(json.expires_at),
            refresh: json.refresh_token.map(SecretString::from),
            scope: json.scope,
            seed: json.seed,
            known: KnownTokens { seeds: json.earlier_seeds, spent: json.known },
            ended: json.ended,
            refused: json.refused,
        })
    }
}

/// Written by hand, because tokens are secrets.
impl fmt::Debug for StoredToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredToken")
            .field("sign_in", &self.sign_in)
            .field("generation", &self.generation)
            .field("expires_at", &self.expires_at)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

pub(crate) fn millis(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn from_millis(millis: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH)
}

/// Identifies a secret without revealing it (SHA-1, as a UUID of version 5).
pub(crate) fn fingerprint(secret: &SecretString) -> String {
    const NAMESPACE: uuid::Uuid = uuid::Uuid::from_u128(0x7061_796d_616e_5f73_646b_5f74_6f6b_656e);
    uuid::Uuid::new_v5(&NAMESPACE, secret.expose_secret().as_bytes()).simple().to_string()
}

#[cfg(test)]
mod tests;
