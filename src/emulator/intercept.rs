//! Intercepts every request of an operation: counts it, delays it and applies a fault to it.

use axum::http::HeaderMap;
use axum::response::Response;

use super::backend::Backend;
use super::connection::ConnectionHandle;
use super::error_format::ErrorFormat;
use super::faults::Fault;
use super::negotiation;
use super::settings::Operation;

/// A request of an operation between its arrival and its response.
pub(super) struct Interception {
    fault: Option<Fault>,
}

impl Interception {
    /// Counts and delays a request, and takes its fault from the queue.
    ///
    /// # Errors
    ///
    /// Returns the response as the error if the fault answers in place of the operation.
    pub(super) async fn begin(
        backend: &Backend,
        connection: &ConnectionHandle,
        operation: Operation,
        headers: &HeaderMap,
    ) -> Result<Self, Response> {
        backend.count_request(operation);
        let fault = backend.faults().take(operation);
        let latency = backend.settings().latency;
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        if let Some(fault) = &fault
            && let Some(response) = fault.apply_before(connection, error_format(backend)).await
        {
            return Err(negotiate(backend, headers, response));
        }
        Ok(Self { fault })
    }

    /// Returns whether the agent has to finish before there is a response, even for a stream.
    pub(super) fn waits_for_agent(&self) -> bool {
        self.fault.as_ref().is_some_and(Fault::waits_for_agent)
    }

    /// Applies the rest of the fault, and the dialect's rules for media types.
    pub(super) async fn finish(
        self,
        backend: &Backend,
        connection: &ConnectionHandle,
        headers: &HeaderMap,
        response: Response,
    ) -> Response {
        let response = match self.fault {
            Some(fault) => fault.apply_after(connection, error_format(backend), response).await,
            None => response,
        };
        negotiate(backend, headers, response)
    }
}

fn error_format(backend: &Backend) -> ErrorFormat {
    backend.settings().dialect.error_format
}

fn negotiate(backend: &Backend, headers: &HeaderMap, response: Response) -> Response {
    let (json_media_type, strict_accept) = {
        let settings = backend.settings();
        (settings.dialect.json_media_type, settings.dialect.strict_accept)
    };
    let response = negotiation::relabel_json(response, json_media_type);
    if strict_accept { negotiation::refuse_unacceptable(response, headers) } else { response }
}
