//! The service over HTTP.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use payman_sdk::{Error, ErrorKind, JournalEntry, JournalState, SqlJournal};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::database::{Database, Payout, key_of};

#[derive(Clone)]
struct Service {
    database: Database,
    journal: SqlJournal,
}

pub fn router(database: Database, journal: SqlJournal) -> Router {
    Router::new()
        .route("/payouts", post(add).get(list))
        .route("/payouts/{id}", get(show))
        .with_state(Service { database, journal })
}

/// Accepts an order. It is paid once, no matter how often it is posted.
async fn add(State(service): State<Service>, Json(payout): Json<Payout>) -> Response {
    if let Some(problem) = payout.problem() {
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": problem }))).into_response();
    }
    match service.database.add(&service.journal, &payout).await {
        Ok(()) => (StatusCode::ACCEPTED, Json(json!({ "id": payout.id }))).into_response(),
        Err(failure) => failed(&*failure),
    }
}

/// Returns an order and its outcome.
async fn show(State(service): State<Service>, Path(id): Path<String>) -> Response {
    let payout = match service.database.payout(&id).await {
        Ok(Some(payout)) => payout,
        Ok(None) => return StatusCode::NOT_FOUND.into_response(),
        Err(failure) => return failed(&*failure),
    };
    match service.journal.get(&key_of(&id)).await {
        Ok(entry) => {
            let outcome = entry.as_ref().map_or(Value::Null, outcome);
            Json(json!({ "payout": payout, "outcome": outcome })).into_response()
        }
        Err(error) => failed(&error),
    }
}

#[derive(Deserialize)]
struct Filter {
    state: JournalState,
}

/// Lists the orders in a state. Those in `sending` have an unknown outcome, and need a person.
async fn list(State(service): State<Service>, Query(filter): Query<Filter>) -> Response {
    match service.journal.list(filter.state).await {
        Ok(entries) => Json(entries.iter().map(outcome).collect::<Vec<_>>()).into_response(),
        Err(error) => failed(&error),
    }
}

fn outcome(entry: &JournalEntry) -> Value {
    let reply = entry.reply();
    json!({
        "key": entry.key(),
        "state": entry.state(),
        "taskId": entry.task_id(),
        "attempts": entry.attempts(),
        // `COMPLETED` means that the agent has finished its answer: the text states what it did.
        "taskState": reply.as_ref().map(payman_sdk::Reply::state),
        "answer": reply.as_ref().map(payman_sdk::Reply::text),
        "lastError": entry.last_error(),
    })
}

fn failed(failure: &(dyn std::error::Error + Send + Sync + 'static)) -> Response {
    let conflict = failure
        .downcast_ref::<Error>()
        .is_some_and(|error| error.kind() == ErrorKind::IdempotencyConflict);
    if conflict {
        let error = "another payout has this id";
        return (StatusCode::CONFLICT, Json(json!({ "error": error }))).into_response();
    }
    eprintln!("{failure}");
    StatusCode::SERVICE_UNAVAILABLE.into_response()
}
