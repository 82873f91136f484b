//! Delivers an ask: sends it so that it is received at most once, and finds its answer.
//!
//! [`mod@classify`] decides what may be sent again, [`lookup`] queries existing tasks, and
//! [`follow`] finds a lost answer and waits for a running task.

pub(crate) mod classify;
pub(crate) mod follow;
mod lookup;
mod response;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Request};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::field::Empty;
use tracing::{Instrument, Span, debug, debug_span};
use url::Url;

use crate::ask::{AskContext, AskDetails, PreparedAsk, TaskOrigin};
use crate::auth::manager::{RequestToken, TokenManager};
use crate::auth::token::AccessToken;
use crate::endpoint::BaseUrl;
use crate::error::{Error, Outcome, Result};
use crate::observe::{AskHook, AskObserver};
use crate::policy::{DEFAULT_DEADLINE, Limits, RetryPolicy};
use crate::time::{instant_after, millis_since};
use crate::transport::Http;
use crate::transport::backoff::Backoff;
use crate::wire::{self, path};

pub(crate) use response::{ArtifactsField, ExpectedResponse, Response, TaskSnapshot};

use classify::{IdAtServer, RetryDecision, classify};
use follow::{Follower, Reconciled};
use response::SendError;

/// The connection to the platform for one identity, shared by all clones and sessions of a client.
pub(crate) struct Platform {
    pub(crate) http: Http,
    pub(crate) tokens: TokenManager,
    pub(crate) ask_defaults: Arc<AskDetails>,
    pub(crate) on_ask_completed: Option<AskHook>,
    policy: RetryPolicy,
    urls: Urls,
}

struct Urls {
    send: Url,
    send_subscribe: Url,
    get: Url,
    cancel: Url,
    resubscribe: Url,
}

const ACCESS_TOKEN: HeaderName = HeaderName::from_static(wire::ACCESS_TOKEN_HEADER);
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Accepts more than one type: a server that cannot write its JSON error answers 406 even after it
/// acted.
const ACCEPT_JSON: HeaderValue = HeaderValue::from_static("application/json, */*;q=0.1");
const ACCEPT_EVENTS: HeaderValue =
    HeaderValue::from_static("text/event-stream, application/json, */*;q=0.1");

/// The number of times that an ask is sent again to a server that was busy and surely does not know
/// it.
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
        on_ask_completed: Option<AskHook>,
    ) -> Self {
        let urls = Urls {
            send: base.join(path::SEND),
            send_subscribe: base.join(path::SEND_SUBSCRIBE),
            get: base.join(path::GET),
            cancel: base.join(path::CANCEL),
            resubscribe: base.join(path::RESUBSCRIBE),
        };
        let ask_defaults = Arc::new(AskDetails::new(limits));
        Self { http, tokens, ask_defaults, on_ask_completed, policy, urls }
    }

    pub(crate) fn policy(&self) -> &RetryPolicy {
        &self.policy
    }

    /// Returns the deadline of an ask for a whole reply, or of a call about an existing task.
    pub(crate) fn reply_deadline(&self, limits: &Limits) -> Instant {
        instant_after(limits.deadline.unwrap_or(DEFAULT_DEADLINE))
    }

    /// Returns the deadline of a stream's set-up, so that a stream without a deadline does not wait
    /// for its first byte forever.
    pub(crate) fn setup_deadline(&self, deadline: Option<Instant>) -> Instant {
        let usual = instant_after(DEFAULT_DEADLINE);
        deadline.map_or(usual, |deadline| deadline.min(usual))
    }

    /// Delivers an ask. No other function sends one.
    ///
    /// Errors carry the ask's task id and outcome.
    pub(crate) async fn deliver(
        self: &Arc<Self>,
        ask: &PreparedAsk,
        expected: ExpectedResponse,
        deadline: Instant,
        observer: &mut AskObserver,
    ) -> Result<Response> {
        let context = &ask.context;
        if ask.sent.is_set() {
            return Err(Error::ask_already_sent().with_task_id(&context.task_id));
        }
        let mut state = RetryState::default();
        let delivered = match self.request_token(deadline).await {
            // The rest is boxed: thousands of asks may wait for a token, and the state of sending
            // is large.
            Ok(token) => {
                let sending =
                    self.send_and_decide(ask, expected, token, deadline, &mut state, observer);
                Box::pin(sending).await
            }
            Err(error) => Err(error),
        };
        delivered.map_err(|error| {
            let error = match state.attempts {
                // A clone was sent, and the error of this one proves nothing about the first.
                0 if ask.sent.is_set() => Error::ask_already_sent(),
                _ => state.qualify(error),
            };
            if state.attempts > 0 && error.is_safe_to_ask_again() {
                ask.sent.clear();
            }
            error.with_task_id(&context.task_id)
        })
    }

    async fn send_and_decide(
        self: &Arc<Self>,
        ask: &PreparedAsk,
        expected: ExpectedResponse,
        mut token: RequestToken,
        deadline: Instant,
        state: &mut RetryState,
        observer: &mut AskObserver,
    ) -> Result<Response> {
        loop {
            let until = instant_after(ask.context.limits().reply_timeout).min(deadline);
            if until <= Instant::now() {
                return Err(Error::deadline_passed_before_sending());
            }
            if state.attempts == 0 {
                ask.sent.set()?;
            }
            state.attempts += 1;
            observer.count_attempt();
            let span = debug_span!(
                "attempt",
                attempt = state.attempts,
                status = Empty,
                duration_ms = Empty
            );
            let started = Instant::now();
            let sending = self.send_once(ask, expected, &token, until, &span);
            let answer = sending.instrument(span.clone()).await;
            span.record("duration_ms", millis_since(started));
            drop(span);
            let failed = match answer {
                Ok(response) => {
                    self.http.budget().deposit();
                    return Ok(response);
                }
                Err(failed) => failed,
            };
            let decision = classify(failed.attempt(state.id_at_server(ask)), &self.policy);
            state.may_be_known |= failed.was_sent();
            let kind = failed.error.kind();
            debug!(attempt = state.attempts, ?decision, ?kind, "no usable answer");
            match decision {
                RetryDecision::SendAgain => {
                    self.wait_to_connect(failed.error, state, deadline).await?
                }
                RetryDecision::RenewToken => self.renew_token(failed.error, &token, state)?,
                RetryDecision::WaitAndLookUp => {
                    let looking =
                        Box::pin(self.wait_and_look_up(ask, failed.error, state, deadline));
                    if let Some(found) = looking.await? {
                        return Ok(Response::Task(found));
                    }
                }
                RetryDecision::Refused => return Err(failed.error.with_outcome(Outcome::NotDone)),
                RetryDecision::LookUp => {
                    let mut follower = self.follower(&ask.context, deadline);
                    return Box::pin(follower.reconcile(failed.error)).await.map(Response::Task);
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

    /// Returns an access token for the caller's own use, within the client's deadline.
    pub(crate) async fn access_token(&self) -> Result<AccessToken> {
        let deadline = self.reply_deadline(&self.ask_defaults.limits);
        let token = timeout_at(deadline, self.tokens.access_token()).await;
        token.unwrap_or_else(|_| Err(Error::token_wait_timed_out()))
    }

    /// Returns a follower of the ask's task.
    pub(crate) fn follower(self: &Arc<Self>, ask: &AskContext, deadline: Instant) -> Follower {
        Follower::new(Arc::clone(self), ask.clone(), deadline)
    }

    fn send_once<'a>(
        &'a self,
        ask: &'a PreparedAsk,
        expected: ExpectedResponse,
        token: &RequestToken,
        until: Instant,
        span: &'a Span,
    ) -> impl Future<Output = Result<Response, SendError>> + use<'a> {
        let url = match expected {
            ExpectedResponse::Events => &self.urls.send_subscribe,
            ExpectedResponse::Reply | ExpectedResponse::Lookup => &self.urls.send,
        };
        let request = request(url, &ask.context, expected, token);
        self.exchange(request, ask.body.clone(), expected, &ask.context, until, span)
    }

    /// Sends a request, and reads the answer as far as it is needed to decide.
    ///
    /// `span` has a field `status`. It is a parameter because `Span::current` is a span of the
    /// caller where this one is disabled.
    async fn exchange(
        &self,
        request: Request,
        body: Bytes,
        expected: ExpectedResponse,
        ask: &AskContext,
        until: Instant,
        span: &Span,
    ) -> Result<Response, SendError> {
        let started = Instant::now();
        let mut response = self.http.send_tracked(request, body, until).await?;
        span.record("status", response.status().as_u16());
        if response::is_events(&response, expected) {
            return Ok(Response::Events(response));
        }
        let read = response::read(&mut response, expected, ask, until).await;
        if read.as_ref().is_err_and(|failed| failed.error.is_timeout()) {
            self.http.leave_pool_of(started);
        }
        read.map(Response::Task)
    }

    /// Waits after a failure to connect. Returns the error where the retries, the time or the
    /// budget are used up.
    async fn wait_to_connect(
        &self,
        error: Error,
        state: &mut RetryState,
        deadline: Instant,
    ) -> Result<()> {
        let error = error.with_outcome(Outcome::NotDone);
        let wait = state.connect_backoff.next_wait();
        // The budget is checked last, so that a retry for which there is no time costs nothing.
        if state.connect_retries == self.policy.connect_retries
            || instant_after(wait) >= deadline
            || !self.http.budget().withdraw()
        {
            return Err(error);
        }
        state.connect_retries += 1;
        sleep(wait).await;
        Ok(())
    }

    fn renew_token(
        &self,
        error: Error,
        token: &RequestToken,
        state: &mut RetryState,
    ) -> Result<()> {
        if std::mem::replace(&mut state.token, TokenRenewal::Used) == TokenRenewal::Used {
            return Err(error.with_outcome(Outcome::NotDone));
        }
        self.tokens.refuse(token.generation);
        Ok(())
    }

    /// Waits for a busy server, then looks the task up. Returns `None` where it is safe to send
    /// again.
    async fn wait_and_look_up(
        self: &Arc<Self>,
        ask: &PreparedAsk,
        error: Error,
        state: &mut RetryState,
        deadline: Instant,
    ) -> Result<Option<TaskSnapshot>> {
        let wait = error.retry_after().unwrap_or_else(|| state.busy_backoff.next_wait());
        let unproven = error.with_outcome(Outcome::Unknown);
        // Without a lookup the wait is useless, unless the caller opted in to sending again.
        let is_useless = !self.policy.reconcile && !self.policy.resend_when_busy;
        if is_useless || instant_after(wait) >= deadline {
            return Err(unproven);
        }
        sleep(wait).await;
        let mut follower = self.follower(&ask.context, deadline);
        let surely_not_done = match follower.check_receipt(&unproven).await {
            Reconciled::Found(found) => return Ok(Some(found)),
            Reconciled::NotKnown => true,
            Reconciled::NotFound => false,
        };
        if !surely_not_done && !self.policy.resend_when_busy {
            return Err(unproven);
        }
        if state.busy_retries == BUSY_RETRIES
            || Instant::now() >= deadline
            || !self.http.budget().withdraw()
        {
            let outcome = if surely_not_done { Outcome::NotDone } else { Outcome::Unknown };
            return Err(unproven.with_outcome(outcome));
        }
        state.busy_retries += 1;
        if !surely_not_done {
            state.earlier_sends = EarlierSends::Unproven;
        }
        Ok(None)
    }
}

/// The retry state of one ask.
struct RetryState {
    attempts: u32,
    connect_retries: u32,
    busy_retries: u32,
    token: TokenRenewal,
    earlier_sends: EarlierSends,
    /// True if an earlier attempt may have been received, whatever the answer was.
    may_be_known: bool,
    connect_backoff: Backoff,
    busy_backoff: Backoff,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TokenRenewal {
    Unused,
    Used,
}

/// The known outcome of the attempts before the last one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EarlierSends {
    NotDone,
    /// The ask was sent again because the caller opted in: an earlier send may have been done.
    Unproven,
}

impl Default for RetryState {
    fn default() -> Self {
        Self {
            attempts: 0,
            connect_retries: 0,
            busy_retries: 0,
            token: TokenRenewal::Unused,
            earlier_sends: EarlierSends::NotDone,
            may_be_known: false,
            connect_backoff: connect_backoff(),
            busy_backoff: busy_backoff(),
        }
    }
}

impl RetryState {
    /// Adjusts the outcome of the last attempt's error to that of all attempts.
    fn qualify(&self, error: Error) -> Error {
        if self.earlier_sends == EarlierSends::Unproven && error.is_safe_to_ask_again() {
            error.with_outcome(Outcome::Unknown)
        } else {
            error
        }
    }

    /// Returns whether the server may know the task's id. An id that the caller chose may have been
    /// sent by another process before.
    fn id_at_server(&self, ask: &PreparedAsk) -> IdAtServer {
        match ask.context.origin() {
            TaskOrigin::Chosen => IdAtServer::MayBeKnown,
            _ if self.may_be_known => IdAtServer::MayBeKnown,
            TaskOrigin::Minted | TaskOrigin::Followed | TaskOrigin::Continued(_) => {
                IdAtServer::AsExpected
            }
        }
    }
}

/// Creates a request without its body. The SDK's headers replace those of the caller.
fn request(
    url: &Url,
    ask: &AskContext,
    expected: ExpectedResponse,
    token: &RequestToken,
) -> Request {
    let mut request = Request::new(Method::POST, url.clone());
    let headers = request.headers_mut();
    headers.clone_from(&ask.details.headers);
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(ACCESS_TOKEN, token.header.clone());
    let accept = match expected {
        ExpectedResponse::Events => ACCEPT_EVENTS,
        ExpectedResponse::Reply | ExpectedResponse::Lookup => ACCEPT_JSON,
    };
    headers.insert(ACCEPT, accept);
    request
}
