//! Keeps one token fresh for all who ask for it.
//!
//! * A caller with a fresh token takes what is published beside the lock ([`held`]) and leaves.
//! * Everything that reaches the network or the store is a *flight*: one task, at most one at a time, that all callers
//!   without a token wait for. It belongs to none of them, and holds the keeper until what it brought is stored.
//! * The *background task* starts a flight before the token expires. It holds the keeper weakly, and lives on the runtime
//!   of whoever came first; if that runtime ends or stands still, the next caller's takes over.
//!
//! Locks are held for a few instructions, never across an `.await`.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLockReadGuard};
use std::time::{Duration, SystemTime};

use futures::future::{Either, ready};
use secrecy::SecretString;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::grant::Exchange;
use super::store::{Owner, TokenKey, TokenStore};
pub(crate) use super::token::RequestToken;
use super::token::{
    Access, AccessToken, LONGEST, Lifetime, Token, TokenFailure, TokenStatus, to_system,
};
use crate::error::{Error, ErrorKind, Outcome, Result};

mod background;
mod commit;
pub(super) mod events;
mod published;
pub(super) mod refresh;
mod sign_out;
mod single_flight;

#[cfg(test)]
mod tests;

use commit::PendingCommit;
use published::{PublishedToken, Writing};
use single_flight::{RefreshState, STALL};

/// How often a caller may find that the flight it waited for brought nothing that can be sent.
const FLIGHTS_PER_CALLER: u32 = 8;

/// Lends tokens. Cheap to clone: clones request_token the same token.
#[derive(Clone)]
pub(crate) struct TokenManager(Arc<Inner>);

/// How a token may be renewed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) owner: Owner,
    /// How often a refresh token whose reply was lost is tried again.
    pub(crate) lost_refresh_retries: u32,
}

struct Inner {
    held: PublishedToken,
    options: Options,
    exchange: Arc<dyn Exchange>,
    store: Arc<dyn TokenStore>,
    key: TokenKey,
    state: Mutex<RefreshState>,
    /// False also where the runtime of the background task is gone: its guard says so.
    tended: AtomicBool,
    /// Tells the background task that the token changed, or that the keeper is gone.
    wake: Arc<Notify>,
}

impl TokenManager {
    /// No runtime is needed, and nothing is sent.
    pub(crate) fn new(
        options: Options,
        exchange: Arc<dyn Exchange>,
        store: Arc<dyn TokenStore>,
        key: TokenKey,
        mut token: Token,
    ) -> Self {
        token.fit(options.owner);
        Self(Arc::new(Inner {
            held: PublishedToken::new(token),
            options,
            exchange,
            store,
            key,
            state: Mutex::default(),
            tended: AtomicBool::new(false),
            wake: Arc::default(),
        }))
    }

    /// A valid token. Errors say that nothing of the ask was done.
    pub(crate) fn request_token_until(
        &self,
        deadline: Instant,
    ) -> impl Future<Output = Result<RequestToken>> {
        self.obtain(Access::request_token, deadline)
    }

    #[cfg(test)]
    async fn request_token(&self) -> Result<RequestToken> {
        self.request_token_until(Instant::now() + LONGEST).await
    }

    /// The server refused the token of this generation (HTTP 401); a newer one stays.
    pub(crate) fn refuse(&self, generation: u64) {
        let inner = &self.0;
        {
            let mut token = inner.token_mut();
            if token.refused
                || token.access.as_ref().is_none_or(|access| access.serial != generation)
            {
                return;
            }
            token.refused = true;
        }
        events::refused(generation);
    }

    /// A valid token, for the caller's own use.
    pub(crate) async fn access_token(&self) -> Result<AccessToken> {
        self.obtain(Access::to_public, Instant::now() + LONGEST).await
    }

    /// The present refresh token.
    pub(crate) fn refresh_token(&self) -> Option<SecretString> {
        self.0.token().refresh.clone()
    }

    /// True where there is no access token that can be sent as things stand.
    pub(crate) fn is_expired(&self) -> bool {
        self.0.token().usable(Instant::now()).is_none()
    }

    /// How things stand.
    pub(crate) fn status(&self) -> TokenStatus {
        let (last_failure, store_behind) = {
            let state = self.0.state();
            (state.last_failure.clone(), state.store_behind)
        };
        let token = self.0.token();
        TokenStatus {
            usable: token.usable(Instant::now()).is_some(),
            expires_at: token.access.as_ref().map(|access| to_system(access.expires())),
            scopes: token.scopes(),
            source: token.source,
            generation: token.generation,
            reauthorization_required: self.0.options.owner == Owner::User
                && (token.ended.is_some() || (token.loaded && token.refresh.is_none())),
            store_behind,
            last_failure,
        }
    }

    /// Takes up the first token of a new sign-in.
    pub(super) async fn begin(&self, token: Token, lifetime: Lifetime) {
        self.0.begin(token, lifetime).await;
    }

    /// Ready at once for nearly every caller: the rest of the way is not even put together then.
    fn obtain<T>(
        &self,
        take: impl Fn(&Access) -> T,
        deadline: Instant,
    ) -> impl Future<Output = Result<T>> {
        match self.0.take_usable(&take) {
            Some(taken) => Either::Left(ready(Ok(taken))),
            None => Either::Right(self.0.obtain_by_flight(take, deadline)),
        }
    }
}

/// How late the background task may be before a caller's runtime takes over.
const LATE: Duration = Duration::from_secs(2);

impl Inner {
    fn token(&self) -> RwLockReadGuard<'_, Token> {
        self.held.read()
    }

    fn token_mut(&self) -> Writing<'_> {
        self.held.write()
    }

    fn state(&self) -> MutexGuard<'_, RefreshState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way that nearly every caller takes.
    fn take_usable<T>(self: &Arc<Self>, take: impl Fn(&Access) -> T) -> Option<T> {
        let now = Instant::now();
        let (taken, late) = {
            let sendable = self.held.sendable();
            let access = sendable.as_ref().filter(|access| access.is_alive(now))?;
            (
                take(access),
                access.refresh_at().is_some_and(|at| now > at && now.duration_since(at) > LATE),
            )
        };
        if late || !self.tended.load(Ordering::Relaxed) {
            self.tend(late);
        }
        Some(taken)
    }

    #[cold]
    fn tend(self: &Arc<Self>, late: bool) {
        let waits = late && {
            let (state, now) = (self.state(), Instant::now());
            state.is_flying()
                || [state.retry_at, state.tended_since].iter().flatten().any(|at| now < *at + LATE)
        };
        if !waits {
            self.start_background();
        }
    }

    async fn obtain_by_flight<T>(
        self: &Arc<Self>,
        take: impl Fn(&Access) -> T,
        deadline: Instant,
    ) -> Result<T> {
        for _ in 0..FLIGHTS_PER_CALLER {
            let handle = match self.join_flight() {
                Ok(handle) => handle,
                Err(error) => return self.take_usable(&take).ok_or_else(|| error.clone()),
            };
            if !self.tended.load(Ordering::Relaxed) {
                self.tend(false);
            }
            // There may be thousands who wait.
            let until = deadline.min(Instant::now() + STALL);
            match timeout_at(until, handle).await {
                // What a flight brought is lent to those who waited for it, however short it lives: the server decides.
                Ok(Ok(Ok(()))) => {
                    if let Some(access) = &*self.held.sendable() {
                        return Ok(take(access));
                    }
                }
                Ok(Ok(Err(error))) => return self.take_usable(&take).ok_or_else(|| error.clone()),
                Err(_) if until == deadline => return Err(waited_too_long()),
                // The runtime that it flew on is gone, or stands still: on to one of our own.
                Ok(Err(_)) | Err(_) => {}
            }
        }
        Err(Error::new(
            ErrorKind::Auth,
            Outcome::NotDone,
            "the server refuses each token as soon as it was obtained",
        ))
    }

    /// Replaces the token, unless there is a newer one. Readers do not wait while the old one is wiped.
    fn install(&self, mut token: Token) {
        token.fit(self.options.owner);
        let replaced = {
            let mut held = self.token_mut();
            if token.generation <= held.generation {
                return;
            }
            std::mem::replace(&mut *held, token)
        };
        drop(replaced);
        self.wake.notify_one();
    }

    fn note_failure(&self, error: &Error) {
        self.state().last_failure =
            Some(TokenFailure { at: SystemTime::now(), error: error.clone() });
    }
}

fn waited_too_long() -> Error {
    Error::new(
        ErrorKind::Timeout,
        Outcome::NotDone,
        "the deadline passed while waiting for a token",
    )
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

/// By hand: tokens are secrets.
impl fmt::Debug for TokenManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenManager")
            .field("key", &self.0.key)
            .field("token", &*self.0.token())
            .finish_non_exhaustive()
    }
}
