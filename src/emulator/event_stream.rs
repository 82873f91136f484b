//! The response to `tasks/sendSubscribe` and `tasks/resubscribe`: a stream of server-sent events.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;
use serde_json::Value;

use super::dialect::Dialect;
use super::run::{RunEvent, RunListener};

/// Builds a response that streams the events of a run in a dialect.
pub(super) fn response(dialect: Dialect, request_id: Value, mut listener: RunListener) -> Response {
    let chunks = async_stream::stream! {
        if dialect.byte_order_mark {
            yield Bytes::from_static("\u{feff}".as_bytes());
        }
        loop {
            let event = match dialect.ping {
                Some(interval) => match tokio::time::timeout(interval, listener.next()).await {
                    Ok(event) => event,
                    Err(_) => {
                        yield Bytes::from(dialect.ping_comment());
                        continue;
                    }
                },
                None => listener.next().await,
            };
            let Some(event) = event else { break };
            let result = match &*event {
                RunEvent::Status(update) => dialect.status_update(update),
                RunEvent::Artifact(update) => dialect.artifact_update(update),
            };
            yield Bytes::from(dialect.event(&request_id, result));
        }
    };
    let body = Body::from_stream(chunks.map(Ok::<_, Infallible>));
    let headers =
        [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    (headers, body).into_response()
}
