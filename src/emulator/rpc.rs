//! The task operations, `POST /api/a2a/tasks/…`.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use serde_json::{Value, json};

use super::backend::Backend;
use super::connection::ConnectionHandle;
use super::intercept::Interception;
use super::request::{CallError, RpcCall, SendCallParams, TaskCallParams};
use super::run::{AgentRun, ListenFrom, RunListener};
use super::settings::{Operation, Unsupported};
use super::tasks::{EnqueueError, IncomingMessage};
use super::{agent_job, event_stream, oauth};
use crate::ids::TaskId;
use crate::wire::ACCESS_TOKEN_HEADER;
use crate::wire::jsonrpc::{VERSION, code};
use crate::wire::task::Task;

/// The scopes of an access token.
type TokenScopes = Arc<BTreeSet<String>>;

/// The reason why a call has no result.
enum CallFailure {
    /// A JSON-RPC error.
    Rpc(CallError),
    /// An HTTP error.
    Http(StatusCode, &'static str),
}

impl From<CallError> for CallFailure {
    fn from(error: CallError) -> Self {
        Self::Rpc(error)
    }
}

impl From<EnqueueError> for CallFailure {
    fn from(error: EnqueueError) -> Self {
        match error {
            EnqueueError::SessionMismatch => Self::Rpc(CallError::new(
                code::INVALID_PARAMS,
                "The task belongs to another session",
            )),
            EnqueueError::Conflict => {
                Self::Http(StatusCode::CONFLICT, "A task with this id exists")
            }
        }
    }
}

/// Handles a request for the task operation that the path names.
pub(super) async fn task_operation(
    State(backend): State<Arc<Backend>>,
    Extension(connection): Extension<ConnectionHandle>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(operation) =
        name.parse().ok().filter(|operation: &Operation| operation.is_task_operation())
    else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let begun = Interception::begin(&backend, &connection, operation, &headers).await;
    let interception = match begun {
        Ok(interception) => interception,
        Err(response) => return response,
    };
    let wait = interception.waits_for_agent();
    let response = operate(&backend, operation, &headers, &body, wait).await;
    interception.finish(&backend, &connection, &headers, response).await
}

/// Performs an operation. With `wait`, a stream starts only after the agent has finished.
async fn operate(
    backend: &Arc<Backend>,
    operation: Operation,
    headers: &HeaderMap,
    body: &[u8],
    wait: bool,
) -> Response {
    let scopes = match authorize(backend, headers) {
        Ok(scopes) => scopes,
        Err(message) => return http_error(backend, StatusCode::UNAUTHORIZED, message),
    };
    let missing = {
        let settings = backend.settings();
        settings.missing.contains(&operation).then_some(settings.unsupported)
    };
    if let Some(unsupported) = missing {
        return unsupported_response(backend, unsupported, body);
    }
    let call = match RpcCall::parse(body, operation) {
        Ok(call) => call,
        Err((id, error)) => return rpc_error(&id, &error),
    };
    let id = call.id.clone();
    let result = match operation {
        Operation::Send => send(backend, call, scopes).await,
        Operation::SendSubscribe => send_subscribe(backend, call, scopes, wait).await,
        Operation::Get => get_task(backend, call),
        Operation::Cancel => cancel(backend, call),
        _ => resubscribe(backend, call),
    };
    match result {
        Ok(response) => response,
        Err(CallFailure::Rpc(error)) => rpc_error(&id, &error),
        Err(CallFailure::Http(status, message)) => http_error(backend, status, message),
    }
}

/// Returns the scopes of the request's access token, or the reason why it is not accepted.
fn authorize(backend: &Backend, headers: &HeaderMap) -> Result<TokenScopes, &'static str> {
    let token =
        headers.get(ACCESS_TOKEN_HEADER).and_then(|value| value.to_str().ok()).map(str::trim);
    let Some(token) = token.filter(|token| !token.is_empty()) else {
        return Err("Missing x-payman-access-token");
    };
    if backend.settings().accept_any_token {
        return Ok(oauth::every_scope());
    }
    let scopes = backend.data().oauth.scopes_of(token);
    scopes.ok_or("Invalid or expired x-payman-access-token")
}

fn http_error(backend: &Backend, status: StatusCode, message: &str) -> Response {
    let error_format = backend.settings().dialect.error_format;
    error_format.response(status, message)
}

/// Builds the response of a JSON-RPC error: status 400 for a malformed request, else 200.
fn rpc_error(id: &Value, error: &CallError) -> Response {
    let status = if error.is_malformed() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    (status, Json(error.response(id))).into_response()
}

fn unsupported_response(backend: &Backend, unsupported: Unsupported, body: &[u8]) -> Response {
    let error = match unsupported {
        Unsupported::NotFound => return http_error(backend, StatusCode::NOT_FOUND, ""),
        Unsupported::MethodNotAllowed => {
            return http_error(backend, StatusCode::METHOD_NOT_ALLOWED, "");
        }
        Unsupported::NotImplemented => {
            return http_error(backend, StatusCode::NOT_IMPLEMENTED, "");
        }
        Unsupported::MethodNotFound => CallError::new(code::METHOD_NOT_FOUND, "Method not found"),
        Unsupported::UnsupportedOperation => {
            CallError::new(code::UNSUPPORTED_OPERATION, "This operation is not supported")
        }
    };
    let id = serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|call| call.get("id").cloned())
        .unwrap_or_default();
    Json(error.response(&id)).into_response()
}

fn task_response(backend: &Backend, id: &Value, task: &Task, history: Option<usize>) -> Response {
    let dialect = backend.settings().dialect.clone();
    let result = dialect.task(task, history.unwrap_or(0));
    Json(json!({ "jsonrpc": VERSION, "id": id, "result": result })).into_response()
}

fn start(
    backend: &Arc<Backend>,
    params: SendCallParams,
    scopes: TokenScopes,
) -> Result<Arc<AgentRun>, EnqueueError> {
    let SendCallParams { id, session_id, message, metadata, .. } = params;
    let metadata = metadata.unwrap_or_default();
    let incoming = IncomingMessage { task_id: id, session_id, message, metadata };
    agent_job::start(backend, incoming, scopes)
}

async fn send(
    backend: &Arc<Backend>,
    call: RpcCall,
    scopes: TokenScopes,
) -> Result<Response, CallFailure> {
    let id = call.id.clone();
    let params = call.send_params()?;
    let history = params.history_length;
    let run = start(backend, params, scopes)?;
    run.finished().await;
    let task = run
        .outcome()
        .ok_or_else(|| CallError::new(code::INTERNAL_ERROR, "The agent gave no answer"))?;
    Ok(task_response(backend, &id, &task, history))
}

async fn send_subscribe(
    backend: &Arc<Backend>,
    call: RpcCall,
    scopes: TokenScopes,
    wait: bool,
) -> Result<Response, CallFailure> {
    let id = call.id.clone();
    let run = start(backend, call.send_params()?, scopes)?;
    if wait {
        run.finished().await;
    }
    let dialect = backend.settings().dialect.clone();
    Ok(event_stream::response(dialect, id, run.listen(ListenFrom::Start)))
}

fn not_found() -> CallError {
    CallError::new(code::TASK_NOT_FOUND, "Task not found")
}

fn get_task(backend: &Backend, call: RpcCall) -> Result<Response, CallFailure> {
    let id = call.id.clone();
    let params = call.task_params()?;
    let task = backend
        .data()
        .tasks
        .get(&params.id)
        .map(|entry| entry.task.clone())
        .ok_or_else(not_found)?;
    Ok(task_response(backend, &id, &task, params.history_length))
}

fn cancel(backend: &Backend, call: RpcCall) -> Result<Response, CallFailure> {
    let id = call.id.clone();
    let params = call.task_params()?;
    let task = {
        let mut data = backend.data();
        let entry = data.tasks.get_mut(&params.id).ok_or_else(not_found)?;
        if !entry.cancel() {
            let error = CallError::new(code::TASK_NOT_CANCELABLE, "Task cannot be canceled");
            return Err(error.into());
        }
        entry.task.clone()
    };
    Ok(task_response(backend, &id, &task, params.history_length))
}

/// Streams the events from now on; if no run is in progress, the task's status.
fn resubscribe(backend: &Backend, call: RpcCall) -> Result<Response, CallFailure> {
    let id = call.id.clone();
    let TaskCallParams { id: task_id, .. } = call.task_params()?;
    let listener = listener_from_now(backend, &task_id)?;
    let dialect = backend.settings().dialect.clone();
    Ok(event_stream::response(dialect, id, listener))
}

fn listener_from_now(backend: &Backend, task_id: &TaskId) -> Result<RunListener, CallError> {
    let data = backend.data();
    let entry = data.tasks.get(task_id).ok_or_else(not_found)?;
    if let Some(run) = entry.current_run() {
        return Ok(run.listen(ListenFrom::Now));
    }
    let finished = AgentRun::new();
    finished.finish(entry.status_update(true), entry.task.clone());
    Ok(finished.listen(ListenFrom::Start))
}
