//! The routes: the page and its requests.

use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, FromRef, FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::future::join_all;
use payman_sdk::web::{Problem, Shutdown, SseBody, detach, sse};
use payman_sdk::{Client, Reply};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::answering::AnswerStream;
use crate::conversation::Conversation;
use crate::serving::guarded;
use crate::site::Site;
use crate::visitors::Visitors;

/// The maximum length of one message, in characters.
const MAX_SAID: usize = 2000;
/// The maximum number of unfinished answers that are looked up when the page is loaded, and the
/// time limit of these lookups.
const MAX_LOOKUPS: usize = 3;
const LOOKUP_LIMIT: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct App {
    client: Client,
    visitors: Visitors,
    shutdown: Shutdown,
}

pub fn router(client: Client, site: Site, shutdown: Shutdown) -> Router {
    let visitors = Visitors::new(site.clone());
    let router = Router::new()
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
        .with_state(App { client, visitors, shutdown });
    guarded(router, site)
}

async fn file(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text).into_response()
}

/// Serves the page, with a new cookie for a visitor without a known one.
async fn page(State(app): State<App>, headers: HeaderMap) -> Result<Response, Problem> {
    const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                          connect-src 'self'; img-src data:; base-uri 'none'; \
                          form-action 'none'; frame-ancestors 'none'";
    let cookie = match app.visitors.find(&headers) {
        Some(_) => None,
        None => Some(app.visitors.add().ok_or_else(|| {
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

/// Returns the conversation, after looking up the answers whose end is unknown.
async fn conversation(State(app): State<App>, conversation: Conversation) -> Json<Value> {
    let lookups = conversation.open_tasks().into_iter().take(MAX_LOOKUPS).map(|id| {
        let lookup = app.client.get_task(id.clone());
        async { (id, timeout(LOOKUP_LIMIT, lookup).await) }
    });
    for (id, result) in join_all(lookups).await {
        match result {
            Ok(result) => conversation.apply_lookup(&id, result.map(Reply::from)),
            Err(_) => conversation.lookup_timed_out(&id),
        }
    }
    Json(json!({ "running": conversation.is_running(), "turns": conversation.turns() }))
}

#[derive(Deserialize)]
struct Question {
    text: String,
}

/// Asks the agent, and streams its answer event by event. The response begins at once.
async fn ask(
    State(app): State<App>,
    conversation: Conversation,
    question: Result<Json<Question>, JsonRejection>,
) -> Result<SseBody<AnswerStream>, Problem> {
    let Json(Question { text }) = question.map_err(|error| {
        Problem::new(error.status().as_u16(), "unreadable", "Unreadable", error.body_text())
    })?;
    if text.trim().is_empty() || text.chars().count() > MAX_SAID {
        let detail = format!("Say something of at most {MAX_SAID} characters.");
        return Err(Problem::new(400, "invalid-input", "Bad input", detail));
    }
    let (ask, ticket) = conversation.begin(text.trim()).ok_or_else(busy)?;
    // Detached, so that a page that leaves at once does not leave it open whether the ask was sent.
    let task_id = ask.task_id().clone();
    let answer = detach(app.client.ask_stream(ask));
    Ok(sse(AnswerStream::new(answer, ticket, task_id, &app.shutdown)))
}

/// Cancels the visitor's own task. What the agent has done by then is done.
async fn stop(State(app): State<App>, conversation: Conversation) -> Result<Json<Value>, Problem> {
    let id = conversation.running_task().ok_or_else(|| {
        Problem::new(409, "nothing-to-stop", "Nothing to stop", "The agent is not at work.")
    })?;
    let task = app.client.cancel_task(&id).await?;
    Ok(Json(json!({ "state": task.state().as_str() })))
}

/// Starts a new conversation with a new session of the agent, under a new cookie.
async fn start_over(
    State(app): State<App>,
    conversation: Conversation,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if !conversation.start_over() {
        return Err(busy());
    }
    let cookie = app.visitors.rotate(&headers).map(|cookie| [(header::SET_COOKIE, cookie)]);
    Ok((cookie, Json(json!({ "turns": [] }))).into_response())
}

fn busy() -> Problem {
    Problem::new(
        409,
        "one-at-a-time",
        "One at a time",
        "The agent is still at work: wait, or stop it.",
    )
}

/// Finds the conversation of the request's visitor.
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
