//! What one JSON text says: a JSON-RPC response, or a bare event where the envelope was left out.
//!
//! Read once and in place: nearly all of a small event's cost would else be the moving of half-read structs.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::Value;

use super::Metadata;
use super::jsonrpc::RpcError;
use super::lenient::{self, Flag, Id, Object};
use super::part::Loose;
use super::task::{Artifact, Message, Task, TaskStatus};
use super::update::{ArtifactUpdate, StatusUpdate, Update};
use crate::ids::{SessionId, TaskId};

/// What a frame turned out to be.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every message is a result: a box would cost each of them"
)]
pub(crate) enum MessageContent<'de> {
    /// A task or an update.
    Result(Payload<'de>),
    /// An error, and whether a task or an update came beside it: then it refuses nothing.
    Error(RpcError, bool),
    /// A result of a shape that this version does not know.
    Unknown(Value),
    /// Neither result nor error nor event.
    Nothing,
}

/// Why a frame could not be read. Says where, never what: the text is the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("it is not valid UTF-8")]
    Utf8,
    #[error("it is not JSON (line {line}, column {column})")]
    NotJson { line: usize, column: usize },
    #[error("its JSON is not of the shape that it claims (line {line}, column {column})")]
    Shape { line: usize, column: usize },
}

impl From<serde_json::Error> for DecodeError {
    fn from(error: serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        if error.is_data() { Self::Shape { line, column } } else { Self::NotJson { line, column } }
    }
}

/// Reads one frame: the data of an event, or the body of a reply.
///
/// A result of an unknown shape is kept as it is; one of a known shape that cannot be read is an error, since
/// an answer that lost a piece must not look whole.
pub(crate) fn decode_message(data: &[u8]) -> Result<MessageContent<'_>, DecodeError> {
    // Checked at once and then read as text: faster than to check string by string.
    let text = std::str::from_utf8(data).map_err(|_| DecodeError::Utf8)?;
    let frame: Frame<'_> = serde_json::from_str(text)?;
    match frame.into_content() {
        MessageContent::Unknown(_) => Ok(MessageContent::Unknown(result_of(text)?)),
        content => Ok(content),
    }
}

fn result_of(text: &str) -> Result<Value, DecodeError> {
    #[derive(serde::Deserialize)]
    struct Envelope {
        result: Value,
    }
    let envelope: Envelope = serde_json::from_str(text)?;
    Ok(envelope.result)
}

/// The fields of a task and of both updates, side by side.
#[derive(Debug, Default)]
pub(crate) struct Payload<'de> {
    /// As it stands in the frame: it is nearly always that of the task that is waited for, which is there already.
    id: Option<Cow<'de, str>>,
    session_id: Option<SessionId>,
    pub(crate) status: Option<TaskStatus>,
    artifact: Option<Artifact>,
    artifacts: Option<Vec<Artifact>>,
    history: Option<Vec<Message>>,
    is_final: Option<bool>,
    metadata: Metadata,
}

impl<'de> Payload<'de> {
    /// True where it has one of the fields that a task or an update is told by.
    fn is_known(&self) -> bool {
        self.status.is_some()
            || self.artifact.is_some()
            || self.artifacts.is_some()
            || self.history.is_some()
    }

    pub(crate) fn is_final(&self) -> bool {
        self.is_final.unwrap_or(false)
    }

    /// Returns true where the field `artifacts` is there and not null: a task without it is one whose
    /// artifacts were left out.
    pub(crate) fn includes_artifacts(&self) -> bool {
        self.artifacts.is_some()
    }

    /// As a whole task, whatever it looks like: the reply to `send`, `get` and `cancel`.
    ///
    /// `None` where there is no status: without one nothing is known of the task.
    pub(crate) fn into_task(self, asked_for: &TaskId) -> Option<Task> {
        Some(Task {
            id: task_id(self.id.as_deref(), asked_for),
            session_id: self.session_id,
            status: self.status?,
            artifacts: self.artifacts.unwrap_or_default(),
            history: self.history.unwrap_or_default(),
            metadata: self.metadata,
        })
    }

    /// As an event of a stream; `None` for a task without status: what it holds cannot be placed, and must not
    /// be passed over as if it were nothing.
    ///
    /// An event without a task id is taken to be the stream's own task's.
    pub(crate) fn into_update(self, stream_of: &TaskId) -> Option<Update> {
        let is_final = self.is_final();
        if let Some(artifact) = self.artifact {
            let task_id = task_id(self.id.as_deref(), stream_of);
            return Some(Update::Artifact(ArtifactUpdate {
                task_id,
                artifact,
                status: self.status,
                is_final,
                metadata: self.metadata,
            }));
        }
        if self.artifacts.is_some() || self.history.is_some() {
            return self.into_task(stream_of).map(Update::Task);
        }
        let task_id = task_id(self.id.as_deref(), stream_of);
        Some(Update::Status(StatusUpdate {
            task_id,
            status: self.status?,
            is_final,
            metadata: self.metadata,
        }))
    }

    /// Reads the value of one field. The pieces may come once: of two, one would be lost. Of the two spellings of a
    /// field, the first that says something counts, and a stream is over if either says so.
    fn read<A: MapAccess<'de>>(&mut self, field: &Field, map: &mut A) -> Result<(), A::Error> {
        match field {
            Field::Id => self.id = id_of(map.next_value()?).or(self.id.take()),
            Field::SessionId => {
                let id = map.next_value::<Id<_>>()?.0;
                self.session_id = self.session_id.take().or(id);
            }
            Field::Status => put(&mut self.status, map.next_value()?, "status")?,
            Field::Artifact => put(&mut self.artifact, map.next_value()?, "artifact")?,
            Field::Artifacts => put(&mut self.artifacts, map.next_value()?, "artifacts")?,
            Field::History => put(&mut self.history, map.next_value()?, "history")?,
            Field::Final => self.is_final = self.is_final.max(map.next_value::<Flag>()?.0),
            Field::Metadata => self.metadata = map.next_value::<Object>()?.0,
            Field::Result | Field::Error | Field::Other => {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

fn task_id(id: Option<&str>, expected: &TaskId) -> TaskId {
    match id {
        Some(id) if *expected != *id => TaskId::from(id),
        _ => expected.clone(),
    }
}

fn put<T, E: de::Error>(
    place: &mut Option<T>,
    value: Option<T>,
    name: &'static str,
) -> Result<(), E> {
    if place.is_some() {
        return Err(E::duplicate_field(name));
    }
    *place = value;
    Ok(())
}

/// The fields that are looked for, in every spelling.
enum Field {
    Id,
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
        Ok(match name {
            "id" => Field::Id,
            "sessionId" | "session_id" => Field::SessionId,
            "status" => Field::Status,
            "artifact" => Field::Artifact,
            "artifacts" => Field::Artifacts,
            "history" => Field::History,
            "final" | "isFinal" | "is_final" => Field::Final,
            "metadata" => Field::Metadata,
            "result" => Field::Result,
            "error" => Field::Error,
            _ => Field::Other,
        })
    }
}

/// The fields of a result, and of the frame around it.
#[derive(Default)]
struct Frame<'de> {
    /// The request's id in an envelope, the task's in a bare event: copied only for the latter.
    id: Option<Loose<'de>>,
    error: Option<RpcError>,
    found: Found,
    result: Payload<'de>,
    /// The fields of a bare event, where there are any.
    bare: Option<Box<Payload<'de>>>,
}

/// What is under `result`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Found {
    #[default]
    Nothing,
    Fields,
    /// JSON of any other kind than an object.
    Other,
}

impl<'de> Frame<'de> {
    /// An unknown result comes without its JSON: see [`decode_message`].
    fn into_content(self) -> MessageContent<'de> {
        match (self.found, self.error) {
            (_, Some(error)) if error.says_something() => {
                let bare_too = self.bare.is_some_and(|bare| bare.is_known());
                return MessageContent::Error(error, bare_too || self.result.is_known());
            }
            (Found::Fields, _) if self.result.is_known() => {
                return MessageContent::Result(self.result);
            }
            (_, Some(error)) => return MessageContent::Error(error, false),
            (Found::Fields | Found::Other, None) => return MessageContent::Unknown(Value::Null),
            (Found::Nothing, None) => {}
        }
        match self.bare {
            Some(bare) if bare.is_known() => {
                MessageContent::Result(Payload { id: self.id.and_then(id_of), ..*bare })
            }
            _ => MessageContent::Nothing,
        }
    }
}

fn id_of(id: Loose<'_>) -> Option<Cow<'_, str>> {
    match id {
        Loose::Text(text) => Some(text),
        Loose::Other(other) => lenient::text(other).ok()?.map(Cow::Owned),
    }
}

impl<'de> Deserialize<'de> for Frame<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FrameVisitor)
    }
}

struct FrameVisitor;

impl<'de> Visitor<'de> for FrameVisitor {
    type Value = Frame<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON-RPC response or an event: an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Frame<'de>, A::Error> {
        let mut frame = Frame::default();
        while let Some(field) = map.next_key::<Field>()? {
            match field {
                Field::Id => frame.id = Some(map.next_value()?),
                Field::Error => put(&mut frame.error, map.next_value()?, "error")?,
                Field::Result if frame.found == Found::Nothing => {
                    frame.found = map.next_value_seed(InPlace(&mut frame.result))?;
                }
                Field::Result => return Err(de::Error::duplicate_field("result")),
                Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
                field => frame.bare.get_or_insert_default().read(&field, &mut map)?,
            }
        }
        Ok(frame)
    }
}

/// Reads a result's fields to where they stay.
struct InPlace<'a, 'de>(&'a mut Payload<'de>);

impl<'de> DeserializeSeed<'de> for InPlace<'_, 'de> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for InPlace<'_, 'de> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a result")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        while let Some(field) = map.next_key::<Field>()? {
            self.0.read(&field, &mut map)?;
        }
        Ok(Found::Fields)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Found, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Found::Other)
    }

    fn visit_unit<E>(self) -> Result<Found, E> {
        Ok(Found::Nothing)
    }

    fn visit_str<E>(self, _: &str) -> Result<Found, E> {
        Ok(Found::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Found, E> {
        Ok(Found::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Found, E> {
        Ok(Found::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Found, E> {
        Ok(Found::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Found, E> {
        Ok(Found::Other)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> Payload<'static> {
        match decode_message(value.to_string().leak().as_bytes()) {
            Ok(MessageContent::Result(payload)) => payload,
            other => panic!("{value}: {other:?}"),
        }
    }

    fn id_in(value: &Value) -> Option<TaskId> {
        read(value).id.as_deref().map(TaskId::from)
    }

    #[test]
    fn an_id_may_be_missing_null_a_number_or_foreign() {
        let status = json!({"state": "working"});
        for id in
            [json!("req-1"), json!(1), json!(null), json!({"a": 1}), json!([1]), json!("foreign")]
        {
            assert_eq!(
                id_in(
                    &json!({"jsonrpc": "2.0", "id": id, "result": {"id": "t", "status": status}})
                ),
                Some("t".into())
            );
            assert_eq!(
                id_in(&json!({"result": {"id": "t", "status": status}, "id": id})),
                Some("t".into())
            );
        }
        assert_eq!(
            id_in(&json!({"result": {"status": status}, "id": "req-1"})),
            None,
            "the request's is not the task's"
        );
        for (id, wanted) in [
            (json!("t"), Some("t")),
            (json!(7), Some("7")),
            (json!(null), None),
            (json!([7]), None),
        ] {
            assert_eq!(
                id_in(&json!({"id": id, "status": status})),
                wanted.map(TaskId::from),
                "bare, {id}"
            );
            assert_eq!(
                id_in(&json!({"result": {"id": id, "status": status}})),
                wanted.map(TaskId::from),
                "{id}"
            );
        }
    }

    #[test]
    fn every_spelling_is_read_and_both_at_once() {
        let status = json!({"state": "working"});
        for name in ["final", "isFinal", "is_final"] {
            assert!(read(&json!({"result": {"status": status, name: true}})).is_final(), "{name}");
            assert!(read(&json!({"status": status, name: "true"})).is_final(), "{name}");
            assert!(!read(&json!({"result": {"status": status, name: null}})).is_final(), "{name}");
        }
        assert!(
            read(&json!({"result": {"status": status, "final": true, "isFinal": true, "is_final": true}})).is_final()
        );
        assert!(
            read(&json!({"result": {"status": status, "final": false, "is_final": true}}))
                .is_final()
        );
        assert!(!read(&json!({"result": {"status": status}})).is_final());
        for session in [
            json!({"sessionId": "s"}),
            json!({"session_id": "s"}),
            json!({"sessionId": null, "session_id": "s"}),
        ] {
            let mut result = json!({"status": status});
            result.as_object_mut().unwrap().extend(session.as_object().unwrap().clone());
            assert_eq!(read(&json!({"result": result})).session_id, Some("s".into()), "{result}");
        }
        let artifact = json!({"lastChunk": true, "last_chunk": true, "index": "2", "append": 1, "name": 5, "parts": null});
        let artifact = read(&json!({"artifact": artifact})).artifact.unwrap();
        assert_eq!((artifact.last_chunk, artifact.index, artifact.append), (Some(true), 2, true));
        assert_eq!(artifact.name.as_deref(), Some("5"));
    }

    #[test]
    fn nulls_and_unknown_fields_change_nothing() {
        let value = json!({"jsonrpc": null, "id": null, "error": null, "new": {"a": [1]}, "metadata": 7, "status": null,
            "result": {"id": "t", "artifact": null, "artifacts": null, "history": null, "metadata": null, "error": 1,
                "result": 2, "status": {"state": null, "message": null, "timestamp": null, "new": 1}, "kind": "status-update"}});
        let payload = read(&value);
        assert_eq!(payload.status, Some(TaskStatus::default()));
        assert!(
            matches!(payload.into_update(&"x".into()), Some(Update::Status(update)) if update.task_id == "t")
        );
    }

    #[test]
    fn a_piece_that_comes_twice_is_an_error() {
        let twice = [
            r#"{"result":{"artifact":{"parts":[]},"artifact":{"parts":[]}}}"#,
            r#"{"result":{"status":{},"status":{}}}"#,
            r#"{"result":{"artifact":{"parts":[],"parts":[]}}}"#,
            r#"{"result":{"status":{}},"result":{"status":{}}}"#,
            r#"{"error":{"code":1},"error":{"code":1}}"#,
        ];
        for text in twice {
            assert!(
                matches!(decode_message(text.as_bytes()), Err(DecodeError::Shape { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn a_frame_in_an_array_is_none() {
        for text in ["[]", r#"["2.0",1,{"status":{}}]"#, "1", "\"a\"", "null"] {
            assert!(
                matches!(decode_message(text.as_bytes()), Err(DecodeError::Shape { .. })),
                "{text}"
            );
        }
        assert!(matches!(decode_message(b"{"), Err(DecodeError::NotJson { .. })));
    }
}
