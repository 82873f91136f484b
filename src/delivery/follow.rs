//! Looking for an answer that was lost, and following a task to its end.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Response;
use tokio::time::{Instant, sleep};
use tracing::debug;
use url::Url;

use super::{
    Delivered, ExpectedResponse, Platform, TaskSnapshot, instant_after, request, still_running,
};
use crate::ask::PreparedAsk;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::ids::{RequestId, TaskId};
use crate::policy::Limits;
use crate::transport::backoff::Backoff;
use crate::wire::jsonrpc::{Request, code};
use crate::wire::request::{TaskParams, method};
use crate::wire::state::TaskState;
use crate::wire::task::{Role, Task};

/// How often one look is tried, where the server does not know the task or does not answer.
const LOOKS: u32 = 5;
/// How long one try may take at most.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of a continued task's history is asked for, to find the message just sent.
const HISTORY: u32 = 20;

fn look_backoff() -> Backoff {
    Backoff::new(Duration::from_millis(200), Duration::from_secs(2))
}

/// The waits between two looks at a running task: growing, not random, for one caller looks at one task.
pub(crate) struct PollBackoff(Duration);

impl PollBackoff {
    pub(crate) fn new() -> Self {
        Self(Duration::from_millis(250))
    }

    pub(crate) fn next_wait(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 8 / 5).min(Duration::from_secs(5));
        wait
    }
}

/// What one look showed.
#[expect(clippy::large_enum_variant, reason = "short-lived, one at a time")]
pub(super) enum LookupResult {
    /// The task, with what was just sent in it.
    TaskSnapshot(TaskSnapshot),
    /// The server does not know the task.
    NotKnown(Error),
    /// The task is there, but nothing shows that it holds what was just sent.
    NoProof,
    /// The server cannot be asked.
    Unsupported(Error),
    /// No answer, for now.
    Failed,
}

impl Platform {
    /// Looks for the answer to an ask that may have been received: `error` says how it was lost.
    ///
    /// Gives the task in whatever state it is; the error, its outcome unknown, where it cannot be found.
    pub(crate) async fn recover(
        &self,
        ask: &PreparedAsk,
        error: Error,
        deadline: Instant,
    ) -> Result<TaskSnapshot> {
        let lost = error.with_outcome(Outcome::Unknown).with_task_id(&ask.task_id);
        // A reply that is over the limit would be so again.
        if !self.policy.look || lost.kind() == ErrorKind::TooLarge || Instant::now() >= deadline {
            return Err(lost);
        }
        let until = instant_after(self.policy.recovery_timeout).min(deadline);
        let mut backoff = look_backoff();
        for _ in 0..LOOKS {
            match self.sight(ask, until).await {
                LookupResult::TaskSnapshot(found) => {
                    debug!(task_id = %ask.task_id, state = %found.task.state(), "found the lost answer");
                    return Ok(found);
                }
                LookupResult::Unsupported(_) => break,
                // The ask may still be on its way, or the continuation not yet in the history.
                LookupResult::NotKnown(_) | LookupResult::NoProof | LookupResult::Failed => {}
            }
            let wait = backoff.next_wait();
            if instant_after(wait) >= until {
                break;
            }
            sleep(wait).await;
        }
        Err(lost)
    }

    /// One look, and what it proves for this ask.
    pub(super) async fn sight(&self, ask: &PreparedAsk, until: Instant) -> LookupResult {
        if !self.policy.look {
            let message = "looking for answers is turned off";
            return LookupResult::Unsupported(Error::new(
                ErrorKind::Unsupported,
                Outcome::Unknown,
                message,
            ));
        }
        let history = ask.continues.as_ref().map(|_| HISTORY);
        match self.get(&ask.task_id, history, &ask.limits, until).await {
            Ok(found) if proves(ask, &found.task) => LookupResult::TaskSnapshot(found),
            Ok(_) => LookupResult::NoProof,
            Err(error) if error.kind() == ErrorKind::TaskNotFound => LookupResult::NotKnown(error),
            Err(error) if error.is_unsupported() => LookupResult::Unsupported(error),
            Err(_) => LookupResult::Failed,
        }
    }

    /// Follows a task until it no longer runs. A server that cannot be asked leaves `found` as it is.
    pub(crate) async fn follow(
        &self,
        ask: &PreparedAsk,
        mut found: TaskSnapshot,
        deadline: Instant,
    ) -> Result<TaskSnapshot> {
        let mut pace = PollBackoff::new();
        let mut last_seen = Instant::now();
        while self.is_to_be_followed(ask, &found) {
            let wait = pace.next_wait();
            if instant_after(wait) >= deadline {
                return Err(still_running(&ask.task_id));
            }
            sleep(wait).await;
            match self.look_again(ask, deadline).await {
                Ok(Some(now)) => {
                    found = now;
                    last_seen = Instant::now();
                }
                Ok(None) if last_seen.elapsed() < self.policy.recovery_timeout => {}
                Ok(None) => return Err(lost_sight(&ask.task_id)),
                Err(error) if error.is_unsupported() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// True for a task that still runs. One to which the server gave another id is what the server replied.
    pub(crate) fn is_to_be_followed(&self, ask: &PreparedAsk, found: &TaskSnapshot) -> bool {
        self.policy.follow && found.task.state().is_running() && found.task.id == ask.task_id
    }

    /// Looks at a task that was there before. `None` where this look showed nothing.
    pub(crate) async fn look_again(
        &self,
        ask: &PreparedAsk,
        deadline: Instant,
    ) -> Result<Option<TaskSnapshot>> {
        match self.sight(ask, deadline).await {
            LookupResult::TaskSnapshot(found) => Ok(Some(found)),
            LookupResult::NoProof | LookupResult::Failed => Ok(None),
            LookupResult::NotKnown(error) | LookupResult::Unsupported(error) => {
                Err(error.with_outcome(Outcome::Unknown).with_task_id(&ask.task_id))
            }
        }
    }

    pub(crate) fn follows(&self) -> bool {
        self.policy.follow
    }

    pub(crate) fn recovery_timeout(&self) -> Duration {
        self.policy.recovery_timeout
    }

    /// `tasks/get`, once.
    async fn get(
        &self,
        id: &TaskId,
        history_length: Option<u32>,
        limits: &Limits,
        until: Instant,
    ) -> Result<TaskSnapshot> {
        self.task_call(&self.urls.get, method::GET, id, history_length, limits, until).await
    }

    /// `tasks/get`, repeated within the limits.
    pub(crate) async fn get_persistently(&self, id: &TaskId) -> Result<TaskSnapshot> {
        let deadline = self.reply_deadline(&self.limits);
        let mut backoff = look_backoff();
        let mut left = LOOKS;
        loop {
            left -= 1;
            match self.get(id, Some(HISTORY), &self.limits, deadline).await {
                Err(error) if left > 0 && is_passing(&error) && self.http.budget().withdraw() => {
                    self.wait_to_repeat(error, &mut backoff, deadline).await?;
                }
                result => return result,
            }
        }
    }

    /// `tasks/cancel`, repeated within the limits.
    ///
    /// Where a repetition finds nothing to cancel, the task tells whether the first did it.
    pub(crate) async fn cancel(&self, id: &TaskId) -> Result<TaskSnapshot> {
        let deadline = self.reply_deadline(&self.limits);
        let mut backoff = look_backoff();
        let mut repeated = false;
        for left in (0..LOOKS).rev() {
            match self
                .task_call(&self.urls.cancel, method::CANCEL, id, None, &self.limits, deadline)
                .await
            {
                Err(error) if left > 0 && is_passing(&error) && self.http.budget().withdraw() => {
                    self.wait_to_repeat(error, &mut backoff, deadline).await?;
                    repeated = true;
                }
                Err(error) if repeated && error.rpc_code() == Some(code::TASK_NOT_CANCELABLE) => {
                    let found = self.get(id, None, &self.limits, deadline).await?;
                    return if *found.task.state() == TaskState::Canceled {
                        Ok(found)
                    } else {
                        Err(error)
                    };
                }
                result => return result,
            }
        }
        Err(lost_sight(id))
    }

    async fn wait_to_repeat(
        &self,
        error: Error,
        backoff: &mut Backoff,
        deadline: Instant,
    ) -> Result<()> {
        let wait = error.retry_after().unwrap_or_else(|| backoff.next_wait());
        if instant_after(wait) >= deadline {
            return Err(error);
        }
        sleep(wait).await;
        Ok(())
    }

    /// `tasks/resubscribe`: the head of a stream of what comes from now on.
    pub(crate) async fn resubscribe(&self, id: &TaskId, until: Instant) -> Result<Response> {
        let body = task_body(method::RESUBSCRIBE, id, None)?;
        let limits = self.limits;
        match self
            .authorised(&self.urls.resubscribe, &body, ExpectedResponse::Events, id, &limits, until)
            .await?
        {
            Delivered::Events(response) => Ok(response),
            Delivered::Task(_) => Err(Error::new(
                ErrorKind::Unsupported,
                Outcome::Settled,
                "the platform resubscribes to no events",
            )),
        }
    }

    async fn task_call(
        &self,
        url: &Url,
        method: &'static str,
        id: &TaskId,
        history_length: Option<u32>,
        limits: &Limits,
        deadline: Instant,
    ) -> Result<TaskSnapshot> {
        let body = task_body(method, id, history_length)?;
        // Half of what is left, so that a server which stalls once can be asked again.
        let half = deadline.saturating_duration_since(Instant::now()) / 2;
        let until = instant_after(LOOK_TIMEOUT.min(half));
        match self.authorised(url, &body, ExpectedResponse::Reply, id, limits, until).await {
            Ok(Delivered::Task(found)) => Ok(found),
            Ok(Delivered::Events(_)) => Err(lost_sight(id)),
            Err(error) => Err(error),
        }
    }

    /// A call that changes nothing when it is repeated; the token is renewed once where it is refused.
    async fn authorised(
        &self,
        url: &Url,
        body: &Bytes,
        expected: ExpectedResponse,
        id: &TaskId,
        limits: &Limits,
        until: Instant,
    ) -> Result<Delivered> {
        let mut renewed = false;
        loop {
            // Whatever goes wrong says nothing of the ask whose task it is: that may have been done long ago.
            let settled = |error: Error| error.with_outcome(Outcome::Settled).with_task_id(id);
            let token = self.request_token(until).await.map_err(settled)?;
            let failed = match self
                .exchange(request(url, body, expected, &token), expected, id, limits, until)
                .await
            {
                Ok(delivered) => {
                    self.http.budget().deposit();
                    return Ok(delivered);
                }
                Err(failed) => failed,
            };
            if failed.status == Some(401) && !renewed {
                renewed = true;
                self.tokens.refuse(token.generation);
                continue;
            }
            return Err(settled(failed.error));
        }
    }
}

/// Looking proves something for an id that the ask minted; for a continued task only if its history holds
/// the message just sent, and it does not stand where it stood before.
fn proves(ask: &PreparedAsk, task: &Task) -> bool {
    if task.id != ask.task_id || *task.state() == TaskState::Unknown {
        return false;
    }
    let Some(before) = &ask.continues else {
        return true;
    };
    if before.since.is_some() && before.since == task.status.timestamp {
        return false;
    }
    let last_said = task.history.iter().rev().find(|message| message.role == Role::User);
    last_said.is_some_and(|message| message.text() == ask.text)
}

fn is_passing(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Connect
            | ErrorKind::Timeout
            | ErrorKind::Interrupted
            | ErrorKind::Protocol
            | ErrorKind::RateLimited
    ) || error.status().is_some_and(|status| status == 408 || (status >= 500 && status != 501))
}

fn lost_sight(id: &TaskId) -> Error {
    Error::new(
        ErrorKind::Interrupted,
        Outcome::Unknown,
        "the platform no longer answers for the task",
    )
    .with_task_id(id)
}

fn task_body(method: &'static str, id: &TaskId, history_length: Option<u32>) -> Result<Bytes> {
    let request_id = RequestId::new();
    let request: Request<'_, _> =
        Request::new(&request_id, method, TaskParams { id, history_length });
    serde_json::to_vec(&request).map(Bytes::from).map_err(|error| {
        Error::invalid_input("the request cannot be written as JSON").with_source(error)
    })
}
