//! `/_emulator/…`: what tests in any language do with the emulator.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};

use super::faults::{Fault, Script};
use super::hub::Hub;

/// `GET /_emulator/state`
pub(super) async fn state(State(hub): State<Arc<Hub>>) -> Response {
    Json(hub.state()).into_response()
}

/// `POST /_emulator/reset`
pub(super) async fn reset(State(hub): State<Arc<Hub>>) -> Response {
    hub.reset();
    Json(json!({ "reset": true })).into_response()
}

/// `POST /_emulator/faults`: one fault, or a list of them.
pub(super) async fn faults(State(hub): State<Arc<Hub>>, body: Bytes) -> Response {
    match read(&body) {
        Ok(faults) => {
            let mut waiting = hub.faults();
            waiting.add(faults);
            Json(json!({ "waiting": waiting.len() })).into_response()
        }
        Err(why) => (StatusCode::BAD_REQUEST, Json(json!({ "error": why }))).into_response(),
    }
}

fn read(body: &[u8]) -> Result<Vec<Fault>, String> {
    let value: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let scripts = match value {
        Value::Array(list) => list,
        one => vec![one],
    };
    scripts
        .into_iter()
        .map(|script| {
            serde_json::from_value::<Script>(script).map_err(|error| error.to_string())?.try_into()
        })
        .collect()
}
