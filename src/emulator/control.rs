//! The control API under `/_emulator/`, for tests in any language.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};

use super::backend::Backend;
use super::faults::{Fault, FaultSpec};

/// Handles `GET /_emulator/state`.
pub(super) async fn state(State(backend): State<Arc<Backend>>) -> Response {
    Json(backend.state()).into_response()
}

/// Handles `POST /_emulator/reset`.
pub(super) async fn reset(State(backend): State<Arc<Backend>>) -> Response {
    backend.reset();
    Json(json!({ "reset": true })).into_response()
}

/// Handles `POST /_emulator/faults`: adds one fault, or a list of them.
pub(super) async fn add_faults(State(backend): State<Arc<Backend>>, body: Bytes) -> Response {
    match parse_faults(&body) {
        Ok(faults) => {
            let mut queue = backend.faults();
            queue.add(faults);
            Json(json!({ "waiting": queue.len() })).into_response()
        }
        Err(reason) => (StatusCode::BAD_REQUEST, Json(json!({ "error": reason }))).into_response(),
    }
}

/// Handles `DELETE /_emulator/faults`: removes all faults and returns their number.
pub(super) async fn clear_faults(State(backend): State<Arc<Backend>>) -> Response {
    Json(json!({ "cleared": backend.faults().clear() })).into_response()
}

fn parse_faults(body: &[u8]) -> Result<Vec<Fault>, String> {
    let value: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let specs = match value {
        Value::Array(list) => list,
        single => vec![single],
    };
    specs
        .into_iter()
        .map(|spec| {
            serde_json::from_value::<FaultSpec>(spec).map_err(|error| error.to_string())?.try_into()
        })
        .collect()
}
