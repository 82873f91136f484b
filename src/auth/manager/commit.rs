//! What becomes of a token once it is there: stored, taken up from the store, or at its end.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::super::store::{Claim, Committed, Owner, StoreError, StoredToken};
use super::super::token::{Access, Lifetime, Token, TokenSource};
use super::refresh::{ask_store, connect_again};
use super::{Inner, events};
use crate::error::{Error, ErrorKind, Outcome};
use crate::transport::backoff::Backoff;

const FIRST_SAVE_WAIT: Duration = Duration::from_millis(200);
const LONGEST_SAVE_WAIT: Duration = Duration::from_secs(30);
/// How long a token is tried to be stored after the last client is gone.
const SAVE_ALONE: Duration = Duration::from_secs(10 * 60);

/// A token that is obtained and not yet stored.
#[derive(Clone)]
pub(super) struct PendingCommit {
    claim: Claim,
    stored: StoredToken,
    source: TokenSource,
    lifetime: Lifetime,
    /// A new sign-in: it comes after whatever the store holds.
    begins: bool,
}

impl PendingCommit {
    fn new(claim: Claim, token: &Token, lifetime: Lifetime) -> Self {
        Self { claim, stored: token.to_stored(), source: token.source, lifetime, begins: false }
    }

    pub(super) fn generation(&self) -> u64 {
        self.stored.generation
    }

    fn token(&self) -> Token {
        let access =
            |secret| Access::new(secret, self.lifetime, self.stored.generation).map(Arc::new);
        Token {
            source: self.source,
            access: self.stored.access.as_ref().and_then(access),
            ..Token::from_stored(&self.stored)
        }
    }
}

/// Says that no one saves any more, also where the runtime dropped the task.
struct Saving<'a>(&'a Inner);

impl Drop for Saving<'_> {
    fn drop(&mut self) {
        self.0.state().saving = false;
    }
}

impl Inner {
    /// Stores a new token, then uses it. It is in the keeper's care before anything can go wrong.
    pub(super) async fn keep(&self, claim: Option<Claim>, token: Token, lifetime: Lifetime) {
        let claim = claim.unwrap_or_else(|| {
            Claim::new(self.key.clone(), token.generation.saturating_sub(1), 0, 0)
        });
        let unsaved = PendingCommit::new(claim, &token, lifetime);
        self.state().unsaved = Some(unsaved.clone());
        self.settle(unsaved).await;
    }

    /// Stores and uses the first token of a new sign-in.
    pub(in super::super) async fn begin(self: &Arc<Self>, token: Token, lifetime: Lifetime) {
        let claim = Claim::new(self.key.clone(), token.generation.saturating_sub(1), 0, 0);
        let unsaved = PendingCommit { begins: true, ..PendingCommit::new(claim, &token, lifetime) };
        self.state().unsaved = Some(unsaved.clone());
        self.settle(unsaved).await;
        self.ensure_saving();
    }

    /// One try to store a token; it is used whatever comes of it, unless another one was first.
    pub(super) async fn settle(&self, mut unsaved: PendingCommit) {
        while let Some(newer) = self.try_to_settle(&unsaved).await {
            unsaved.stored.generation = newer + 1;
            self.state().unsaved = Some(unsaved.clone());
        }
    }

    /// The generation that a new sign-in still has to pass.
    async fn try_to_settle(&self, unsaved: &PendingCommit) -> Option<u64> {
        match ask_store(self.store.commit(&unsaved.claim, &unsaved.stored)).await {
            Ok(Committed::Saved) => {
                events::stored(unsaved.generation());
                self.install(unsaved.token());
                self.settled(unsaved);
            }
            Ok(Committed::Superseded(stored)) if unsaved.begins => return Some(stored.generation),
            Ok(Committed::Superseded(stored)) => {
                self.take_up(&stored, true);
                self.settled(unsaved);
            }
            Err(error) => {
                self.install(unsaved.token());
                self.state().store_behind = true;
                self.store_failed("commit", error);
            }
        }
        None
    }

    fn settled(&self, unsaved: &PendingCommit) {
        let mut state = self.state();
        if state.unsaved.as_ref().is_some_and(|other| other.generation() <= unsaved.generation()) {
            state.unsaved = None;
            state.store_behind = false;
        }
        state.claim =
            state.claim.take().filter(|(claim, _)| claim.generation() >= unsaved.generation());
    }

    /// Keeps trying to store what is not stored.
    pub(super) async fn save(self: &Arc<Self>) {
        {
            let mut state = self.state();
            if state.saving || state.unsaved.is_none() {
                return;
            }
            state.saving = true;
        }
        let _saving = Saving(self);
        let mut backoff = Backoff::new(FIRST_SAVE_WAIT, LONGEST_SAVE_WAIT);
        let mut alone_since = None;
        while self.state().unsaved.is_some() {
            sleep(backoff.next_wait().max(FIRST_SAVE_WAIT / 4)).await;
            // The next refresh may have brought a newer one.
            let Some(unsaved) = self.state().unsaved.clone() else {
                return;
            };
            if Arc::strong_count(self) > 1 {
                alone_since = None;
            } else if alone_since.get_or_insert_with(Instant::now).elapsed() > SAVE_ALONE {
                return;
            }
            self.settle(unsaved).await;
        }
    }

    /// A saver whose runtime ended has a successor.
    pub(super) fn ensure_saving(self: &Arc<Self>) {
        let idle = {
            let state = self.state();
            state.unsaved.is_some() && !state.saving
        };
        if let (true, Ok(handle)) = (idle, Handle::try_current()) {
            let inner = Arc::clone(self);
            handle.spawn(async move { inner.save().await });
        }
    }

    /// Takes up a newer token of the store's.
    pub(super) fn adopt(&self, stored: &StoredToken) {
        self.take_up(stored, false);
    }

    fn take_up(&self, stored: &StoredToken, in_place_of_ours: bool) {
        let newer = (!stored.ended).then(|| {
            let mut token = Token::from_stored(stored);
            token.fit(self.options.owner);
            token
        });
        // Wiped when no reader waits for it.
        let mut replaced = None;
        {
            let mut held = self.token_mut();
            let least = if in_place_of_ours { held.generation } else { held.generation + 1 };
            if stored.generation < least {
                return;
            }
            if let Some(token) = newer {
                replaced = Some(std::mem::replace(&mut *held, token));
            } else if is_given_anew(&held, stored) {
                // The old sign-in is over, and the user has connected again since.
                held.generation = stored.generation;
            } else {
                let error = connect_again(
                    "their sign-in is over: its refresh token was refused, or they were signed out",
                );
                end(&mut held, stored.generation, error, self.options.owner);
            }
        }
        drop(replaced);
        events::adopted(stored.generation);
        self.wake.notify_one();
    }

    /// The refresh token is dead. False where there is another way to go on.
    pub(super) async fn give_up(&self, claim: Option<Claim>, error: Error) -> Result<bool, Error> {
        if self.options.owner == Owner::App {
            self.token_mut().refresh = None;
            self.note_failure(&error);
            return Ok(false);
        }
        let Some(claim) = claim else {
            return Err(error);
        };
        let stored = StoredToken {
            generation: claim.generation() + 1,
            refresh: None,
            ended: true,
            expires_at: SystemTime::now(),
            ..self.token().to_stored()
        };
        // So that no other process spends it once more.
        match ask_store(self.store.commit(&claim, &stored)).await {
            Ok(Committed::Superseded(newer)) => {
                self.adopt(&newer);
                return Ok(false);
            }
            Ok(Committed::Saved) => self.state().claim = None,
            Err(error) => self.store_failed("commit", error),
        }
        events::ended(stored.generation, &error);
        end(&mut self.token_mut(), stored.generation, error.clone(), self.options.owner);
        Err(error)
    }

    /// Nothing was spent: others need not wait for the claim to run out.
    pub(super) async fn release(&self, claim: Option<Claim>) {
        self.state().claim = None;
        if let Some(claim) = claim
            && let Err(error) = ask_store(self.store.release(&claim)).await
        {
            self.store_failed("release", error);
        }
    }

    pub(super) fn store_failed(&self, call: &'static str, error: StoreError) {
        let error = Error::new(ErrorKind::TokenStore, Outcome::NotDone, "the token store failed")
            .with_source(error);
        events::store_failed(call, &error);
        self.note_failure(&error);
    }
}

/// The access token in hand serves as long as it lives; there will be no other.
pub(super) fn end(token: &mut Token, generation: u64, error: Error, owner: Owner) {
    token.generation = generation;
    token.refresh = None;
    token.ended = Some(error);
    token.fit(owner);
}

/// True where what was given in code is not the beginning of the sign-in that the store saw the end of.
fn is_given_anew(held: &Token, stored: &StoredToken) -> bool {
    let given =
        !held.loaded && held.generation == 0 && (held.refresh.is_some() || held.access.is_some());
    given && (held.seed.is_none() || held.seed != stored.seed)
}
