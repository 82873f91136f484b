//! Limits and the retry policy: settings that the lower layers read.

use std::time::Duration;

/// Limits of time and size. An [`Ask`](crate::Ask) may set its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) reply_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    /// `None` for a stream that was given none.
    pub(crate) deadline: Option<Duration>,
    pub(crate) max_event_bytes: usize,
    pub(crate) max_reply_bytes: usize,
    pub(crate) max_error_body_bytes: usize,
}

const MIB: usize = 1024 * 1024;

impl Default for Limits {
    fn default() -> Self {
        Self {
            reply_timeout: Duration::from_secs(5 * 60),
            idle_timeout: Duration::from_secs(2 * 60),
            deadline: None,
            max_event_bytes: 16 * MIB,
            max_reply_bytes: 64 * MIB,
            max_error_body_bytes: 64 * 1024,
        }
    }
}

/// The deadline of an ask that was given none: its waiting and looking included.
pub(crate) const DEFAULT_DEADLINE: Duration = Duration::from_secs(6 * 60);

/// What may be sent again, and how an answer that was lost is looked for.
///
/// ```
/// use payman_sdk::{Config, RetryPolicy};
/// use std::time::Duration;
///
/// let config = Config::new("client-id").retry(RetryPolicy::default().connect_retries(5).recovery_timeout(Duration::from_secs(5)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct RetryPolicy {
    pub(crate) connect_retries: u32,
    pub(crate) resend_when_busy: bool,
    pub(crate) reconcile: bool,
    pub(crate) follow: bool,
    pub(crate) recovery_timeout: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            connect_retries: 2,
            resend_when_busy: false,
            reconcile: true,
            follow: true,
            recovery_timeout: Duration::from_secs(15),
        }
    }
}

impl RetryPolicy {
    /// Nothing is sent again, nothing is looked for: every fault is an error at once. Only a refused
    /// token (HTTP 401) is still renewed, once.
    pub fn none() -> Self {
        Self {
            connect_retries: 0,
            resend_when_busy: false,
            reconcile: false,
            follow: false,
            recovery_timeout: Duration::ZERO,
        }
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
    pub fn reconcile_lost_answers(mut self, reconcile: bool) -> Self {
        self.reconcile = reconcile;
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
    pub fn recovery_timeout(mut self, limit: Duration) -> Self {
        self.recovery_timeout = limit;
        self
    }
}
