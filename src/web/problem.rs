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
    /// Whether the code is one of this crate's, explained in its documentation.
    documented: bool,
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

/// Where the codes are explained.
const TYPE: &str = "https://docs.rs/payman-sdk/latest/payman_sdk/web/index.html#statuses";

impl Problem {
    /// A problem of your own, with a request that did nothing: of the same form as the crate's.
    ///
    /// A status that is none becomes 500 in a response.
    ///
    /// ```
    /// use payman_sdk::web::Problem;
    ///
    /// let busy = Problem::new(409, "one-at-a-time", "One at a time", "Wait until the agent has answered.");
    /// assert!(busy.is_safe_to_ask_again());
    /// ```
    #[must_use]
    pub fn new(
        status: u16,
        code: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            documented: false,
            status,
            code,
            title,
            detail: detail.into(),
            outcome_unknown: false,
            safe_to_ask_again: true,
            task_id: None,
            retry_after: None,
        }
    }

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
        ErrorKind::ReauthorizationRequired => kind(
            403,
            "connect-again",
            "Payman account not connected",
            "Connect your Payman account again.",
        ),
        ErrorKind::TaskNotFound => {
            kind(404, "task-not-found", "No such task", "The platform knows no such task.")
        }
        ErrorKind::TaskNotCompleted => kind(
            422,
            "not-completed",
            "Not completed",
            "The agent did not complete what was asked.",
        ),
        ErrorKind::RateLimited => {
            kind(429, "busy", "The platform is busy", "Try again a little later.")
        }
        ErrorKind::TokenStore => kind(
            500,
            "server-error",
            "Something is wrong on this server",
            "This is not your fault.",
        ),
        ErrorKind::Unsupported => {
            kind(501, "unsupported", "Not offered", "The platform does not offer this operation.")
        }
        ErrorKind::Connect => {
            kind(503, "unreachable", "The platform cannot be reached", "Try again a little later.")
        }
        ErrorKind::Timeout => kind(504, "timeout", "It took too long", "Try again a little later."),
        _ => kind(
            502,
            "refused",
            "The platform refused",
            "The platform refused what this server asked of it.",
        ),
    }
}

fn unknown_outcome(of: ErrorKind) -> Kind {
    let status =
        if matches!(of, ErrorKind::Timeout | ErrorKind::TaskNotCompleted) { 504 } else { 502 };
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
            documented: true,
            status,
            code,
            title,
            detail,
            outcome_unknown: error.is_outcome_unknown(),
            safe_to_ask_again,
            task_id: error.task_id().cloned(),
            retry_after: error
                .retry_after()
                .filter(|_| !error.is_outcome_unknown())
                .map(whole_seconds),
        }
    }
}

fn whole_seconds(wait: Duration) -> Duration {
    Duration::from_secs(wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)))
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(None)?;
        if self.documented {
            out.serialize_entry("type", TYPE)?;
        }
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

/// The visitor sees little; the server's log (`tracing`) gets the cause: at `WARN` for a 5xx, else at `DEBUG`.
impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let problem = Self::from(&error);
        log(&error, &problem);
        problem
    }
}

pub(super) fn log(error: &Error, problem: &Problem) {
    let task_id = error.task_id().map(TaskId::as_str);
    if problem.status >= 500 {
        tracing::warn!(
            status = problem.status,
            code = problem.code,
            task_id,
            ?error,
            "answered with a problem"
        );
    } else {
        tracing::debug!(
            status = problem.status,
            code = problem.code,
            task_id,
            ?error,
            "answered with a problem"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Outcome;
    use crate::wire::jsonrpc::RpcError;
    use bytes::Bytes;
    use serde_json::{Value, json};

    fn error(kind: ErrorKind, outcome: Outcome) -> Error {
        Error::new(kind, outcome, "inside")
            .with_body(Bytes::from_static(b"upstream"))
            .with_task_id(&TaskId::from("tsk-1"))
    }

    #[test]
    fn every_kind_has_its_status() {
        use ErrorKind::*;
        use Outcome::*;
        for (kind, outcome, status, code) in [
            (InvalidInput, NotDone, 400, "invalid-input"),
            (ReauthorizationRequired, NotDone, 403, "connect-again"),
            (TaskNotFound, Settled, 404, "task-not-found"),
            (TaskNotCompleted, Settled, 422, "not-completed"),
            (RateLimited, NotDone, 429, "busy"),
            (TokenStore, NotDone, 500, "server-error"),
            (Unsupported, Settled, 501, "unsupported"),
            (Auth, NotDone, 502, "refused"),
            (Http, NotDone, 502, "refused"),
            (Rpc, NotDone, 502, "refused"),
            (Protocol, Settled, 502, "refused"),
            (Connect, NotDone, 503, "unreachable"),
            (Timeout, NotDone, 504, "timeout"),
            // What may have been done is never answered with a status that programs repeat.
            (RateLimited, Unknown, 502, "outcome-unknown"),
            (Connect, Unknown, 502, "outcome-unknown"),
            (TaskNotFound, Unknown, 502, "outcome-unknown"),
            (Interrupted, Unknown, 502, "outcome-unknown"),
            (Timeout, Unknown, 504, "outcome-unknown"),
            (TaskNotCompleted, Unknown, 504, "outcome-unknown"),
        ] {
            let problem = Problem::from(&error(kind, outcome));
            assert_eq!((problem.status(), problem.code()), (status, code), "{kind:?} {outcome:?}");
            assert_eq!(
                problem.detail().contains("Nothing was done"),
                outcome == NotDone && kind != InvalidInput
            );
        }
    }

    #[test]
    fn what_cannot_be_canceled_is_a_conflict() -> Result<(), serde_json::Error> {
        let rpc: RpcError = serde_json::from_value(json!({"code": -32002, "message": "upstream"}))?;
        let problem = Problem::from(&error(ErrorKind::Rpc, Outcome::Settled).with_rpc(rpc));
        assert_eq!((problem.status(), problem.code()), (409, "not-cancelable"));
        Ok(())
    }

    #[test]
    fn the_json_tells_what_matters_and_nothing_of_the_platforms() -> Result<(), serde_json::Error> {
        let busy = error(ErrorKind::RateLimited, Outcome::NotDone)
            .with_retry_after(Some(Duration::from_millis(1200)));
        let value = serde_json::to_value(Problem::from(&busy))?;
        assert_eq!(
            value,
            json!({
                "type": TYPE, "title": "The platform is busy", "status": 429, "code": "busy",
                "detail": "Try again a little later. Nothing was done by this request.",
                "outcomeUnknown": false, "safeToAskAgain": true, "taskId": "tsk-1", "retryAfter": 2,
            })
        );
        let lost = error(ErrorKind::Interrupted, Outcome::Unknown)
            .with_retry_after(Some(Duration::from_secs(1)));
        let value = serde_json::to_value(Problem::from(&lost))?;
        assert_eq!(
            (&value["outcomeUnknown"], &value["safeToAskAgain"]),
            (&Value::Bool(true), &Value::Bool(false))
        );
        assert_eq!((&value["taskId"], value.get("retryAfter")), (&json!("tsk-1"), None));
        let text = value.to_string();
        assert!(!text.contains("inside") && !text.contains("upstream"), "{text}");
        Ok(())
    }
}
