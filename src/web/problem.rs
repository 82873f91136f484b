//! An error, as the visitor of a web service may see it.

use std::time::Duration;

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::error::{Error, ErrorKind};
use crate::ids::TaskId;
use crate::wire::jsonrpc::code;

/// An [`Error`] as the visitor of a web service may see it: problem details for HTTP (RFC 9457).
///
/// Holds no secret and nothing that the platform answered: those are for the server's own log. Which error gets which
/// status is in the [table](crate::web#statuses). Serialises to the members `type`, `title`, `status`, `detail`, `code`,
/// `outcomeUnknown`, `safeToAskAgain`, and where known `taskId` and `retryAfter` (seconds).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> payman_sdk::Result<()> {
/// use payman_sdk::web::Problem;
///
/// # let payman = payman_sdk::Emulator::start().await?;
/// # let client = payman.client();
/// let error = client.ask(" ").await.unwrap_err();
/// let problem = Problem::from(&error);
/// assert_eq!((problem.status(), problem.code()), (400, "invalid-input"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    status: u16,
    code: &'static str,
    title: &'static str,
    detail: String,
    outcome_unknown: bool,
    safe_to_ask_again: bool,
    task_id: Option<TaskId>,
    retry_after: Option<Duration>,
}

/// The media type of a problem's JSON.
#[cfg(any(feature = "axum", feature = "actix-web"))]
pub(super) const MEDIA_TYPE: &str = "application/problem+json";

/// Where each code is explained: the `type` of a problem is this with the code behind it.
const TYPE_BASE: &str = "https://docs.rs/payman-sdk/latest/payman_sdk/web/index.html#statuses:";

impl Problem {
    /// The HTTP status: 400 to 599.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// What happened, for programs: see the [table](crate::web#statuses).
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// What happened, in a few words that are the same for each [`code`](Self::code).
    #[must_use]
    pub fn title(&self) -> &'static str {
        self.title
    }

    /// What it means for the visitor, in a sentence.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// True when what was asked may have been done; see [`Error::is_outcome_unknown`].
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        self.outcome_unknown
    }

    /// True when surely nothing was done; see [`Error::is_safe_to_ask_again`].
    #[must_use]
    pub fn is_safe_to_ask_again(&self) -> bool {
        self.safe_to_ask_again
    }

    /// The task, to look at it later.
    #[must_use]
    pub fn task_id(&self) -> Option<&TaskId> {
        self.task_id.as_ref()
    }

    /// How long to wait before asking again, in whole seconds, rounded up. `None` where it is not known, or not safe.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

/// Said only where it is certain; true of a look too, which says nothing of what it looked for.
const NOTHING_DONE: &str = "Nothing was done by this request.";

struct Kind {
    status: u16,
    code: &'static str,
    title: &'static str,
    detail: &'static str,
}

const fn kind(status: u16, code: &'static str, title: &'static str, detail: &'static str) -> Kind {
    Kind { status, code, title, detail }
}

fn kind_of(error: &Error) -> Kind {
    if error.is_outcome_unknown() {
        return unknown_outcome(error.kind());
    }
    if error.rpc_code() == Some(code::TASK_NOT_CANCELABLE) {
        return kind(
            409,
            "not-cancelable",
            "Nothing left to cancel",
            "The task is over, or cannot be canceled any more.",
        );
    }
    match error.kind() {
        ErrorKind::InvalidInput => kind(400, "invalid-input", "Bad input", ""),
        ErrorKind::ReauthorizationRequired => {
            kind(403, "connect-again", "Payman account not connected", "Connect your Payman account again.")
        }
        ErrorKind::TaskNotFound => kind(404, "task-not-found", "No such task", "The platform knows no such task."),
        ErrorKind::TaskNotCompleted => {
            kind(422, "not-completed", "Not completed", "The agent did not complete what was asked.")
        }
        ErrorKind::RateLimited => kind(429, "busy", "The platform is busy", "Try again a little later."),
        ErrorKind::TokenStore => {
            kind(500, "server-error", "Something is wrong on this server", "This is not your fault.")
        }
        ErrorKind::Unsupported => {
            kind(501, "unsupported", "Not offered", "The platform does not offer this operation.")
        }
        ErrorKind::Connect => kind(503, "unreachable", "The platform cannot be reached", "Try again a little later."),
        ErrorKind::Timeout => kind(504, "timeout", "It took too long", "Try again a little later."),
        _ => kind(502, "refused", "The platform refused", "The platform refused what this server asked of it."),
    }
}

fn unknown_outcome(of: ErrorKind) -> Kind {
    let status = if matches!(of, ErrorKind::Timeout | ErrorKind::TaskNotCompleted) { 504 } else { 502 };
    kind(
        status,
        "outcome-unknown",
        "No answer arrived",
        "It may have been done all the same. Do not ask again before you have seen what became of it.",
    )
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        let Kind { status, code, title, detail } = kind_of(error);
        let safe_to_ask_again = error.is_safe_to_ask_again();
        let detail = match error.kind() {
            // The one error whose text is for whoever asked.
            ErrorKind::InvalidInput => error.to_string(),
            _ if safe_to_ask_again => format!("{detail} {NOTHING_DONE}"),
            _ => detail.to_owned(),
        };
        Self {
            status,
            code,
            title,
            detail,
            outcome_unknown: error.is_outcome_unknown(),
            safe_to_ask_again,
            task_id: error.task_id().cloned(),
            retry_after: error.retry_after().filter(|_| !error.is_outcome_unknown()).map(whole_seconds),
        }
    }
}

fn whole_seconds(wait: Duration) -> Duration {
    Duration::from_secs(wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)))
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(None)?;
        out.serialize_entry("type", &format_args!("{TYPE_BASE}{}", self.code))?;
        out.serialize_entry("title", self.title)?;
        out.serialize_entry("status", &self.status)?;
        out.serialize_entry("detail", &self.detail)?;
        out.serialize_entry("code", self.code)?;
        out.serialize_entry("outcomeUnknown", &self.outcome_unknown)?;
        out.serialize_entry("safeToAskAgain", &self.safe_to_ask_again)?;
        if let Some(id) = &self.task_id {
            out.serialize_entry("taskId", id)?;
        }
        if let Some(wait) = self.retry_after {
            out.serialize_entry("retryAfter", &wait.as_secs())?;
        }
        out.end()
    }
}

/// The visitor sees little; the server's log gets the cause.
#[cfg(any(feature = "axum", feature = "actix-web"))]
pub(super) fn log(error: &Error, problem: &Problem) {
    let task_id = error.task_id().map(TaskId::as_str);
    if problem.status >= 500 {
        tracing::warn!(status = problem.status, code = problem.code, task_id, ?error, "answered with a problem");
    } else {
        tracing::debug!(status = problem.status, code = problem.code, task_id, ?error, "answered with a problem");
    }
}
