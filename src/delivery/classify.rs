//! The decision table for sending asks again. No other code decides this.
//!
//! The table itself is public documentation: see [`RetryPolicy`].
//!
//! `tasks/get` and `tasks/cancel` have the same effect when they are repeated, so they are repeated
//! within the limits. Token requests have a table of their own, in `auth::grant`.

use crate::policy::RetryPolicy;
use crate::wire::jsonrpc::{RpcError, code};

/// The result of one attempt to send an ask.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Attempt<'a> {
    /// The request's body was not handed to a connection.
    NotSent,
    /// An answer that is not a reply.
    Answer(ErrorAnswer<'a>),
    /// The request may have been received, and there is no answer that could be understood.
    Lost,
}

/// An answer that is not a reply.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ErrorAnswer<'a> {
    pub(crate) status: u16,
    /// True if the answer also has a task or an event: the server began.
    pub(crate) has_task: bool,
    pub(crate) rpc: Option<&'a RpcError>,
    /// True if the answer has a `Retry-After`.
    pub(crate) asks_to_wait: bool,
    /// The server's possible knowledge of the task's id from earlier requests.
    pub(crate) id: IdAtServer,
}

/// The server's possible knowledge of a task's id from earlier requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdAtServer {
    /// This was the first request with a random id, or the task is known to exist.
    AsExpected,
    /// An earlier request with this id may have been received.
    MayBeKnown,
}

/// The next step after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryDecision {
    /// Nothing was sent: send after a wait.
    SendAgain,
    /// The token was refused: renew it and send once more.
    RenewToken,
    /// The server is busy: wait, look the task up, and send again only if that shows it to be safe.
    WaitAndLookUp,
    /// Nothing was done, and sending it again would change nothing.
    Refused,
    /// It may have been done: never send again, look the task up.
    LookUp,
}

/// Decides the next step after one attempt.
pub(crate) fn classify(attempt: Attempt<'_>, policy: &RetryPolicy) -> RetryDecision {
    let answer = match attempt {
        Attempt::NotSent => return RetryDecision::SendAgain,
        Attempt::Lost => return RetryDecision::LookUp,
        Attempt::Answer(answer) => answer,
    };
    if answer.has_task {
        return RetryDecision::LookUp;
    }
    match (answer.status, answer.rpc) {
        (401, _) => RetryDecision::RenewToken,
        (429, _) => RetryDecision::WaitAndLookUp,
        (503, _) if answer.asks_to_wait && policy.resend_when_busy => RetryDecision::WaitAndLookUp,
        (409 | 423, _) if answer.id == IdAtServer::MayBeKnown => RetryDecision::LookUp,
        (_, Some(rpc)) if is_refusal(rpc) => RetryDecision::Refused,
        (_, Some(_)) => RetryDecision::LookUp,
        (status, None) if is_refused_status(status) => RetryDecision::Refused,
        _ => RetryDecision::LookUp,
    }
}

/// Statuses by which a server says that it did not act on the request.
///
/// Not among them are 406, which servers of this kind answer when they fail *after* acting and may
/// not write their error as JSON; 424, which says that an action failed that others may have
/// preceded; and 408, 460 and 499, which gateways answer for a request that is still under way or
/// was canceled: the server behind them may have acted.
fn is_refused_status(status: u16) -> bool {
    matches!(status, 400..=405 | 407 | 409..=423 | 425..=459 | 461..=498 | 501)
}

/// Codes by which a server says that it did not act on the request.
fn is_refusal(rpc: &RpcError) -> bool {
    matches!(
        rpc.code,
        Some(
            code::PARSE_ERROR
                | code::INVALID_REQUEST
                | code::METHOD_NOT_FOUND
                | code::INVALID_PARAMS
                | code::UNSUPPORTED_OPERATION
                | code::CONTENT_TYPE_NOT_SUPPORTED
        )
    )
}
