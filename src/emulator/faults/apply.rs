//! Applies a fault to a request or to its response.

use std::time::Duration;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;

use super::{BodyEnd, Fault, FaultAction, FaultTiming};
use crate::emulator::connection::ConnectionHandle;
use crate::emulator::error_format::ErrorFormat;

impl Fault {
    /// Returns whether the agent has to finish before the fault is applied.
    pub(in crate::emulator) fn waits_for_agent(&self) -> bool {
        self.timing == FaultTiming::After
    }

    /// Applies the part that precedes the operation. Returns the response if it replaces it.
    pub(in crate::emulator) async fn apply_before(
        &self,
        connection: &ConnectionHandle,
        error_format: ErrorFormat,
    ) -> Option<Response> {
        if self.timing == FaultTiming::After {
            return None;
        }
        tokio::time::sleep(self.delay).await;
        self.apply(connection, error_format).await
    }

    /// Applies the part that follows the operation to its response.
    pub(in crate::emulator) async fn apply_after(
        self,
        connection: &ConnectionHandle,
        error_format: ErrorFormat,
        response: Response,
    ) -> Response {
        if self.timing == FaultTiming::After {
            tokio::time::sleep(self.delay).await;
            if let Some(replacement) = self.apply(connection, error_format).await {
                return replacement;
            }
        }
        let FaultAction::TruncateBody { after, end } = self.action else {
            return response;
        };
        let (mut head, body) = response.into_parts();
        head.headers.remove(header::CONTENT_LENGTH);
        Response::from_parts(head, truncated(body, after, end))
    }

    async fn apply(
        &self,
        connection: &ConnectionHandle,
        error_format: ErrorFormat,
    ) -> Option<Response> {
        match &self.action {
            FaultAction::Delay | FaultAction::TruncateBody { .. } => None,
            FaultAction::Status { status, retry_after, body } => {
                let mut response = match body {
                    Some((text, _)) => (*status, text.clone()).into_response(),
                    None => {
                        let message = format!("The emulator was told to answer {status}");
                        error_format.response(*status, &message)
                    }
                };
                let headers = response.headers_mut();
                if let Some(Ok(value)) = body.as_ref().map(|(_, media_type)| media_type.parse()) {
                    headers.insert(header::CONTENT_TYPE, value);
                }
                if let Some(Ok(value)) = retry_after.as_ref().map(|value| value.parse()) {
                    headers.insert(header::RETRY_AFTER, value);
                }
                Some(response)
            }
            FaultAction::Close => {
                connection.close();
                std::future::pending().await
            }
            FaultAction::Stall => std::future::pending().await,
        }
    }
}

/// The wait before a cut: a failing body discards what is still in the connection's buffer.
const FLUSH_DELAY: Duration = Duration::from_millis(10);

fn truncated(body: Body, after: u64, end: BodyEnd) -> Body {
    Body::from_stream(async_stream::stream! {
        let mut chunks = body.into_data_stream();
        let mut left = usize::try_from(after).unwrap_or(usize::MAX);
        while left > 0 {
            let Some(Ok(mut chunk)) = chunks.next().await else { break };
            chunk.truncate(left);
            left -= chunk.len();
            yield Ok::<Bytes, std::io::Error>(chunk);
        }
        match end {
            BodyEnd::Cut => {
                tokio::time::sleep(FLUSH_DELAY).await;
                yield Err(std::io::Error::other("cut by the emulator"));
            }
            BodyEnd::Stall => std::future::pending().await,
            BodyEnd::Clean => {}
        }
    })
}
