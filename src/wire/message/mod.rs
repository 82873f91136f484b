//! Decodes one message: a JSON-RPC response, or an event without its envelope.
//!
//! A message is decoded in one pass, without an intermediate tree or copies.

mod decode_error;
mod envelope;
mod field;
mod payload;
mod ping;
#[cfg(test)]
mod tests;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer};
use serde_json::Value;

use super::json::replace_lone_surrogates;
use super::jsonrpc::RpcError;
use super::task::Task;
use super::update::Update;
use crate::ids::TaskId;

pub(crate) use decode_error::DecodeError;
pub(crate) use payload::Payload;
pub(crate) use ping::{is_ping, may_be_answer};

use envelope::ResponseEnvelope;
use payload::{InPlace, ResultKind};
use ping::is_end_marker_or_ping;

/// The content of a message.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every message is a result: a box would cost each of them"
)]
pub(crate) enum MessageContent<'de> {
    /// A task or an update.
    Result(Payload<'de>),
    /// An error. The flag is true where the message also has a task or an update: then the error is
    /// not a refusal.
    Error(RpcError, bool),
    /// A result of a shape that this version does not know.
    Unknown(Value),
    /// A ping, an end marker or a notification: nothing that belongs to the answer.
    KeepAlive,
    /// A message that is neither a result nor an error nor an event.
    Nothing,
}

impl MessageContent<'_> {
    fn into_owned(self) -> MessageContent<'static> {
        match self {
            Self::Result(payload) => MessageContent::Result(payload.into_owned()),
            Self::Error(error, beside_result) => MessageContent::Error(error, beside_result),
            Self::Unknown(value) => MessageContent::Unknown(value),
            Self::KeepAlive => MessageContent::KeepAlive,
            Self::Nothing => MessageContent::Nothing,
        }
    }
}

/// Decodes one message: the data of an event, or the body of a reply.
///
/// A result of an unknown shape is kept as it is; one of a known shape that cannot be decoded is an
/// error, since an answer that lost a piece must not look complete.
pub(crate) fn decode_message(data: &[u8]) -> Result<MessageContent<'_>, DecodeError> {
    // UTF-8 is validated once for the whole message, which is faster than for each string.
    let text = std::str::from_utf8(data).map_err(|_| DecodeError::Utf8)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match decode_text(text) {
        Ok(content) => Ok(content),
        Err(error) => {
            if is_end_marker_or_ping(text) {
                return Ok(MessageContent::KeepAlive);
            }
            let Some(repaired) = replace_lone_surrogates(text) else { return Err(error) };
            decode_text(&repaired).map(MessageContent::into_owned)
        }
    }
}

fn decode_text(text: &str) -> Result<MessageContent<'_>, DecodeError> {
    let envelope: ResponseEnvelope<'_> =
        serde_json::from_str(text).map_err(|error| DecodeError::new(text, &error))?;
    match envelope.into_content() {
        MessageContent::Unknown(_) => result_of(text).map(MessageContent::Unknown),
        content => Ok(content),
    }
}

/// Decodes a task or an event that was serialized before.
pub(crate) fn decode_payload(value: &Value) -> Result<Payload<'_>, serde_json::Error> {
    let mut payload = Payload::default();
    match InPlace(&mut payload).deserialize(value)? {
        ResultKind::Object => Ok(payload),
        ResultKind::Absent | ResultKind::Other => Err(de::Error::custom("it is not an object")),
    }
}

impl Task {
    /// Deserializes a task that was serialized before.
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let payload = decode_payload(&value).map_err(de::Error::custom)?;
        let task = payload.into_task(&TaskId::from(""));
        task.ok_or_else(|| de::Error::missing_field("status"))
    }
}

impl Update {
    /// Deserializes an event that was serialized before; `None` for JSON of another shape.
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Self>, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::from_value(&value).map_err(de::Error::custom)
    }

    /// Reads an event from its JSON; `None` for JSON of another shape.
    pub(crate) fn from_value(value: &Value) -> Result<Option<Self>, serde_json::Error> {
        if !value.is_object() {
            return Ok(None);
        }
        let payload = decode_payload(value)?;
        if !payload.is_known() {
            return Ok(None);
        }
        let update = payload.into_update(&TaskId::from(""));
        update.map(Some).ok_or_else(|| de::Error::missing_field("status"))
    }
}

fn result_of(text: &str) -> Result<Value, DecodeError> {
    #[derive(serde::Deserialize)]
    struct UnknownResult {
        result: Value,
    }
    let envelope: UnknownResult =
        serde_json::from_str(text).map_err(|error| DecodeError::new(text, &error))?;
    Ok(envelope.result)
}
