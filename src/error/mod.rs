//! The error type, its accessors, and the constructor of every error.

mod accessors;
mod constructors;

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

/// An error of this crate: one pointer wide, and cheap to clone.
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
/// If neither of the first two is true, nothing remains to be looked up: the error does not belong
/// to an ask, or the task's state is known.
///
/// `Display` is one sentence and never repeats [`source`](std::error::Error::source), whose chain
/// has the causes. It has the message of a server's error, cut short and on one line; the rest of
/// the server's answer is in [`body`](Self::body) only. Neither contains a secret, a URL or the
/// text of the ask.
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

/// The kind of an [`Error`]. It does not tell whether the ask may have been done: see
/// [`Error::is_outcome_unknown`] and [`Error::is_safe_to_ask_again`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Bad input, refused before anything was sent: the message states the problem. Safe to ask
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
    /// The server asks the client to wait and try again (429, 503): see [`Error::retry_after`].
    /// Safe to ask again only where the server answered that it does not know the task.
    RateLimited,
    /// The server does not accept the token or the credentials (401, 403). Nothing was done.
    Auth,
    /// The user's sign-in has ended, and only the user can renew it. Nothing was done.
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

/// The known outcome of the ask that an error belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Surely not done: never sent, or refused.
    NotDone,
    /// It may have been done.
    Unknown,
    /// Nothing remains to be looked up: the error does not belong to an ask, or the task's state is
    /// known.
    Settled,
}

/// The reason that the redirect back from the consent page has no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RedirectFailure {
    /// Its state is not the one that was sent, so it may be forged.
    Forged,
    /// The user refused.
    Denied,
    /// The platform failed, or this app is not registered correctly there.
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
    /// Builds an error. Private, so that other modules use the named constructors, and every
    /// message and what it proves are in one place.
    fn new(kind: ErrorKind, outcome: Outcome, message: impl Into<Cow<'static, str>>) -> Self {
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
}

/// Setters of details.
impl Error {
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

    fn with_redirect_failure(mut self, failure: RedirectFailure) -> Self {
        Arc::make_mut(&mut self.0).redirect = Some(failure);
        self
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

/// Omits the body: it is the server's text and does not belong in logs.
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
