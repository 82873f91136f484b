//! How one ask is delivered: sent so that it is received at most once, and its answer found.
//!
//! [`retry`](crate::transport::retry) decides; this carries it out.

mod answer;
mod look;

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Request, Response};
use tokio::time::{Instant, sleep};
use tracing::field::Empty;
use tracing::{Instrument, debug, debug_span};
use url::Url;

use crate::ask::Prepared;
use crate::auth::keeper::{Keeper, Lent};
use crate::config::{Base, DEFAULT_DEADLINE, Limits};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::ids::TaskId;
use crate::transport::retry::{Backoff, RetryPolicy, Verdict, verdict};
use crate::transport::{Failure, Http};
use crate::wire::{self, path};

pub(crate) use answer::{Found, Wants, rpc_error};
pub(crate) use look::Pace;

use answer::Unusable;
use look::Sight;

/// The platform as one identity sees it: shared by all clones and sessions of a client.
#[derive(Debug)]
pub(crate) struct Platform {
    pub(crate) http: Http,
    pub(crate) keeper: Keeper,
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
    Task(Found),
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

/// The point in time, or one so far off that it never comes.
pub(crate) fn instant_after(wait: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    Instant::now() + wait.min(NEVER)
}

/// For the spans' field `duration_ms`.
pub(crate) fn millis_since(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Platform {
    pub(crate) fn new(http: Http, keeper: Keeper, limits: Limits, policy: RetryPolicy, base: &Base) -> Self {
        let urls = Urls {
            send: base.join(path::SEND),
            send_subscribe: base.join(path::SEND_SUBSCRIBE),
            get: base.join(path::GET),
            cancel: base.join(path::CANCEL),
            resubscribe: base.join(path::RESUBSCRIBE),
        };
        Self { http, keeper, limits, policy, urls }
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
    pub(crate) async fn deliver(&self, ask: &Prepared, wants: Wants, deadline: Instant) -> Result<Delivered> {
        let mut tries = Tries::default();
        let delivered = match self.lend(deadline).await {
            // Boxed from here on: thousands may wait for a token, and what sending needs is large.
            Ok(lent) => Box::pin(self.send_and_decide(ask, wants, lent, deadline, &mut tries)).await,
            Err(error) => Err(error),
        };
        delivered.map_err(|error| tries.judge(error).with_task_id(&ask.task_id))
    }

    async fn send_and_decide(
        &self,
        ask: &Prepared,
        wants: Wants,
        mut lent: Lent,
        deadline: Instant,
        tries: &mut Tries,
    ) -> Result<Delivered> {
        loop {
            tries.sent += 1;
            let span = debug_span!("attempt", attempt = tries.sent, status = Empty, duration_ms = Empty);
            let started = Instant::now();
            let answer = self.send_once(ask, wants, &lent, deadline).instrument(span.clone()).await;
            span.record("duration_ms", millis_since(started));
            drop(span);
            let unusable = match answer {
                Ok(delivered) => {
                    self.http.budget().earn();
                    return Ok(delivered);
                }
                Err(unusable) => unusable,
            };
            let verdict = verdict(unusable.observed(), &self.policy);
            debug!(attempt = tries.sent, ?verdict, kind = ?unusable.error.kind(), "no usable answer");
            match verdict {
                Verdict::SendAgain => self.wait_to_connect(unusable.error, tries, deadline).await?,
                Verdict::RenewToken => self.renew_token(unusable.error, &lent, tries)?,
                Verdict::WaitAndLook => {
                    let looking = Box::pin(self.wait_and_look(ask, unusable.error, tries, deadline));
                    if let Some(found) = looking.await? {
                        return Ok(Delivered::Task(found));
                    }
                }
                Verdict::Refused => return Err(unusable.error.with_outcome(Outcome::NotDone)),
                Verdict::Look => {
                    return Box::pin(self.recover(ask, unusable.error, deadline)).await.map(Delivered::Task);
                }
            }
            lent = self.lend(deadline).await?;
        }
    }

    pub(crate) fn lend(&self, deadline: Instant) -> impl Future<Output = Result<Lent>> {
        self.keeper.lend_until(deadline)
    }

    fn send_once<'a>(
        &'a self,
        ask: &'a Prepared,
        wants: Wants,
        lent: &Lent,
        deadline: Instant,
    ) -> impl Future<Output = Result<Delivered, Unusable>> + use<'a> {
        let url = match wants {
            Wants::Reply => &self.urls.send,
            Wants::Events => &self.urls.send_subscribe,
        };
        let until = instant_after(ask.limits.reply_timeout).min(deadline);
        self.exchange(request(url, &ask.body, wants, lent), wants, &ask.task_id, &ask.limits, until)
    }

    /// Sends a request, and reads the answer as far as it is needed to decide.
    fn exchange<'a>(
        &'a self,
        request: Request,
        wants: Wants,
        task_id: &'a TaskId,
        limits: &'a Limits,
        until: Instant,
    ) -> impl Future<Output = Result<Delivered, Unusable>> + use<'a> {
        let head = self.http.send(request, until);
        async move {
            let mut response = head.await?;
            tracing::Span::current().record("status", response.status().as_u16());
            if answer::is_events(&response, wants) {
                return Ok(Delivered::Events(response));
            }
            answer::read(&mut response, wants, task_id, limits, until).await.map(Delivered::Task)
        }
    }

    /// Nothing was sent: a wait, or the error where the tries, the time or the budget are used up.
    async fn wait_to_connect(&self, error: Error, tries: &mut Tries, deadline: Instant) -> Result<()> {
        let error = error.with_outcome(Outcome::NotDone);
        if tries.connect == self.policy.connect_retries || !self.http.budget().take() {
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

    fn renew_token(&self, error: Error, lent: &Lent, tries: &mut Tries) -> Result<()> {
        if tries.renewed {
            return Err(error.with_outcome(Outcome::NotDone));
        }
        tries.renewed = true;
        self.keeper.refuse(lent.generation);
        Ok(())
    }

    /// The server is busy. `None` where it is safe to send again.
    async fn wait_and_look(
        &self,
        ask: &Prepared,
        error: Error,
        tries: &mut Tries,
        deadline: Instant,
    ) -> Result<Option<Found>> {
        let wait = error.retry_after().unwrap_or_else(|| tries.busy_backoff.next_wait());
        let unproven = error.with_outcome(Outcome::Unknown);
        // Without a look nothing can come of the wait, unless the caller opted in.
        let in_vain = !self.policy.look && !self.policy.resend_when_busy;
        if in_vain || instant_after(wait) >= deadline {
            return Err(unproven);
        }
        sleep(wait).await;
        let surely_not_done = match self.sight(ask, deadline).await {
            Sight::Found(found) => return Ok(Some(found)),
            Sight::NotKnown(_) => true,
            Sight::NoProof | Sight::Unsupported(_) | Sight::Failed => false,
        };
        if !surely_not_done && !self.policy.resend_when_busy {
            return Err(unproven);
        }
        if tries.busy == BUSY_RETRIES || !self.http.budget().take() {
            return Err(if surely_not_done { unproven.with_outcome(Outcome::NotDone) } else { unproven });
        }
        tries.busy += 1;
        tries.unproven = !surely_not_done;
        Ok(None)
    }
}

/// How often what was tried for one ask.
struct Tries {
    sent: u32,
    connect: u32,
    busy: u32,
    renewed: bool,
    /// It was sent again because the caller opted in: the send before may have been done all the same.
    unproven: bool,
    connect_backoff: Backoff,
    busy_backoff: Backoff,
}

impl Default for Tries {
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

impl Tries {
    /// What is known of the last send is not known of all.
    fn judge(&self, error: Error) -> Error {
        if self.unproven && error.is_safe_to_ask_again() { error.with_outcome(Outcome::Unknown) } else { error }
    }
}

fn request(url: &Url, body: &Bytes, wants: Wants, lent: &Lent) -> Request {
    let mut request = Request::new(Method::POST, url.clone());
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(ACCESS_TOKEN, lent.header.clone());
    headers.insert(
        ACCEPT,
        match wants {
            Wants::Reply => JSON,
            Wants::Events => EVENT_STREAM,
        },
    );
    *request.body_mut() = Some(body.clone().into());
    request
}

/// The error of a task that has not ended when the time is up.
pub(crate) fn still_running(id: &TaskId) -> Error {
    Error::new(ErrorKind::Timeout, Outcome::Unknown, "the deadline passed while the task was still running")
        .with_task_id(id)
}

impl From<Failure> for Unusable {
    fn from(failure: Failure) -> Self {
        let new = |kind, message: &'static str| Error::new(kind, Outcome::Unknown, message);
        let (error, not_connected) = match failure {
            Failure::NotConnected { source, timed_out } => {
                let message = if timed_out {
                    "connecting to the platform took too long"
                } else {
                    "could not connect to the platform"
                };
                (Error::new(ErrorKind::Connect, Outcome::NotDone, message).with_source(source), true)
            }
            Failure::Lost(source) => (
                new(ErrorKind::Interrupted, "the connection broke before the answer was whole").with_source(source),
                false,
            ),
            Failure::TimedOut => (new(ErrorKind::Timeout, "the platform did not answer in time"), false),
            Failure::TooLarge { limit } => {
                let message = format!("the answer is larger than the limit of {limit} bytes");
                (Error::new(ErrorKind::TooLarge, Outcome::Unknown, message), false)
            }
        };
        Self { error, status: None, has_task: false, not_connected }
    }
}
