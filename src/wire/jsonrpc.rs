//! JSON-RPC 2.0: requests, and the errors of responses.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::lenient;
use crate::ids::RequestId;

/// The protocol version that every request names.
pub(crate) const VERSION: &str = "2.0";

/// A request.
#[derive(Debug, Serialize)]
pub(crate) struct Request<'a, P> {
    pub(crate) jsonrpc: &'static str,
    pub(crate) id: &'a RequestId,
    pub(crate) method: &'a str,
    pub(crate) params: P,
}

impl<'a, P> Request<'a, P> {
    pub(crate) fn new(id: &'a RequestId, method: &'a str, params: P) -> Self {
        Self { jsonrpc: VERSION, id, method, params }
    }
}

/// The error codes of the specification on which the SDK acts.
pub(crate) mod code {
    pub(crate) const PARSE_ERROR: i64 = -32700;
    pub(crate) const INVALID_REQUEST: i64 = -32600;
    pub(crate) const METHOD_NOT_FOUND: i64 = -32601;
    pub(crate) const INVALID_PARAMS: i64 = -32602;
    #[cfg(feature = "emulator")]
    pub(crate) const INTERNAL_ERROR: i64 = -32603;
    pub(crate) const TASK_NOT_FOUND: i64 = -32001;
    pub(crate) const TASK_NOT_CANCELABLE: i64 = -32002;
    pub(crate) const UNSUPPORTED_OPERATION: i64 = -32004;
    pub(crate) const CONTENT_TYPE_NOT_SUPPORTED: i64 = -32005;
}

/// The error of a JSON-RPC response.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RpcError {
    /// The error code; `None` if the server sent no number.
    pub code: Option<i64>,
    /// The message of the server.
    pub message: String,
    /// Data that the server attached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

#[derive(Deserialize)]
struct ErrorFields {
    #[serde(default, deserialize_with = "lenient::integer")]
    code: Option<i64>,
    #[serde(default, deserialize_with = "lenient::text")]
    message: Option<String>,
    #[serde(default)]
    data: Option<Value>,
}

impl<'de> Deserialize<'de> for RpcError {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Ok(Self::from_value(value))
    }
}

impl RpcError {
    /// Returns false for an empty error, which some servers send along with a result.
    pub(super) fn says_something(&self) -> bool {
        self.code.is_some() || !self.message.is_empty() || self.data.is_some()
    }

    /// Reads an error of any shape. If a server nests the original error in `data`, that one is
    /// used.
    fn from_value(value: Value) -> Self {
        let fields = match value {
            Value::Object(_) => ErrorFields::deserialize(value),
            other => Ok(ErrorFields {
                code: None,
                message: lenient::text(other).ok().flatten(),
                data: None,
            }),
        };
        let Ok(fields) = fields else {
            return Self { code: None, message: String::new(), data: None };
        };
        if let Some(nested) = fields.data.as_ref().and_then(nested_error) {
            return nested;
        }
        Self { code: fields.code, message: fields.message.unwrap_or_default(), data: fields.data }
    }
}

fn nested_error(data: &Value) -> Option<RpcError> {
    let candidate = data.get("error").unwrap_or(data);
    candidate.get("code")?.as_i64()?;
    candidate.get("message")?.as_str()?;
    let fields = ErrorFields::deserialize(candidate).ok()?;
    Some(RpcError {
        code: fields.code,
        message: fields.message.unwrap_or_default(),
        data: fields.data,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_of_any_shape_are_read() {
        let read = |value: Value| {
            let error = RpcError::from_value(value);
            (error.code, error.message)
        };
        assert_eq!(read(json!({"code": -32603, "message": "boom"})), (Some(-32603), "boom".into()));
        assert_eq!(read(json!({"code": "-32603"})), (Some(-32603), String::new()));
        assert_eq!(read(json!({"code": -32000.0, "message": null})), (Some(-32000), String::new()));
        assert_eq!(read(json!("boom")), (None, "boom".into()));
        assert_eq!(read(json!({})), (None, String::new()));
        assert_eq!(read(json!([1])), (None, String::new()));
    }

    #[test]
    fn a_nested_error_is_the_real_one() {
        let inner = json!({"code": -32001, "message": "Task not found"});
        for data in [inner.clone(), json!({"error": inner})] {
            let error =
                RpcError::from_value(json!({"code": -32603, "message": "Internal", "data": data}));
            assert_eq!(error.code, Some(-32001));
        }
    }
}
