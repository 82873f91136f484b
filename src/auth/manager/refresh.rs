//! The steps of one refresh: catch up with the store, claim, spend, commit.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::commit::SpendOutcome;
use super::single_flight::{RefreshGuard, RefreshPhase, RefreshResult};
use super::{Lease, ManagerInner, UnknownSpends, events};
use crate::auth::clock::{Deadline, Moment};
use crate::auth::grant::{EXCHANGE_LIMIT, ExchangeError, Grant, GrantFault, Granted};
use crate::auth::store::{
    Claim, Claimed, Committed, Owner, StoreError, StoredToken, Version, fingerprint,
};
use crate::auth::token::{Access, Lifetime, Token, TokenSource};
use crate::error::{Error, Result};
use crate::transport::backoff::Backoff;

/// The maximum number of attempts where nothing was sent, or the server is busy.
const MAX_ATTEMPTS: u32 = 3;
/// The wait before a lost refresh is tried again while the present token is valid: the cause of a
/// lost reply may last for a while.
const LOST_REPLY_WAIT: Duration = Duration::from_secs(10);
/// The longest wait within a refresh. Where a server asks for more, the refresh fails with its
/// error and is repeated later.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// The minimum time left of a claim on which a refresh token is spent: the exchange must not
/// outlive the claim.
const CLAIM_MARGIN: Duration = Duration::from_secs(EXCHANGE_LIMIT.as_secs() + 5);
/// The time limit of waiting for other holders: two leases, because two holders in a row may
/// crash.
pub(super) const LONGEST_CLAIM_WAIT: Duration = Duration::from_secs(2 * Claim::LEASE.as_secs());
const FIRST_WAIT: Duration = Duration::from_millis(200);
pub(super) const SHORTEST_POLL: Duration = Duration::from_millis(15);
const LONGEST_POLL: Duration = Duration::from_millis(250);
/// The number of reads of the store before the claim is requested again.
const LOADS_PER_CLAIM: u32 = 3;
/// The maximum number of times that a refresh restarts with a newer token from the store.
const MAX_ROUNDS: u32 = 16;

/// One refresh.
pub(super) struct Renewal<'a> {
    pub(super) manager: &'a Arc<ManagerInner>,
    guard: &'a RefreshGuard,
}

/// The grant to send, and the version of the token that it renews.
struct Plan {
    version: Version,
    grant: Grant,
}

/// The result of asking for the right to spend.
enum ClaimOutcome {
    Granted(Claim),
    /// There is a newer token now.
    CaughtUp,
    /// The store fails, and the app's own credentials need no claim.
    NotNeeded,
}

/// The result of waiting for another holder.
enum HolderWait {
    /// Its token is stored, and is adopted.
    CaughtUp,
    /// It may have released its claim, so that another one can be requested.
    ClaimAgain,
}

/// The decision whether a grant may be sent.
enum SpendDecision {
    Allowed,
    /// The exchange could outlive the claim, so that a new claim is needed.
    ClaimExpires,
    /// The refresh token was sent too often without an answer.
    TooManyLost,
}

/// The token that a server granted.
pub(crate) struct ObtainedToken {
    pub(crate) token: Token,
    /// An access token that cannot be sent, next to a refresh token that must be kept.
    pub(crate) unusable_access: Option<ExchangeError>,
}

impl<'a> Renewal<'a> {
    pub(super) fn new(manager: &'a Arc<ManagerInner>, guard: &'a RefreshGuard) -> Self {
        Self { manager, guard }
    }

    /// Obtains a token, or the reason why there is none.
    pub(super) async fn run(&self) -> RefreshResult {
        let mut load_error = self.catch_up().await?.err();
        for _ in 0..MAX_ROUNDS {
            self.heartbeat();
            if self.manager.read().token.is_fresh(Moment::now()) {
                return Ok(());
            }
            let plan = self.plan(&mut load_error)?;
            let outcome = match self.claim(plan.version).await? {
                ClaimOutcome::CaughtUp => {
                    if self.manager.read().token.usable(Moment::now()).is_some() {
                        return Ok(());
                    }
                    SpendOutcome::TryAgain
                }
                ClaimOutcome::Granted(claim) => self.spend(plan, Some(claim)).await?,
                ClaimOutcome::NotNeeded => {
                    let plan = Plan { grant: Grant::ClientCredentials, ..plan };
                    self.spend(plan, None).await?
                }
            };
            if let SpendOutcome::Renewed = outcome {
                return Ok(());
            }
        }
        let contradiction = "the token store keeps returning newer tokens, none of which is valid";
        Err(Error::token_store(StoreError::from(contradiction)))
    }

    fn heartbeat(&self) {
        self.guard.heartbeat(RefreshPhase::Working);
    }

    /// Finishes the pending work of an earlier refresh, and reads the store. The inner error is the
    /// store's.
    async fn catch_up(&self) -> Result<Result<(), StoreError>> {
        let left = self.manager.read().pending.clone();
        if let Some(left) = left {
            // A token that could not be stored is already in use. Its commit is retried in parallel
            // with this refresh.
            if left.version() > self.manager.read().token.version() {
                self.manager.commit(left).await;
            }
        }
        self.heartbeat();
        let loaded = self.manager.store.load().await;
        let result = match loaded {
            Ok(Some(stored)) => {
                self.adopt_stored(stored).await?;
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error) => {
                let message = error.to_string();
                self.manager.store_failed("load", message.into());
                Err(error)
            }
        };
        let mut state = self.manager.write();
        // A failed store neither invalidates a token that was given in code nor proves that a
        // stored sign-in is missing.
        state.token.loaded |= result.is_ok() || !state.token.is_empty();
        Ok(result)
    }

    /// Chooses the grant. A user's token is renewed by that user's refresh token or not at all.
    fn plan(&self, load_error: &mut Option<StoreError>) -> Result<Plan> {
        let mut state = self.manager.write();
        let token = &mut state.token;
        let version = token.version();
        if self.manager.options.owner == Owner::App {
            let grant = token.refresh.clone().map_or(Grant::ClientCredentials, Grant::Refresh);
            return Ok(Plan { version, grant });
        }
        if let Some(refresh) = token.refresh.clone().filter(|_| token.ended.is_none()) {
            return Ok(Plan { version, grant: Grant::Refresh(refresh) });
        }
        // A stray 401 is an error for one ask: nothing can replace the token, so the next asks are
        // sent with it.
        token.refused = false;
        Err(match (token.ended.clone(), load_error.take()) {
            (Some(ended), _) => ended,
            (None, Some(error)) => Error::token_store(error),
            (None, None) => Error::reauthorization_required(
                "the token is no longer valid and there is no refresh token",
            ),
        })
    }

    async fn claim(&self, version: Version) -> Result<ClaimOutcome> {
        let lease = self.manager.read().lease.clone();
        if let Some(lease) = lease
            && lease.claim.generation() == version.generation
            && lease.until.left(Moment::now()) > CLAIM_MARGIN
        {
            return Ok(ClaimOutcome::Granted(lease.claim));
        }
        let give_up_at = Instant::now() + LONGEST_CLAIM_WAIT;
        let mut poll = SHORTEST_POLL;
        loop {
            let asked = Moment::now();
            match self.manager.store.claim(version.generation).await {
                Ok(Claimed::Granted(claim)) => {
                    self.note_claim(&claim, version, asked);
                    return Ok(ClaimOutcome::Granted(claim));
                }
                Ok(Claimed::Newer(stored)) => {
                    self.adopt_newer(&stored, version).await?;
                    return Ok(ClaimOutcome::CaughtUp);
                }
                Ok(Claimed::Held(_)) if Instant::now() >= give_up_at => {
                    return Err(Error::token_claim_held());
                }
                Ok(Claimed::Held(left)) => {
                    match self.wait_for_commit(version, left, &mut poll).await? {
                        HolderWait::CaughtUp => return Ok(ClaimOutcome::CaughtUp),
                        HolderWait::ClaimAgain => {}
                    }
                }
                // The app's own credentials can be used any number of times.
                Err(error) if self.manager.options.owner == Owner::App => {
                    self.manager.store_failed("claim", error);
                    return Ok(ClaimOutcome::NotNeeded);
                }
                Err(error) => return Err(Error::no_consent_of_token_store(error)),
            }
        }
    }

    fn note_claim(&self, claim: &Claim, version: Version, asked: Moment) {
        let mut state = self.manager.write();
        if claim.abandoned() > 0 {
            // A holder that crashed may not have sent anything, so that its successor always has
            // one attempt.
            let retries = self.manager.options.lost_refresh_retries.max(1);
            let count = state.unknown_spends.of(version).max(claim.abandoned().min(retries));
            state.unknown_spends = UnknownSpends { version, count };
        }
        let until = Deadline::after(asked, Claim::LEASE);
        state.lease = Some(Lease { claim: claim.clone(), until });
    }

    /// Adopts a token that the store reports as newer. If it belongs to an older sign-in, stores
    /// the present sign-in instead.
    async fn adopt_newer(&self, stored: &StoredToken, version: Version) -> Result<()> {
        self.adopt_stored(stored.clone()).await?;
        let held = {
            let state = self.manager.read();
            if state.token.version() != version {
                return Ok(());
            }
            state.token.to_stored()
        };
        let claim = Claim::new(self.manager.store.key().clone(), held.generation, 0, 0);
        // It is numbered after the store's generation, so that the next claim is for the newest.
        let renumbered = StoredToken { generation: stored.generation + 1, ..held };
        match self.manager.store.commit(&claim, &renumbered).await {
            Ok(Committed::Saved) => {
                self.manager.write().token.generation = renumbered.generation;
                Ok(())
            }
            Ok(_) => {
                let contradiction = "the token store returned a token that is not newer";
                Err(Error::token_store(StoreError::from(contradiction)))
            }
            Err(error) => Err(Error::no_consent_of_token_store(error)),
        }
    }

    /// Waits for another holder's token by polling the store a few times.
    async fn wait_for_commit(
        &self,
        version: Version,
        left: Duration,
        poll: &mut Duration,
    ) -> Result<HolderWait> {
        for _ in 0..LOADS_PER_CLAIM {
            self.wait(left, poll).await;
            if let Ok(Some(stored)) = self.manager.store.load().await {
                self.adopt_stored(stored).await?;
            }
            if self.manager.read().token.version() != version {
                return Ok(HolderWait::CaughtUp);
            }
        }
        Ok(HolderWait::ClaimAgain)
    }

    /// Waits a little for another holder, whose claim ends at the latest after `left`.
    pub(super) async fn wait(&self, left: Duration, poll: &mut Duration) {
        self.guard.heartbeat(RefreshPhase::WaitingForHolder);
        sleep(poll.mul_f64(0.5 + fastrand::f64()).min(left.max(SHORTEST_POLL))).await;
        *poll = (*poll * 2).min(LONGEST_POLL);
    }

    async fn spend(&self, plan: Plan, claim: Option<Claim>) -> Result<SpendOutcome> {
        let Plan { version, grant } = plan;
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT / 2);
        let mut attempts = 0;
        loop {
            let send_at = self.manager.rate.reserve(Instant::now());
            sleep_until(send_at).await;
            match self.decide_spend(&grant, version) {
                SpendDecision::Allowed => {}
                SpendDecision::ClaimExpires => {
                    // If nothing was sent, neither this holder nor others need to wait for its
                    // end: a step of the wall clock ends it for its holder only.
                    if self.manager.read().unknown_spends.of(version) == 0 {
                        self.manager.release(claim).await;
                    }
                    return Ok(SpendOutcome::TryAgain);
                }
                SpendDecision::TooManyLost => return self.replies_lost(claim, version).await,
            }
            attempts += 1;
            self.heartbeat();
            let asked = Moment::now();
            let exchanged = self.manager.exchange.exchange(grant.clone()).await;
            self.heartbeat();
            let lifetime = |granted: &Granted| Lifetime::of_seconds(asked, granted.expires_in);
            let exchanged = exchanged.and_then(|granted| {
                let lifetime = lifetime(&granted);
                self.token_of(&grant, granted, lifetime, version).map(|token| (token, lifetime))
            });
            let failed = match exchanged {
                Ok((obtained, lifetime)) => {
                    events::obtained(&grant, &obtained.token, asked.monotonic);
                    self.manager.commit_new(claim, obtained.token, lifetime).await;
                    return match obtained.unusable_access {
                        None => Ok(SpendOutcome::Renewed),
                        Some(failed) => {
                            self.note_outcome(&grant, version, GrantFault::Refused);
                            Err(failed.error)
                        }
                    };
                }
                Err(failed) => failed,
            };
            events::failed(&grant, version.generation, &failed, asked.monotonic);
            self.note_outcome(&grant, version, failed.fault);
            let is_refresh = grant.is_refresh();
            let wait = match failed.fault {
                GrantFault::GrantDead if is_refresh => {
                    return self.manager.give_up(claim, failed.error).await;
                }
                // An app whose refresh is refused falls back to its credentials: they stand for the
                // same identity.
                GrantFault::Refused if is_refresh && self.manager.options.owner == Owner::App => {
                    return self.manager.give_up(claim, failed.error).await;
                }
                fault if is_refresh && self.counts_as_lost(fault) => {
                    self.manager.note_failure(&failed.error);
                    sleep(backoff.next_wait().max(self.spare_time())).await;
                    continue;
                }
                GrantFault::NotSent | GrantFault::Busy | GrantFault::Failed | GrantFault::Lost
                    if attempts < MAX_ATTEMPTS =>
                {
                    failed.error.retry_after().unwrap_or_else(|| backoff.next_wait())
                }
                _ => Duration::MAX,
            };
            if wait > LONGEST_WAIT {
                self.manager.release(claim).await;
                return Err(failed.error);
            }
            sleep(wait).await;
        }
    }

    /// Returns true where the reply counts as lost. A server that failed may have rotated the
    /// refresh token, so that its failure is one where lost refreshes are not retried.
    fn counts_as_lost(&self, fault: GrantFault) -> bool {
        fault == GrantFault::Lost
            || (fault == GrantFault::Failed && self.manager.options.lost_refresh_retries == 0)
    }

    /// Returns the longest wait before the next attempt that delays no caller.
    fn spare_time(&self) -> Duration {
        let now = Moment::now();
        let left = self.manager.read().token.usable(now).map(|access| access.expires().left(now));
        (left.unwrap_or_default() / 4).min(LOST_REPLY_WAIT)
    }

    /// Decides whether a grant may be sent. A refresh token then counts as spent until the outcome
    /// is known: the count outlives a runtime that ends while the request is in progress.
    fn decide_spend(&self, grant: &Grant, version: Version) -> SpendDecision {
        let mut state = self.manager.write();
        let now = Moment::now();
        if state.lease.as_ref().is_some_and(|lease| lease.until.left(now) < CLAIM_MARGIN) {
            state.lease = None;
            return SpendDecision::ClaimExpires;
        }
        if !grant.is_refresh() {
            return SpendDecision::Allowed;
        }
        let count = state.unknown_spends.of(version);
        if count >= self.manager.options.lost_refresh_retries.saturating_add(1) {
            return SpendDecision::TooManyLost;
        }
        state.unknown_spends = UnknownSpends { version, count: count + 1 };
        SpendDecision::Allowed
    }

    fn note_outcome(&self, grant: &Grant, version: Version, fault: GrantFault) {
        if grant.is_refresh() && !self.counts_as_lost(fault) {
            let mut state = self.manager.write();
            let count = state.unknown_spends.of(version).saturating_sub(1);
            state.unknown_spends = UnknownSpends { version, count };
        }
    }

    /// Ends a refresh whose replies were lost. The refresh token may still be valid: it is kept for
    /// the next refresh, and only `invalid_grant` ends the sign-in. If retries of a lost refresh
    /// are disabled, the sign-in ends at once.
    async fn replies_lost(&self, claim: Option<Claim>, version: Version) -> Result<SpendOutcome> {
        let options = self.manager.options;
        if options.owner == Owner::App || options.lost_refresh_retries == 0 {
            let error = Error::reauthorization_required(
                "the reply to the refresh was lost, and with it the refresh token that was in it",
            );
            return self.manager.give_up(claim, self.caused_by_last_failure(error)).await;
        }
        self.manager.write().unknown_spends = UnknownSpends { version, count: 0 };
        self.manager.release(claim).await;
        Err(self.caused_by_last_failure(Error::refresh_replies_lost()))
    }

    fn caused_by_last_failure(&self, error: Error) -> Error {
        match self.manager.read().last_failure.clone() {
            Some(failure) => error.with_source(failure.error),
            None => error,
        }
    }

    fn token_of(
        &self,
        grant: &Grant,
        granted: Granted,
        lifetime: Lifetime,
        version: Version,
    ) -> Result<ObtainedToken, ExchangeError> {
        let next = Version { generation: version.generation + 1, ..version };
        let mut obtained = token_of(grant, granted, lifetime, next)?;
        let state = self.manager.read();
        let (held, token) = (&state.token, &mut obtained.token);
        token.seed = held.seed.clone();
        token.known = held.known.clone();
        if let Grant::Refresh(spent) = grant {
            token.known.add_spent(fingerprint(spent));
        }
        token.scope = token.scope.take().or_else(|| held.scope.clone());
        if obtained.unusable_access.is_some() && held.version() == version {
            token.access = held.access.clone();
            token.refused = held.refused;
        }
        Ok(obtained)
    }
}

/// Reads a server's grant as a token of the given version. A refresh token is kept even where the
/// access token next to it cannot be sent.
pub(crate) fn token_of(
    grant: &Grant,
    granted: Granted,
    lifetime: Lifetime,
    version: Version,
) -> Result<ObtainedToken, ExchangeError> {
    let access = Access::new(&granted.access, lifetime, version.generation).map(Arc::new);
    let unusable_access = access.is_none().then(|| {
        ExchangeError::garbled("the token endpoint's access token cannot be sent in a header")
    });
    if granted.refresh.is_none()
        && let Some(error) = unusable_access
    {
        return Err(error);
    }
    let (refresh, source) = match grant {
        // A reply without a refresh token keeps the old one; a new one replaces it.
        Grant::Refresh(old) => {
            (granted.refresh.or_else(|| Some(old.clone())), TokenSource::RefreshToken)
        }
        Grant::ClientCredentials => (granted.refresh, TokenSource::ClientCredentials),
        Grant::AuthCode(_) => (granted.refresh, TokenSource::AuthCode),
    };
    let token = Token {
        sign_in: version.sign_in,
        generation: version.generation,
        access,
        refresh,
        scope: granted.scope,
        ..Token::none(source)
    };
    Ok(ObtainedToken { token, unusable_access })
}
