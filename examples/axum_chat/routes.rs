//! The page, and what it asks of the server.

use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, FromRef, FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::future::join_all;
use payman_sdk::web::{Problem, SseBody, sse};
use payman_sdk::{Client, Reply};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::answering::Answering;
use crate::conversation::Conversation;
use crate::visitors::Visitors;

/// How many characters one may say at once.
const MAX_SAID: usize = 2000;
/// How many unfinished answers are looked at when the page is loaded, and for how long.
const MAX_LOOKS: usize = 3;
const LOOK: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct App {
    client: Client,
    visitors: Visitors,
}

pub fn router(client: Client) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/chat.css", get(|| file("text/css; charset=utf-8", include_str!("page/chat.css"))))
        .route(
            "/chat.js",
            get(|| file("text/javascript; charset=utf-8", include_str!("page/chat.js"))),
        )
        .route("/conversation", get(conversation))
        .route("/ask", post(ask))
        .route("/stop", post(stop))
        .route("/new", post(start_over))
        .layer(DefaultBodyLimit::max(16 * 1024))
        .with_state(App { client, visitors: Visitors::new() })
}

async fn file(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text).into_response()
}

/// The page; whoever comes without a cookie that is known gets one.
async fn page(State(app): State<App>, headers: HeaderMap) -> Result<Response, Problem> {
    const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                          base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let cookie = match app.visitors.find(&headers) {
        Some(_) => None,
        None => Some(app.visitors.welcome().ok_or_else(|| {
            Problem::new(503, "full", "No room", "Everybody is talking. Come again in a minute.")
        })?),
    };
    let mut response = file("text/html; charset=utf-8", include_str!("page/index.html")).await;
    let cookie = cookie.map(|cookie| (header::SET_COOKIE, cookie));
    let policy = (header::CONTENT_SECURITY_POLICY, POLICY.to_owned());
    for (name, value) in cookie.into_iter().chain([policy]) {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

/// What was said. Answers of which it is not known how they end are looked at first.
async fn conversation(State(app): State<App>, conversation: Conversation) -> Json<Value> {
    let looks = conversation.open_tasks().into_iter().take(MAX_LOOKS).map(|id| {
        let look = app.client.get_task(id.clone());
        async { (id, timeout(LOOK, look).await) }
    });
    for (id, looked) in join_all(looks).await {
        match looked {
            Ok(looked) => conversation.looked(&id, looked.map(Reply::from)),
            Err(_) => conversation.lost_sight(&id),
        }
    }
    Json(json!({ "running": conversation.is_running(), "turns": conversation.turns() }))
}

#[derive(Deserialize)]
struct Said {
    text: String,
}

/// The answer to what the visitor says, event by event.
///
/// Taken only as `application/json`: no other site's form can send that.
async fn ask(
    State(app): State<App>,
    conversation: Conversation,
    said: Result<Json<Said>, JsonRejection>,
) -> Result<SseBody<Answering>, Problem> {
    let Json(Said { text }) = said.map_err(|error| {
        Problem::new(error.status().as_u16(), "unreadable", "Unreadable", error.body_text())
    })?;
    if text.trim().is_empty() || text.chars().count() > MAX_SAID {
        let detail = format!("Say something of at most {MAX_SAID} characters.");
        return Err(Problem::new(400, "invalid-input", "Bad input", detail));
    }
    let (ask, ticket) = conversation.begin(text.trim()).ok_or_else(busy)?;
    match app.client.ask_stream(ask).await {
        Ok(events) => Ok(sse(Answering::new(events, ticket))),
        Err(error) => {
            ticket.fail(&error);
            Err(error.into())
        }
    }
}

/// Cancels what the visitor's own agent is at. What it has done by then is done.
async fn stop(State(app): State<App>, conversation: Conversation) -> Result<Json<Value>, Problem> {
    let id = conversation.running_task().ok_or_else(|| {
        Problem::new(409, "nothing-to-stop", "Nothing to stop", "The agent is not at work.")
    })?;
    let task = app.client.cancel_task(&id).await?;
    Ok(Json(json!({ "state": task.state().as_str() })))
}

/// A conversation of its own: the agent does not remember the one before.
async fn start_over(conversation: Conversation) -> Result<Json<Value>, Problem> {
    if !conversation.start_over() {
        return Err(busy());
    }
    Ok(Json(json!({ "turns": [] })))
}

fn busy() -> Problem {
    Problem::new(
        409,
        "one-at-a-time",
        "One at a time",
        "The agent is still at work: wait, or stop it.",
    )
}

/// The conversation of whoever asks.
impl FromRequestParts<App> for Conversation {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let stranger = || {
            Problem::new(
                403,
                "stranger",
                "Who are you?",
                "Load the page again: this server does not know you.",
            )
        };
        Visitors::from_ref(app).find(&parts.headers).ok_or_else(stranger)
    }
}

impl FromRef<App> for Visitors {
    fn from_ref(app: &App) -> Self {
        app.visitors.clone()
    }
}
