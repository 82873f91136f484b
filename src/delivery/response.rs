//! Reads the part of an answer that is needed to classify it.

use bytes::Bytes;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Response as HttpResponse, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::classify::{Attempt, ErrorAnswer, IdAtServer};
use crate::ask::AskContext;
use crate::error::{Error, Result};
use crate::policy::Limits;
use crate::transport::{
    ErrorBody, Failure, NotSent, is_media_type, read_body, read_error_body, retry_after,
};
use crate::wire::json;
use crate::wire::jsonrpc::RpcError;
use crate::wire::message::{MessageContent, decode_message};
use crate::wire::task::Task;

/// The answer to a request that was received.
pub(crate) enum Response {
    /// A task: the reply, or a snapshot that a lookup returned.
    Task(TaskSnapshot),
    /// The head of a stream of events.
    Events(HttpResponse),
}

/// The expected kind of the answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExpectedResponse {
    /// The reply to `tasks/send`: a task.
    Reply,
    /// A stream of events, or a whole task instead.
    Events,
    /// The task of a `tasks/get` or `tasks/cancel`.
    Lookup,
}

/// A task as the server returned it.
#[derive(Clone, Debug)]
pub(crate) struct TaskSnapshot {
    pub(crate) task: Task,
    pub(crate) source: SnapshotSource,
    /// The bytes of the response.
    pub(crate) response: Bytes,
}

impl TaskSnapshot {
    /// Wraps a task that was assembled from events.
    pub(crate) fn of(task: Task) -> Self {
        Self { task, source: SnapshotSource::Request, response: Bytes::new() }
    }
}

/// The request that returned a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SnapshotSource {
    /// The ask itself, or its stream.
    Request,
    /// A lookup.
    Lookup,
}

/// The presence of a task's artifacts in an event of a stream. A server may omit them, which does
/// not mean that the task has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArtifactsField {
    Included,
    LeftOut,
}

/// A failure to get the expected answer, and the outcome that it proves.
#[derive(Debug)]
pub(crate) struct SendError {
    pub(crate) error: Error,
    proof: Proof,
}

/// The proof that a request without a usable answer gives.
#[derive(Clone, Copy, Debug)]
enum Proof {
    /// No connection took it.
    NotSent,
    /// It was answered with this status, and possibly with a task in addition to the error.
    Answered { status: u16, has_task: bool },
    /// No proof: the request may have been received.
    Nothing,
}

impl SendError {
    pub(super) fn attempt(&self, id: IdAtServer) -> Attempt<'_> {
        match self.proof {
            Proof::NotSent => Attempt::NotSent,
            Proof::Nothing => Attempt::Lost,
            Proof::Answered { status, has_task } => Attempt::Answer(ErrorAnswer {
                status,
                has_task,
                rpc: self.error.rpc_error(),
                asks_to_wait: self.error.retry_after().is_some(),
                id,
            }),
        }
    }

    pub(super) fn was_sent(&self) -> bool {
        !matches!(self.proof, Proof::NotSent)
    }

    pub(super) fn status(&self) -> Option<u16> {
        match self.proof {
            Proof::Answered { status, .. } => Some(status),
            Proof::NotSent | Proof::Nothing => None,
        }
    }
}

/// Creates the failure of an answer that proves nothing.
impl From<Error> for SendError {
    fn from(error: Error) -> Self {
        Self { error, proof: Proof::Nothing }
    }
}

impl From<Failure> for SendError {
    fn from(failure: Failure) -> Self {
        let not_sent = |error| Self { error, proof: Proof::NotSent };
        match failure {
            Failure::NotConnected { source, timed_out } => {
                not_sent(Error::not_connected(timed_out, source))
            }
            Failure::NotSent(NotSent::TimedOut) => not_sent(Error::no_connection_in_time()),
            Failure::NotSent(NotSent::Closed(source)) => {
                not_sent(Error::connection_closed_unused(source))
            }
            Failure::Lost(source) => Error::connection_lost(source).into(),
            Failure::TimedOut => Error::answer_timed_out().into(),
            Failure::TooLarge { limit } => Error::too_large("the answer", limit).into(),
        }
    }
}

/// Returns true where the answer is a stream of events. Everything else is read as JSON, whatever
/// its media type: servers send `application/vnd.payman.v1+json`, `text/plain`, or none.
pub(super) fn is_events(response: &HttpResponse, expected: ExpectedResponse) -> bool {
    let mut types = response.headers().get_all(CONTENT_TYPE).iter().peekable();
    expected == ExpectedResponse::Events
        && response.status().is_success()
        && types.peek().is_some()
        && types.all(|value| is_media_type(value, "text/event-stream"))
}

/// Reads an answer that is not a stream of events.
pub(super) async fn read(
    response: &mut HttpResponse,
    expected: ExpectedResponse,
    ask: &AskContext,
    until: Instant,
) -> Result<TaskSnapshot, SendError> {
    let status = response.status();
    let limits = ask.limits();
    if !status.is_success() {
        return Err(Box::pin(read_http_error(response, limits, until)).await);
    }
    let body = read_body(response, limits.max_reply_bytes, until).await?;
    match decode_message(&body) {
        Ok(MessageContent::Result(payload)) => {
            let Some(task) = payload.into_task(&ask.task_id) else {
                return Err(
                    Error::protocol("the platform's answer is no task: it has no status").into()
                );
            };
            check_identity(&task, expected, ask)?;
            let source = match expected {
                ExpectedResponse::Lookup => SnapshotSource::Lookup,
                ExpectedResponse::Reply | ExpectedResponse::Events => SnapshotSource::Request,
            };
            Ok(TaskSnapshot { task, source, response: body })
        }
        Ok(MessageContent::Error(rpc, has_task)) => {
            let kept = body.slice(..body.len().min(limits.max_error_body_bytes));
            Err(SendError {
                error: Error::from_rpc(rpc).with_body(kept),
                proof: Proof::Answered { status: status.as_u16(), has_task },
            })
        }
        Ok(_) => {
            Err(Error::protocol("the platform's answer is neither a result nor an error").into())
        }
        Err(error) => Err(Error::protocol("the platform's answer could not be read")
            .with_source(error)
            .into()),
    }
}

/// Compares the id of the received task with the expected one. The driver does the same for the
/// events of a stream.
///
/// A reply to `tasks/send` may have an id of the server's own, since it answers this request in any
/// case.
fn check_identity(task: &Task, expected: ExpectedResponse, ask: &AskContext) -> Result<()> {
    if expected == ExpectedResponse::Reply || task.id == ask.task_id {
        return Ok(());
    }
    Err(Error::another_task())
}

/// The least size up to which an error's body is read, in bytes.
const DECIDED_BY: usize = 64 * 1024;

async fn read_http_error(
    response: &mut HttpResponse,
    limits: &Limits,
    until: Instant,
) -> SendError {
    let status = response.status();
    let wait = retry_after(response.headers());
    // The classification needs the body, even if less of it is kept.
    let most = limits.max_error_body_bytes.max(DECIDED_BY);
    let ErrorBody { bytes: mut body, is_whole } = read_error_body(response, most, until).await;
    let (rpc, has_task) = match decode_message(&body) {
        Ok(MessageContent::Error(rpc, has_task)) => (Some(rpc), has_task),
        Ok(MessageContent::Result(_) | MessageContent::Unknown(_)) => (None, true),
        Ok(MessageContent::Nothing | MessageContent::KeepAlive) => (None, false),
        Err(_) => read_loosely(&body),
    };
    let error = match rpc.filter(|rpc| rpc.code.is_some()) {
        Some(rpc) => Error::from_rpc(rpc).with_status(status.as_u16()),
        None => rest_error(status, &body),
    };
    let error = error.with_kind_of_status(status.as_u16(), wait.is_some()).with_retry_after(wait);
    body.truncate(limits.max_error_body_bytes);
    // The rest of a cut body is unknown (it may have a task or another code), so the status proves
    // nothing either.
    let proof = match is_whole {
        true => Proof::Answered { status: status.as_u16(), has_task },
        false => Proof::Nothing,
    };
    SendError { error: error.with_body(body), proof }
}

/// Reads the error body of the platform's REST API: `{status, timestamp, errorCode, message}`.
fn rest_error(status: StatusCode, body: &[u8]) -> Error {
    let body: Value = json::from_body(body).unwrap_or_default();
    let code = match body.get("errorCode") {
        Some(Value::String(code)) if !code.trim().is_empty() => Some(code.clone()),
        Some(Value::Number(code)) => Some(code.to_string()),
        _ => None,
    };
    let message = body.get("message").and_then(Value::as_str);
    let says = message.filter(|text| !text.trim().is_empty()).or(code.as_deref());
    Error::from_status(status, says).with_error_code(code)
}

/// Reads an error body of any other shape, such as a gateway's with a number under `status`.
fn read_loosely(body: &[u8]) -> (Option<RpcError>, bool) {
    let Ok(body) = json::from_body::<Value>(body) else {
        return (None, false);
    };
    let has = |name| body.get(name).is_some_and(|value| !value.is_null());
    let rpc = body.get("error").and_then(|error| RpcError::deserialize(error).ok());
    (rpc, has("result") || has("artifact") || has("artifacts"))
}
