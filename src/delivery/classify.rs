//! What may be sent again. Nothing else in the crate decides it.
//!
//! An ask can move money, and the platform is not known to deduplicate anything: a second send runs the
//! agent again. So an ask is sent again only where it is certain that it was not received.
//!
//! | what happened to an ask | what the SDK does |
//! |---|---|
//! | no connection (name, refused, TLS, connect time limit): nothing was sent | sends again after a wait with full jitter, up to [`RetryPolicy::connect_retries`] times, within the deadline and the budget that all clones share |
//! | HTTP 401 with no task in the body | one token refresh, one more send, same ids |
//! | HTTP 429 | waits `Retry-After` or backs off, then **looks**; sends again (same ids) only if the server says that it does not know the task, or if the caller [opted in](RetryPolicy::resend_when_busy); else a rate-limit error; at once if the wait would pass the deadline |
//! | HTTP 503 with `Retry-After` | as 429, and only when the caller opted in |
//! | another 4xx (but 408), or JSON-RPC -32700, -32600, -32601, -32602, -32005 | refused: an error, not sent again |
//! | anything else once a byte may have left: reset, close, time limit, 3xx, 408, 5xx, JSON-RPC -32603 or an unknown code, a cut or garbled reply or error, HTTP/2 "not processed" | **never sent again**; recovered by looking |
//!
//! `tasks/get` and `tasks/cancel` change nothing when repeated: they are repeated within the limits.
//! Token requests have a table of their own, in `auth::grant`.

use crate::policy::RetryPolicy;
use crate::wire::jsonrpc::{RpcError, code};

/// What came of one send of an ask.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Attempt<'a> {
    /// No connection: no byte left.
    NotConnected,
    /// An answer that is no reply.
    Answer { status: u16, has_task: bool, rpc: Option<&'a RpcError>, asks_to_wait: bool },
    /// A byte may have left, and there is no answer that could be understood.
    Lost,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryDecision {
    /// Nothing was sent: send, after a wait.
    SendAgain,
    /// The token was refused: renew it, send once more.
    RenewToken,
    /// The server is busy: wait, look, send again only if that shows it to be safe.
    WaitAndLook,
    /// Nothing was done, and sending it again would change nothing.
    Refused,
    /// It may have been done: never send again, look.
    Look,
}

/// The table.
pub(crate) fn classify(observed: Attempt<'_>, policy: &RetryPolicy) -> RetryDecision {
    let (status, has_task, rpc, asks_to_wait) = match observed {
        Attempt::NotConnected => return RetryDecision::SendAgain,
        Attempt::Lost => return RetryDecision::Look,
        Attempt::Answer { status, has_task, rpc, asks_to_wait } => {
            (status, has_task, rpc, asks_to_wait)
        }
    };
    if has_task {
        return RetryDecision::Look;
    }
    match (status, rpc) {
        (401, _) => RetryDecision::RenewToken,
        (429, _) => RetryDecision::WaitAndLook,
        (503, _) if asks_to_wait && policy.resend_when_busy => RetryDecision::WaitAndLook,
        (_, Some(rpc)) if is_refusal(rpc) => RetryDecision::Refused,
        (408, _) | (_, Some(_)) => RetryDecision::Look,
        (400..500, None) => RetryDecision::Refused,
        _ => RetryDecision::Look,
    }
}

/// Codes by which a server says that it did not take the request up.
fn is_refusal(rpc: &RpcError) -> bool {
    matches!(
        rpc.code,
        Some(
            code::PARSE_ERROR
                | code::INVALID_REQUEST
                | code::METHOD_NOT_FOUND
                | code::INVALID_PARAMS
                | code::CONTENT_TYPE_NOT_SUPPORTED
        )
    )
}
