//! The error type, and the constructor of every error.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::ids::TaskId;
use crate::wire::json;
use crate::wire::jsonrpc::{RpcError, code};
use crate::wire::state::TaskState;

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong: one pointer wide, and cheap to clone.
///
/// Three questions matter where money moves, and each has a method:
///
/// * *May it have been done?* [`is_outcome_unknown`](Self::is_outcome_unknown): look the task up
///   with [`Client::get_task`](crate::Client::get_task) and [`task_id`](Self::task_id); never ask
///   again by itself.
/// * *Was it surely not done?* [`is_safe_to_ask_again`](Self::is_safe_to_ask_again), after
///   [`retry_after`](Self::retry_after) where there is one.
/// * *Must the user connect again?*
///   [`is_reauthorization_required`](Self::is_reauthorization_required).
///
/// Where neither of the first two is true there is nothing to find out: the error does not belong
/// to an ask, or the task's state is known.
///
/// `Display` is one sentence and never repeats [`source`](std::error::Error::source), whose chain
/// says why. It has the message of a server's error, cut short and on one line; the rest of what
/// the server answered is in [`body`](Self::body) only. No secret, no URL and nothing that was
/// asked is in either.
///
/// ```
/// use payman_sdk::Error;
///
/// fn report(error: &Error) -> String {
///     match error.task_id() {
///         Some(id) if error.is_outcome_unknown() => format!("look up {id}: {error}"),
///         _ if error.is_safe_to_ask_again() => format!("not done: {error}"),
///         _ => format!("{error}"),
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Error(Arc<ErrorInner>);

/// Classifies an [`Error`] by what happened. Whether the ask may have been done is a question of
/// its own: see [`Error::is_outcome_unknown`] and [`Error::is_safe_to_ask_again`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Bad input, refused before anything was sent: the message says what is wrong. Safe to ask
    /// again once it is changed; except for an [`Ask`](crate::Ask) that was sent already, whose
    /// first send may have been done.
    InvalidInput,
    /// No connection took the request (name, refusal, TLS, time limit): nothing was sent. Safe to
    /// ask again.
    Connect,
    /// A time limit passed. The outcome is unknown if a connection had taken the request, or if the
    /// task is still running; safe to ask again if no connection had taken it.
    Timeout,
    /// The connection broke, or an answer was cut. The outcome is unknown, unless a lookup showed
    /// the task's state and only the answer's text is not whole.
    Interrupted,
    /// The answer could not be understood, or is of another task. The outcome is unknown.
    Protocol,
    /// The answer is over a size limit. The outcome is unknown.
    TooLarge,
    /// The server answered with an HTTP error. Safe to ask again only for the statuses that the
    /// table of [`RetryPolicy`](crate::RetryPolicy) lists as refused.
    Http,
    /// The server answered with a JSON-RPC error. Safe to ask again only for the codes that the
    /// table of [`RetryPolicy`](crate::RetryPolicy) lists as refused.
    Rpc,
    /// The server asks to come later (429, 503): see [`Error::retry_after`]. Safe to ask again only
    /// where the server said that it does not know the task.
    RateLimited,
    /// The server does not accept the token or the credentials (401, 403). Nothing was done.
    Auth,
    /// The user's sign-in is gone, and only the user can renew it. Nothing was done.
    ReauthorizationRequired,
    /// The server does not offer this operation. For an ask: refused, safe to ask again elsewhere.
    Unsupported,
    /// The server knows no such task.
    TaskNotFound,
    /// The task ended failed, canceled or rejected: see
    /// [`Reply::into_completed`](crate::Reply::into_completed).
    TaskNotCompleted,
    /// The token store failed.
    TokenStore,
    /// The idempotency key belongs to another ask, or to another client id, platform or subject.
    /// Nothing was sent by this call.
    IdempotencyConflict,
    /// The journal of idempotency keys failed, or has no reply yet. Nothing was sent by this call.
    Journal,
}

/// What is known of the ask that an error belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Surely not done: never sent, or refused.
    NotDone,
    /// It may have been done.
    Unknown,
    /// There is nothing to find out: the error is not of an ask, or the task's state is known.
    Settled,
}

/// Why the redirect back from the consent page holds no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RedirectFailure {
    /// Its state is not the one that was sent, so it may be forged.
    Forged,
    /// The user said no.
    Denied,
    /// The platform, or the way that this app is registered there, is at fault.
    Platform,
}

pub(crate) type Source = Box<dyn StdError + Send + Sync + 'static>;

#[derive(Clone)]
struct ErrorInner {
    kind: ErrorKind,
    outcome: Outcome,
    message: Cow<'static, str>,
    status: Option<u16>,
    body: Option<Bytes>,
    rpc: Option<RpcError>,
    error_code: Option<Box<str>>,
    retry_after: Option<Duration>,
    task_id: Option<TaskId>,
    redirect: Option<RedirectFailure>,
    source: Option<Arc<dyn StdError + Send + Sync + 'static>>,
}

impl Error {
    /// Returns what happened.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # use payman_sdk::{Client, Config, RetryPolicy};
    /// # let config = Config::new("id").client_secret("secret").retry(RetryPolicy::none());
    /// # let client = Client::with_credentials(config.base_url("http://127.0.0.1:1"))?;
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err(); // nothing listens there
    /// assert_eq!(error.kind(), payman_sdk::ErrorKind::Connect);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns true when the ask may have been done, wholly or in part: the money may have moved.
    ///
    /// Do not ask again. Store [`task_id`](Self::task_id), look the task up with
    /// [`Client::get_task`](crate::Client::get_task) later, and if the platform still does not know
    /// it, check the wallet's transactions before anything is repeated.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # use payman_sdk::{Client, Config, RetryPolicy};
    /// # let config = Config::new("id").client_secret("secret").retry(RetryPolicy::none());
    /// # let client = Client::with_credentials(config.base_url("http://127.0.0.1:1"))?;
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err(); // nothing listens there
    /// assert!(!error.is_outcome_unknown()); // no connection: it was not done
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        self.0.outcome == Outcome::Unknown
    }

    /// Returns true only where it is certain that nothing was done: the ask was never sent, or it
    /// was refused.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # use payman_sdk::{Client, Config, RetryPolicy};
    /// # let config = Config::new("id").client_secret("secret").retry(RetryPolicy::none());
    /// # let client = Client::with_credentials(config.base_url("http://127.0.0.1:1"))?;
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err(); // nothing listens there
    /// assert!(error.is_safe_to_ask_again());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_safe_to_ask_again(&self) -> bool {
        self.0.outcome == Outcome::NotDone
    }

    pub(crate) fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// Returns true when the user has to connect again: the refresh token was refused, or there is
    /// none.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # use payman_sdk::{Client, Config, RetryPolicy};
    /// # let config = Config::new("id").client_secret("secret").retry(RetryPolicy::none());
    /// # let client = Client::with_credentials(config.base_url("http://127.0.0.1:1"))?;
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err(); // nothing listens there
    /// if error.is_reauthorization_required() {
    ///     println!("connect again");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_reauthorization_required(&self) -> bool {
        self.kind() == ErrorKind::ReauthorizationRequired
    }

    /// Returns true when the server does not accept the token or the credentials, or the user has
    /// to connect again.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// # use payman_sdk::emulator::{Fault, Operation};
    /// payman.fault(Fault::status(403).on(Operation::Send));
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err();
    /// assert!(error.is_auth());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_auth(&self) -> bool {
        matches!(self.kind(), ErrorKind::Auth | ErrorKind::ReauthorizationRequired)
    }

    /// Returns true when a time limit ran out.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # use payman_sdk::{Client, Config, RetryPolicy};
    /// # let config = Config::new("id").client_secret("secret").retry(RetryPolicy::none());
    /// # let client = Client::with_credentials(config.base_url("http://127.0.0.1:1"))?;
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err(); // nothing listens there
    /// assert!(!error.is_timeout());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.kind() == ErrorKind::Timeout
    }

    /// Returns true when no connection could be made.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # use payman_sdk::{Client, Config, RetryPolicy};
    /// # let config = Config::new("id").client_secret("secret").retry(RetryPolicy::none());
    /// # let client = Client::with_credentials(config.base_url("http://127.0.0.1:1"))?;
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err(); // nothing listens there
    /// assert!(error.is_connect());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_connect(&self) -> bool {
        self.kind() == ErrorKind::Connect
    }

    /// Returns true when an answer or a stream was cut before its end.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # use payman_sdk::{Client, Config, RetryPolicy};
    /// # let config = Config::new("id").client_secret("secret").retry(RetryPolicy::none());
    /// # let client = Client::with_credentials(config.base_url("http://127.0.0.1:1"))?;
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err(); // nothing listens there
    /// assert!(!error.is_interrupted());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.kind() == ErrorKind::Interrupted
    }

    /// Returns true when the server asks to come later.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # use payman_sdk::{Client, Config, RetryPolicy};
    /// # let config = Config::new("id").client_secret("secret").retry(RetryPolicy::none());
    /// # let client = Client::with_credentials(config.base_url("http://127.0.0.1:1"))?;
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err(); // nothing listens there
    /// assert!(!error.is_rate_limited());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_rate_limited(&self) -> bool {
        self.kind() == ErrorKind::RateLimited
    }

    /// Returns true when the server does not offer the operation.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # use payman_sdk::{Client, Config, RetryPolicy};
    /// # let config = Config::new("id").client_secret("secret").retry(RetryPolicy::none());
    /// # let client = Client::with_credentials(config.base_url("http://127.0.0.1:1"))?;
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err(); // nothing listens there
    /// assert!(!error.is_unsupported());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        self.kind() == ErrorKind::Unsupported
    }

    /// Returns true for bad input, refused before anything was sent.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let error = client.ask("   ").await.unwrap_err();
    /// assert!(error.is_invalid_input());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_invalid_input(&self) -> bool {
        self.kind() == ErrorKind::InvalidInput
    }

    /// Returns the HTTP status, where there was an answer that is an error.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// # use payman_sdk::emulator::{Fault, Operation};
    /// payman.fault(Fault::status(403).on(Operation::Send));
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err();
    /// assert_eq!(error.status(), Some(403));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// Returns the body of the answer, cut at 64 KiB unless set otherwise. It is the server's text
    /// and may hold anything.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// # use payman_sdk::emulator::{Fault, Operation};
    /// payman.fault(Fault::status(403).on(Operation::Send));
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err();
    /// println!("{}", error.body().unwrap_or_default());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn body(&self) -> Option<Cow<'_, str>> {
        self.0.body.as_deref().map(String::from_utf8_lossy)
    }

    /// Returns the body as JSON, where it is JSON.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// # use payman_sdk::emulator::{Fault, Operation};
    /// payman.fault(Fault::status(403).on(Operation::Send));
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err();
    /// println!("{:?}", error.body_json());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn body_json(&self) -> Option<serde_json::Value> {
        json::from_body(self.0.body.as_deref()?).ok()
    }

    /// Returns the JSON-RPC error, whatever the HTTP status was.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let error = client.get_task("tsk-unknown").await.unwrap_err();
    /// println!("{:?}", error.rpc_error().map(|rpc| &rpc.message));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn rpc_error(&self) -> Option<&RpcError> {
        self.0.rpc.as_ref()
    }

    /// Returns the JSON-RPC error's code.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let error = client.get_task("tsk-unknown").await.unwrap_err();
    /// assert_eq!(error.rpc_code(), Some(-32001));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn rpc_code(&self) -> Option<i64> {
        self.rpc_error()?.code
    }

    /// Returns the `errorCode` of an error body `{status, timestamp, errorCode, message}`, such as
    /// `insufficient_funds`.
    #[must_use]
    pub fn error_code(&self) -> Option<&str> {
        self.0.error_code.as_deref()
    }

    /// Returns how long the server asks to wait.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # use payman_sdk::{Client, Config, RetryPolicy};
    /// # let config = Config::new("id").client_secret("secret").retry(RetryPolicy::none());
    /// # let client = Client::with_credentials(config.base_url("http://127.0.0.1:1"))?;
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err(); // nothing listens there
    /// assert_eq!(error.retry_after(), None);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Returns the id of the task that the error belongs to.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # use payman_sdk::{Client, Config, RetryPolicy};
    /// # let config = Config::new("id").client_secret("secret").retry(RetryPolicy::none());
    /// # let client = Client::with_credentials(config.base_url("http://127.0.0.1:1"))?;
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err(); // nothing listens there
    /// assert!(error.task_id().is_some());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn task_id(&self) -> Option<&TaskId> {
        self.0.task_id.as_ref()
    }
}

impl Error {
    /// Builds an error. Only called in this file: elsewhere, errors are built by the named
    /// constructors below, so that every message and what it proves stand in one place.
    pub(crate) fn new(
        kind: ErrorKind,
        outcome: Outcome,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Arc::new(ErrorInner {
            kind,
            outcome,
            message: message.into(),
            status: None,
            body: None,
            rpc: None,
            error_code: None,
            retry_after: None,
            task_id: None,
            redirect: None,
            source: None,
        }))
    }

    /// Refuses bad input before anything is sent.
    pub(crate) fn invalid_input(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidInput, Outcome::NotDone, message)
    }

    fn unknown(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(kind, Outcome::Unknown, message)
    }
}

/// Sending an ask.
impl Error {
    pub(crate) fn unexpected_stream() -> Self {
        Self::protocol("the platform answered an ask for a whole reply with a stream")
    }

    /// Refuses a second ask of a clone. The first may have been done, so the outcome is unknown.
    pub(crate) fn ask_already_sent() -> Self {
        Self::unknown(ErrorKind::InvalidInput, "this ask was sent already")
    }

    pub(crate) fn deadline_passed_before_sending() -> Self {
        let message = "the time limit passed before the ask was sent";
        Self::new(ErrorKind::Timeout, Outcome::NotDone, message)
    }

    pub(crate) fn not_connected(timed_out: bool, source: impl Into<Source>) -> Self {
        let message = if timed_out {
            "connecting to the platform took too long"
        } else {
            "could not connect to the platform"
        };
        Self::new(ErrorKind::Connect, Outcome::NotDone, message).with_source(source)
    }

    /// The time limit passed while the request waited for a connection.
    pub(crate) fn no_connection_in_time() -> Self {
        let message = "the time limit passed before a connection took the request";
        Self::new(ErrorKind::Timeout, Outcome::NotDone, message)
    }

    /// The connection closed before it took the request.
    pub(crate) fn connection_closed_unused(source: impl Into<Source>) -> Self {
        let message = "the connection closed before it took the request";
        Self::new(ErrorKind::Connect, Outcome::NotDone, message).with_source(source)
    }

    pub(crate) fn connection_lost(source: impl Into<Source>) -> Self {
        let message = "the connection broke before the answer was whole";
        Self::unknown(ErrorKind::Interrupted, message).with_source(source)
    }

    pub(crate) fn answer_timed_out() -> Self {
        Self::unknown(ErrorKind::Timeout, "the platform did not answer in time")
    }

    pub(crate) fn token_wait_timed_out() -> Self {
        let message = "the deadline passed while waiting for a token";
        Self::new(ErrorKind::Timeout, Outcome::NotDone, message)
    }
}

/// Reading an answer.
impl Error {
    /// An answer or an event that cannot be understood or trusted.
    pub(crate) fn protocol(message: impl Into<Cow<'static, str>>) -> Self {
        Self::unknown(ErrorKind::Protocol, message)
    }

    pub(crate) fn another_task() -> Self {
        Self::protocol(ANOTHER_TASK)
    }

    pub(crate) fn is_another_task(&self) -> bool {
        self.0.message == ANOTHER_TASK
    }

    pub(crate) fn too_large(what: &str, limit: usize) -> Self {
        let message = format!("{what} is larger than the limit of {limit} bytes");
        Self::unknown(ErrorKind::TooLarge, message)
    }

    /// Builds the error of a JSON-RPC response; the server's message is cut short and put on one
    /// line.
    pub(crate) fn from_rpc(rpc: RpcError) -> Self {
        let kind = match rpc.code {
            Some(code::TASK_NOT_FOUND) => ErrorKind::TaskNotFound,
            Some(code::METHOD_NOT_FOUND | code::UNSUPPORTED_OPERATION) => ErrorKind::Unsupported,
            _ => ErrorKind::Rpc,
        };
        let says = on_one_line(&rpc.message);
        let message = match (rpc.code, says.as_str()) {
            (Some(code), "") => format!("the platform answered with JSON-RPC error {code}"),
            (Some(code), says) => {
                format!("the platform answered with JSON-RPC error {code}: {says}")
            }
            (None, says) => {
                format!("the platform answered with a JSON-RPC error without a code: {says}")
            }
        };
        Self::unknown(kind, message).with_rpc(rpc)
    }

    /// Builds the error of an HTTP status that is not a success.
    pub(crate) fn from_status(status: reqwest::StatusCode, says: Option<&str>) -> Self {
        let message = match says.map(on_one_line).filter(|says| !says.is_empty()) {
            Some(says) => format!("the platform answered HTTP {status}: {says}"),
            None => format!("the platform answered HTTP {status}"),
        };
        Self::unknown(ErrorKind::Http, message).with_status(status.as_u16())
    }

    /// Sets the kind that an HTTP status stands for, where it says more than the body.
    pub(crate) fn with_kind_of_status(self, status: u16, asks_to_wait: bool) -> Self {
        match (status, self.kind()) {
            (401 | 403, _) => self.with_kind(ErrorKind::Auth),
            (429, _) => self.with_kind(ErrorKind::RateLimited),
            (503, _) if asks_to_wait => self.with_kind(ErrorKind::RateLimited),
            (404 | 405 | 501, ErrorKind::Http) => self.with_kind(ErrorKind::Unsupported),
            _ => self,
        }
    }
}

/// Looking up and following a task.
impl Error {
    pub(crate) fn lookups_unanswered(id: &TaskId) -> Self {
        Self::unknown(ErrorKind::Interrupted, "the platform no longer answers for the task")
            .with_task_id(id)
    }

    pub(crate) fn resubscribe_unsupported() -> Self {
        let message = "the platform did not resume the task's events";
        Self::new(ErrorKind::Unsupported, Outcome::Settled, message)
    }

    pub(crate) fn task_still_running(id: &TaskId) -> Self {
        let message = "the deadline passed while the task was still running";
        Self::unknown(ErrorKind::Timeout, message).with_task_id(id)
    }

    pub(crate) fn task_stands_still(id: &TaskId) -> Self {
        let message = "the task is still running and made no progress for too long";
        Self::unknown(ErrorKind::Timeout, message).with_task_id(id)
    }

    /// The server ended the stream without a state, and lookups show none.
    pub(crate) fn state_never_came(id: &TaskId) -> Self {
        let message = "the stream ended without a state of the task";
        Self::unknown(ErrorKind::Interrupted, message).with_task_id(id)
    }

    /// A stream was cut, and lookups show a state that does not say whether the task has ended.
    pub(crate) fn state_not_recognized(id: &TaskId, state: &TaskState) -> Self {
        let message =
            format!("the stream was cut, and the task's state is not recognized: {state}");
        Self::unknown(ErrorKind::Interrupted, message).with_task_id(id)
    }

    pub(crate) fn task_not_followed(id: &TaskId) -> Self {
        let message = "the task is still running, and is not followed";
        Self::unknown(ErrorKind::Interrupted, message).with_task_id(id)
    }

    /// The task is in another state than completed.
    pub(crate) fn task_not_completed(state: &TaskState, outcome: Outcome) -> Self {
        let message = format!("the task did not complete: its state is {state}");
        Self::new(ErrorKind::TaskNotCompleted, outcome, message)
    }

    /// The task has ended, but its streamed answer was cut and cannot be had again.
    pub(crate) fn answer_not_whole(state: &TaskState) -> Self {
        let message =
            format!("the answer was cut and was not sent again; the task's state is {state}");
        Self::new(ErrorKind::Interrupted, Outcome::Settled, message)
    }
}

/// Streams.
impl Error {
    /// The chunks of text already yielded are not the start of the text any more.
    pub(crate) fn text_rewritten(id: &TaskId) -> Self {
        let message =
            "the answer was rewritten: it does not start with the text that was already yielded";
        Self::new(ErrorKind::Protocol, Outcome::Settled, message).with_task_id(id)
    }

    /// The stream ended, or broke, before the answer did.
    pub(crate) fn stream_cut(message: &'static str) -> Self {
        Self::unknown(ErrorKind::Interrupted, message)
    }

    pub(crate) fn stream_idle() -> Self {
        Self::unknown(ErrorKind::Timeout, "the stream was silent for too long")
    }

    pub(crate) fn stream_deadline_passed() -> Self {
        Self::unknown(ErrorKind::Timeout, "the deadline passed before the answer ended")
    }
}

/// Connecting a user.
impl Error {
    pub(crate) fn redirect_forged() -> Self {
        let message =
            "the redirect's state is not the one that was sent: it is not this user's answer";
        Self::new(ErrorKind::Auth, Outcome::NotDone, message)
            .with_redirect_failure(RedirectFailure::Forged)
    }

    /// Builds the error of a redirect that carries an OAuth error code, which becomes the body.
    pub(crate) fn redirect_refused(code: String) -> Self {
        let failure = match code.as_str() {
            "invalid_request"
            | "unauthorized_client"
            | "unsupported_response_type"
            | "invalid_scope"
            | "invalid_client"
            | "invalid_redirect_uri"
            | "server_error"
            | "temporarily_unavailable" => RedirectFailure::Platform,
            _ => RedirectFailure::Denied,
        };
        let message = format!("the user was not connected: {code}");
        Self::new(ErrorKind::Auth, Outcome::NotDone, message)
            .with_body(code.into())
            .with_redirect_failure(failure)
    }

    /// Returns why the redirect back from the consent page holds no code, if that is the error.
    pub(crate) fn redirect_failure(&self) -> Option<RedirectFailure> {
        self.0.redirect
    }

    fn with_redirect_failure(mut self, failure: RedirectFailure) -> Self {
        Arc::make_mut(&mut self.0).redirect = Some(failure);
        self
    }
}

/// Idempotency keys and their journal.
impl Error {
    /// An error of a [`Journal`](crate::Journal) implementation, with what kept the journal from
    /// its work.
    #[must_use]
    pub fn journal(source: impl Into<Box<dyn StdError + Send + Sync + 'static>>) -> Self {
        Self::new(ErrorKind::Journal, Outcome::Settled, "the journal failed").with_source(source)
    }

    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn database(source: impl Into<Source>) -> Self {
        let message = "the database cannot be used";
        Self::new(ErrorKind::Journal, Outcome::Settled, message).with_source(source)
    }

    pub(crate) fn idempotency_other_content() -> Self {
        Self::new(
            ErrorKind::IdempotencyConflict,
            Outcome::NotDone,
            "the idempotency key belongs to an ask with another content",
        )
    }

    pub(crate) fn idempotency_other_identity() -> Self {
        Self::new(
            ErrorKind::IdempotencyConflict,
            Outcome::NotDone,
            "the idempotency key belongs to another client id, platform or subject",
        )
    }

    pub(crate) fn stored_reply_unreadable(id: &TaskId) -> Self {
        let message = "the journal holds a reply that this version cannot read";
        Self::new(ErrorKind::Journal, Outcome::Unknown, message).with_task_id(id)
    }

    pub(crate) fn keyed_task_not_known(id: &TaskId) -> Self {
        let message = "an ask was begun under this idempotency key, and the platform does not \
                       know its task: it may have been done";
        Self::new(ErrorKind::TaskNotFound, Outcome::Unknown, message).with_task_id(id)
    }

    pub(crate) fn keyed_outcome_unknown(id: &TaskId, cause: Option<Self>) -> Self {
        let message = "an ask was begun under this idempotency key, and its task could not be \
                       looked up: it may have been done";
        let kind = cause.as_ref().map_or(ErrorKind::Interrupted, Self::kind);
        let error = Self::new(kind, Outcome::Unknown, message).with_task_id(id);
        match cause {
            Some(cause) => error.with_source(cause),
            None => error,
        }
    }

    pub(crate) fn keyed_ask_in_progress(id: &TaskId) -> Self {
        let message = "the deadline passed while the ask with this idempotency key was in progress";
        Self::new(ErrorKind::Timeout, Outcome::Unknown, message).with_task_id(id)
    }

    /// The attempt that a caller waited for was surely not done.
    pub(crate) fn keyed_attempt_not_done(id: &TaskId, why: Option<&str>) -> Self {
        let why = why.unwrap_or("it was released");
        let message = format!("the ask in progress under this idempotency key was not done: {why}");
        Self::new(ErrorKind::Journal, Outcome::NotDone, message).with_task_id(id)
    }
}

/// Tokens. None of these errors stands for an ask that was sent.
impl Error {
    pub(crate) fn token_request(kind: ErrorKind, message: &'static str) -> Self {
        Self::new(kind, Outcome::NotDone, message)
    }

    /// The message begins with what the user has to do, because the program shows it.
    pub(crate) fn reauthorization_required(reason: &'static str) -> Self {
        let message = format!("the user has to connect again: {reason}");
        Self::new(ErrorKind::ReauthorizationRequired, Outcome::NotDone, message)
    }

    pub(crate) fn token_store(source: impl Into<Source>) -> Self {
        Self::new(ErrorKind::TokenStore, Outcome::NotDone, "the token store failed")
            .with_source(source)
    }

    pub(crate) fn no_consent_of_token_store(source: impl Into<Source>) -> Self {
        let message = "the token store failed, and a refresh token is spent only with its consent";
        Self::new(ErrorKind::TokenStore, Outcome::NotDone, message).with_source(source)
    }

    pub(crate) fn sign_out_failed(source: impl Into<Source>) -> Self {
        let message = "the user is not signed out: the token store failed";
        Self::new(ErrorKind::TokenStore, Outcome::NotDone, message).with_source(source)
    }

    /// The claim of another process, or another client of this one, has not ended.
    pub(crate) fn token_claim_held() -> Self {
        let message = "another holder of this sign-in is renewing its token, and has not finished";
        Self::new(ErrorKind::Timeout, Outcome::NotDone, message)
    }

    pub(crate) fn refresh_replies_lost() -> Self {
        let message = "the replies to the token's refresh were lost";
        Self::new(ErrorKind::Interrupted, Outcome::NotDone, message)
    }

    pub(crate) fn refreshed_tokens_refused() -> Self {
        let message = "the server refuses each token as soon as it was obtained";
        Self::new(ErrorKind::Auth, Outcome::NotDone, message)
    }

    pub(crate) fn refresh_ended_early() -> Self {
        let message = "the refresh of the token ended before it was done";
        Self::new(ErrorKind::Interrupted, Outcome::NotDone, message)
    }

    pub(crate) fn sign_in_ended_early(source: impl Into<Source>) -> Self {
        let message = "the exchange of the auth code ended before it was done";
        Self::new(ErrorKind::Interrupted, Outcome::NotDone, message).with_source(source)
    }

    pub(crate) fn no_runtime() -> Self {
        Self::invalid_input("there is no tokio runtime here, and the client needs one")
    }
}

/// Adding details.
impl Error {
    /// The task that ran an ask on its own panicked, or ended with its runtime.
    pub(crate) fn ask_task_ended(source: impl Into<Source>) -> Self {
        Self::unknown(ErrorKind::Interrupted, "the task that ran the ask ended before its answer")
            .with_source(source)
    }

    pub(crate) fn with_error_code(mut self, code: Option<String>) -> Self {
        Arc::make_mut(&mut self.0).error_code = code.map(String::into_boxed_str);
        self
    }

    pub(crate) fn with_kind(mut self, kind: ErrorKind) -> Self {
        Arc::make_mut(&mut self.0).kind = kind;
        self
    }

    pub(crate) fn with_source(mut self, source: impl Into<Source>) -> Self {
        Arc::make_mut(&mut self.0).source = Some(Arc::from(source.into()));
        self
    }

    pub(crate) fn with_status(mut self, status: u16) -> Self {
        Arc::make_mut(&mut self.0).status = Some(status);
        self
    }

    pub(crate) fn with_body(mut self, body: Bytes) -> Self {
        Arc::make_mut(&mut self.0).body = Some(body);
        self
    }

    pub(crate) fn with_rpc(mut self, rpc: RpcError) -> Self {
        Arc::make_mut(&mut self.0).rpc = Some(rpc);
        self
    }

    pub(crate) fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        Arc::make_mut(&mut self.0).retry_after = wait;
        self
    }

    pub(crate) fn with_task_id(mut self, id: &TaskId) -> Self {
        Arc::make_mut(&mut self.0).task_id = Some(id.clone());
        self
    }

    pub(crate) fn with_outcome(mut self, outcome: Outcome) -> Self {
        Arc::make_mut(&mut self.0).outcome = outcome;
        self
    }
}

/// Errors of the emulator.
#[cfg(feature = "emulator")]
impl Error {
    /// The emulator cannot listen on this address.
    pub(crate) fn emulator_address(address: std::net::SocketAddr, source: std::io::Error) -> Self {
        let message = format!("could not listen on {address}");
        Self::new(ErrorKind::Connect, Outcome::NotDone, message).with_source(source)
    }
}

const ANOTHER_TASK: &str = "the platform answered with another task than the one asked for";

/// Cuts a server's text short and replaces its control characters, line ends included.
fn on_one_line(text: &str) -> String {
    const LONGEST: usize = 300;
    let text: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
    text.trim().to_owned()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// Leaves the body out: it is the server's text and does not belong in logs.
impl fmt::Debug for ErrorInner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.kind)
            .field("outcome", &self.outcome)
            .field("message", &self.message);
        if let Some(status) = self.status {
            out.field("status", &status);
        }
        if let Some(rpc) = &self.rpc {
            out.field("rpc_code", &rpc.code);
        }
        if let Some(body) = &self.body {
            out.field("body_bytes", &body.len());
        }
        if let Some(wait) = self.retry_after {
            out.field("retry_after", &wait);
        }
        if let Some(id) = &self.task_id {
            out.field("task_id", id);
        }
        if let Some(source) = &self.source {
            out.field("source", source);
        }
        out.finish_non_exhaustive()
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static_assertions::assert_impl_all!(Error: Clone, Send, Sync, StdError);
    static_assertions::assert_eq_size!(Error, usize);

    #[test]
    fn display_does_not_repeat_the_source() {
        let error = Error::new(ErrorKind::Connect, Outcome::NotDone, "could not connect")
            .with_source(std::io::Error::other("refused"));
        assert_eq!(error.to_string(), "could not connect");
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("refused"));
        assert!(error.is_safe_to_ask_again() && !error.is_outcome_unknown());
    }

    #[test]
    fn a_clone_has_the_same_source() {
        let error = Error::new(ErrorKind::Connect, Outcome::NotDone, "could not connect")
            .with_source(std::io::Error::other("refused"));
        let clone = error.clone().with_status(503);
        assert_eq!((clone.status(), error.status()), (Some(503), None));
        let source = clone.source().expect("has a source");
        assert!(source.downcast_ref::<std::io::Error>().is_some(), "{source}");
    }

    #[test]
    fn debug_shows_no_body() {
        let error = Error::new(ErrorKind::Http, Outcome::Unknown, "HTTP 500")
            .with_status(500)
            .with_body(Bytes::from_static(b"hush"));
        assert_eq!(error.body().as_deref(), Some("hush"));
        assert!(!format!("{error:?}").contains("hush"));
    }
}
