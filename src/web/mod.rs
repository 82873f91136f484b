//! Answers and errors as HTTP responses of a web backend: independent of any framework here, and
//! ready to return from an axum handler (feature `axum`) or an actix-web handler (feature
//! `actix-web`).
//!
//! The features are for axum 0.8 and actix-web 4. With either, a handler returns the client's
//! result:
//!
//! | returned | the visitor gets |
//! |---|---|
//! | [`Reply`](crate::Reply) | 200 and a [`VisitorReply`] as JSON, whatever the task's state |
//! | [`AskStream`](crate::AskStream) | 200 and [server-sent events](ServerEvent) as they come |
//! | [`ServerEvents`] | the same, and with [`from_future`](ServerEvents::from_future) at once |
//! | [`Error`](crate::Error) | a suitable HTTP status and a [`Problem`] as JSON |
//!
#![cfg_attr(
    feature = "axum",
    doc = r##"
```
use axum::{Json, Router, extract::State, routing::post};
use payman_sdk::web::{ServerEvents, Shutdown, detach};
use payman_sdk::{Client, Reply, Result};

#[derive(Clone)]
struct App {
    client: Client,
    shutdown: Shutdown,
}

/// Returns the whole answer. The ask continues if the visitor disconnects.
async fn ask(State(app): State<App>, Json(text): Json<String>) -> Result<Reply> {
    detach(app.client.new_session().ask(text)).await
}

/// Streams the answer. The response begins at once, and ends when the server shuts down.
async fn stream(State(app): State<App>, Json(text): Json<String>) -> ServerEvents {
    ServerEvents::from_future(app.client.new_session().ask_stream(text))
        .until(app.shutdown.begun())
}

# fn router(app: App) -> Router {
Router::new().route("/ask", post(ask)).route("/stream", post(stream)).with_state(app)
# }
```

With actix-web the handlers are the same but for `web::Data<App>` and `web::Json<String>`.
"##
)]
//!
//! # Sessions, and who may ask
//!
//! * A [`Client`](crate::Client) has one session. Without `new_session()` or `with_session(…)` all
//!   visitors share it, and each can ask the agent about the others' messages. Keep a
//!   [`SessionId`](crate::SessionId) per visitor on the server, behind the visitor's cookie.
//! * Never accept a session's or a task's id from a browser without checking whose it is. Responses
//!   leave out session, agent and organization ids; `Json(reply)` sends them all.
//! * Accept asks as JSON only, and check `Host` and `Origin`: other sites can send plain text and
//!   forms in your visitor's name. `examples/axum_chat` shows how.
//!
//! # When the visitor leaves
//!
//! A web framework drops the handler's future, or the body of its response, when the browser
//! disconnects. Then
//!
//! * a stream is closed upstream at once, and **nothing is canceled**: the agent continues, and may
//!   pay;
//! * an ask that was in progress has an **unknown outcome**. No error is returned to anyone,
//!   because the future has been dropped.
//!
//! So where an answer matters beyond the page that shows it, keep the task's id before asking, and
//! [`detach`] the ask from the handler:
//!
//! ```
//! # fn save(_: &payman_sdk::TaskId) {}
//! use payman_sdk::{Ask, Client, Reply, Result, web::detach};
//!
//! async fn handler(client: Client) -> Result<Reply> {
//!     let ask = Ask::new("Pay Tyllen $50");
//!     save(ask.task_id()); // with the order: `client.get_task(id)` returns its outcome later
//!     detach(client.ask(ask)).await
//! }
//! ```
//!
//! axum detects a disconnected visitor at once. **actix-web with its default settings keeps the
//! connection of a visitor who closed their side** and detects it only when a write fails: here, at
//! the second comment after that (30 s). With `HttpServer::new(…).h1_allow_half_closed(false)` it
//! detects it at once.
//!
//! # When the server shuts down
//!
//! A graceful shutdown waits for open responses, and a stream may be open for minutes. End each
//! stream with [`ServerEvents::until`]: its last event is then `error` with the code
//! `shutting-down`.
#![cfg_attr(
    feature = "axum",
    doc = r##"
```
# use payman_sdk::{Client, web::Shutdown};
# async fn stop_signal() {}
# async fn serve(
#     listener: tokio::net::TcpListener, router: axum::Router, client: Client, shutdown: Shutdown,
# ) -> std::io::Result<()> {
let stop = async move {
    stop_signal().await; // Ctrl-C, SIGTERM
    shutdown.begin();
};
axum::serve(listener, router).with_graceful_shutdown(stop).await?;
client.close().await; // waits for a refresh in progress and for tokens that are not stored yet
# Ok(())
# }
```
"##
)]
//!
//! actix-web handles the signals itself: turn that off with `disable_signals()`, and on your own
//! signal call `shutdown.begin()` and then `handle.stop(true).await`. `examples/actix_backend`
//! shows it.
//!
//! # In a page
//!
//! Ask with `fetch` and POST, and read the response's body:
//!
//! ```js
//! const response = await fetch("/stream", {
//!   method: "POST",
//!   headers: { "content-type": "application/json" },
//!   body: JSON.stringify("List all payees"),
//! });
//! if (!response.ok) throw new Error((await response.json()).detail);
//!
//! const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
//! const artifacts = new Map(); // text by index, in the order of first appearance
//! let pending = "", message = "", ended = false;
//! for (let chunk; !(chunk = await reader.read()).done; ) {
//!   const blocks = (pending + chunk.value).split("\n\n");
//!   pending = blocks.pop();
//!   for (const block of blocks) {
//!     const [, name, json] = block.match(/^event: (.*)\ndata: (.*)$/) ?? []; // none: a comment
//!     const data = json && JSON.parse(json);
//!     if (name === "artifact") {
//!       const before = data.append ? (artifacts.get(data.index) ?? "") : "";
//!       artifacts.set(data.index, before + data.text);
//!     } else if (name === "task") { // the whole task as of now
//!       artifacts.clear();
//!       for (const { index, text } of data.artifacts ?? []) artifacts.set(index, text);
//!       message = data.message ?? "";
//!     } else if (name === "status") {
//!       message = data.text ?? "";
//!     } else if (name === "error") {
//!       warn(data.detail); // with data.outcomeUnknown it may have been done: do not ask again
//!     }
//!     ended ||= name === "done" || name === "error";
//!     const text = [...artifacts.values()].filter(Boolean).join("\n") || message;
//!     show(text); // by textContent: an answer is never markup
//!   }
//! }
//! if (!ended) warn("The answer was cut. It may have been done all the same: do not ask again.");
//! ```
//!
//! **Never point an `EventSource` at an address that asks**: it reconnects by itself after every
//! end, and each time is a new ask.
//!
//! # Statuses
//!
//! An error that the visitor can correct is a 4xx; one between this server and the platform is a
//! 5xx. 429 and 503 are used only if it is certain that nothing was done, because programs and
//! proxies repeat requests with these statuses. (The 503 of `shutting-down` is never a response's
//! status: it is in the last event of a stream.)
//!
//! | error | status | [`code`](Problem::code) |
//! |---|---|---|
//! | **the outcome is unknown**, of any kind | 502; 504 after a time limit | `outcome-unknown` |
//! | [`InvalidInput`](ErrorKind::InvalidInput) | 400 | `invalid-input` |
//! | [`ConnectUrl::parse_redirect`](crate::ConnectUrl::parse_redirect): the `state` is another one | 400 | `invalid-redirect` |
//! | the same: the user pressed Deny | 403 | `connect-denied` |
//! | [`ReauthorizationRequired`](ErrorKind::ReauthorizationRequired): the visitor has to connect their account again | 403 | `connect-again` |
//! | [`TaskNotFound`](ErrorKind::TaskNotFound) | 404 | `task-not-found` |
//! | JSON-RPC -32002: there is nothing left to cancel | 409 | `not-cancelable` |
//! | [`IdempotencyConflict`](ErrorKind::IdempotencyConflict): something else was asked under this key | 409 | `idempotency-conflict` |
//! | [`TaskNotCompleted`](ErrorKind::TaskNotCompleted): failed, canceled, rejected, or waiting for the visitor | 422 | `not-completed` |
//! | [`RateLimited`](ErrorKind::RateLimited) | 429, with `Retry-After` where the platform sends it | `busy` |
//! | [`TokenStore`](ErrorKind::TokenStore), [`Journal`](ErrorKind::Journal) | 500 | `server-error` |
//! | [`Unsupported`](ErrorKind::Unsupported) | 501 | `unsupported` |
//! | [`Auth`](ErrorKind::Auth): the platform does not accept this server's token or credentials | 502 | `refused` |
//! | [`Http`](ErrorKind::Http), [`Rpc`](ErrorKind::Rpc), and the rest | 502 | `refused` |
//! | [`Connect`](ErrorKind::Connect) | 503 | `unreachable` |
//! | [`Timeout`](ErrorKind::Timeout) before anything was sent | 504 | `timeout` |
//!
//! A visitor who has to connect again gets 403 and not 401: a 401 would mean that they are not
//! signed in *here*.
//!
//! # Events
//!
//! These are the events of [`ServerEvents`]. Each event's data is one line of JSON; empty fields
//! are left out, and so are session ids and metadata. A line that begins with `:` is a comment.
//!
//! | event | data |
//! |---|---|
//! | `status` | `taskId`, `state` (as in [`TaskState::as_str`](crate::TaskState::as_str)), `text`: the agent's message about it, such as a question |
//! | `artifact` | `taskId`, `index`, `append` (else the text replaces that artifact's), `lastChunk`, `name`, `text`, `parts` where some are not text, and `state` where the platform sends it along |
//! | `task` | the whole task as of now, to redraw: `taskId`, `state`, `artifacts` (`index`, `name`, `text`, and `parts` where some are not text), `message`: the agent's message about the state, and `text`: all of it as one text |
//! | `error` | a [`Problem`]: with `taskId`, and `outcomeUnknown` where it may have been done |
//! | `done` | `taskId`, `state`: the answer is complete |
//!
//! An artifact with `append` after a `task` event extends the artifact of that index in the task.
//! **An answer is complete only after `done`.** A body that ends without `done` or `error` was cut
//! on its way to the page. The state `completed` means that the agent has finished its answer,
//! not that money has moved: a payment may await approval, which only the text states.

mod event;
mod problem;
mod shutdown;
mod sse;
mod stream;
mod visitor;

#[cfg(feature = "actix-web")]
#[cfg_attr(docsrs, doc(cfg(feature = "actix-web")))]
mod actix;
#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
mod axum;

#[cfg(doc)]
use crate::error::ErrorKind;
pub use event::ServerEvent;
pub use problem::Problem;
pub use shutdown::Shutdown;
pub use sse::{SseBody, sse};
pub use stream::{ServerEvents, detach};
pub use visitor::VisitorReply;

/// The headers of a body of server-sent events: not stored, not rewritten, not buffered by a proxy.
#[cfg(any(feature = "axum", feature = "actix-web"))]
const SSE_HEADERS: [(&str, &str); 3] = [
    ("content-type", "text/event-stream"),
    ("cache-control", "no-store, no-transform"),
    ("x-accel-buffering", "no"),
];

/// The header of a whole answer, which is confidential and must not be stored.
#[cfg(any(feature = "axum", feature = "actix-web"))]
const NO_STORE: (&str, &str) = ("cache-control", "no-store");
