//! The parameters of the requests that the client sends.

use serde::Serialize;

use super::Metadata;
use crate::ids::{SessionId, TaskId};

/// The method names in requests. The server routes by path.
pub(crate) mod method {
    pub(crate) const SEND: &str = "tasks/send";
    pub(crate) const SEND_SUBSCRIBE: &str = "tasks/sendSubscribe";
    pub(crate) const GET: &str = "tasks/get";
    pub(crate) const CANCEL: &str = "tasks/cancel";
    pub(crate) const RESUBSCRIBE: &str = "tasks/resubscribe";
}

/// The parameters of `tasks/send` and `tasks/sendSubscribe`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SendParams<'a> {
    pub(crate) id: &'a TaskId,
    pub(crate) session_id: &'a SessionId,
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub(crate) metadata: &'a Metadata,
    pub(crate) message: UserMessage<'a>,
}

/// The message of the user.
#[derive(Debug, Serialize)]
pub(crate) struct UserMessage<'a> {
    pub(crate) role: &'static str,
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub(crate) metadata: &'a Metadata,
    pub(crate) parts: [UserText<'a>; 1],
}

/// The text part of the message.
#[derive(Debug, Serialize)]
pub(crate) struct UserText<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) text: &'a str,
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub(crate) metadata: &'a Metadata,
}

/// The parameters of `tasks/get`, `tasks/cancel` and `tasks/resubscribe`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TaskParams<'a> {
    pub(crate) id: &'a TaskId,
    /// The number of history messages to return.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) history_length: Option<u32>,
}
