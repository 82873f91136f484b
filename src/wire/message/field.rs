//! The names of the fields of a message, in every spelling.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Unexpected, Visitor};

use super::ping::is_ping;
use crate::wire::lenient;

/// The known fields of a message.
pub(super) enum Field {
    Id,
    TaskId,
    Append,
    LastChunk,
    /// The method of a JSON-RPC notification.
    Method,
    /// The parameters of a JSON-RPC notification.
    Params,
    /// The field that names the kind of an event.
    Type,
    /// A field with the name of a ping.
    Ping,
    SessionId,
    Status,
    Artifact,
    Artifacts,
    History,
    Final,
    Metadata,
    Result,
    Error,
    Other,
}

struct FieldVisitor;

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(FieldVisitor)
    }
}

impl Visitor<'_> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Field, E> {
        if lenient::is_number_field(name) {
            return Err(E::invalid_type(Unexpected::Other("number"), &"an object"));
        }
        Ok(match name {
            "id" => Field::Id,
            "taskId" | "task_id" => Field::TaskId,
            "sessionId" | "session_id" | "contextId" | "context_id" => Field::SessionId,
            "status" => Field::Status,
            "artifact" => Field::Artifact,
            "artifacts" => Field::Artifacts,
            "history" => Field::History,
            "final" | "isFinal" | "is_final" => Field::Final,
            "append" => Field::Append,
            "lastChunk" | "last_chunk" => Field::LastChunk,
            "method" => Field::Method,
            "params" => Field::Params,
            "type" | "kind" | "event" => Field::Type,
            "metadata" => Field::Metadata,
            "result" => Field::Result,
            "error" => Field::Error,
            name if is_ping(name) => Field::Ping,
            _ => Field::Other,
        })
    }
}

/// A field of a result.
pub(super) enum ResultField {
    Named(Field),
    Number,
}

impl<'de> Deserialize<'de> for ResultField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(ResultFieldVisitor)
    }
}

struct ResultFieldVisitor;

impl Visitor<'_> for ResultFieldVisitor {
    type Value = ResultField;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<ResultField, E> {
        if lenient::is_number_field(name) {
            return Ok(ResultField::Number);
        }
        FieldVisitor.visit_str(name).map(ResultField::Named)
    }
}
