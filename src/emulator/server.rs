//! The routes, and what each of them answers.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use bytes::Bytes;
use serde_json::{Value, json};

use super::faults::Fault;
use super::hub::Hub;
use super::line::Line;
use super::request::{Call, Refusal, SendParams, TaskParams};
use super::run::{From, Listener, Run, Said};
use super::settings::{Operation, Unsupported};
use super::{control, oauth, tokens};
use crate::ids::TaskId;
use crate::wire::jsonrpc::{VERSION, code};
use crate::wire::task::Task;
use crate::wire::{ACCESS_TOKEN_HEADER, path};

/// No ask is larger than this.
const BODY_LIMIT: usize = 16 * 1024 * 1024;

pub(super) fn router(hub: Arc<Hub>) -> Router {
    Router::new()
        .route(path::TOKEN, post(tokens::token))
        .route("/oauth/connect", get(tokens::ask_consent).post(tokens::take_consent))
        .route("/api/a2a/tasks/{operation}", post(task_operation))
        .route(path::AGENT_CARD, get(agent_card))
        .route("/_emulator/state", get(control::state))
        .route("/_emulator/reset", post(control::reset))
        .route("/_emulator/faults", post(control::faults))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(hub)
}

/// What every request goes through first: it is counted, it takes its time, and it meets its fault.
pub(super) async fn meet(
    hub: &Hub,
    line: &Line,
    operation: Operation,
) -> Result<Option<Fault>, Response> {
    hub.count(operation);
    let fault = hub.faults().take(operation);
    let latency = hub.settings().latency;
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    match &fault {
        Some(met) => match met.play_before(line).await {
            Some(answer) => Err(answer),
            None => Ok(fault),
        },
        None => Ok(None),
    }
}

async fn task_operation(
    State(hub): State<Arc<Hub>>,
    Extension(line): Extension<Line>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(operation) =
        name.parse().ok().filter(|operation: &Operation| operation.is_task_operation())
    else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let fault = match meet(&hub, &line, operation).await {
        Ok(fault) => fault,
        Err(answer) => return answer,
    };
    let wait = fault.as_ref().is_some_and(Fault::waits_for_agent);
    let answer = operate(&hub, operation, &headers, &body, wait).await;
    match fault {
        Some(fault) => fault.play_after(&line, answer).await,
        None => answer,
    }
}

/// `wait`: whether the agent has to be done before there is an answer, even where it streams.
async fn operate(
    hub: &Arc<Hub>,
    operation: Operation,
    headers: &HeaderMap,
    body: &[u8],
    wait: bool,
) -> Response {
    let scopes = match authorize(hub, headers) {
        Ok(scopes) => scopes,
        Err(answer) => return *answer,
    };
    if hub.settings().missing.contains(&operation) {
        return unsupported(hub.settings().unsupported, body);
    }
    let call = match Call::read(body, operation) {
        Ok(call) => call,
        Err((id, refusal)) => return refuse(&id, &refusal),
    };
    let id = call.id.clone();
    let answered = match operation {
        Operation::Send => send(hub, call, scopes).await,
        Operation::SendSubscribe => send_subscribe(hub, call, scopes, wait).await,
        Operation::Get => get_task(hub, call),
        Operation::Cancel => cancel(hub, call),
        _ => resubscribe(hub, call),
    };
    answered.unwrap_or_else(|refusal| refuse(&id, &refusal))
}

fn authorize(hub: &Hub, headers: &HeaderMap) -> Result<Arc<BTreeSet<String>>, Box<Response>> {
    let refuse = |text: &'static str| Box::new((StatusCode::UNAUTHORIZED, text).into_response());
    let token =
        headers.get(ACCESS_TOKEN_HEADER).and_then(|value| value.to_str().ok()).map(str::trim);
    let Some(token) = token.filter(|token| !token.is_empty()) else {
        return Err(refuse("Missing x-payman-access-token"));
    };
    if hub.settings().accept_any_token {
        return Ok(oauth::everything());
    }
    let scopes = hub.world().oauth.scopes_of(token);
    scopes.ok_or_else(|| refuse("Invalid or expired x-payman-access-token"))
}

fn unsupported(how: Unsupported, body: &[u8]) -> Response {
    let id = serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|call| call.get("id").cloned())
        .unwrap_or_default();
    let refusal = match how {
        Unsupported::NotFound => return StatusCode::NOT_FOUND.into_response(),
        Unsupported::MethodNotAllowed => return StatusCode::METHOD_NOT_ALLOWED.into_response(),
        Unsupported::NotImplemented => return StatusCode::NOT_IMPLEMENTED.into_response(),
        Unsupported::MethodNotFound => Refusal::new(code::METHOD_NOT_FOUND, "Method not found"),
        Unsupported::UnsupportedOperation => {
            Refusal::new(code::UNSUPPORTED_OPERATION, "This operation is not supported")
        }
    };
    Json(refusal.response(&id)).into_response()
}

/// A request that is wrong in itself is a bad request to HTTP too; everything else is an answer.
fn refuse(id: &Value, refusal: &Refusal) -> Response {
    let status = if refusal.is_malformed() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    (status, Json(refusal.response(id))).into_response()
}

fn task_response(hub: &Hub, id: &Value, task: &Task, history: Option<usize>) -> Response {
    let dialect = hub.settings().dialect.clone();
    let result = dialect.task(task, history.unwrap_or(0));
    Json(json!({ "jsonrpc": VERSION, "id": id, "result": result })).into_response()
}

fn start(
    hub: &Arc<Hub>,
    params: SendParams,
    scopes: Arc<BTreeSet<String>>,
) -> Result<Arc<Run>, Refusal> {
    let SendParams { id, session_id, message, metadata, .. } = params;
    hub.start(&id, session_id, message, metadata.unwrap_or_default(), scopes)
        .map_err(|_| Refusal::new(code::INVALID_PARAMS, "The task belongs to another session"))
}

async fn send(
    hub: &Arc<Hub>,
    call: Call,
    scopes: Arc<BTreeSet<String>>,
) -> Result<Response, Refusal> {
    let id = call.id.clone();
    let params = call.send_params()?;
    let history = params.history_length;
    let run = start(hub, params, scopes)?;
    run.over().await;
    let task = run
        .outcome()
        .ok_or_else(|| Refusal::new(code::INTERNAL_ERROR, "The agent gave no answer"))?;
    Ok(task_response(hub, &id, &task, history))
}

async fn send_subscribe(
    hub: &Arc<Hub>,
    call: Call,
    scopes: Arc<BTreeSet<String>>,
    wait: bool,
) -> Result<Response, Refusal> {
    let id = call.id.clone();
    let run = start(hub, call.send_params()?, scopes)?;
    if wait {
        run.over().await;
    }
    Ok(stream(hub, id, run.listen(From::Start)))
}

fn not_found() -> Refusal {
    Refusal::new(code::TASK_NOT_FOUND, "Task not found")
}

fn get_task(hub: &Hub, call: Call) -> Result<Response, Refusal> {
    let id = call.id.clone();
    let params = call.task_params()?;
    let task =
        hub.world().tasks.get(&params.id).map(|entry| entry.task.clone()).ok_or_else(not_found)?;
    Ok(task_response(hub, &id, &task, params.history_length))
}

fn cancel(hub: &Hub, call: Call) -> Result<Response, Refusal> {
    let id = call.id.clone();
    let params = call.task_params()?;
    let task = {
        let mut world = hub.world();
        let entry = world.tasks.get_mut(&params.id).ok_or_else(not_found)?;
        if !entry.cancel() {
            return Err(Refusal::new(code::TASK_NOT_CANCELABLE, "Task cannot be canceled"));
        }
        entry.task.clone()
    };
    Ok(task_response(hub, &id, &task, params.history_length))
}

/// What is said from now on; where nothing is under way, how the task stands.
fn resubscribe(hub: &Hub, call: Call) -> Result<Response, Refusal> {
    let id = call.id.clone();
    let TaskParams { id: task_id, .. } = call.task_params()?;
    let listener = listen_again(hub, &task_id)?;
    Ok(stream(hub, id, listener))
}

fn listen_again(hub: &Hub, task_id: &TaskId) -> Result<Listener, Refusal> {
    let world = hub.world();
    let entry = world.tasks.get(task_id).ok_or_else(not_found)?;
    if let Some(run) = entry.current() {
        return Ok(run.listen(From::Now));
    }
    let over = Run::new();
    over.end(entry.status_update(true), entry.task.clone());
    Ok(over.listen(From::Start))
}

fn stream(hub: &Hub, id: Value, mut listener: Listener) -> Response {
    let dialect = hub.settings().dialect.clone();
    let frames = async_stream::stream! {
        if dialect.byte_order_mark {
            yield Bytes::from_static("\u{feff}".as_bytes());
        }
        loop {
            let said = match dialect.ping {
                Some(every) => match tokio::time::timeout(every, listener.next()).await {
                    Ok(said) => said,
                    Err(_) => {
                        yield Bytes::from(dialect.ping_frame());
                        continue;
                    }
                },
                None => listener.next().await,
            };
            let Some(said) = said else { break };
            let result = match &*said {
                Said::Status(update) => dialect.status_update(update),
                Said::Artifact(update) => dialect.artifact_update(update),
            };
            yield Bytes::from(dialect.frame(&id, result));
        }
    };
    let body =
        Body::from_stream(futures::StreamExt::map(frames, Ok::<_, std::convert::Infallible>));
    let headers =
        [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    (headers, body).into_response()
}

async fn agent_card(State(hub): State<Arc<Hub>>, Extension(line): Extension<Line>) -> Response {
    let fault = match meet(&hub, &line, Operation::AgentCard).await {
        Ok(fault) => fault,
        Err(answer) => return answer,
    };
    let missing = hub.settings().missing.clone();
    let answer = if missing.contains(&Operation::AgentCard) {
        StatusCode::NOT_FOUND.into_response()
    } else {
        Json(card(&hub.base_url, !missing.contains(&Operation::SendSubscribe))).into_response()
    };
    match fault {
        Some(fault) => fault.play_after(&line, answer).await,
        None => answer,
    }
}

fn card(base_url: &str, streaming: bool) -> Value {
    json!({
        "name": "Payman emulator",
        "description": "A stand-in for the Payman AI platform: an agent with a wallet of play money",
        "url": format!("{base_url}/api/a2a"),
        "version": env!("CARGO_PKG_VERSION"),
        "capabilities": { "streaming": streaming, "pushNotifications": false, "stateTransitionHistory": false },
        "authentication": { "schemes": ["oauth2"] },
        "defaultInputModes": ["text"],
        "defaultOutputModes": ["text"],
        "skills": [
            {
                "id": "wallets",
                "name": "Wallets and transactions",
                "examples": ["How much money do I have in my wallet?", "Show my last 5 transactions"],
            },
            {
                "id": "payments",
                "name": "Payees and payments",
                "examples": ["Create a payee named Tyllen", "List all payees", "Pay Tyllen $50"],
            },
        ],
    })
}
