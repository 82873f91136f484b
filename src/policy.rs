//! Limits and the retry policy: settings that the lower layers read.

use std::time::Duration;

/// Limits of time and size. An [`Ask`](crate::Ask) may set its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) reply_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    /// The time limit of the whole ask; `None` for a stream without one.
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

/// The default deadline of an ask, with its waits and lookups.
pub(crate) const DEFAULT_DEADLINE: Duration = Duration::from_secs(6 * 60);

/// The policy for sending failed asks again and for looking up lost answers.
///
/// An ask can move money, and the platform is not known to deduplicate anything: a second send runs
/// the agent again. So an ask is sent again only where it is certain that it was not acted on.
///
#[doc = include_str!("guide/retry_table.md")]
///
/// HTTP 406 proves nothing: servers answer it when they fail after acting and the request does not
/// accept the media type of their error.
///
/// # Lookups
///
/// A lookup is `tasks/get`. Where it is answered, the answer to the ask is found; a task that is
/// still running is polled (after 250 ms, then at growing intervals of up to 5 s).
///
/// | time | what ends then |
/// |---|---|
/// | [`recovery_timeout`](Self::recovery_timeout) without an answer to a lookup | looking for a lost answer, and following a task. A wait that `Retry-After` asks for does not count, up to the idle limit in all. The last lookup happens at the end of this time |
/// | the idle limit ([`Config::idle_timeout`](crate::Config::idle_timeout), at least 1 s) without a new state, timestamp or artifact | following a task |
/// | the deadline of the ask | everything, to within 250 ms |
///
/// If a server answers that it has no `tasks/get` (405, 501, JSON-RPC -32601 or -32004), the
/// lookups end at once. If it answers 404, they end after the recovery timeout. Both apply only to
/// a server that never answered a lookup of the task.
///
/// A lookup of a new task id proves that the ask was received. For a task that was continued, the
/// proof is a status later than the one known before (compared as points in time) together with the
/// message just sent as the last in the history, or any response to the ask itself. Without either,
/// the outcome stays unknown.
///
/// ```
/// use payman_sdk::{Config, RetryPolicy};
/// use std::time::Duration;
///
/// let policy =
///     RetryPolicy::default().connect_retries(5).recovery_timeout(Duration::from_secs(5));
/// let config = Config::new("client-id").retry(policy);
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
    /// Creates a policy by which nothing is sent again and nothing is looked up: every fault is an
    /// error at once. Only a refused token (HTTP 401) is still renewed, once.
    ///
    /// ```
    /// use payman_sdk::{Config, RetryPolicy};
    ///
    /// let config = Config::new("client-id").retry(RetryPolicy::none());
    /// ```
    pub fn none() -> Self {
        Self {
            connect_retries: 0,
            resend_when_busy: false,
            reconcile: false,
            follow: false,
            recovery_timeout: Duration::ZERO,
        }
    }

    /// Sets the number of times that an ask is sent again if no connection took it. Default 2.
    ///
    /// ```
    /// use payman_sdk::RetryPolicy;
    ///
    /// let policy = RetryPolicy::default().connect_retries(5);
    /// ```
    pub fn connect_retries(mut self, times: u32) -> Self {
        self.connect_retries = times;
        self
    }

    /// Sets whether an ask is sent again after 429, or 503 with `Retry-After`, although the server
    /// does not say whether it knows the task. Default false.
    ///
    /// Use this only with servers that are known to answer so before they act: otherwise money may
    /// move twice.
    ///
    /// ```
    /// use payman_sdk::RetryPolicy;
    ///
    /// let policy = RetryPolicy::default().resend_when_busy(false);
    /// ```
    pub fn resend_when_busy(mut self, resend: bool) -> Self {
        self.resend_when_busy = resend;
        self
    }

    /// Sets whether a lost answer is looked up with `tasks/get`. Default true.
    ///
    /// ```
    /// use payman_sdk::RetryPolicy;
    ///
    /// let policy = RetryPolicy::default().reconcile_lost_answers(false);
    /// ```
    pub fn reconcile_lost_answers(mut self, reconcile: bool) -> Self {
        self.reconcile = reconcile;
        self
    }

    /// Sets whether a task that is still submitted or working is followed to its end. Default true.
    ///
    /// ```
    /// use payman_sdk::RetryPolicy;
    ///
    /// let policy = RetryPolicy::default().follow_running_tasks(false);
    /// ```
    pub fn follow_running_tasks(mut self, follow: bool) -> Self {
        self.follow = follow;
        self
    }

    /// Sets the time for which failing lookups are repeated. Default 15 s.
    ///
    /// A task that is found and still running is followed until it makes no progress for the idle
    /// limit, or until the ask's deadline.
    ///
    /// ```
    /// use std::time::Duration;
    /// use payman_sdk::RetryPolicy;
    ///
    /// let policy = RetryPolicy::default().recovery_timeout(Duration::from_secs(30));
    /// ```
    pub fn recovery_timeout(mut self, limit: Duration) -> Self {
        self.recovery_timeout = limit;
        self
    }
}

/// The setting for refreshing tokens before they expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BackgroundRefresh {
    Enabled,
    /// Tokens are refreshed when a caller needs one.
    Disabled,
}
