//! Reading an answer as far as it is needed to decide.

use bytes::Bytes;
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::classify::Attempt;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::ids::TaskId;
use crate::policy::Limits;
use crate::transport::{ErrorBody, has_media_type, read_body, read_error_body, retry_after};
use crate::wire::jsonrpc::{RpcError, code};
use crate::wire::task::Task;
use crate::wire::update::{MessageContent, decode_message};

/// What an ask should be answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExpectedResponse {
    Reply,
    Events,
}

/// A task that the server showed, and the response that showed it.
#[derive(Clone, Debug)]
pub(crate) struct TaskSnapshot {
    pub(crate) task: Task,
    pub(crate) response: Bytes,
}

/// Anything but the answer that was wanted.
#[derive(Debug)]
pub(crate) struct SendError {
    pub(crate) error: Error,
    pub(super) status: Option<u16>,
    /// A result of any kind came, whatever the status says.
    pub(super) has_task: bool,
    pub(super) not_connected: bool,
}

impl SendError {
    pub(super) fn observed(&self) -> Attempt<'_> {
        match self.status {
            _ if self.not_connected => Attempt::NotConnected,
            None => Attempt::Lost,
            Some(status) => Attempt::Answer {
                status,
                has_task: self.has_task,
                rpc: self.error.rpc_error(),
                asks_to_wait: self.error.retry_after().is_some(),
            },
        }
    }

    fn garbled(message: &'static str) -> Self {
        let error = Error::new(ErrorKind::Protocol, Outcome::Unknown, message);
        Self { error, status: None, has_task: false, not_connected: false }
    }
}

/// True where the answer is the events that are wanted.
pub(super) fn is_events(response: &Response, expected: ExpectedResponse) -> bool {
    expected == ExpectedResponse::Events
        && response.status().is_success()
        && has_media_type(response.headers(), "text/event-stream")
}

/// Reads an answer that is no stream of events.
pub(super) async fn read(
    response: &mut Response,
    expected: ExpectedResponse,
    task_id: &TaskId,
    limits: &Limits,
    until: Instant,
) -> Result<TaskSnapshot, SendError> {
    let status = response.status();
    if !status.is_success() {
        return Err(Box::pin(read_http_error(response, limits, until)).await);
    }
    if expected == ExpectedResponse::Events
        && !has_media_type(response.headers(), "application/json")
    {
        return Err(SendError::garbled("the platform answered with neither events nor JSON"));
    }
    let body = read_body(response, limits.max_reply_bytes, until).await?;
    match decode_message(&body) {
        Ok(MessageContent::Result(payload)) => match payload.into_task(task_id) {
            Some(task) => Ok(TaskSnapshot { task, response: body }),
            None => Err(SendError::garbled("the platform's answer is no task: it has no status")),
        },
        Ok(MessageContent::Error(rpc, has_task)) => {
            let kept = body.slice(..body.len().min(limits.max_error_body_bytes));
            Err(SendError {
                status: Some(status.as_u16()),
                has_task,
                ..rpc_error(rpc).with_body(kept).into()
            })
        }
        Ok(_) => Err(SendError::garbled("the platform's answer is neither a result nor an error")),
        Err(error) => Err(SendError::from(
            unreadable("the platform's answer could not be understood").with_source(error),
        )),
    }
}

impl From<Error> for SendError {
    fn from(error: Error) -> Self {
        Self { error, status: None, has_task: false, not_connected: false }
    }
}

fn unreadable(message: &'static str) -> Error {
    Error::new(ErrorKind::Protocol, Outcome::Unknown, message)
}

/// How much of an error's body is read at least, in bytes.
const DECIDED_BY: usize = 64 * 1024;

async fn read_http_error(response: &mut Response, limits: &Limits, until: Instant) -> SendError {
    let status = response.status();
    let wait = retry_after(response.headers());
    // What is decided by is read, however little of it is to be kept.
    let most = limits.max_error_body_bytes.max(DECIDED_BY);
    let ErrorBody { bytes: mut body, is_whole } = read_error_body(response, most, until).await;
    let (rpc, has_task) = match decode_message(&body) {
        Ok(MessageContent::Error(rpc, has_task)) => (Some(rpc), has_task),
        Ok(MessageContent::Result(_) | MessageContent::Unknown(_)) => (None, true),
        Ok(MessageContent::Nothing) => (None, false),
        Err(_) => read_loosely(&body),
    };
    let error = match rpc.filter(|rpc| rpc.code.is_some()) {
        Some(rpc) => rpc_error(rpc),
        None => Error::new(
            http_kind(status),
            Outcome::Unknown,
            format!("the platform answered HTTP {status}"),
        ),
    };
    let error = match status.as_u16() {
        401 | 403 => error.with_kind(ErrorKind::Auth),
        429 => error.with_kind(ErrorKind::RateLimited),
        503 if wait.is_some() => error.with_kind(ErrorKind::RateLimited),
        _ => error,
    };
    body.truncate(limits.max_error_body_bytes);
    let error = error.with_status(status.as_u16()).with_body(body).with_retry_after(wait);
    // What the rest would have said (a task, another code) is unknown, and so is what the status is worth.
    let status = is_whole.then_some(status.as_u16());
    SendError { error, status, has_task, not_connected: false }
}

/// What else is in the body may be of any shape: gateways put numbers under `status`.
fn read_loosely(body: &[u8]) -> (Option<RpcError>, bool) {
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return (None, false);
    };
    let has = |name| body.get(name).is_some_and(|value| !value.is_null());
    let rpc = body.get("error").and_then(|error| RpcError::deserialize(error).ok());
    (rpc, has("result") || has("artifact") || has("artifacts"))
}

fn http_kind(status: StatusCode) -> ErrorKind {
    match status.as_u16() {
        404 | 405 | 501 => ErrorKind::Unsupported,
        _ => ErrorKind::Http,
    }
}

/// The error of a JSON-RPC response; what the server says is kept short and on one line.
pub(crate) fn rpc_error(rpc: RpcError) -> Error {
    const LONGEST: usize = 300;
    let kind = match rpc.code {
        Some(code::TASK_NOT_FOUND) => ErrorKind::TaskNotFound,
        Some(code::METHOD_NOT_FOUND | code::UNSUPPORTED_OPERATION) => ErrorKind::Unsupported,
        _ => ErrorKind::Rpc,
    };
    let says: String =
        rpc.message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
    let message = match (rpc.code, says.trim()) {
        (Some(code), "") => format!("the platform answered with JSON-RPC error {code}"),
        (Some(code), says) => format!("the platform answered with JSON-RPC error {code}: {says}"),
        (None, says) => {
            format!("the platform answered with a JSON-RPC error without a code: {says}")
        }
    };
    Error::new(kind, Outcome::Unknown, message).with_rpc(rpc)
}
