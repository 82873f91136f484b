//! The one error type.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::ids::TaskId;
use crate::wire::jsonrpc::RpcError;

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong: one pointer wide, and cheap to clone.
///
/// Three questions matter where money moves, and each has a method:
///
/// * *May it have been done?* [`is_outcome_unknown`](Self::is_outcome_unknown): look with
///   [`Client::get_task`](crate::Client::get_task) and [`task_id`](Self::task_id); never ask again on your own.
/// * *Was it surely not done?* [`is_safe_to_ask_again`](Self::is_safe_to_ask_again), after
///   [`retry_after`](Self::retry_after) where there is one.
/// * *Must the user connect again?* [`is_reauthorization_required`](Self::is_reauthorization_required).
///
/// `Display` is one sentence and never repeats [`source`](std::error::Error::source), whose chain says why. No secret, no
/// URL and nothing that was asked is in either; what the server answered is in [`body`](Self::body) only.
#[derive(Clone)]
pub struct Error(Arc<ErrorInner>);

/// What happened. Whether it may have been done is a question of its own: see
/// [`Error::is_outcome_unknown`] and [`Error::is_safe_to_ask_again`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Bad input, refused before anything was sent: the message says what to change. Safe to ask again once it is changed.
    InvalidInput,
    /// No connection could be made (name, refusal, TLS, time limit): nothing was sent. Safe to ask again.
    Connect,
    /// A time limit ran out. Once the ask may have been sent, its outcome is unknown.
    Timeout,
    /// The connection broke, or an answer ended before its end. The outcome is unknown.
    Interrupted,
    /// The answer could not be understood. The outcome is unknown.
    Protocol,
    /// The answer is over a size limit. The outcome is unknown.
    TooLarge,
    /// The server answered with an HTTP error. Safe to ask again only for those that the table in
    /// the crate's retry rules calls refused (4xx but 408, 401 and 429).
    Http,
    /// The server answered with a JSON-RPC error. Safe to ask again only for the codes that say "refused":
    /// -32700, -32600, -32601, -32602, -32005.
    Rpc,
    /// The server asks to come later (429, 503): see [`Error::retry_after`]. Safe to ask again only where
    /// the server said that it does not know the task.
    RateLimited,
    /// The server does not accept the token or the credentials (401, 403). Nothing was done.
    Auth,
    /// The user's sign-in is gone, and only the user can renew it. Nothing was done.
    ReauthorizationRequired,
    /// The server does not offer this operation.
    Unsupported,
    /// The server knows no such task.
    TaskNotFound,
    /// The task ended failed, canceled or rejected: see [`Reply::into_completed`](crate::Reply::into_completed).
    TaskNotCompleted,
    /// The token store failed.
    TokenStore,
}

/// What is known of the ask that an error belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Surely not done: never sent, or refused.
    NotDone,
    /// It may have been done.
    Unknown,
    /// There is nothing to know: not an ask, or the reply says it.
    Settled,
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
    retry_after: Option<Duration>,
    task_id: Option<TaskId>,
    source: Option<Arc<dyn StdError + Send + Sync + 'static>>,
}

impl Error {
    /// What happened.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// True when the ask may have been done, wholly or in part: the money may have moved.
    ///
    /// Do not ask again. Keep [`task_id`](Self::task_id), look with [`Client::get_task`](crate::Client::get_task) later, and if the
    /// platform still does not know the task, look at the wallet's transactions before anything is repeated.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        self.0.outcome == Outcome::Unknown
    }

    /// True only where it is certain that nothing was done: the ask was never sent, or it was refused.
    #[must_use]
    pub fn is_safe_to_ask_again(&self) -> bool {
        self.0.outcome == Outcome::NotDone
    }

    /// True when the user has to connect again: the refresh token was refused, or there is none.
    #[must_use]
    pub fn is_reauthorization_required(&self) -> bool {
        self.kind() == ErrorKind::ReauthorizationRequired
    }

    /// True when the server does not accept the token or the credentials, or the user has to connect again.
    #[must_use]
    pub fn is_auth(&self) -> bool {
        matches!(self.kind(), ErrorKind::Auth | ErrorKind::ReauthorizationRequired)
    }

    /// True when a time limit ran out.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.kind() == ErrorKind::Timeout
    }

    /// True when no connection could be made.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        self.kind() == ErrorKind::Connect
    }

    /// True when an answer or a stream was cut before its end.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.kind() == ErrorKind::Interrupted
    }

    /// True when the server asks to come later.
    #[must_use]
    pub fn is_rate_limited(&self) -> bool {
        self.kind() == ErrorKind::RateLimited
    }

    /// True when the server does not offer the operation.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        self.kind() == ErrorKind::Unsupported
    }

    /// True for bad input, refused before anything was sent.
    #[must_use]
    pub fn is_invalid_input(&self) -> bool {
        self.kind() == ErrorKind::InvalidInput
    }

    /// The HTTP status, where there was an answer that is an error.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// The body of the answer, cut at 64 KiB unless set otherwise. It is the server's text: it may hold anything.
    #[must_use]
    pub fn body(&self) -> Option<Cow<'_, str>> {
        self.0.body.as_deref().map(String::from_utf8_lossy)
    }

    /// The body read as JSON, where it is that.
    #[must_use]
    pub fn body_json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(self.0.body.as_deref()?).ok()
    }

    /// The JSON-RPC error, whatever the HTTP status was.
    #[must_use]
    pub fn rpc_error(&self) -> Option<&RpcError> {
        self.0.rpc.as_ref()
    }

    /// The JSON-RPC error's code.
    #[must_use]
    pub fn rpc_code(&self) -> Option<i64> {
        self.rpc_error()?.code
    }

    /// How long the server asks to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The task that the error belongs to.
    #[must_use]
    pub fn task_id(&self) -> Option<&TaskId> {
        self.0.task_id.as_ref()
    }
}

impl Error {
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
            retry_after: None,
            task_id: None,
            source: None,
        }))
    }

    /// Bad input: nothing was sent.
    pub(crate) fn invalid_input(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidInput, Outcome::NotDone, message)
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

/// By hand: the body is the server's text and stays out of logs.
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
