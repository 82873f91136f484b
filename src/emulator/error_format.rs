//! The bodies of HTTP errors.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::clock;
use super::named_enum::named_enum;

named_enum! {
    /// The body of an HTTP error that is not a JSON-RPC error.
    ErrorFormat {
        /// Plain text, or none.
        #[default]
        Text = "text",
        /// `{status, timestamp, errorCode, message}`, as the platform's REST API writes it.
        Rest = "rest",
    }
}

impl ErrorFormat {
    /// Builds an error response.
    pub(super) fn response(self, status: StatusCode, message: &str) -> Response {
        match self {
            Self::Text if message.is_empty() => status.into_response(),
            Self::Text => (status, message.to_owned()).into_response(),
            Self::Rest => {
                let body = json!({
                    "status": status.as_u16(),
                    "timestamp": clock::now(),
                    "errorCode": error_code(status),
                    "message": message,
                });
                (status, Json(body)).into_response()
            }
        }
    }
}

/// Returns the platform's error code for a status, as far as codes are known.
fn error_code(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "not_authorized",
        StatusCode::NOT_FOUND => "entity_not_found",
        StatusCode::BAD_REQUEST => "validation_error",
        status if status.is_client_error() => "not_allowed",
        _ => "internal_error",
    }
}
