//! Responses for axum handlers (feature `axum`).

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::Stream;

use super::problem::{self, Problem};
use super::{NO_STORE, SSE_HEADERS, ServerEvent, ServerEvents, SseBody, VisitorReply, sse};
use crate::error::Error;
use crate::reply::Reply;
use crate::stream::AskStream;

/// Responds with the reply as a [`VisitorReply`], with status 200 whatever the task's state. Return
/// `Json(reply)` to send the session's id and the metadata too. Feature `axum`.
impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        VisitorReply::from(self).into_response()
    }
}

/// Responds with JSON, with status 200 whatever the task's state. Feature `axum`.
impl IntoResponse for VisitorReply {
    fn into_response(self) -> Response {
        ([NO_STORE], Json(self)).into_response()
    }
}

/// Responds with a [`Problem`] and its status, and writes the cause to the log (`tracing`): at
/// `WARN` for a 5xx, else at `DEBUG`. Feature `axum`.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        Problem::from(self).into_response()
    }
}

/// Responds with `application/problem+json`, the problem's status and `Retry-After`. Feature
/// `axum`.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, [NO_STORE], Json(&self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(problem::MEDIA_TYPE));
        if let Some(wait) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs()));
        }
        response
    }
}

/// Responds with server-sent events as they come. When the visitor leaves, the connection to the
/// platform is closed. Feature `axum`.
impl IntoResponse for AskStream {
    fn into_response(self) -> Response {
        ServerEvents::from(self).into_response()
    }
}

/// Responds with server-sent events as they come. Feature `axum`.
impl IntoResponse for ServerEvents {
    fn into_response(self) -> Response {
        sse(self).into_response()
    }
}

/// Responds with server-sent events as they come. Feature `axum`.
impl<S: Stream<Item = ServerEvent> + Unpin + Send + 'static> IntoResponse for SseBody<S> {
    fn into_response(self) -> Response {
        let headers = SSE_HEADERS
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        (headers, Body::from_stream(self)).into_response()
    }
}

/// Converts for axum's own `Sse`. Feature `axum`.
impl From<ServerEvent> for axum::response::sse::Event {
    fn from(event: ServerEvent) -> Self {
        if event.is_comment() {
            return Self::default().comment("");
        }
        Self::default().event(event.name()).data(event.data())
    }
}
