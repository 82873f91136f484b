//! The routes of the emulator.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};

use super::backend::Backend;
use super::{agent_card, consent, control, rpc, token_endpoint};
use crate::wire::path;

/// The largest request body.
const BODY_LIMIT: usize = 16 * 1024 * 1024;

pub(super) fn router(backend: Arc<Backend>) -> Router {
    Router::new()
        .route(path::TOKEN, post(token_endpoint::token))
        .route("/oauth/connect", get(consent::show_page).post(consent::submit_decision))
        .route("/api/a2a/tasks/{operation}", post(rpc::task_operation))
        .route(path::AGENT_CARD, get(agent_card::agent_card))
        .route("/_emulator/state", get(control::state))
        .route("/_emulator/reset", post(control::reset))
        .route("/_emulator/faults", post(control::add_faults).delete(control::clear_faults))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(backend)
}
