//! Single-flight: one task refreshes the token for all waiting callers.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::Shared;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::ManagerInner;
use crate::auth::grant::EXCHANGE_LIMIT;
use crate::error::{Error, Result};
use crate::transport::backoff::Backoff;

/// The time without a heartbeat after which a refresh counts as stalled: longer than its longest
/// step.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(EXCHANGE_LIMIT.as_secs() + 15);
/// The time that a suspected refresh has for its next heartbeat. When a stalled runtime resumes,
/// the refresh and its waiters wake up together, and the reply may be in the socket's buffer.
const GRACE: Duration = Duration::from_secs(5);

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// The time for which other callers get a refusal, before the server is asked again.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);

pub(super) type RefreshResult = Result<(), Error>;
/// Resolves when a refresh completes, or to an error if its runtime dropped it. It is shared by all
/// callers that wait.
pub(super) type RefreshHandle = Shared<oneshot::Receiver<RefreshResult>>;

/// The state of the single-flight refresh.
#[derive(Default)]
pub(super) enum RefreshState {
    #[default]
    Idle,
    Running(Refresh),
    /// No request is sent until then; callers get the error.
    Paused {
        until: Instant,
        error: Error,
    },
}

/// A refresh in progress.
pub(super) struct Refresh {
    number: u64,
    handle: RefreshHandle,
    heartbeat: Instant,
    suspected_since: Option<Instant>,
    pub(super) phase: RefreshPhase,
}

/// The phase of a refresh, for the error of a caller whose deadline passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefreshPhase {
    Working,
    /// Another holder of the sign-in has the right to spend the refresh token.
    WaitingForHolder,
}

/// A refresh to wait for, and the time after which its heartbeat is checked again.
pub(super) struct JoinedRefresh {
    pub(super) handle: RefreshHandle,
    pub(super) time_limit: Duration,
}

/// The schedule of retries after failed refreshes.
pub(super) struct RetrySchedule {
    /// The time of the background task's next attempt.
    pub(super) retry_at: Option<Instant>,
    backoff: Backoff,
}

impl Default for RetrySchedule {
    fn default() -> Self {
        Self { retry_at: None, backoff: Backoff::new(FIRST_RETRY, LAST_RETRY) }
    }
}

impl RefreshState {
    /// Returns the refresh in progress, unless it is stalled.
    pub(super) fn running(&self) -> Option<&Refresh> {
        match self {
            Self::Running(refresh) if refresh.has_heartbeat(Instant::now()) => Some(refresh),
            _ => None,
        }
    }

    fn is_number(&self, number: u64) -> bool {
        matches!(self, Self::Running(refresh) if refresh.number == number)
    }

    fn join(&mut self, now: Instant) -> Option<JoinedRefresh> {
        let Self::Running(refresh) = self else {
            return None;
        };
        if refresh.has_heartbeat(now) {
            return Some(JoinedRefresh {
                handle: refresh.handle.clone(),
                time_limit: STALL_TIMEOUT,
            });
        }
        let since = *refresh.suspected_since.get_or_insert(now);
        let left = (since + GRACE).saturating_duration_since(now);
        let handle = refresh.handle.clone();
        (!left.is_zero()).then_some(JoinedRefresh { handle, time_limit: left })
    }
}

impl Refresh {
    fn has_heartbeat(&self, now: Instant) -> bool {
        now < self.heartbeat + STALL_TIMEOUT
    }

    pub(super) fn handle(&self) -> RefreshHandle {
        self.handle.clone()
    }
}

/// Ends a refresh also when its runtime drops it: the channel closes, and its waiters start another
/// refresh.
pub(super) struct RefreshGuard {
    manager: Arc<ManagerInner>,
    number: u64,
    sender: Option<oneshot::Sender<RefreshResult>>,
}

impl Drop for RefreshGuard {
    fn drop(&mut self) {
        let mut state = self.manager.write();
        if state.refresh.is_number(self.number) {
            state.refresh = RefreshState::Idle;
        }
    }
}

impl RefreshGuard {
    /// Records that the refresh is not stalled.
    pub(super) fn heartbeat(&self, phase: RefreshPhase) {
        if let RefreshState::Running(refresh) = &mut self.manager.write().refresh
            && refresh.number == self.number
        {
            refresh.heartbeat = Instant::now();
            refresh.suspected_since = None;
            refresh.phase = phase;
        }
    }

    pub(super) fn complete(mut self, result: RefreshResult) {
        {
            let mut state = self.manager.write();
            let next = match &result {
                Ok(()) => {
                    state.schedule = RetrySchedule::default();
                    RefreshState::Idle
                }
                Err(error) => {
                    let lifetime = state.token.access.as_ref().map(|access| access.lifetime());
                    state.schedule.postpone(error, lifetime);
                    pause_after(error)
                }
            };
            if state.refresh.is_number(self.number) {
                state.refresh = next;
            }
        }
        if let Err(error) = &result {
            self.manager.note_failure(error);
        }
        self.manager.wake.notify_one();
        if let Some(sender) = self.sender.take() {
            // The send fails if no caller waits any more.
            let _ = sender.send(result);
        }
    }
}

fn pause_after(error: &Error) -> RefreshState {
    let asked = error.retry_after().unwrap_or_default();
    let stands = if error.is_auth() { asked.max(REFUSAL_PAUSE) } else { asked };
    if stands.is_zero() {
        return RefreshState::Idle;
    }
    RefreshState::Paused { until: Instant::now() + stands, error: error.clone() }
}

impl RetrySchedule {
    fn postpone(&mut self, error: &Error, lifetime: Option<Duration>) {
        let asked = error.retry_after().unwrap_or_default();
        // The wait must fit into the lifetime of a short-lived token.
        let longest = lifetime.map_or(LAST_RETRY, |lifetime| lifetime / 10).max(FIRST_RETRY / 10);
        let wait = self.backoff.next_wait().min(longest).max(FIRST_RETRY / 10).max(asked);
        self.retry_at = Some(Instant::now() + wait);
    }
}

/// The refresh that a caller waits for.
pub(super) enum JoinOutcome {
    /// The refresh was already in progress.
    Joined(JoinedRefresh),
    /// The caller is the first: the guard is for the task that refreshes.
    Started(JoinedRefresh, RefreshGuard),
}

impl ManagerInner {
    /// Joins the refresh in progress, or registers a new one. Returns the last error while requests
    /// are paused.
    pub(super) fn join_or_start(self: &Arc<Self>) -> Result<JoinOutcome> {
        let now = Instant::now();
        let mut state = self.write();
        if let Some(joined) = state.refresh.join(now) {
            return Ok(JoinOutcome::Joined(joined));
        }
        if let RefreshState::Paused { until, error } = &state.refresh
            && now < *until
        {
            return Err(error.clone());
        }
        state.refreshes += 1;
        let number = state.refreshes;
        let (sender, receiver) = oneshot::channel();
        let handle = receiver.shared();
        state.refresh = RefreshState::Running(Refresh {
            number,
            handle: handle.clone(),
            heartbeat: now,
            suspected_since: None,
            phase: RefreshPhase::Working,
        });
        let guard = RefreshGuard { manager: Arc::clone(self), number, sender: Some(sender) };
        Ok(JoinOutcome::Started(JoinedRefresh { handle, time_limit: STALL_TIMEOUT }, guard))
    }
}

impl RefreshGuard {
    pub(super) fn manager(&self) -> Arc<ManagerInner> {
        Arc::clone(&self.manager)
    }
}
