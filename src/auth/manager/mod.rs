//! Keeps one token fresh for all callers.
//!
//! * A caller takes the published access token ([`published`]) while it is fresh.
//! * Everything that uses the network or the store runs in a *refresh*: one task, at most one at a
//!   time, that all callers without a token wait for ([`single_flight`]). It belongs to none of
//!   them, and holds the manager until its token is stored ([`commit`]).
//! * The *background task* starts a refresh before the token expires. It holds the manager weakly
//!   and runs on the runtime of the first caller; where that runtime ends or stalls, the next
//!   caller's takes over.
//!
//! There is one lock for what is decided together. It is held for a few instructions, never across
//! an `.await`.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLockReadGuard};
use std::time::{Duration, SystemTime};

use futures::future::{Either, ready};
use secrecy::SecretString;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::clock::{Deadline, Moment};
use super::grant::Exchange;
use super::store::{Claim, Owner, TokenKey, TokenStore, Version};
pub(crate) use super::token::RequestToken;
use super::token::{Access, AccessToken, LONGEST, Lifetime, Token, TokenFailure, TokenStatus};
use crate::error::{Error, Result};
use crate::policy::BackgroundRefresh;

mod background;
mod close;
mod commit;
pub(super) mod events;
mod given;
mod join;
mod published;
mod rate_limit;
pub(super) mod refresh;
mod sign_out;
mod single_flight;
pub(super) mod store_calls;

#[cfg(test)]
mod tests;

use background::BackgroundTask;
pub(super) use commit::next_sign_in;
use commit::{Committer, PendingCommit};
use published::{PublishedToken, TokenWriteGuard};
use rate_limit::RateLimit;
use single_flight::{JoinedRefresh, RefreshPhase, RefreshState, RetrySchedule};
use store_calls::CheckedStore;

/// The maximum number of refreshes that a caller waits for without obtaining a usable token.
const REFRESHES_PER_CALLER: u32 = 8;
/// The delay of the background task after which a caller's runtime takes over.
const MAX_BACKGROUND_DELAY: Duration = Duration::from_secs(2);

/// Provides tokens. Cheap to clone; clones share one token.
#[derive(Clone)]
pub(crate) struct TokenManager(Arc<ManagerInner>);

/// The settings of a token's renewal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) owner: Owner,
    /// The maximum number of retries of a refresh token whose reply was lost.
    pub(crate) lost_refresh_retries: u32,
    pub(crate) background: BackgroundRefresh,
}

struct ManagerInner {
    token: PublishedToken,
    options: Options,
    exchange: Arc<dyn Exchange>,
    store: CheckedStore,
    /// Shared by the clients of this process that have the same key.
    rate: Arc<RateLimit>,
    /// True while the background task runs. It is outside the lock, because every caller reads it.
    has_background: AtomicBool,
    /// Notifies the background task that the token changed or the manager was dropped.
    wake: Arc<Notify>,
}

/// The state under the manager's one lock. It outlives the task of a refresh, so that the next
/// refresh continues where the end of a runtime interrupted it.
pub(super) struct ManagedToken {
    token: Token,
    refresh: RefreshState,
    /// The number of refreshes so far.
    refreshes: u64,
    schedule: RetrySchedule,
    lease: Option<Lease>,
    unknown_spends: UnknownSpends,
    pending: Option<PendingCommit>,
    committer: Committer,
    background: BackgroundTask,
    last_failure: Option<TokenFailure>,
}

/// A claim, and the deadline until which it is certainly held.
#[derive(Clone)]
struct Lease {
    claim: Claim,
    until: Deadline,
}

/// The number of spends of one version's refresh token whose outcome is unknown.
#[derive(Clone, Copy, Debug, Default)]
struct UnknownSpends {
    version: Version,
    count: u32,
}

impl UnknownSpends {
    fn of(self, version: Version) -> u32 {
        if self.version == version { self.count } else { 0 }
    }
}

impl ManagedToken {
    fn new(token: Token) -> Self {
        Self {
            token,
            refresh: RefreshState::Idle,
            refreshes: 0,
            schedule: RetrySchedule::default(),
            lease: None,
            unknown_spends: UnknownSpends::default(),
            pending: None,
            committer: Committer::Idle,
            background: BackgroundTask::default(),
            last_failure: None,
        }
    }
}

impl TokenManager {
    /// Creates a manager. It needs no runtime, and sends nothing.
    pub(crate) fn new(
        options: Options,
        exchange: Arc<dyn Exchange>,
        store: Arc<dyn TokenStore>,
        key: TokenKey,
        token: Token,
    ) -> Self {
        Self::with_rate(options, exchange, store, RateLimit::shared(&key), token)
    }

    fn with_rate(
        options: Options,
        exchange: Arc<dyn Exchange>,
        store: Arc<dyn TokenStore>,
        rate: Arc<RateLimit>,
        mut token: Token,
    ) -> Self {
        token.limit_refresh(options.owner);
        Self(Arc::new(ManagerInner {
            token: PublishedToken::new(ManagedToken::new(token)),
            options,
            exchange,
            store: CheckedStore::new(store, rate.key().clone()),
            rate,
            has_background: AtomicBool::new(false),
            wake: Arc::default(),
        }))
    }

    /// Returns a valid token. Its errors say that nothing of the ask was done.
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

    /// Records that the server refused the token of this generation (HTTP 401). A newer token is
    /// not affected.
    pub(crate) fn refuse(&self, generation: u64) {
        {
            let mut state = self.0.write();
            let token = &mut state.token;
            if token.refused
                || token.access.as_ref().is_none_or(|access| access.serial != generation)
            {
                return;
            }
            token.refused = true;
        }
        events::refused(generation);
    }

    /// Returns a valid token for the caller's own use.
    pub(crate) async fn access_token(&self) -> Result<AccessToken> {
        self.obtain(Access::to_public, Instant::now() + LONGEST).await
    }

    /// Returns the present refresh token.
    pub(crate) fn refresh_token(&self) -> Option<SecretString> {
        self.0.read().token.refresh.clone()
    }

    /// Returns true where there is no access token that can be sent right now.
    pub(crate) fn is_expired(&self) -> bool {
        self.0.read().token.usable(Moment::now()).is_none()
    }

    pub(crate) fn status(&self) -> TokenStatus {
        let state = self.0.read();
        let token = &state.token;
        TokenStatus {
            usable: token.usable(Moment::now()).is_some(),
            expires_at: token.access.as_ref().map(|access| access.expires().wall()),
            scopes: token.scopes(),
            source: token.source,
            generation: token.generation,
            reauthorization_required: self.0.options.owner == Owner::User
                && (token.ended.is_some() || (token.loaded && token.refresh.is_none())),
            store_behind: state.pending.as_ref().is_some_and(PendingCommit::has_failed),
            last_failure: state.last_failure.clone(),
        }
    }

    /// Stores and uses the first token of a new sign-in.
    pub(super) async fn begin(&self, token: Token, lifetime: Lifetime) {
        self.0.begin(token, lifetime).await;
    }

    /// Returns a valid token. The future of the slow path is built only where the fast path fails.
    fn obtain<T>(
        &self,
        take: impl Fn(&Access) -> T,
        deadline: Instant,
    ) -> impl Future<Output = Result<T>> {
        match self.0.take_usable(&take) {
            Some(taken) => Either::Left(ready(Ok(taken))),
            None => Either::Right(self.0.obtain_by_refresh(take, deadline)),
        }
    }
}

impl ManagerInner {
    fn read(&self) -> RwLockReadGuard<'_, ManagedToken> {
        self.token.read()
    }

    fn write(&self) -> TokenWriteGuard<'_> {
        self.token.write()
    }

    /// Returns the token by the fast path: without waiting, while it is fresh.
    fn take_usable<T>(self: &Arc<Self>, take: impl Fn(&Access) -> T) -> Option<T> {
        let now = Moment::now();
        let (taken, is_late) = {
            let sendable = self.token.sendable();
            let access = sendable.as_ref().filter(|access| access.is_alive(now))?;
            let late =
                |at: Instant| now.monotonic.saturating_duration_since(at) > MAX_BACKGROUND_DELAY;
            (take(access), access.refresh_at().is_some_and(late))
        };
        if is_late || !self.has_background.load(Ordering::Relaxed) {
            self.ensure_background(is_late);
        }
        Some(taken)
    }

    async fn obtain_by_refresh<T>(
        self: &Arc<Self>,
        take: impl Fn(&Access) -> T,
        deadline: Instant,
    ) -> Result<T> {
        let (mut without_token, mut ended_early) = (0, 0);
        while without_token < REFRESHES_PER_CALLER && ended_early < REFRESHES_PER_CALLER {
            let JoinedRefresh { handle, time_limit } = match self.join_refresh() {
                Ok(joined) => joined,
                Err(error) => return self.usable_after_failure(error, take),
            };
            if !self.has_background.load(Ordering::Relaxed) {
                self.ensure_background(false);
            }
            let until = deadline.min(Instant::now() + time_limit);
            match timeout_at(until, handle).await {
                // Callers that waited for the refresh use its token, even if its lifetime is very
                // short.
                Ok(Ok(Ok(()))) => {
                    if let Some(access) = &*self.token.sendable() {
                        return Ok(take(access));
                    }
                    without_token += 1;
                }
                Ok(Ok(Err(error))) => return self.usable_after_failure(error, take),
                // The runtime of the refresh has ended: a new refresh starts on this runtime.
                Ok(Err(_)) => ended_early += 1,
                Err(_) if until == deadline => return Err(self.deadline_passed()),
                // The refresh may be stalled, which joining it again detects.
                Err(_) => {}
            }
        }
        Err(if ended_early == 0 {
            Error::refreshed_tokens_refused()
        } else {
            Error::refresh_ended_early()
        })
    }

    /// Returns the token that can be sent although a refresh failed, or the error. A token that
    /// only the user can renew was refused by the server just before.
    fn usable_after_failure<T>(
        self: &Arc<Self>,
        error: Error,
        take: impl Fn(&Access) -> T,
    ) -> Result<T> {
        if error.is_reauthorization_required() {
            return Err(error);
        }
        self.take_usable(take).ok_or(error)
    }

    fn deadline_passed(&self) -> Error {
        let phase = self.read().refresh.running().map(|refresh| refresh.phase);
        match phase {
            Some(RefreshPhase::WaitingForHolder) => Error::token_claim_held(),
            Some(RefreshPhase::Working) | None => Error::token_wait_timed_out(),
        }
    }

    /// Replaces the token, unless there is a newer one. The old one is wiped outside the lock.
    fn install(&self, mut token: Token) {
        token.limit_refresh(self.options.owner);
        let replaced = {
            let mut state = self.write();
            if token.version() <= state.token.version() {
                return;
            }
            std::mem::replace(&mut state.token, token)
        };
        drop(replaced);
        self.wake.notify_one();
    }

    fn note_failure(&self, error: &Error) {
        let failure = TokenFailure { at: SystemTime::now(), error: error.clone() };
        self.write().last_failure = Some(failure);
    }
}

impl Drop for ManagerInner {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

/// Written by hand, because tokens are secrets.
impl fmt::Debug for TokenManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenManager")
            .field("key", self.0.store.key())
            .field("token", &self.0.read().token)
            .finish_non_exhaustive()
    }
}
