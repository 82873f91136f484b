//! Storing tokens, and adopting newer tokens from the store.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::{ManagedToken, ManagerInner, events};
use crate::auth::clock::{Moment, wall_now};
use crate::auth::store::{
    Claim, Committed, KnownTokens, Owner, StoreError, StoredToken, Version, millis,
};
use crate::auth::token::{Access, Lifetime, Token, TokenSource};
use crate::error::{Error, Result};
use crate::transport::backoff::Backoff;

const FIRST_COMMIT_WAIT: Duration = Duration::from_millis(200);
const LONGEST_COMMIT_WAIT: Duration = Duration::from_secs(30);
/// The time for which storing a token is retried after the last client was dropped.
const COMMIT_ALONE: Duration = Duration::from_secs(10 * 60);

/// A token that is obtained and not yet stored.
#[derive(Clone)]
pub(super) struct PendingCommit {
    claim: Claim,
    stored: StoredToken,
    source: TokenSource,
    lifetime: Lifetime,
    kind: CommitKind,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CommitKind {
    /// The next generation of a sign-in.
    Renewal,
    /// The next generation of a sign-in that was given in code. The store may hold an earlier
    /// sign-in.
    FirstRenewal,
    /// A new sign-in, which is numbered after the one in the store.
    SignIn,
}

/// The state of the task that retries the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Committer {
    Idle,
    Running,
}

/// The result of spending a grant.
pub(super) enum SpendOutcome {
    Renewed,
    /// There is another grant to try.
    TryAgain,
}

/// The result of comparing the token in use with the stored one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommitOutcome {
    /// The newer of the two tokens is in use.
    Settled,
    /// The token in use is a new sign-in that the store lacks.
    NewSignIn,
}

impl PendingCommit {
    fn new(claim: Claim, token: &Token, lifetime: Lifetime, kind: CommitKind) -> Self {
        let stored = token.to_stored();
        Self { claim, stored, source: token.source, lifetime, kind, failures: 0 }
    }

    pub(super) fn version(&self) -> Version {
        self.stored.version()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failures > 0
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

    /// Returns the commit, renumbered after the stored sign-in, if it is newer although its number
    /// is lower.
    ///
    /// Numbers are times. A number in the future was given by a clock that was ahead.
    fn numbered_after(&self, stored: &StoredToken) -> Option<Self> {
        let is_newer = match self.kind {
            CommitKind::Renewal => false,
            CommitKind::FirstRenewal => {
                self.stored.seed.as_ref().is_some_and(|seed| !stored.knows(seed))
            }
            // The same sign-in is stored already.
            CommitKind::SignIn if stored.seed == self.stored.seed => false,
            CommitKind::SignIn => self.failures == 0 || stored.sign_in > millis(wall_now()),
        };
        is_newer.then(|| {
            let sign_in = next_sign_in(stored);
            let generation = stored.generation.max(self.stored.generation) + 1;
            let known = self.known_after(stored);
            let stored = StoredToken { sign_in, generation, known, ..self.stored.clone() };
            Self { stored, kind: CommitKind::SignIn, ..self.clone() }
        })
    }

    /// Returns the commit of a new sign-in with a generation after that of the stored one, which
    /// may be unknown or outdated since the sign-in was made during an outage.
    ///
    /// Claims are of generations: with a lower one, the holders of the earlier sign-in would get
    /// claims, and end those of this one.
    fn following(self, stored: &StoredToken) -> Self {
        if stored.sign_in >= self.stored.sign_in {
            return self;
        }
        let generation = self.stored.generation.max(stored.generation + 1);
        let known = self.known_after(stored);
        Self { stored: StoredToken { generation, known, ..self.stored }, ..self }
    }

    fn known_after(&self, stored: &StoredToken) -> KnownTokens {
        let mut known = stored.known_to_successor();
        known.merge(&self.stored.known);
        known
    }
}

/// Returns the number of a sign-in, or a sign-out, that is made now and follows the stored one.
pub(in crate::auth) fn next_sign_in(stored: &StoredToken) -> u64 {
    millis(wall_now()).max(stored.sign_in + 1)
}

/// Marks the committer as idle, also when the runtime drops its task.
struct CommitterGuard<'a>(&'a ManagerInner);

impl Drop for CommitterGuard<'_> {
    fn drop(&mut self) {
        self.0.write().committer = Committer::Idle;
    }
}

impl ManagerInner {
    /// Stores a new token, then uses it. It is kept as pending before anything can fail.
    pub(super) async fn commit_new(&self, claim: Option<Claim>, token: Token, lifetime: Lifetime) {
        let claim = claim.unwrap_or_else(|| self.no_claim(token.generation.saturating_sub(1)));
        let pending = {
            let mut state = self.write();
            let is_first = state.token.is_given() && token.sign_in == 0;
            let kind = if is_first { CommitKind::FirstRenewal } else { CommitKind::Renewal };
            let pending = PendingCommit::new(claim, &token, lifetime, kind);
            state.pending = Some(pending.clone());
            pending
        };
        self.commit(pending).await;
    }

    /// Stores and uses the first token of a new sign-in.
    pub(super) async fn begin(self: &Arc<Self>, token: Token, lifetime: Lifetime) {
        let claim = self.no_claim(token.generation.saturating_sub(1));
        let pending = PendingCommit::new(claim, &token, lifetime, CommitKind::SignIn);
        self.write().pending = Some(pending.clone());
        self.commit(pending).await;
        self.ensure_committing();
    }

    pub(super) fn no_claim(&self, generation: u64) -> Claim {
        Claim::new(self.store.key().clone(), generation, 0, 0)
    }

    /// Tries once to store a token. It is used even if that fails, unless the store holds a newer
    /// one.
    pub(super) async fn commit(&self, mut pending: PendingCommit) {
        loop {
            let committed = match self.followed(pending.clone()).await {
                Ok(following) => {
                    pending = following;
                    self.store.commit(&pending.claim, &pending.stored).await
                }
                Err(error) => Err(error),
            };
            match committed {
                Ok(Committed::Saved) => {
                    events::stored(pending.version().generation);
                    self.install(pending.token());
                    self.committed(&pending);
                }
                Ok(Committed::Superseded(stored)) => {
                    let still_pending = self.read().pending.is_some();
                    if let Some(renumbered) =
                        pending.numbered_after(&stored).filter(|_| still_pending)
                    {
                        pending = renumbered;
                        self.write().pending = Some(pending.clone());
                        continue;
                    }
                    self.adopt(&stored, Precedence::Stored);
                    self.committed(&pending);
                }
                Err(error) => {
                    self.install(pending.token());
                    if let Some(present) = self.write().pending.as_mut() {
                        present.failures = present.failures.saturating_add(1);
                    }
                    self.store_failed("commit", error);
                }
            }
            return;
        }
    }

    /// Returns a commit that follows what the store holds now.
    async fn followed(&self, pending: PendingCommit) -> Result<PendingCommit, StoreError> {
        if pending.kind != CommitKind::SignIn {
            return Ok(pending);
        }
        Ok(match self.store.load().await? {
            Some(stored) => pending.following(&stored),
            None => pending,
        })
    }

    fn committed(&self, committed: &PendingCommit) {
        let mut state = self.write();
        if state.pending.as_ref().is_some_and(|other| other.version() <= committed.version()) {
            state.pending = None;
        }
        let generation = committed.version().generation;
        state.lease = state.lease.take().filter(|lease| lease.claim.generation() >= generation);
    }

    /// Retries until nothing is pending.
    pub(super) async fn keep_committing(self: &Arc<Self>) {
        {
            let mut state = self.write();
            if state.committer == Committer::Running || state.pending.is_none() {
                return;
            }
            state.committer = Committer::Running;
        }
        let _guard = CommitterGuard(self);
        let mut backoff = Backoff::new(FIRST_COMMIT_WAIT, LONGEST_COMMIT_WAIT);
        let mut alone_since = None;
        while self.read().pending.is_some() {
            sleep(backoff.next_wait().max(FIRST_COMMIT_WAIT / 4)).await;
            // The next refresh may have obtained a newer one.
            let Some(pending) = self.read().pending.clone() else {
                return;
            };
            if Arc::strong_count(self) > 1 {
                alone_since = None;
            } else if alone_since.get_or_insert_with(Instant::now).elapsed() > COMMIT_ALONE {
                return;
            }
            self.commit(pending).await;
        }
    }

    /// Starts a task that retries the commit, unless one is running.
    pub(super) fn ensure_committing(self: &Arc<Self>) {
        let is_needed = {
            let state = self.read();
            state.pending.is_some() && state.committer == Committer::Idle
        };
        if let (true, Ok(runtime)) = (is_needed, Handle::try_current()) {
            let manager = Arc::clone(self);
            runtime.spawn(async move { manager.keep_committing().await });
        }
    }

    /// Compares the token in use with the stored one, and uses the newer.
    pub(super) fn compare_with_stored(&self, stored: &StoredToken) -> CommitOutcome {
        let relation = GivenToken::compare(&self.read().token, stored);
        match relation {
            GivenToken::NotGiven => self.adopt(stored, Precedence::Held),
            GivenToken::Known => self.adopt(stored, Precedence::Stored),
            GivenToken::Kept => self.write().token.generation = stored.generation,
            GivenToken::NewSignIn => return CommitOutcome::NewSignIn,
        }
        CommitOutcome::Settled
    }

    /// Numbers the sign-in that was given in code after the stored one.
    pub(super) fn number_given(&self, stored: &StoredToken, claim: Claim) -> PendingCommit {
        let mut state = self.write();
        let ManagedToken { token, pending, .. } = &mut *state;
        token.sign_in = next_sign_in(stored);
        token.generation = stored.generation + 1;
        token.known = stored.known_to_successor();
        let none = || Lifetime::new(Moment::now(), Duration::ZERO);
        let lifetime = token.access.as_ref().map_or_else(none, |access| access.validity());
        let commit = PendingCommit::new(claim, token, lifetime, CommitKind::SignIn);
        *pending = Some(commit.clone());
        commit
    }

    fn adopt(&self, stored: &StoredToken, precedence: Precedence) {
        let newer = (!stored.ended).then(|| {
            let mut token = Token::from_stored(stored);
            token.limit_refresh(self.options.owner);
            token
        });
        let replaced;
        {
            let mut state = self.write();
            let held = &mut state.token;
            let is_older = match precedence {
                Precedence::Held => stored.version() <= held.version(),
                Precedence::Stored => stored.version() < held.version(),
            };
            if is_older {
                return;
            }
            if let Some(token) = newer {
                replaced = Some(std::mem::replace(held, token));
            } else {
                let error = Error::reauthorization_required(
                    "their sign-in is over: its refresh token was refused, or they were signed out",
                );
                end(held, stored.version(), error, self.options.owner);
                replaced = None;
            }
        }
        // Wiped outside the lock.
        drop(replaced);
        events::adopted(stored.generation);
        self.wake.notify_one();
    }

    /// Handles a refused refresh token: ends the sign-in, or finds another grant.
    pub(super) async fn give_up(
        self: &Arc<Self>,
        claim: Option<Claim>,
        error: Error,
    ) -> Result<SpendOutcome> {
        if self.options.owner == Owner::App {
            self.write().token.refresh = None;
            self.note_failure(&error);
            return Ok(SpendOutcome::TryAgain);
        }
        let Some(claim) = claim else {
            return Err(error);
        };
        let held = self.read().token.to_stored();
        let stored = StoredToken {
            generation: claim.generation() + 1,
            known: held.known_to_successor(),
            refresh: None,
            ended: true,
            refused: true,
            expires_at: SystemTime::now(),
            ..held
        };
        // The end is stored, so that no other process sends the refresh token again.
        match self.store.commit(&claim, &stored).await {
            Ok(Committed::Superseded(newer)) => {
                self.adopt(&newer, Precedence::Stored);
                return Ok(SpendOutcome::TryAgain);
            }
            Ok(Committed::Saved) => self.write().lease = None,
            Err(error) => self.store_failed("commit", error),
        }
        events::ended(stored.generation, &error);
        end(&mut self.write().token, stored.version(), error.clone(), self.options.owner);
        Err(error)
    }

    /// Releases a claim whose refresh token was not spent, so that others need not wait until it
    /// expires.
    pub(super) async fn release(&self, claim: Option<Claim>) {
        self.write().lease = None;
        if let Some(claim) = claim
            && let Err(error) = self.store.release(&claim).await
        {
            self.store_failed("release", error);
        }
    }

    pub(super) fn store_failed(&self, call: &'static str, error: StoreError) {
        let error = Error::token_store(error);
        events::store_failed(call, &error);
        self.note_failure(&error);
    }
}

/// The precedence of two tokens with the same version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Precedence {
    Held,
    Stored,
}

/// The relation of a token that was given in code to the stored one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GivenToken {
    NotGiven,
    /// The stored sign-in is the same one, or a later one of the same user.
    Known,
    /// Neither it nor the stored one can be renewed.
    Kept,
    /// The store has no record of it.
    NewSignIn,
}

impl GivenToken {
    fn compare(held: &Token, stored: &StoredToken) -> Self {
        if !held.is_given() {
            return Self::NotGiven;
        }
        match &held.seed {
            Some(seed) if !stored.knows(seed) => Self::NewSignIn,
            Some(_) => Self::Known,
            // An access token alone does not replace a sign-in that can be renewed.
            None if stored.ended => Self::Kept,
            None => Self::Known,
        }
    }
}

/// Ends a sign-in. The access token is used while it is valid and is not renewed.
pub(super) fn end(token: &mut Token, version: Version, error: Error, owner: Owner) {
    token.sign_in = version.sign_in;
    token.generation = version.generation;
    token.refresh = None;
    token.ended = Some(error);
    token.limit_refresh(owner);
}
