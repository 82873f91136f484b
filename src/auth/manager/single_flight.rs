//! The single flight: one task renews the token for all who wait.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::Shared;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::Instrument;

use super::super::grant::EXCHANGE_LIMIT;
use super::super::store::Claim;
use super::super::token::TokenFailure;
use super::{Inner, PendingCommit, events};
use crate::error::{Error, Result};
use crate::transport::backoff::Backoff;

/// A flight that gave no sign of life for so long stands still: longer than the longest of its steps.
pub(super) const STALL: Duration = Duration::from_secs(EXCHANGE_LIMIT.as_secs() + 15);

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// How long a refusal stands before another caller may ask the server again.
const REFUSAL_STANDS: Duration = Duration::from_secs(1);

pub(super) type Landed = Result<(), Error>;
/// How a flight ends; an error where its runtime dropped it. Thousands may wait: who does costs one waker.
pub(super) type RefreshHandle = Shared<oneshot::Receiver<Landed>>;

/// What is going on. Outlives the flight's task, so that whoever comes after a runtime's end knows where it stood.
pub(super) struct RefreshState {
    flight: Option<Refresh>,
    flights: u64,
    /// The claim in hand, and until when it is surely ours.
    pub(super) claim: Option<(Claim, Instant)>,
    /// How many spends of a generation's refresh token have an unknown outcome.
    pub(super) unknown_spends: (u64, u32),
    /// A token that is obtained and not yet stored.
    pub(super) unsaved: Option<PendingCommit>,
    pub(super) saving: bool,
    /// What a health endpoint should know: a commit failed.
    pub(super) store_behind: bool,
    pub(super) last_failure: Option<TokenFailure>,
    /// Until then the server is left alone, and this is the answer.
    pub(super) not_before: Option<(Instant, Error)>,
    /// When the background task tries again.
    pub(super) retry_at: Option<Instant>,
    backoff: Backoff,
    /// Which background task is the present one.
    pub(super) background: u64,
    pub(super) tended_since: Option<Instant>,
}

struct Refresh {
    number: u64,
    handle: RefreshHandle,
    /// The last sign of life.
    beat: Instant,
}

impl Default for RefreshState {
    fn default() -> Self {
        Self {
            flight: None,
            flights: 0,
            claim: None,
            unknown_spends: (0, 0),
            unsaved: None,
            saving: false,
            store_behind: false,
            last_failure: None,
            not_before: None,
            retry_at: None,
            backoff: Backoff::new(FIRST_RETRY, LAST_RETRY),
            background: 0,
            tended_since: None,
        }
    }
}

impl RefreshState {
    pub(super) fn is_flying(&self) -> bool {
        self.flying().is_some()
    }

    pub(super) fn flying(&self) -> Option<RefreshHandle> {
        let flight = self.flight.as_ref()?;
        (Instant::now() < flight.beat + STALL).then(|| flight.handle.clone())
    }
}

/// Lands a flight also where its runtime drops it: whoever waits sees the channel close, and starts another.
pub(super) struct RefreshGuard {
    inner: Arc<Inner>,
    number: u64,
    handle: Option<oneshot::Sender<Landed>>,
}

impl Drop for RefreshGuard {
    fn drop(&mut self) {
        self.leave(&mut self.inner.state());
    }
}

impl RefreshGuard {
    fn leave(&self, state: &mut RefreshState) {
        if state.flight.as_ref().is_some_and(|flight| flight.number == self.number) {
            state.flight = None;
        }
    }

    /// Sign of life.
    pub(super) fn beat(&self) {
        if let Some(flight) =
            self.inner.state().flight.as_mut().filter(|flight| flight.number == self.number)
        {
            flight.beat = Instant::now();
        }
    }

    fn land(mut self, landed: Landed) {
        {
            let mut state = self.inner.state();
            self.leave(&mut state);
            match &landed {
                Ok(()) => {
                    state.retry_at = None;
                    state.not_before = None;
                    state.backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
                }
                Err(error) => {
                    let asked = error.retry_after().unwrap_or_default();
                    let lifetime =
                        self.inner.token().access.as_ref().map(|access| access.lifetime());
                    // A token that lives for seconds cannot wait for a minute.
                    let most =
                        lifetime.map_or(LAST_RETRY, |lifetime| lifetime / 10).max(FIRST_RETRY / 10);
                    let wait = state.backoff.next_wait().min(most).max(FIRST_RETRY / 10).max(asked);
                    state.retry_at = Some(Instant::now() + wait);
                    let stands = if error.is_auth() { asked.max(REFUSAL_STANDS) } else { asked };
                    state.not_before =
                        (!stands.is_zero()).then(|| (Instant::now() + stands, error.clone()));
                }
            }
        }
        if let Err(error) = &landed {
            self.inner.note_failure(error);
        }
        if let Some(handle) = self.handle.take() {
            // Where nobody waits, nobody is told.
            let _ = handle.send(landed);
        }
        self.inner.wake.notify_one();
    }
}

impl Inner {
    /// The flight that is under way, or a new one; an error while the server is to be left alone.
    pub(super) fn join_flight(self: &Arc<Self>) -> Result<RefreshHandle, Error> {
        let runtime = Handle::try_current().map_err(|_| {
            Error::invalid_input("tokens are obtained on a tokio runtime; there is none here")
        })?;
        let (handle, guard) = {
            let mut state = self.state();
            if let Some(handle) = state.flying() {
                return Ok(handle);
            }
            if let Some((until, error)) = &state.not_before
                && Instant::now() < *until
            {
                return Err(error.clone());
            }
            state.flights += 1;
            let (sender, receiver) = oneshot::channel();
            let handle = receiver.shared();
            let number = state.flights;
            state.flight = Some(Refresh { number, handle: handle.clone(), beat: Instant::now() });
            (handle, RefreshGuard { inner: Arc::clone(self), number, handle: Some(sender) })
        };
        // Outside the lock: a runtime that is shutting down drops the task, and with it the guard, at once.
        let span = events::span();
        runtime.spawn(async move {
            let inner = Arc::clone(&guard.inner);
            let started = Instant::now();
            let landed = inner.renew(&guard).instrument(span.clone()).await;
            events::landed(span, inner.token().generation, &landed, started);
            guard.land(landed);
            inner.save().await;
        });
        Ok(handle)
    }
}
