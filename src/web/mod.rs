//! Answers and errors as a web backend hands them on: framework-free here, and ready to return from
//! an axum handler (feature `axum`) or an actix-web handler (feature `actix-web`).
//!
//! With either feature a handler returns what the client gives it:
//!
//! | returned | the visitor gets |
//! |---|---|
//! | [`Reply`](crate::Reply) | 200 and the platform's formatted reply as JSON, whatever the task's state |
//! | [`AskStream`](crate::AskStream) | 200 and [server-sent events](ServerEvent), as they come |
//! | [`Error`](crate::Error) | a sensible HTTP status and a [`Problem`] as JSON |
//!
#![cfg_attr(
    feature = "axum",
    doc = r##"
```
use axum::{Json, Router, extract::State, routing::post};
use payman_sdk::{AskStream, Client, Reply, Result};

async fn ask(State(client): State<Client>, Json(text): Json<String>) -> Result<Reply> {
    tokio::spawn(client.ask(text)).await.expect("the ask does not panic") // see "When the visitor leaves"
}

async fn stream(State(client): State<Client>, Json(text): Json<String>) -> Result<AskStream> {
    client.ask_stream(text).await
}

# fn router(client: Client) -> Router {
Router::new().route("/ask", post(ask)).route("/stream", post(stream)).with_state(client)
# }
```
"##
)]
//! # When the visitor leaves
//!
//! A web framework drops the handler's future, or the body of its response, when the browser goes away. Then
//!
//! * a stream is closed upstream at once, and **nothing is canceled**: the agent goes on, and may pay;
//! * an ask that was under way has an **unknown outcome**. No error is returned to anyone: the future is gone.
//!
//! So where an answer matters beyond the page that shows it, keep the task's id before asking, and let the ask outlive the handler:
//!
//! ```
//! # fn save(_: &payman_sdk::TaskId) {}
//! # async fn handler(client: payman_sdk::Client) -> payman_sdk::Result<payman_sdk::Reply> {
//! use payman_sdk::Ask;
//!
//! let ask = Ask::new("Pay Tyllen $50");
//! save(ask.task_id()); // with the order that it pays for: `client.get_task(id)` tells later what became of it
//! let asking = tokio::spawn(client.ask(ask)); // goes on when this handler is dropped
//! asking.await.expect("the ask does not panic")
//! # }
//! ```
//!
//! axum sees at once that the visitor left. **actix-web, as it is out of the box, goes on for whoever closed their side**, and sees it only when it
//! cannot write any more: here, at the second comment after (30 s). With `HttpServer::new(…).h1_allow_half_closed(false)` it sees it at once.
//!
//! # In a page
//!
//! Ask with `fetch` and POST, and read the response's body:
//!
//! ```js
//! const response = await fetch("/stream", {
//!   method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify("List all payees"),
//! });
//! if (!response.ok) throw new Error((await response.json()).detail);
//! const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
//! let pending = "", whole = false;
//! for (let chunk; !(chunk = await reader.read()).done; ) {
//!   const frames = (pending + chunk.value).split("\n\n");
//!   pending = frames.pop();
//!   for (const frame of frames) {
//!     const [, name, data] = frame.match(/^event: (.*)\ndata: (.*)$/) ?? [];
//!     if (name === "artifact") show(JSON.parse(data).text); // by textContent: words are never markup
//!     if (name === "done") whole = true;
//!   }
//! }
//! ```
//!
//! **Never point an `EventSource` at an address that
//! asks**: it connects again by itself after every end, and each time is a new ask.
//!
//! # Statuses
//!
//! What the visitor can mend is a 4xx; what is between this server and the platform is a 5xx. 429 and 503 are given only where
//! surely nothing was done, because programs and proxies repeat what was answered so.
//!
//! | error | status | [`code`](Problem::code) |
//! |---|---|---|
//! | **the outcome is unknown**, of whatever kind | 502; 504 after a time limit | `outcome-unknown` |
//! | [`InvalidInput`](ErrorKind::InvalidInput) | 400 | `invalid-input` |
//! | [`ReauthorizationRequired`](ErrorKind::ReauthorizationRequired): the visitor has to connect their account again | 403 | `connect-again` |
//! | [`TaskNotFound`](ErrorKind::TaskNotFound) | 404 | `task-not-found` |
//! | JSON-RPC -32002: there is nothing left to cancel | 409 | `not-cancelable` |
//! | [`TaskNotCompleted`](ErrorKind::TaskNotCompleted): failed, canceled, rejected, or waiting for the visitor | 422 | `not-completed` |
//! | [`RateLimited`](ErrorKind::RateLimited) | 429, with `Retry-After` where the platform says how long | `busy` |
//! | [`TokenStore`](ErrorKind::TokenStore) | 500 | `server-error` |
//! | [`Unsupported`](ErrorKind::Unsupported) | 501 | `unsupported` |
//! | [`Auth`](ErrorKind::Auth): the platform does not accept this server's token or credentials | 502 | `refused` |
//! | [`Http`](ErrorKind::Http), [`Rpc`](ErrorKind::Rpc), and the rest | 502 | `refused` |
//! | [`Connect`](ErrorKind::Connect) | 503 | `unreachable` |
//! | [`Timeout`](ErrorKind::Timeout) before anything was sent | 504 | `timeout` |
//!
//! It is a 403 and not a 401 that sends the visitor to connect again: a 401 would say that they are not signed in *here*.
//!
//! # Events
//!
//! What [`ServerEvents`] makes of a stream. Each event's data is one line of JSON; a field that has nothing to say is left out.
//!
//! | event | data |
//! |---|---|
//! | `status` | `taskId`, `state` (as in [`TaskState::as_str`](crate::TaskState::as_str)), `text`: what the agent says of it, such as a question |
//! | `artifact` | `taskId`, `index`, `append` (else the text replaces that artifact's), `lastChunk`, `name`, `text`, and `parts` where some are no text |
//! | `task` | `taskId`, `state`, `text`: the whole task as of now, redraw |
//! | `error` | a [`Problem`]: with `taskId`, and `outcomeUnknown` where it may have been done |
//! | `done` | `taskId`, `state`: the answer is whole |
//!
//! **An answer is whole only after `done`.** A body that ends without `done` or `error` was cut on its way to the page. Session ids stay with the server.

mod event;
mod problem;
mod sse;

#[cfg(feature = "actix-web")]
#[cfg_attr(docsrs, doc(cfg(feature = "actix-web")))]
mod actix;
#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
mod axum;

#[cfg(doc)]
use crate::error::ErrorKind;
pub use event::{ServerEvent, ServerEvents};
pub use problem::Problem;
pub use sse::{SseBody, sse};

/// The headers of a body of server-sent events: it is not kept, not rewritten, and not held back by a proxy.
#[cfg(any(feature = "axum", feature = "actix-web"))]
const SSE_HEADERS: [(&str, &str); 3] = [
    ("content-type", "text/event-stream"),
    ("cache-control", "no-store, no-transform"),
    ("x-accel-buffering", "no"),
];

/// The headers of a whole answer: it is about somebody's money.
#[cfg(any(feature = "axum", feature = "actix-web"))]
const NO_STORE: (&str, &str) = ("cache-control", "no-store");
