//! What one flight does: catch up with the store, claim, spend, commit.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::super::grant::{EXCHANGE_LIMIT, ExchangeError, Fault, Grant, Granted};
use super::super::store::{Claim, Claimed, Owner, StoreError};
use super::super::token::{Access, Lifetime, Token, TokenSource};
use super::single_flight::{Landed, RefreshGuard};
use super::{Inner, events};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::transport::backoff::Backoff;

/// How long one call of the store may take.
const STORE_LIMIT: Duration = Duration::from_secs(10);
/// How often a flight tries where nothing was sent, or the server is busy.
const TRIES: u32 = 3;
/// What made a reply get lost may take a while to pass. Where the token in hand still serves, the second try waits.
const CALM: Duration = Duration::from_secs(10);
/// The longest wait within a flight; a server that asks for more is left alone, and callers hear of it.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A claim with less left than this is not spent on: the exchange could outlive it.
const CLAIM_MARGIN: Duration = Duration::from_secs(EXCHANGE_LIMIT.as_secs() + 5);
const FIRST_WAIT: Duration = Duration::from_millis(200);
const SHORTEST_POLL: Duration = Duration::from_millis(15);
const LOOKS_PER_CLAIM: u32 = 3;
const LONGEST_POLL: Duration = Duration::from_millis(250);

/// What came of asking for the right to spend.
enum Lease {
    Ours(Claim),
    /// There is a newer token now.
    CaughtUp,
    /// The store fails, and the app's own credentials need no right.
    None,
}

impl Inner {
    /// Brings a token, or the reason why there is none.
    pub(super) async fn renew(self: &Arc<Self>, guard: &RefreshGuard) -> Landed {
        self.catch_up(guard).await;
        loop {
            guard.beat();
            if self.token().is_fresh(Instant::now()) {
                return Ok(());
            }
            let (generation, grant) = self.plan()?;
            let obtained = match self.claim(guard, generation).await? {
                Lease::CaughtUp => self.token().usable(Instant::now()).is_some(),
                Lease::Ours(claim) => self.spend(guard, grant, Some(claim)).await?,
                Lease::None => self.spend(guard, Grant::ClientCredentials, None).await?,
            };
            if obtained {
                return Ok(());
            }
        }
    }

    /// Finishes what an earlier flight left, and asks the store whether anyone else has a newer token.
    async fn catch_up(&self, guard: &RefreshGuard) {
        let left = self.state().unsaved.clone();
        if let Some(left) = left {
            // One that could not be stored is in use already, and saved beside this flight.
            if left.generation() > self.token().generation {
                self.settle(left).await;
            }
        }
        guard.beat();
        match ask_store(self.store.load(&self.key)).await {
            Ok(Some(stored)) => self.adopt(&stored),
            Ok(None) => {}
            Err(error) => self.store_failed("load", error),
        }
        self.token_mut().loaded = true;
    }

    /// The way to the next token. A user's token is renewed by that user's refresh token or not at all.
    fn plan(&self) -> Result<(u64, Grant), Error> {
        let token = self.token();
        if let (Some(error), Owner::User) = (&token.ended, self.options.owner) {
            return Err(error.clone());
        }
        match (&token.refresh, self.options.owner) {
            (Some(refresh), _) => Ok((token.generation, Grant::Refresh(refresh.clone()))),
            (None, Owner::App) => Ok((token.generation, Grant::ClientCredentials)),
            (None, Owner::User) => {
                Err(connect_again("the token is no longer valid and there is no refresh token"))
            }
        }
    }

    async fn claim(&self, guard: &RefreshGuard, generation: u64) -> Result<Lease, Error> {
        let in_hand = self.state().claim.clone();
        if let Some((claim, until)) = in_hand
            && claim.generation() == generation
            && Instant::now() + CLAIM_MARGIN < until
        {
            return Ok(Lease::Ours(claim));
        }
        let mut poll = SHORTEST_POLL;
        loop {
            guard.beat();
            let asked = Instant::now();
            match self.ask_for_claim(generation).await {
                Ok(Claimed::Granted(claim)) => {
                    let mut state = self.state();
                    if claim.abandoned() > 0 {
                        let known = spends_of(state.unknown_spends, generation);
                        // Holders that died prove nothing: their successor always has one try.
                        state.unknown_spends = (
                            generation,
                            known.max(
                                claim.abandoned().min(self.options.lost_refresh_retries.max(1)),
                            ),
                        );
                    }
                    state.claim = Some((claim.clone(), asked + Claim::LEASE));
                    return Ok(Lease::Ours(claim));
                }
                Ok(Claimed::Newer(stored)) => {
                    self.adopt(&stored);
                    return Ok(Lease::CaughtUp);
                }
                Ok(Claimed::Held(left)) => {
                    if self.wait_for_commit(guard, generation, left, &mut poll).await {
                        return Ok(Lease::CaughtUp);
                    }
                }
                Err(error) => {
                    // The app's own credentials can be used any number of times.
                    if self.options.owner == Owner::App {
                        self.store_failed("claim", error);
                        return Ok(Lease::None);
                    }
                    let failed = Error::new(
                        ErrorKind::TokenStore,
                        Outcome::NotDone,
                        "the token store failed, and the refresh token may be spent only with its consent",
                    );
                    return Err(failed.with_source(error));
                }
            }
        }
    }

    /// A right that is granted when no one waits for it any more is given back, not left to run out.
    async fn ask_for_claim(&self, generation: u64) -> Result<Claimed, StoreError> {
        let (store, key) = (Arc::clone(&self.store), self.key.clone());
        let mut asking = tokio::spawn(async move { store.claim(&key, generation).await });
        if let Ok(claimed) = timeout(STORE_LIMIT, &mut asking).await {
            return claimed.unwrap_or_else(|error| Err(error.into()));
        }
        let store = Arc::clone(&self.store);
        tokio::spawn(async move {
            if let Ok(Ok(Claimed::Granted(claim))) = asking.await {
                // If that fails too, it runs out.
                let _ = store.release(&claim).await;
            }
        });
        Err(late())
    }

    /// True once another holder's token is there. It looks often, and asks for the right now and then: the other
    /// holder may have given it back.
    async fn wait_for_commit(
        &self,
        guard: &RefreshGuard,
        generation: u64,
        left: Duration,
        poll: &mut Duration,
    ) -> bool {
        for _ in 0..LOOKS_PER_CLAIM {
            sleep(poll.mul_f64(0.5 + fastrand::f64()).min(left.max(SHORTEST_POLL))).await;
            *poll = (*poll * 2).min(LONGEST_POLL);
            guard.beat();
            if let Ok(Some(stored)) = ask_store(self.store.load(&self.key)).await {
                self.adopt(&stored);
            }
            if self.token().generation > generation {
                return true;
            }
        }
        false
    }

    /// True where there is a token now; false where there is another way to try.
    async fn spend(
        &self,
        guard: &RefreshGuard,
        grant: Grant,
        claim: Option<Claim>,
    ) -> Result<bool, Error> {
        let generation = claim.as_ref().map_or_else(|| self.token().generation, Claim::generation);
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT / 2);
        let mut tries = 0;
        loop {
            match self.may_spend(&grant, generation) {
                MaySpend::Yes => {}
                MaySpend::ClaimRunsOut => return Ok(false),
                MaySpend::SpentOut => return self.out_of_tries(claim).await,
            }
            tries += 1;
            guard.beat();
            let asked = Instant::now();
            let exchanged = self.exchange.exchange(grant.clone()).await;
            guard.beat();
            let exchanged =
                exchanged.and_then(|granted| self.token_of(&grant, granted, asked, generation));
            let failed = match exchanged {
                Ok((token, lifetime)) => {
                    events::obtained(&grant, &token, asked);
                    self.keep(claim, token, lifetime).await;
                    return Ok(true);
                }
                Err(failed) => failed,
            };
            events::failed(&grant, generation, &failed, asked);
            self.note_outcome(&grant, generation, failed.fault);
            let wait = match failed.fault {
                Fault::GrantDead if grant.is_refresh() => {
                    return self.give_up(claim, failed.error).await;
                }
                // An app that may not refresh has its credentials, and is the same app.
                Fault::Refused if grant.is_refresh() && self.options.owner == Owner::App => {
                    return self.give_up(claim, failed.error).await;
                }
                Fault::Lost if grant.is_refresh() => {
                    self.note_failure(&failed.error);
                    sleep(backoff.next_wait().max(self.time_to_spare())).await;
                    continue;
                }
                Fault::NotSent | Fault::Busy | Fault::Lost if tries < TRIES => {
                    failed.error.retry_after().unwrap_or_else(|| backoff.next_wait())
                }
                _ => Duration::MAX,
            };
            if wait > LONGEST_WAIT {
                self.release(claim).await;
                return Err(failed.error);
            }
            sleep(wait).await;
        }
    }

    /// How long the second try of a lost refresh may wait without anyone noticing.
    fn time_to_spare(&self) -> Duration {
        let now = Instant::now();
        let left =
            self.token().usable(now).map(|access| access.expires().saturating_duration_since(now));
        (left.unwrap_or_default() / 4).min(CALM)
    }

    /// Whether a refresh token may be spent, which then counts as spent until it is known not to be: this
    /// count outlives a runtime that ends while the request is under way.
    fn may_spend(&self, grant: &Grant, generation: u64) -> MaySpend {
        let mut state = self.state();
        if state.claim.as_ref().is_some_and(|(_, until)| Instant::now() + CLAIM_MARGIN > *until) {
            return MaySpend::ClaimRunsOut;
        }
        if !grant.is_refresh() {
            return MaySpend::Yes;
        }
        let unknown = spends_of(state.unknown_spends, generation);
        let most = self.options.lost_refresh_retries.saturating_add(1);
        if unknown >= most {
            return MaySpend::SpentOut;
        }
        state.unknown_spends = (generation, unknown + 1);
        MaySpend::Yes
    }

    fn note_outcome(&self, grant: &Grant, generation: u64, fault: Fault) {
        if grant.is_refresh() && fault != Fault::Lost {
            let mut state = self.state();
            state.unknown_spends =
                (generation, spends_of(state.unknown_spends, generation).saturating_sub(1));
        }
    }

    /// The replies were lost, as often as it is tried in one go. Whether the refresh token still works, the server
    /// knows: it is kept for the next go, and only `invalid_grant` ends the sign-in. Where a second try is forbidden, the
    /// first was the last.
    async fn out_of_tries(&self, claim: Option<Claim>) -> Result<bool, Error> {
        if self.options.owner == Owner::App || self.options.lost_refresh_retries == 0 {
            let error = connect_again(
                "the reply to the refresh was lost, and with it the refresh token that was in it",
            );
            return self.give_up(claim, self.because_of_the_last(error)).await;
        }
        self.state().unknown_spends = (0, 0);
        self.release(claim).await;
        let error = Error::new(
            ErrorKind::Interrupted,
            Outcome::NotDone,
            "the replies to the token's refresh were lost",
        );
        Err(self.because_of_the_last(error))
    }

    fn because_of_the_last(&self, error: Error) -> Error {
        match self.state().last_failure.clone() {
            Some(failure) => error.with_source(failure.error),
            None => error,
        }
    }

    fn token_of(
        &self,
        grant: &Grant,
        granted: Granted,
        asked: Instant,
        generation: u64,
    ) -> Result<(Token, Lifetime), ExchangeError> {
        let held = self.token();
        let lifetime = Lifetime::of_seconds(asked, granted.expires_in);
        let mut token = token_of(grant, granted, lifetime, generation + 1)?;
        token.seed = held.seed.clone();
        token.scope = token.scope.or_else(|| held.scope.clone());
        Ok((token, lifetime))
    }
}

/// What a server gave, as a token of the given generation.
pub(in super::super) fn token_of(
    grant: &Grant,
    granted: Granted,
    lifetime: Lifetime,
    generation: u64,
) -> Result<Token, ExchangeError> {
    let Some(access) = Access::new(&granted.access, lifetime, generation) else {
        return Err(ExchangeError::garbled(
            "the token endpoint's access token holds what no header can carry",
        ));
    };
    let (refresh, source) = match grant {
        // A reply without a refresh token keeps the old one; a new one replaces it.
        Grant::Refresh(old) => {
            (granted.refresh.or_else(|| Some(old.clone())), TokenSource::RefreshToken)
        }
        Grant::ClientCredentials => (granted.refresh, TokenSource::ClientCredentials),
        Grant::AuthCode(_) => (granted.refresh, TokenSource::AuthCode),
    };
    Ok(Token {
        generation,
        access: Some(Arc::new(access)),
        refresh,
        scope: granted.scope,
        ..Token::none(source)
    })
}

/// A store that hangs is a store that fails.
pub(in super::super) async fn ask_store<T>(
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    timeout(STORE_LIMIT, call).await.unwrap_or_else(|_| Err(late()))
}

fn late() -> StoreError {
    "the token store did not answer in time".into()
}

enum MaySpend {
    Yes,
    /// The exchange could outlive the claim: claim again.
    ClaimRunsOut,
    /// It was spent too often without an answer.
    SpentOut,
}

/// How many spends of a generation have an unknown outcome.
fn spends_of(unknown: (u64, u32), generation: u64) -> u32 {
    if unknown.0 == generation { unknown.1 } else { 0 }
}

pub(super) fn connect_again(message: &'static str) -> Error {
    Error::new(
        ErrorKind::ReauthorizationRequired,
        Outcome::NotDone,
        format!("the user has to connect again: {message}"),
    )
}
