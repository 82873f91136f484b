//! The agent's card, `GET /.well-known/agent.json`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::backend::Backend;
use super::connection::ConnectionHandle;
use super::intercept::Interception;
use super::settings::Operation;

pub(super) async fn agent_card(
    State(backend): State<Arc<Backend>>,
    Extension(connection): Extension<ConnectionHandle>,
    headers: HeaderMap,
) -> Response {
    let begun = Interception::begin(&backend, &connection, Operation::AgentCard, &headers).await;
    let interception = match begun {
        Ok(interception) => interception,
        Err(response) => return response,
    };
    let (missing, error_format) = {
        let settings = backend.settings();
        (settings.missing.clone(), settings.dialect.error_format)
    };
    let response = if missing.contains(&Operation::AgentCard) {
        error_format.response(StatusCode::NOT_FOUND, "Not found")
    } else {
        Json(card(&backend.base_url, !missing.contains(&Operation::SendSubscribe))).into_response()
    };
    interception.finish(&backend, &connection, &headers, response).await
}

fn card(base_url: &str, streaming: bool) -> Value {
    json!({
        "name": "Payman emulator",
        "description": "An emulator of the Payman AI platform, with play money",
        "url": format!("{base_url}/api/a2a"),
        "version": env!("CARGO_PKG_VERSION"),
        "capabilities": {
            "streaming": streaming,
            "pushNotifications": false,
            "stateTransitionHistory": false,
        },
        "authentication": { "schemes": ["oauth2"] },
        "defaultInputModes": ["text"],
        "defaultOutputModes": ["text"],
        "skills": [
            {
                "id": "wallets",
                "name": "Wallets and transactions",
                "examples": [
                    "How much money do I have in my wallet?",
                    "Show my last 5 transactions",
                ],
            },
            {
                "id": "payments",
                "name": "Payees and payments",
                "examples": ["Create a payee named Tyllen", "List all payees", "Pay Tyllen $50"],
            },
        ],
    })
}
