//! Requests about an existing task: `tasks/get`, `tasks/cancel`, `tasks/resubscribe`.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Response as HttpResponse;
use tokio::time::{Instant, sleep};
use tracing::field::Empty;
use tracing::{Instrument, debug_span};
use url::Url;

use super::response::{ExpectedResponse, Response, TaskSnapshot};
use super::{Platform, request};
use crate::ask::{AskContext, TaskOrigin};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::ids::{RequestId, TaskId};
use crate::time::instant_after;
use crate::transport::backoff::Backoff;
use crate::wire::jsonrpc::{Request, code};
use crate::wire::request::{TaskParams, method};
use crate::wire::state::TaskState;

/// The time limit of one lookup.
pub(super) const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// The number of history messages that are requested, to find the message just sent.
const HISTORY: u32 = 20;

/// Returns the waits between failed lookups.
pub(super) fn lookup_backoff() -> Backoff {
    Backoff::new(Duration::from_millis(200), Duration::from_secs(2))
}

/// The result of one lookup.
pub(super) enum LookupResult {
    /// The task.
    Task(Box<TaskSnapshot>),
    /// The server does not know the task.
    NotKnown(Error),
    /// The server, or a gateway in front of it, does not offer the operation.
    Unsupported(Error),
    /// The lookup failed: its answer proves nothing about the task.
    Failed(Error),
}

impl From<Result<TaskSnapshot>> for LookupResult {
    fn from(result: Result<TaskSnapshot>) -> Self {
        match result {
            Ok(found) => Self::Task(Box::new(found)),
            Err(error) if error.kind() == ErrorKind::TaskNotFound => Self::NotKnown(error),
            Err(error) if error.is_unsupported() => Self::Unsupported(error),
            Err(error) => Self::Failed(error),
        }
    }
}

impl Platform {
    /// Looks a task up once.
    pub(super) async fn lookup(&self, ask: &AskContext, until: Instant) -> LookupResult {
        let history = match ask.origin() {
            TaskOrigin::Continued(_) => Some(HISTORY),
            TaskOrigin::Minted | TaskOrigin::Chosen | TaskOrigin::Followed => None,
        };
        self.get(ask, history, until).await.into()
    }

    async fn get(
        &self,
        ask: &AskContext,
        history_length: Option<u32>,
        until: Instant,
    ) -> Result<TaskSnapshot> {
        self.call(&self.urls.get, method::GET, ask, history_length, until).await
    }

    /// Looks a task up, and retries failing lookups within the limits.
    pub(crate) async fn get_persistently(&self, ask: &AskContext) -> Result<TaskSnapshot> {
        let mut retries = CallRetries::new(self, ask);
        loop {
            match self.get(ask, Some(HISTORY), retries.until()).await {
                Err(error) => retries.wait(self, error).await?,
                found => return found,
            }
        }
    }

    /// Cancels a task, and retries failing requests within the limits.
    ///
    /// If a repeated request finds nothing to cancel, the state of the task shows whether an
    /// earlier one canceled it.
    pub(crate) async fn cancel(&self, ask: &AskContext) -> Result<TaskSnapshot> {
        let mut retries = CallRetries::new(self, ask);
        let mut repeated = false;
        loop {
            let until = retries.until();
            match self.call(&self.urls.cancel, method::CANCEL, ask, None, until).await {
                Err(error) if repeated && error.rpc_code() == Some(code::TASK_NOT_CANCELABLE) => {
                    let found = self.get(ask, None, retries.until()).await?;
                    return match found.task.state() {
                        TaskState::Canceled => Ok(found),
                        _ => Err(error),
                    };
                }
                Err(error) => retries.wait(self, error).await?,
                found => return found,
            }
            repeated = true;
        }
    }

    /// Resubscribes to a task. Returns the head of a stream of its further events.
    pub(super) async fn resubscribe(
        &self,
        ask: &AskContext,
        until: Instant,
    ) -> Result<HttpResponse> {
        let url = &self.urls.resubscribe;
        match self.authorized(url, method::RESUBSCRIBE, ask, None, until).await? {
            Response::Events(response) => Ok(response),
            Response::Task(_) => Err(Error::resubscribe_unsupported()),
        }
    }

    async fn call(
        &self,
        url: &Url,
        method: &'static str,
        ask: &AskContext,
        history_length: Option<u32>,
        until: Instant,
    ) -> Result<TaskSnapshot> {
        match self.authorized(url, method, ask, history_length, until).await? {
            Response::Task(found) => Ok(found),
            Response::Events(_) => Err(Error::lookups_unanswered(&ask.task_id)),
        }
    }

    /// Makes an idempotent call. Renews the token once if it is refused.
    async fn authorized(
        &self,
        url: &Url,
        method: &'static str,
        ask: &AskContext,
        history_length: Option<u32>,
        until: Instant,
    ) -> Result<Response> {
        let expected = match method {
            method::RESUBSCRIBE => ExpectedResponse::Events,
            _ => ExpectedResponse::Lookup,
        };
        let body = task_body(method, &ask.task_id, history_length)?;
        // The error proves nothing about the ask of this task, which may have been done long ago.
        let settled =
            |error: Error| error.with_outcome(Outcome::Settled).with_task_id(&ask.task_id);
        let mut renewed = false;
        loop {
            let token = self.request_token(until).await.map_err(settled)?;
            let span = debug_span!("lookup", method, status = Empty);
            let request = request(url, ask, expected, &token);
            let exchange = self.exchange(request, body.clone(), expected, ask, until, &span);
            let failed = match exchange.instrument(span.clone()).await {
                Ok(response) => {
                    self.http.budget().deposit();
                    return Ok(response);
                }
                Err(failed) => failed,
            };
            if failed.status() == Some(401) && !renewed {
                renewed = true;
                self.tokens.refuse(token.generation);
                continue;
            }
            return Err(settled(failed.error));
        }
    }
}

/// The repetitions of one call of the user, bounded by the deadline and, if the server does not
/// answer, by the recovery timeout. The last try is made at its end.
struct CallRetries {
    deadline: Instant,
    /// The latest start of the last try.
    last_start: Instant,
    /// The time limit of one try. It is shorter than the whole time, so that a server that stalls
    /// once can be asked again.
    try_timeout: Duration,
    backoff: Backoff,
    left: RetriesLeft,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RetriesLeft {
    More,
    Last,
}

impl CallRetries {
    fn new(platform: &Platform, ask: &AskContext) -> Self {
        let deadline = platform.reply_deadline(ask.limits());
        let try_timeout = ask.limits().deadline.map_or(LOOKUP_TIMEOUT, |limit| limit / 2);
        let try_timeout = try_timeout.min(LOOKUP_TIMEOUT).min(ask.limits().reply_timeout);
        Self {
            deadline,
            last_start: last_start(instant_after(platform.policy.recovery_timeout), deadline),
            try_timeout,
            backoff: lookup_backoff(),
            left: RetriesLeft::More,
        }
    }

    fn until(&self) -> Instant {
        instant_after(self.try_timeout).min(self.deadline)
    }

    /// Waits for the next try, or returns the error where there is none.
    async fn wait(&mut self, platform: &Platform, error: Error) -> Result<()> {
        let wait = self.backoff.next_wait().max(error.retry_after().unwrap_or_default());
        let time_left = self.last_start.saturating_duration_since(Instant::now());
        // If the server asks for a longer wait than the time that is left, another try is useless.
        let is_useless = time_left.is_zero() || (error.retry_after().is_some() && wait > time_left);
        if self.left == RetriesLeft::Last
            || is_useless
            || !is_transient(&error)
            || !platform.http.budget().withdraw()
        {
            return Err(error);
        }
        if wait >= time_left {
            self.left = RetriesLeft::Last;
        }
        sleep(wait.min(time_left)).await;
        Ok(())
    }
}

/// Returns the start of the last of the lookups that end at `ends`: that time, or shortly before
/// the deadline, so that the answer can arrive within it.
pub(super) fn last_start(ends: Instant, deadline: Instant) -> Instant {
    const FOR_THE_LAST: Duration = Duration::from_millis(500);
    let left = deadline.saturating_duration_since(Instant::now());
    let latest = deadline.checked_sub(FOR_THE_LAST.min(left / 4)).unwrap_or(deadline);
    ends.min(latest)
}

/// Returns true where the same call may succeed later.
fn is_transient(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Connect | ErrorKind::Timeout | ErrorKind::Interrupted | ErrorKind::RateLimited
    ) || error.status().is_some_and(|status| status == 408 || (status >= 500 && status != 501))
        || (error.kind() == ErrorKind::Protocol && !error.is_another_task())
}

fn task_body(method: &'static str, id: &TaskId, history_length: Option<u32>) -> Result<Bytes> {
    let request_id = RequestId::new();
    let request: Request<'_, _> =
        Request::new(&request_id, method, TaskParams { id, history_length });
    serde_json::to_vec(&request).map(Bytes::from).map_err(|error| {
        Error::invalid_input("the request cannot be written as JSON").with_source(error)
    })
}
