//! Requests as they come: JSON-RPC, read with the tolerance of a server that wants to be talked to.

use serde::Deserialize;
use serde_json::{Value, json};

use super::settings::Operation;
use crate::ids::{SessionId, TaskId};
use crate::wire::Metadata;
use crate::wire::jsonrpc::{VERSION, code};
use crate::wire::task::Message;

/// A request, before its parameters are looked at.
pub(super) struct Call {
    /// The request's id, to be sent back as it came.
    pub(super) id: Value,
    params: Value,
}

/// Why a request was not taken: a JSON-RPC error.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: i64,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(super) fn response(&self, id: &Value) -> Value {
        json!({ "jsonrpc": VERSION, "id": id, "error": { "code": self.code, "message": self.message } })
    }

    /// True where the request itself was wrong.
    pub(super) fn is_malformed(&self) -> bool {
        [code::PARSE_ERROR, code::INVALID_REQUEST, code::METHOD_NOT_FOUND, code::INVALID_PARAMS]
            .contains(&self.code)
    }
}

impl Call {
    /// The error has the request's id where one could be read.
    pub(super) fn read(body: &[u8], operation: Operation) -> Result<Self, (Value, Refusal)> {
        let value: Value = serde_json::from_slice(body).map_err(|error| {
            (Value::Null, Refusal::new(code::PARSE_ERROR, format!("Invalid JSON: {error}")))
        })?;
        let Value::Object(mut fields) = value else {
            return Err((
                Value::Null,
                Refusal::new(code::INVALID_REQUEST, "A request is a JSON object"),
            ));
        };
        let id = fields.remove("id").unwrap_or(Value::Null);
        if !matches!(id, Value::Null | Value::String(_) | Value::Number(_)) {
            return Err((
                Value::Null,
                Refusal::new(code::INVALID_REQUEST, "id is a string or a number"),
            ));
        }
        if fields.get("jsonrpc").and_then(Value::as_str) != Some(VERSION) {
            return Err((id, Refusal::new(code::INVALID_REQUEST, "jsonrpc is not \"2.0\"")));
        }
        let Some(method) = fields.get("method").and_then(Value::as_str) else {
            return Err((id, Refusal::new(code::INVALID_REQUEST, "method is missing")));
        };
        // The path decides; a method that contradicts it is a mistake. The Python SDK writes a dot.
        if method.replace('.', "/") != format!("tasks/{operation}") {
            return Err((
                id,
                Refusal::new(
                    code::METHOD_NOT_FOUND,
                    "The method is not the one that the path names",
                ),
            ));
        }
        Ok(Self { id, params: fields.remove("params").unwrap_or(Value::Null) })
    }

    pub(super) fn send_params(self) -> Result<SendParams, Refusal> {
        let params: SendParams = self.params()?;
        if params.message.text().trim().is_empty() {
            let has_parts = params.message.parts.iter().any(|part| part.as_text().is_none());
            return Err(if has_parts {
                Refusal::new(code::CONTENT_TYPE_NOT_SUPPORTED, "The agent reads text only")
            } else {
                Refusal::new(code::INVALID_PARAMS, "message.parts holds no text")
            });
        }
        Ok(params)
    }

    pub(super) fn task_params(self) -> Result<TaskParams, Refusal> {
        self.params()
    }

    fn params<P: serde::de::DeserializeOwned + HasTask>(self) -> Result<P, Refusal> {
        let params: P = serde_json::from_value(self.params).map_err(|error| {
            Refusal::new(code::INVALID_PARAMS, format!("Invalid params: {error}"))
        })?;
        if params.task_id().is_blank() {
            return Err(Refusal::new(code::INVALID_PARAMS, "params.id is blank"));
        }
        Ok(params)
    }
}

trait HasTask {
    fn task_id(&self) -> &TaskId;
}

/// What `tasks/send` and `tasks/sendSubscribe` are asked.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SendParams {
    pub(super) id: TaskId,
    #[serde(default)]
    pub(super) session_id: Option<SessionId>,
    pub(super) message: Message,
    #[serde(default)]
    pub(super) metadata: Option<Metadata>,
    #[serde(default)]
    pub(super) history_length: Option<usize>,
}

/// What `tasks/get`, `tasks/cancel` and `tasks/resubscribe` are asked.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TaskParams {
    pub(super) id: TaskId,
    #[serde(default)]
    pub(super) history_length: Option<usize>,
}

impl HasTask for SendParams {
    fn task_id(&self) -> &TaskId {
        &self.id
    }
}

impl HasTask for TaskParams {
    fn task_id(&self) -> &TaskId {
        &self.id
    }
}
