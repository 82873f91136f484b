//! How one ask is delivered: sent so that it is received at most once, and its answer found.
//!
//! [`retry`](crate::transport::retry) decides; this carries it out.

pub(crate) mod classify;
mod follow;
mod response;

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Request, Response};
use tokio::time::{Instant, sleep};
use tracing::field::Empty;
use tracing::{Instrument, debug, debug_span};
use url::Url;

use crate::ask::PreparedAsk;
use crate::auth::manager::{RequestToken, TokenManager};
use crate::endpoint::BaseUrl;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::ids::TaskId;
use crate::policy::{DEFAULT_DEADLINE, Limits, RetryPolicy};
use crate::time::{instant_after, millis_since};
use crate::transport::backoff::Backoff;
use crate::transport::{Failure, Http};
use crate::wire::{self, path};

pub(crate) use follow::PollBackoff;
pub(crate) use response::{ExpectedResponse, TaskSnapshot, rpc_error};

use classify::{RetryDecision, classify};
use follow::LookupResult;
use response::SendError;

/// The platform as one identity sees it: shared by all clones and sessions of a client.
#[derive(Debug)]
pub(crate) struct Platform {
    pub(crate) http: Http,
    pub(crate) tokens: TokenManager,
    pub(crate) limits: Limits,
    policy: RetryPolicy,
    urls: Urls,
}

#[derive(Debug)]
struct Urls {
    send: Url,
    send_subscribe: Url,
    get: Url,
    cancel: Url,
    resubscribe: Url,
}

/// An ask that was received, and what came of it so far.
pub(crate) enum Delivered {
    /// The task, as the reply or a look showed it.
    Task(TaskSnapshot),
    /// The head of a stream of events.
    Events(Response),
}

const ACCESS_TOKEN: HeaderName = HeaderName::from_static(wire::ACCESS_TOKEN_HEADER);
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

/// How often an ask is sent again to a server that was busy and surely does not know it.
const BUSY_RETRIES: u32 = 2;

fn connect_backoff() -> Backoff {
    Backoff::new(Duration::from_millis(200), Duration::from_secs(5))
}

fn busy_backoff() -> Backoff {
    Backoff::new(Duration::from_secs(1), Duration::from_secs(30))
}

impl Platform {
    pub(crate) fn new(
        http: Http,
        tokens: TokenManager,
        limits: Limits,
        policy: RetryPolicy,
        base: &BaseUrl,
    ) -> Self {
        let urls = Urls {
            send: base.join(path::SEND),
            send_subscribe: base.join(path::SEND_SUBSCRIBE),
            get: base.join(path::GET),
            cancel: base.join(path::CANCEL),
            resubscribe: base.join(path::RESUBSCRIBE),
        };
        Self { http, tokens, limits, policy, urls }
    }

    pub(crate) fn policy(&self) -> &RetryPolicy {
        &self.policy
    }

    /// The deadline of an ask for a whole reply.
    pub(crate) fn reply_deadline(&self, limits: &Limits) -> Instant {
        instant_after(limits.deadline.unwrap_or(DEFAULT_DEADLINE))
    }

    /// Until when a stream's set-up is tried: a stream without a deadline does not wait for its first byte for ever.
    pub(crate) fn setup_deadline(&self, deadline: Option<Instant>) -> Instant {
        let usual = instant_after(DEFAULT_DEADLINE);
        deadline.map_or(usual, |deadline| deadline.min(usual))
    }

    /// Delivers an ask. The one place that sends one.
    ///
    /// Errors carry the ask's task id, and whether it may have been done.
    pub(crate) async fn deliver(
        &self,
        ask: &PreparedAsk,
        expected: ExpectedResponse,
        deadline: Instant,
    ) -> Result<Delivered> {
        let mut tries = RetryState::default();
        let delivered = match self.request_token(deadline).await {
            // Boxed from here on: thousands may wait for a token, and what sending needs is large.
            Ok(token) => {
                Box::pin(self.send_and_decide(ask, expected, token, deadline, &mut tries)).await
            }
            Err(error) => Err(error),
        };
        delivered.map_err(|error| tries.judge(error).with_task_id(&ask.task_id))
    }

    async fn send_and_decide(
        &self,
        ask: &PreparedAsk,
        expected: ExpectedResponse,
        mut token: RequestToken,
        deadline: Instant,
        tries: &mut RetryState,
    ) -> Result<Delivered> {
        loop {
            tries.sent += 1;
            let span =
                debug_span!("attempt", attempt = tries.sent, status = Empty, duration_ms = Empty);
            let started = Instant::now();
            let answer =
                self.send_once(ask, expected, &token, deadline).instrument(span.clone()).await;
            span.record("duration_ms", millis_since(started));
            drop(span);
            let failed = match answer {
                Ok(delivered) => {
                    self.http.budget().deposit();
                    return Ok(delivered);
                }
                Err(failed) => failed,
            };
            let decision = classify(failed.observed(), &self.policy);
            debug!(attempt = tries.sent, ?decision, kind = ?failed.error.kind(), "no usable answer");
            match decision {
                RetryDecision::SendAgain => {
                    self.wait_to_connect(failed.error, tries, deadline).await?
                }
                RetryDecision::RenewToken => self.renew_token(failed.error, &token, tries)?,
                RetryDecision::WaitAndLook => {
                    let looking = Box::pin(self.wait_and_look(ask, failed.error, tries, deadline));
                    if let Some(found) = looking.await? {
                        return Ok(Delivered::Task(found));
                    }
                }
                RetryDecision::Refused => return Err(failed.error.with_outcome(Outcome::NotDone)),
                RetryDecision::Look => {
                    return Box::pin(self.recover(ask, failed.error, deadline))
                        .await
                        .map(Delivered::Task);
                }
            }
            token = self.request_token(deadline).await?;
        }
    }

    pub(crate) fn request_token(
        &self,
        deadline: Instant,
    ) -> impl Future<Output = Result<RequestToken>> {
        self.tokens.request_token_until(deadline)
    }

    fn send_once<'a>(
        &'a self,
        ask: &'a PreparedAsk,
        expected: ExpectedResponse,
        token: &RequestToken,
        deadline: Instant,
    ) -> impl Future<Output = Result<Delivered, SendError>> + use<'a> {
        let url = match expected {
            ExpectedResponse::Reply => &self.urls.send,
            ExpectedResponse::Events => &self.urls.send_subscribe,
        };
        let until = instant_after(ask.limits.reply_timeout).min(deadline);
        self.exchange(
            request(url, &ask.body, expected, token),
            expected,
            &ask.task_id,
            &ask.limits,
            until,
        )
    }

    /// Sends a request, and reads the answer as far as it is needed to decide.
    fn exchange<'a>(
        &'a self,
        request: Request,
        expected: ExpectedResponse,
        task_id: &'a TaskId,
        limits: &'a Limits,
        until: Instant,
    ) -> impl Future<Output = Result<Delivered, SendError>> + use<'a> {
        let head = self.http.send(request, until);
        async move {
            let mut response = head.await?;
            tracing::Span::current().record("status", response.status().as_u16());
            if response::is_events(&response, expected) {
                return Ok(Delivered::Events(response));
            }
            response::read(&mut response, expected, task_id, limits, until)
                .await
                .map(Delivered::Task)
        }
    }

    /// Nothing was sent: a wait, or the error where the tries, the time or the budget are used up.
    async fn wait_to_connect(
        &self,
        error: Error,
        tries: &mut RetryState,
        deadline: Instant,
    ) -> Result<()> {
        let error = error.with_outcome(Outcome::NotDone);
        if tries.connect == self.policy.connect_retries || !self.http.budget().withdraw() {
            return Err(error);
        }
        tries.connect += 1;
        let wait = tries.connect_backoff.next_wait();
        if instant_after(wait) >= deadline {
            return Err(error);
        }
        sleep(wait).await;
        Ok(())
    }

    fn renew_token(
        &self,
        error: Error,
        token: &RequestToken,
        tries: &mut RetryState,
    ) -> Result<()> {
        if tries.renewed {
            return Err(error.with_outcome(Outcome::NotDone));
        }
        tries.renewed = true;
        self.tokens.refuse(token.generation);
        Ok(())
    }

    /// The server is busy. `None` where it is safe to send again.
    async fn wait_and_look(
        &self,
        ask: &PreparedAsk,
        error: Error,
        tries: &mut RetryState,
        deadline: Instant,
    ) -> Result<Option<TaskSnapshot>> {
        let wait = error.retry_after().unwrap_or_else(|| tries.busy_backoff.next_wait());
        let unproven = error.with_outcome(Outcome::Unknown);
        // Without a look nothing can come of the wait, unless the caller opted in.
        let in_vain = !self.policy.look && !self.policy.resend_when_busy;
        if in_vain || instant_after(wait) >= deadline {
            return Err(unproven);
        }
        sleep(wait).await;
        let surely_not_done = match self.sight(ask, deadline).await {
            LookupResult::TaskSnapshot(found) => return Ok(Some(found)),
            LookupResult::NotKnown(_) => true,
            LookupResult::NoProof | LookupResult::Unsupported(_) | LookupResult::Failed => false,
        };
        if !surely_not_done && !self.policy.resend_when_busy {
            return Err(unproven);
        }
        if tries.busy == BUSY_RETRIES || !self.http.budget().withdraw() {
            return Err(if surely_not_done {
                unproven.with_outcome(Outcome::NotDone)
            } else {
                unproven
            });
        }
        tries.busy += 1;
        tries.unproven = !surely_not_done;
        Ok(None)
    }
}

/// How often what was tried for one ask.
struct RetryState {
    sent: u32,
    connect: u32,
    busy: u32,
    renewed: bool,
    /// It was sent again because the caller opted in: the send before may have been done all the same.
    unproven: bool,
    connect_backoff: Backoff,
    busy_backoff: Backoff,
}

impl Default for RetryState {
    fn default() -> Self {
        Self {
            sent: 0,
            connect: 0,
            busy: 0,
            renewed: false,
            unproven: false,
            connect_backoff: connect_backoff(),
            busy_backoff: busy_backoff(),
        }
    }
}

impl RetryState {
    /// What is known of the last send is not known of all.
    fn judge(&self, error: Error) -> Error {
        if self.unproven && error.is_safe_to_ask_again() {
            error.with_outcome(Outcome::Unknown)
        } else {
            error
        }
    }
}

fn request(url: &Url, body: &Bytes, expected: ExpectedResponse, token: &RequestToken) -> Request {
    let mut request = Request::new(Method::POST, url.clone());
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(ACCESS_TOKEN, token.header.clone());
    headers.insert(
        ACCEPT,
        match expected {
            ExpectedResponse::Reply => JSON,
            ExpectedResponse::Events => EVENT_STREAM,
        },
    );
    *request.body_mut() = Some(body.clone().into());
    request
}

/// The error of a task that has not ended when the time is up.
pub(crate) fn still_running(id: &TaskId) -> Error {
    Error::new(
        ErrorKind::Timeout,
        Outcome::Unknown,
        "the deadline passed while the task was still running",
    )
    .with_task_id(id)
}

impl From<Failure> for SendError {
    fn from(failure: Failure) -> Self {
        let new = |kind, message: &'static str| Error::new(kind, Outcome::Unknown, message);
        let (error, not_connected) = match failure {
            Failure::NotConnected { source, timed_out } => {
                let message = if timed_out {
                    "connecting to the platform took too long"
                } else {
                    "could not connect to the platform"
                };
                (
                    Error::new(ErrorKind::Connect, Outcome::NotDone, message).with_source(source),
                    true,
                )
            }
            Failure::Lost(source) => (
                new(ErrorKind::Interrupted, "the connection broke before the answer was whole")
                    .with_source(source),
                false,
            ),
            Failure::TimedOut => {
                (new(ErrorKind::Timeout, "the platform did not answer in time"), false)
            }
            Failure::TooLarge { limit } => {
                let message = format!("the answer is larger than the limit of {limit} bytes");
                (Error::new(ErrorKind::TooLarge, Outcome::Unknown, message), false)
            }
        };
        Self { error, status: None, has_task: false, not_connected }
    }
}
