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
use super::{Inner, Unsaved, events};
use crate::error::{Error, Result};
use crate::transport::retry::Backoff;

/// A flight that gave no sign of life for so long stands still: longer than the longest of its steps.
pub(super) const STALL: Duration = Duration::from_secs(EXCHANGE_LIMIT.as_secs() + 15);

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// How long a refusal stands before another caller may ask the server again.
const REFUSAL_STANDS: Duration = Duration::from_secs(1);

pub(super) type Landed = Result<(), Arc<Error>>;
/// How a flight ends; an error where its runtime dropped it. Thousands may wait: who does costs one waker.
pub(super) type Landing = Shared<oneshot::Receiver<Landed>>;

/// What is going on. Outlives the flight's task, so that whoever comes after a runtime's end knows where it stood.
pub(super) struct Duty {
    flight: Option<Flight>,
    flights: u64,
    /// The claim in hand, and until when it is surely ours.
    pub(super) claim: Option<(Claim, Instant)>,
    /// How many spends of a generation's refresh token have an unknown outcome.
    pub(super) unknown_spends: (u64, u32),
    /// A token that is obtained and not yet stored.
    pub(super) unsaved: Option<Unsaved>,
    pub(super) saving: bool,
    /// What a health endpoint should know: a commit failed.
    pub(super) store_behind: bool,
    pub(super) last_failure: Option<TokenFailure>,
    /// Until then the server is left alone, and this is the answer.
    pub(super) not_before: Option<(Instant, Arc<Error>)>,
    /// When the background task tries again.
    pub(super) retry_at: Option<Instant>,
    backoff: Backoff,
    /// Which background task is the present one.
    pub(super) background: u64,
    pub(super) tended_since: Option<Instant>,
}

struct Flight {
    number: u64,
    landing: Landing,
    /// The last sign of life.
    beat: Instant,
}

impl Default for Duty {
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

impl Duty {
    pub(super) fn is_flying(&self) -> bool {
        self.flying().is_some()
    }

    pub(super) fn flying(&self) -> Option<Landing> {
        let flight = self.flight.as_ref()?;
        (Instant::now() < flight.beat + STALL).then(|| flight.landing.clone())
    }
}

/// Lands a flight also where its runtime drops it: whoever waits sees the channel close, and starts another.
pub(super) struct Pilot {
    inner: Arc<Inner>,
    number: u64,
    landing: Option<oneshot::Sender<Landed>>,
}

impl Drop for Pilot {
    fn drop(&mut self) {
        self.leave(&mut self.inner.duty());
    }
}

impl Pilot {
    fn leave(&self, duty: &mut Duty) {
        if duty.flight.as_ref().is_some_and(|flight| flight.number == self.number) {
            duty.flight = None;
        }
    }

    /// Sign of life.
    pub(super) fn beat(&self) {
        if let Some(flight) = self.inner.duty().flight.as_mut().filter(|flight| flight.number == self.number) {
            flight.beat = Instant::now();
        }
    }

    fn land(mut self, landed: Landed) {
        {
            let mut duty = self.inner.duty();
            self.leave(&mut duty);
            match &landed {
                Ok(()) => {
                    duty.retry_at = None;
                    duty.not_before = None;
                    duty.backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
                }
                Err(error) => {
                    let asked = error.retry_after().unwrap_or_default();
                    let lifetime = self.inner.token().access.as_ref().map(|access| access.lifetime());
                    // A token that lives for seconds cannot wait for a minute.
                    let most = lifetime.map_or(LAST_RETRY, |lifetime| lifetime / 10).max(FIRST_RETRY / 10);
                    let wait = duty.backoff.next_wait().min(most).max(FIRST_RETRY / 10).max(asked);
                    duty.retry_at = Some(Instant::now() + wait);
                    let stands = if error.is_auth() { asked.max(REFUSAL_STANDS) } else { asked };
                    duty.not_before = (!stands.is_zero()).then(|| (Instant::now() + stands, Arc::clone(error)));
                }
            }
        }
        if let Err(error) = &landed {
            self.inner.note_failure(error);
        }
        if let Some(landing) = self.landing.take() {
            // Where nobody waits, nobody is told.
            let _ = landing.send(landed);
        }
        self.inner.wake.notify_one();
    }
}

impl Inner {
    /// The flight that is under way, or a new one; an error while the server is to be left alone.
    pub(super) fn join_flight(self: &Arc<Self>) -> Result<Landing, Arc<Error>> {
        let handle = Handle::try_current().map_err(|_| {
            Arc::new(Error::invalid_input("tokens are obtained on a tokio runtime; there is none here"))
        })?;
        let (landing, pilot) = {
            let mut duty = self.duty();
            if let Some(landing) = duty.flying() {
                return Ok(landing);
            }
            if let Some((until, error)) = &duty.not_before
                && Instant::now() < *until
            {
                return Err(Arc::clone(error));
            }
            duty.flights += 1;
            let (sender, receiver) = oneshot::channel();
            let landing = receiver.shared();
            let number = duty.flights;
            duty.flight = Some(Flight { number, landing: landing.clone(), beat: Instant::now() });
            (landing, Pilot { inner: Arc::clone(self), number, landing: Some(sender) })
        };
        // Outside the lock: a runtime that is shutting down drops the task, and with it the pilot, at once.
        let span = events::span();
        handle.spawn(async move {
            let inner = Arc::clone(&pilot.inner);
            let started = Instant::now();
            let landed = inner.renew(&pilot).instrument(span.clone()).await;
            events::landed(span, inner.token().generation, &landed, started);
            pilot.land(landed);
            inner.save().await;
        });
        Ok(landing)
    }
}
