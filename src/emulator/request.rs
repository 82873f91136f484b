//! Parses JSON-RPC requests, with some leniency about their form.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::settings::Operation;
use crate::ids::{SessionId, TaskId};
use crate::wire::Metadata;
use crate::wire::jsonrpc::{VERSION, code};
use crate::wire::task::Message;

/// A JSON-RPC request whose parameters are not parsed yet.
pub(super) struct RpcCall {
    /// The request's id, which the response repeats unchanged.
    pub(super) id: Value,
    params: Value,
}

/// The JSON-RPC error that answers a call.
#[derive(Debug)]
pub(super) struct CallError {
    code: i64,
    message: String,
}

impl CallError {
    pub(super) fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Returns the JSON-RPC response.
    pub(super) fn response(&self, id: &Value) -> Value {
        let error = json!({ "code": self.code, "message": self.message });
        json!({ "jsonrpc": VERSION, "id": id, "error": error })
    }

    /// Returns true if the request itself was wrong.
    pub(super) fn is_malformed(&self) -> bool {
        [code::PARSE_ERROR, code::INVALID_REQUEST, code::METHOD_NOT_FOUND, code::INVALID_PARAMS]
            .contains(&self.code)
    }
}

impl RpcCall {
    /// Parses a request body.
    ///
    /// # Errors
    ///
    /// Returns the JSON-RPC error, with the request's id if it is valid, else `null`.
    pub(super) fn parse(body: &[u8], operation: Operation) -> Result<Self, (Value, CallError)> {
        let value: Value = serde_json::from_slice(body).map_err(|error| {
            (Value::Null, CallError::new(code::PARSE_ERROR, format!("Invalid JSON: {error}")))
        })?;
        let Value::Object(mut fields) = value else {
            return Err((
                Value::Null,
                CallError::new(code::INVALID_REQUEST, "A request is a JSON object"),
            ));
        };
        let id = fields.remove("id").unwrap_or(Value::Null);
        if !matches!(id, Value::Null | Value::String(_) | Value::Number(_)) {
            return Err((
                Value::Null,
                CallError::new(code::INVALID_REQUEST, "id is a string or a number"),
            ));
        }
        if fields.get("jsonrpc").and_then(Value::as_str) != Some(VERSION) {
            return Err((id, CallError::new(code::INVALID_REQUEST, "jsonrpc is not \"2.0\"")));
        }
        let Some(method) = fields.get("method").and_then(Value::as_str) else {
            return Err((id, CallError::new(code::INVALID_REQUEST, "method is missing")));
        };
        // The path selects the operation, and the method has to agree. The Python SDK writes a dot.
        if method.replace('.', "/") != format!("tasks/{operation}") {
            return Err((
                id,
                CallError::new(
                    code::METHOD_NOT_FOUND,
                    "The method is not the one that the path names",
                ),
            ));
        }
        Ok(Self { id, params: fields.remove("params").unwrap_or(Value::Null) })
    }

    /// Parses the parameters of `tasks/send` and `tasks/sendSubscribe`.
    pub(super) fn send_params(self) -> Result<SendCallParams, CallError> {
        let params: SendCallParams = self.params()?;
        if params.message.text().trim().is_empty() {
            let has_other_parts = params.message.parts.iter().any(|part| part.as_text().is_none());
            return Err(if has_other_parts {
                CallError::new(code::CONTENT_TYPE_NOT_SUPPORTED, "The agent reads text only")
            } else {
                CallError::new(code::INVALID_PARAMS, "message.parts holds no text")
            });
        }
        Ok(params)
    }

    /// Parses the parameters of `tasks/get`, `tasks/cancel` and `tasks/resubscribe`.
    pub(super) fn task_params(self) -> Result<TaskCallParams, CallError> {
        self.params()
    }

    fn params<P: DeserializeOwned + HasTask>(self) -> Result<P, CallError> {
        let params: P = serde_json::from_value(self.params).map_err(|error| {
            CallError::new(code::INVALID_PARAMS, format!("Invalid params: {error}"))
        })?;
        if params.task_id().is_blank() {
            return Err(CallError::new(code::INVALID_PARAMS, "params.id is blank"));
        }
        Ok(params)
    }
}

trait HasTask {
    fn task_id(&self) -> &TaskId;
}

/// The parameters of `tasks/send` and `tasks/sendSubscribe`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SendCallParams {
    pub(super) id: TaskId,
    #[serde(default)]
    pub(super) session_id: Option<SessionId>,
    pub(super) message: Message,
    #[serde(default)]
    pub(super) metadata: Option<Metadata>,
    #[serde(default)]
    pub(super) history_length: Option<usize>,
}

/// The parameters of `tasks/get`, `tasks/cancel` and `tasks/resubscribe`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TaskCallParams {
    pub(super) id: TaskId,
    #[serde(default)]
    pub(super) history_length: Option<usize>,
}

impl HasTask for SendCallParams {
    fn task_id(&self) -> &TaskId {
        &self.id
    }
}

impl HasTask for TaskCallParams {
    fn task_id(&self) -> &TaskId {
        &self.id
    }
}
