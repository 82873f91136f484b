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

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::wire::jsonrpc::{RpcError, code};

/// What may be sent again, and how an answer that was lost is looked for.
///
/// ```
/// use payman_sdk::{Config, RetryPolicy};
/// use std::time::Duration;
///
/// let config = Config::new("client-id").retry(RetryPolicy::default().connect_retries(5).look_limit(Duration::from_secs(5)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct RetryPolicy {
    pub(crate) connect_retries: u32,
    pub(crate) resend_when_busy: bool,
    pub(crate) look: bool,
    pub(crate) follow: bool,
    pub(crate) look_limit: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            connect_retries: 2,
            resend_when_busy: false,
            look: true,
            follow: true,
            look_limit: Duration::from_secs(15),
        }
    }
}

impl RetryPolicy {
    /// Nothing is sent again, nothing is looked for: every fault is an error at once. Only a refused
    /// token (HTTP 401) is still renewed, once.
    pub fn none() -> Self {
        Self { connect_retries: 0, resend_when_busy: false, look: false, follow: false, look_limit: Duration::ZERO }
    }

    /// How often to try again where no connection could be made. Default 2.
    pub fn connect_retries(mut self, times: u32) -> Self {
        self.connect_retries = times;
        self
    }

    /// Whether to send an ask again after 429, or 503 with `Retry-After`, although the server
    /// does not say whether it knows the task. Default false.
    ///
    /// Only for servers that are known to answer so before they do anything: else money may move twice.
    pub fn resend_when_busy(mut self, resend: bool) -> Self {
        self.resend_when_busy = resend;
        self
    }

    /// Whether an answer that was lost is looked for with `tasks/get`. Default true.
    pub fn look_for_lost_answers(mut self, look: bool) -> Self {
        self.look = look;
        self
    }

    /// Whether a task that is still submitted or working is followed to its end. Default true.
    pub fn follow_running_tasks(mut self, follow: bool) -> Self {
        self.follow = follow;
        self
    }

    /// How long to look for a task that the server does not answer for. Default 15 s.
    ///
    /// A task that is found and still running is followed until the ask's deadline.
    pub fn look_limit(mut self, limit: Duration) -> Self {
        self.look_limit = limit;
        self
    }
}

/// What came of one send of an ask.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Observed<'a> {
    /// No connection: no byte left.
    NotConnected,
    /// An answer that is no reply.
    Answer { status: u16, has_task: bool, rpc: Option<&'a RpcError>, asks_to_wait: bool },
    /// A byte may have left, and there is no answer that could be understood.
    Lost,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
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
pub(crate) fn verdict(observed: Observed<'_>, policy: &RetryPolicy) -> Verdict {
    let (status, has_task, rpc, asks_to_wait) = match observed {
        Observed::NotConnected => return Verdict::SendAgain,
        Observed::Lost => return Verdict::Look,
        Observed::Answer { status, has_task, rpc, asks_to_wait } => (status, has_task, rpc, asks_to_wait),
    };
    if has_task {
        return Verdict::Look;
    }
    match (status, rpc) {
        (401, _) => Verdict::RenewToken,
        (429, _) => Verdict::WaitAndLook,
        (503, _) if asks_to_wait && policy.resend_when_busy => Verdict::WaitAndLook,
        (_, Some(rpc)) if is_refusal(rpc) => Verdict::Refused,
        (408, _) | (_, Some(_)) => Verdict::Look,
        (400..500, None) => Verdict::Refused,
        _ => Verdict::Look,
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

/// Waits that grow, each drawn at random from nothing to its bound ("full jitter"), so that many
/// callers who failed together do not come back together.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    bound: Duration,
    most: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { bound: first, most }
    }

    pub(crate) fn next_wait(&mut self) -> Duration {
        let bound = self.bound.min(self.most);
        self.bound = bound.saturating_mul(2);
        bound.mul_f64(fastrand::f64())
    }
}

/// How many retries all clients of one pool may still make: where everything fails, retries
/// must not multiply the load. Each exchange that succeeds earns a fraction of a retry back.
#[derive(Debug)]
pub(crate) struct RetryBudget(AtomicU32);

const BUDGET: u32 = 500;
const RETRY_COST: u32 = 5;

impl Default for RetryBudget {
    fn default() -> Self {
        Self(AtomicU32::new(BUDGET))
    }
}

impl RetryBudget {
    /// Takes one retry out; false where there is none left.
    pub(crate) fn take(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(RETRY_COST)).is_ok()
    }

    /// An exchange succeeded.
    pub(crate) fn earn(&self) {
        // A full budget is the usual case: it is only read, so that clones do not fight for the cache line.
        if self.0.load(Ordering::Relaxed) < BUDGET {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}
