//! Errors as problem details that a visitor may see.

use std::time::Duration;

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::error::{Error, ErrorKind, RedirectFailure};
use crate::ids::TaskId;
use crate::wire::jsonrpc::code;

/// An [`Error`] as the visitor of a web service may see it: problem details for HTTP (RFC 9457).
///
/// Contains no secret and nothing that the platform answered: those belong in the server's own log.
/// The [table](crate::web#statuses) lists the status of each error. Serializes to the members
/// `type`, `title`, `status`, `detail`, `code`, `outcomeUnknown`, `safeToAskAgain`, and where known
/// `taskId` and `retryAfter` (seconds).
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
pub struct Problem(Box<ProblemFields>);

/// The fields are boxed to keep the `Err` of a handler's result small.
#[derive(Clone, Debug, PartialEq)]
struct ProblemFields {
    /// True if the code is one of this crate's, which its documentation explains.
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

/// The page that explains the codes.
const TYPE: &str = "https://docs.rs/payman-sdk/latest/payman_sdk/web/index.html#statuses";

impl Problem {
    /// Builds a problem of your own for a request that did nothing.
    ///
    /// A status that HTTP does not allow becomes 500 in a response.
    ///
    /// ```
    /// use payman_sdk::web::Problem;
    ///
    /// let detail = "Wait until the agent has answered.";
    /// let busy = Problem::new(409, "one-at-a-time", "One at a time", detail);
    /// assert!(busy.is_safe_to_ask_again());
    /// ```
    #[must_use]
    pub fn new(
        status: u16,
        code: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self(Box::new(ProblemFields {
            documented: false,
            status,
            code,
            title,
            detail: detail.into(),
            outcome_unknown: false,
            safe_to_ask_again: true,
            task_id: None,
            retry_after: None,
        }))
    }

    /// Builds the problem of an ask that may have been done although no answer arrived: code
    /// `outcome-unknown`, status 502.
    ///
    /// Use it in a service that keeps the ids of its tasks and does not know the outcome of one.
    ///
    /// ```
    /// use payman_sdk::{TaskId, web::Problem};
    ///
    /// let lost = Problem::outcome_unknown(&TaskId::new());
    /// assert!(lost.is_outcome_unknown() && !lost.is_safe_to_ask_again());
    /// ```
    #[must_use]
    pub fn outcome_unknown(task_id: &TaskId) -> Self {
        Self::of_kind(unknown_outcome(502), true, false).with_task_id(task_id)
    }

    /// Builds the problem that ends an open stream when the server shuts down: code
    /// `shutting-down`, status 503, outcome unknown.
    #[must_use]
    pub fn shutting_down() -> Self {
        let kind = kind(
            503,
            "shutting-down",
            "The server is shutting down",
            "The agent goes on, and this page does not see the end. Do not ask again before you \
             have seen what became of it.",
        );
        Self::of_kind(kind, true, false)
    }

    fn of_kind(kind: ProblemKind, outcome_unknown: bool, safe_to_ask_again: bool) -> Self {
        let ProblemKind { status, code, title, detail } = kind;
        Self(Box::new(ProblemFields {
            documented: true,
            status,
            code,
            title,
            detail: detail.to_owned(),
            outcome_unknown,
            safe_to_ask_again,
            task_id: None,
            retry_after: None,
        }))
    }

    /// Sets the task's id, so that the visitor can look the task up.
    #[must_use]
    pub fn with_task_id(mut self, id: &TaskId) -> Self {
        self.0.task_id = Some(id.clone());
        self
    }

    /// Sets the task's id if the problem has none.
    pub(super) fn or_task_id(mut self, id: Option<&TaskId>) -> Self {
        if self.0.task_id.is_none() {
            self.0.task_id = id.cloned();
        }
        self
    }

    /// Returns the HTTP status: 400 to 599.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.0.status
    }

    /// Returns the machine-readable code of the problem: see the [table](crate::web#statuses).
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// Returns a title in a few words, the same for each [`code`](Self::code).
    #[must_use]
    pub fn title(&self) -> &'static str {
        self.0.title
    }

    /// Returns a sentence that explains the problem to the visitor.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// Returns true if the ask may have been done; see [`Error::is_outcome_unknown`].
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        self.0.outcome_unknown
    }

    /// Returns true if it is certain that nothing was done; see [`Error::is_safe_to_ask_again`].
    #[must_use]
    pub fn is_safe_to_ask_again(&self) -> bool {
        self.0.safe_to_ask_again
    }

    /// Returns the task's id, to look it up later.
    #[must_use]
    pub fn task_id(&self) -> Option<&TaskId> {
        self.0.task_id.as_ref()
    }

    /// Returns how long to wait before asking again, rounded up to whole seconds. `None` where that
    /// is unknown, or asking again is not safe.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }
}

/// The sentence added to a detail if it is certain that nothing was done. It also holds for a
/// lookup, because it does not concern the task that was looked up.
const NOTHING_DONE: &str = "Nothing was done by this request.";

struct ProblemKind {
    status: u16,
    code: &'static str,
    title: &'static str,
    detail: &'static str,
}

const fn kind(
    status: u16,
    code: &'static str,
    title: &'static str,
    detail: &'static str,
) -> ProblemKind {
    ProblemKind { status, code, title, detail }
}

fn kind_of(error: &Error) -> ProblemKind {
    if error.is_outcome_unknown() {
        let timed_out = matches!(error.kind(), ErrorKind::Timeout | ErrorKind::TaskNotCompleted);
        return unknown_outcome(if timed_out { 504 } else { 502 });
    }
    if let Some(kind) = error.redirect_failure().and_then(redirect_kind) {
        return kind;
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
        ErrorKind::IdempotencyConflict => kind(
            409,
            "idempotency-conflict",
            "Already used for something else",
            "Something else was asked under this idempotency key.",
        ),
        ErrorKind::TokenStore | ErrorKind::Journal => kind(
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

/// Returns the kind of a failed redirect that the visitor caused. Other failures are reported as
/// `refused`.
fn redirect_kind(failure: RedirectFailure) -> Option<ProblemKind> {
    match failure {
        RedirectFailure::Denied => Some(kind(
            403,
            "connect-denied",
            "Payman account not connected",
            "The connection was not allowed.",
        )),
        RedirectFailure::Forged => Some(kind(
            400,
            "invalid-redirect",
            "Not a redirect of yours",
            "This address does not belong to a connection that was begun in this browser.",
        )),
        RedirectFailure::Platform => None,
    }
}

fn unknown_outcome(status: u16) -> ProblemKind {
    kind(
        status,
        "outcome-unknown",
        "No answer arrived",
        "It may have been done all the same. Do not ask again before you have seen what became of \
         it.",
    )
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        let kind = kind_of(error);
        let safe_to_ask_again = error.is_safe_to_ask_again();
        let detail = match error.kind() {
            // Only this error's text is intended for the visitor.
            ErrorKind::InvalidInput if !error.is_outcome_unknown() => error.to_string(),
            _ if safe_to_ask_again => format!("{} {NOTHING_DONE}", kind.detail),
            _ => kind.detail.to_owned(),
        };
        let retry_after = error.retry_after().filter(|_| !error.is_outcome_unknown());
        let mut problem = Self::of_kind(kind, error.is_outcome_unknown(), safe_to_ask_again);
        problem.0.detail = detail;
        problem.0.task_id = error.task_id().cloned();
        problem.0.retry_after = retry_after.map(whole_seconds);
        problem
    }
}

fn whole_seconds(wait: Duration) -> Duration {
    Duration::from_secs(wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)))
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(None)?;
        if self.0.documented {
            out.serialize_entry("type", TYPE)?;
        }
        out.serialize_entry("title", self.0.title)?;
        out.serialize_entry("status", &self.0.status)?;
        out.serialize_entry("detail", &self.0.detail)?;
        out.serialize_entry("code", self.0.code)?;
        out.serialize_entry("outcomeUnknown", &self.0.outcome_unknown)?;
        out.serialize_entry("safeToAskAgain", &self.0.safe_to_ask_again)?;
        if let Some(id) = &self.0.task_id {
            out.serialize_entry("taskId", id)?;
        }
        if let Some(wait) = self.0.retry_after {
            out.serialize_entry("retryAfter", &wait.as_secs())?;
        }
        out.end()
    }
}

/// Converts the error, and writes it to the server's log (`tracing`): at `WARN` for a 5xx, else at
/// `DEBUG`.
impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let problem = Self::from(&error);
        log(&error, &problem);
        problem
    }
}

pub(super) fn log(error: &Error, problem: &Problem) {
    let task_id = error.task_id().map(TaskId::as_str);
    if problem.0.status >= 500 {
        tracing::warn!(
            status = problem.0.status,
            code = problem.0.code,
            task_id,
            ?error,
            "answered with a problem"
        );
    } else {
        tracing::debug!(
            status = problem.0.status,
            code = problem.0.code,
            task_id,
            ?error,
            "answered with a problem"
        );
    }
}

/// Writes the cause of a failed stream to the server's log.
pub(super) fn log_stream(error: &Error, task_id: &TaskId) {
    tracing::warn!(%task_id, ?error, "a stream to a visitor failed");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Outcome;
    use crate::wire::jsonrpc::RpcError;
    use bytes::Bytes;
    use serde_json::{Value, json};

    fn error(kind: ErrorKind, outcome: Outcome) -> Error {
        Error::invalid_input("inside")
            .with_kind(kind)
            .with_outcome(outcome)
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
            (IdempotencyConflict, NotDone, 409, "idempotency-conflict"),
            (TokenStore, NotDone, 500, "server-error"),
            (Journal, NotDone, 500, "server-error"),
            (Unsupported, Settled, 501, "unsupported"),
            (Auth, NotDone, 502, "refused"),
            (Http, NotDone, 502, "refused"),
            (Rpc, NotDone, 502, "refused"),
            (Protocol, Settled, 502, "refused"),
            (Connect, NotDone, 503, "unreachable"),
            (Timeout, NotDone, 504, "timeout"),
            // If it may have been done, the status is never one that programs retry.
            (InvalidInput, Unknown, 502, "outcome-unknown"),
            (Journal, Unknown, 502, "outcome-unknown"),
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
            assert_eq!(
                problem.detail().contains("may have been done"),
                outcome == Unknown,
                "{kind:?}"
            );
        }
    }

    #[test]
    fn a_task_that_cannot_be_canceled_is_a_conflict() -> Result<(), serde_json::Error> {
        let rpc: RpcError = serde_json::from_value(json!({"code": -32002, "message": "upstream"}))?;
        let problem = Problem::from(&error(ErrorKind::Rpc, Outcome::Settled).with_rpc(rpc));
        assert_eq!((problem.status(), problem.code()), (409, "not-cancelable"));
        Ok(())
    }

    #[test]
    fn the_json_has_the_problem_and_no_text_of_the_platform() -> Result<(), serde_json::Error> {
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
