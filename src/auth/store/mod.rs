//! Where tokens outlive the process, and who may spend a refresh token.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

pub(crate) mod file;
pub(crate) mod memory;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub(crate) mod slot;

/// What a [`TokenStore`] fails with: any error. It must hold no secret, as it ends up in logs.
pub type StoreError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Where tokens outlive the process, and are shared with its replicas.
///
/// A refresh token may be good for one use only: servers that rotate them take a second use for theft and end the
/// sign-in. So of all the processes that share a sign-in, one at a time may spend the refresh token, and what it got must
/// be kept before it is used:
///
/// 1. [`load`](Self::load): does anyone hold a newer generation? Then that one is used.
/// 2. [`claim`](Self::claim): the exclusive right to spend the refresh token of one generation.
/// 3. The refresh token is spent.
/// 4. [`commit`](Self::commit): the new generation, which ends the claim.
///
/// [`MemoryTokenStore`](crate::MemoryTokenStore) (the default), [`FileTokenStore`](crate::FileTokenStore) and, behind feature
/// `redis`, `RedisTokenStore` are included. To write another one, keep per key the newest [`StoredToken`] as its
/// [JSON](StoredToken::to_json) and at most one claim, and make `claim` and `commit` atomic.
///
/// Futures may be dropped before they are done: what was begun must then be done wholly or not at all.
///
/// # Errors
///
/// Of each method: whatever kept the store from its work. The client treats the outcome as unknown and tries again.
pub trait TokenStore: Send + Sync + 'static {
    /// The newest token of a key.
    fn load<'a>(
        &'a self,
        key: &'a TokenKey,
    ) -> BoxFuture<'a, Result<Option<StoredToken>, StoreError>>;

    /// Asks for the exclusive right to spend the refresh token of `generation`, for [`Claim::LEASE`].
    ///
    /// It must be durable when it is granted: a claim that a restart of the store forgets is none.
    ///
    /// * The store holds a newer generation: [`Claimed::Newer`].
    /// * Another claim of this or a newer generation has not run out: [`Claimed::Held`].
    /// * Else it is granted, also where the store holds an older generation or nothing. Each claim of a key has a
    ///   number ([`Claim::fence`]) greater than the one before. [`Claim::abandoned`] says how many claims
    ///   of the same generation ran out before, neither committed nor released.
    fn claim<'a>(
        &'a self,
        key: &'a TokenKey,
        generation: u64,
    ) -> BoxFuture<'a, Result<Claimed, StoreError>>;

    /// Keeps `token`, durably, and ends the claim.
    ///
    /// The newest generation wins, whether or not the claim ran out meanwhile: [`Committed::Saved`] where `token` is newer
    /// than what is held, or the very same (a commit may be repeated); else nothing changes and what is held is the
    /// answer, [`Committed::Superseded`].
    fn commit<'a>(
        &'a self,
        claim: &'a Claim,
        token: &'a StoredToken,
    ) -> BoxFuture<'a, Result<Committed, StoreError>>;

    /// Gives a claim back whose refresh token was not spent, so that others need not wait until it runs out.
    ///
    /// A claim that is not the present one is left alone. Does nothing unless written.
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

/// Whose token it is: the app's or a user's, of one client id, at one base URL, of one subject.
///
/// It holds no secret, and may name files and keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenKey(Arc<str>);

impl TokenKey {
    /// An app's key and a user's never meet: no client can take up another identity's token.
    pub(crate) fn new(owner: Owner, client_id: &str, base_url: &str, subject: &str) -> Self {
        let owner = match owner {
            Owner::App => "app",
            Owner::User => "user",
        };
        // As a JSON array: no two keys can be written the same.
        Self(serde_json::Value::from(vec![owner, client_id, base_url, subject]).to_string().into())
    }

    /// The key as text. Equal keys have equal texts, in all versions of this crate.
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

/// Whose identity a token is.
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
    /// How long a claim lasts: longer than any token request's time limit (30 s), with room for a second one.
    pub const LEASE: Duration = Duration::from_secs(90);

    /// A claim as a store grants it.
    #[must_use]
    pub fn new(key: TokenKey, generation: u64, fence: u64, abandoned: u32) -> Self {
        Self { key, generation, fence, abandoned }
    }

    /// What it is a claim of.
    #[must_use]
    pub fn key(&self) -> &TokenKey {
        &self.key
    }

    /// The generation whose refresh token may be spent.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The claim's number among all of its key.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// How many claims of this generation ran out before: their holders may have spent the refresh token.
    #[must_use]
    pub fn abandoned(&self) -> u32 {
        self.abandoned
    }
}

/// The answer to [`TokenStore::claim`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Claimed {
    /// The right is the caller's, alone.
    Granted(Claim),
    /// There is a newer token: nothing is to be spent.
    Newer(StoredToken),
    /// Another has the right, for this long at most.
    Held(Duration),
}

/// The answer to [`TokenStore::commit`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Committed {
    /// The token is kept.
    Saved,
    /// Another one of the same or a newer generation was there.
    Superseded(StoredToken),
}

/// A sign-in's token as a store keeps it.
#[derive(Clone)]
#[non_exhaustive]
pub struct StoredToken {
    pub(crate) generation: u64,
    pub(crate) access: Option<SecretString>,
    pub(crate) issued_at: SystemTime,
    pub(crate) expires_at: SystemTime,
    pub(crate) refresh: Option<SecretString>,
    pub(crate) scope: Option<String>,
    /// The fingerprint of the refresh token that the sign-in began with.
    pub(crate) seed: Option<String>,
    /// The refresh token was refused: only the user can begin anew.
    pub(crate) ended: bool,
}

/// Its JSON. Unknown fields are skipped, so that versions of the crate can share a store.
#[derive(Serialize, Deserialize)]
struct Written {
    generation: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    access_token: Option<String>,
    /// Milliseconds since 1970.
    issued_at: u64,
    expires_at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seed: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ended: bool,
}

impl StoredToken {
    /// How often the sign-in was renewed: the newest wins.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// When its access token expires.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    /// True where the refresh token was refused, so that only the user can begin anew.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// The token as JSON, with its secrets in the clear: the same text for the same token.
    #[must_use]
    pub fn to_json(&self) -> SecretString {
        let written = Written {
            generation: self.generation,
            access_token: self.access.as_ref().map(|token| token.expose_secret().to_owned()),
            issued_at: millis(self.issued_at),
            expires_at: millis(self.expires_at),
            refresh_token: self.refresh.as_ref().map(|token| token.expose_secret().to_owned()),
            scope: self.scope.clone(),
            seed: self.seed.clone(),
            ended: self.ended,
        };
        // Strings and numbers: there is nothing that JSON cannot hold.
        SecretString::from(serde_json::to_string(&written).unwrap_or_default())
    }

    /// Reads what [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    ///
    /// Where it is something else. The error does not quote it.
    pub fn from_json(json: &str) -> Result<Self, StoreError> {
        let Ok(written) = serde_json::from_str::<Written>(json) else {
            return Err("the stored token is not one that this version of the SDK can read".into());
        };
        Ok(Self {
            generation: written.generation,
            access: written.access_token.map(SecretString::from),
            issued_at: from_millis(written.issued_at),
            expires_at: from_millis(written.expires_at),
            refresh: written.refresh_token.map(SecretString::from),
            scope: written.scope,
            seed: written.seed,
            ended: written.ended,
        })
    }
}

/// By hand: tokens are secrets.
impl fmt::Debug for StoredToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredToken")
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

/// Tells secrets apart without giving them away (SHA-1, as a UUID of version 5).
pub(crate) fn fingerprint(secret: &SecretString) -> String {
    const NAMESPACE: uuid::Uuid = uuid::Uuid::from_u128(0x7061_796d_616e_5f73_646b_5f74_6f6b_656e);
    uuid::Uuid::new_v5(&NAMESPACE, secret.expose_secret().as_bytes()).simple().to_string()
}

#[cfg(test)]
mod tests;
