//! Decodes one message: a JSON-RPC response, or an event without its envelope.
//!
//! A message is decoded in one pass into the place where it stays.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use serde_json::Value;

use super::Metadata;
use super::json::{self, replace_lone_surrogates};
use super::jsonrpc::RpcError;
use super::lenient::{self, Loose, LooseFlag, LooseId, LooseObject};
use super::state::TaskState;
use super::task::{Artifact, Message, Task, TaskStatus};
use super::timestamp::Timestamp;
use super::update::{ArtifactUpdate, StatusUpdate, Update};
use crate::ids::{SessionId, TaskId};

/// The content of a message.
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
    /// A ping, an end marker or a notification: nothing that belongs to the answer.
    KeepAlive,
    /// Neither result nor error nor event.
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

/// Why a message could not be decoded. Says where, never what: the text is the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("it is not valid UTF-8")]
    Utf8,
    #[error("it is not JSON (line {line}, column {column})")]
    NotJson { line: usize, column: usize },
    #[error("it holds NaN or Infinity, which JSON does not have (line {line}, column {column})")]
    NotFinite { line: usize, column: usize },
    #[error("its JSON is nested deeper than 128 levels (line {line}, column {column})")]
    TooDeep { line: usize, column: usize },
    #[error("its JSON does not have the shape that it claims (line {line}, column {column})")]
    Shape { line: usize, column: usize },
}

impl DecodeError {
    fn new(text: &str, error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        if error.is_data() {
            return Self::Shape { line, column };
        }
        // serde_json has no other way to tell this error apart.
        if error.to_string().starts_with("recursion limit exceeded") {
            return Self::TooDeep { line, column };
        }
        if is_not_finite(text, line, column) {
            return Self::NotFinite { line, column };
        }
        Self::NotJson { line, column }
    }
}

/// Returns true where the text has NaN or Infinity at the place of the error, as some writers write
/// it.
fn is_not_finite(text: &str, line: usize, column: usize) -> bool {
    let Some(line) = text.split('\n').nth(line.saturating_sub(1)) else { return false };
    let start = column.saturating_sub(2);
    let around = line.as_bytes().get(start..).unwrap_or_default();
    let around = around.get(..around.len().min(16)).unwrap_or_default();
    ["NaN", "Infinity"].iter().any(|name| memchr::memmem::find(around, name.as_bytes()).is_some())
}

/// Decodes one message: the data of an event, or the body of a reply.
///
/// A result of an unknown shape is kept as it is; one of a known shape that cannot be decoded is an
/// error, since an answer that lost a piece must not look complete.
pub(crate) fn decode_message(data: &[u8]) -> Result<MessageContent<'_>, DecodeError> {
    // Validated once as a whole: faster than string by string.
    let text = std::str::from_utf8(data).map_err(|_| DecodeError::Utf8)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match decode_text(text) {
        Ok(content) => Ok(content),
        Err(error) => {
            if is_no_message(text) {
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

/// Returns true for text whose shape says that it is no part of an answer: the end marker of other
/// protocols, `null`, the name of a ping, and a timestamp.
fn is_no_message(text: &str) -> bool {
    let text = text.trim();
    if matches!(text, "[DONE]" | "null") {
        return true;
    }
    let bare = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    is_ping(bare) || is_timestamp(bare)
}

/// Returns true for a date with a time, and for seconds or milliseconds since 1970.
fn is_timestamp(text: &str) -> bool {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return matches!(text.len(), 10 | 13);
    }
    text.contains(':') && Timestamp::from(text).to_system_time().is_some()
}

/// The fields of a task and of both updates, side by side.
#[derive(Debug, Default)]
pub(crate) struct Payload<'de> {
    /// Borrowed: it is nearly always the id of the task that is waited for, which exists already.
    id: Option<Cow<'de, str>>,
    /// The newer dialect's name for the id, which counts where both are there.
    task_id: Option<Cow<'de, str>>,
    session_id: Option<SessionId>,
    pub(crate) status: Option<TaskStatus>,
    artifact: Option<Artifact>,
    artifacts: Option<Vec<Artifact>>,
    history: Option<Vec<Message>>,
    is_final: Option<bool>,
    /// The newer dialect writes these on the event instead of the artifact.
    append: Option<bool>,
    last_chunk: Option<bool>,
    metadata: Metadata,
}

impl<'de> Payload<'de> {
    fn into_owned(self) -> Payload<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Payload {
            id: self.id.map(owned),
            task_id: self.task_id.map(owned),
            session_id: self.session_id,
            status: self.status,
            artifact: self.artifact,
            artifacts: self.artifacts,
            history: self.history,
            is_final: self.is_final,
            append: self.append,
            last_chunk: self.last_chunk,
            metadata: self.metadata,
        }
    }

    /// Returns the id of the task: `expected` where the message has none.
    fn task_id(&self, expected: &TaskId) -> TaskId {
        match self.task_id.as_deref().or(self.id.as_deref()) {
            Some(id) if *expected != *id => TaskId::from(id),
            _ => expected.clone(),
        }
    }

    /// Returns true where it has one of the fields by which a task or an update is recognized.
    pub(crate) fn is_known(&self) -> bool {
        self.status.is_some()
            || self.artifact.is_some()
            || self.artifacts.is_some()
            || self.history.is_some()
    }

    pub(crate) fn is_final(&self) -> bool {
        self.is_final.unwrap_or(false)
    }

    /// Returns true where the field `artifacts` is there and not null: a task without it is one
    /// whose artifacts were left out.
    pub(crate) fn includes_artifacts(&self) -> bool {
        self.artifacts.is_some()
    }

    /// Converts into a whole task, whatever it looks like: the reply to `send`, `get` and `cancel`.
    ///
    /// Returns `None` where there is no status: without one nothing is known of the task.
    pub(crate) fn into_task(self, asked_for: &TaskId) -> Option<Task> {
        Some(Task {
            id: self.task_id(asked_for),
            session_id: self.session_id,
            status: self.status?,
            artifacts: self.artifacts.unwrap_or_default(),
            history: self.history.unwrap_or_default(),
            metadata: self.metadata,
        })
    }

    /// Converts into an event of a stream. Returns `None` for a task without status: what it holds
    /// cannot be placed, and must not be skipped as if it were nothing.
    ///
    /// An event without a task id belongs to the stream's own task.
    pub(crate) fn into_update(self, stream_of: &TaskId) -> Option<Update> {
        let is_final = self.is_final();
        let task_id = self.task_id(stream_of);
        if let Some(mut artifact) = self.artifact {
            artifact.append |= self.append.unwrap_or(false);
            artifact.last_chunk = artifact.last_chunk.or(self.last_chunk);
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
        Some(Update::Status(StatusUpdate {
            task_id,
            status: self.status?,
            is_final,
            metadata: self.metadata,
        }))
    }

    /// Reads the value of one field. A part of the answer may come once: of two, one would be lost.
    /// Of the two spellings of another field, the first with a value counts.
    fn read<A: MapAccess<'de>>(&mut self, field: &Field, map: &mut A) -> Result<(), A::Error> {
        match field {
            Field::Id => self.id = id_of(map.next_value()?).or(self.id.take()),
            Field::TaskId => self.task_id = id_of(map.next_value()?).or(self.task_id.take()),
            Field::Append => self.append = self.append.max(map.next_value::<LooseFlag>()?.0),
            Field::LastChunk => {
                self.last_chunk = self.last_chunk.max(map.next_value::<LooseFlag>()?.0);
            }
            Field::SessionId => {
                let id = map.next_value::<LooseId<_>>()?.0;
                self.session_id = self.session_id.take().or(id);
            }
            Field::Status => put(&mut self.status, map.next_value()?, "status")?,
            Field::Artifact => put(&mut self.artifact, map.next_value()?, "artifact")?,
            Field::Artifacts => put(&mut self.artifacts, map.next_value()?, "artifacts")?,
            Field::History => put(&mut self.history, map.next_value()?, "history")?,
            Field::Final => self.is_final = self.is_final.max(map.next_value::<LooseFlag>()?.0),
            Field::Metadata => self.metadata = map.next_value::<LooseObject>()?.0,
            Field::Result
            | Field::Error
            | Field::Method
            | Field::Type
            | Field::Ping
            | Field::Params
            | Field::Other => {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
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
    TaskId,
    Append,
    LastChunk,
    /// The method of a JSON-RPC notification.
    Method,
    /// The parameters of a JSON-RPC notification.
    Params,
    /// What says of which kind an event is.
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

/// The fields of a JSON-RPC response, and those of an event without its envelope.
#[derive(Default)]
struct ResponseEnvelope<'de> {
    /// The request's id in an envelope, the task's in a bare event: copied only for the latter.
    id: Option<Loose<'de>>,
    error: Option<RpcError>,
    result_kind: ResultKind,
    result: Payload<'de>,
    /// The fields of a bare event, where there are any.
    bare: Option<Box<Payload<'de>>>,
    notice: Notice,
}

/// What is under `result`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum ResultKind {
    #[default]
    Absent,
    Object,
    /// JSON of any other kind than an object.
    Other,
}

/// Whether the message says of itself that it is no part of an answer.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Notice {
    #[default]
    No,
    /// A JSON-RPC notification that holds no part of a task, or `{"type": "ping"}`.
    Ignorable,
    /// A notification with a part of a task: its place in the answer is not known.
    WithTask,
}

impl<'de> ResponseEnvelope<'de> {
    /// An unknown result comes without its JSON: see [`decode_message`].
    fn into_content(self) -> MessageContent<'de> {
        match (self.result_kind, self.error) {
            (_, Some(error)) if error.says_something() => {
                let bare_too = self.bare.is_some_and(|bare| bare.is_known());
                return MessageContent::Error(error, bare_too || self.result.is_known());
            }
            (ResultKind::Object, _) if self.result.is_known() => {
                return MessageContent::Result(self.result);
            }
            (_, Some(error)) => return MessageContent::Error(error, false),
            (ResultKind::Object | ResultKind::Other, None) => {
                return MessageContent::Unknown(Value::Null);
            }
            (ResultKind::Absent, None) => {}
        }
        match (self.bare, self.notice) {
            (Some(bare), _) if bare.is_known() => {
                MessageContent::Result(Payload { id: self.id.and_then(id_of), ..*bare })
            }
            (_, Notice::Ignorable) => MessageContent::KeepAlive,
            _ => MessageContent::Nothing,
        }
    }

    fn note(&mut self, notice: Notice) {
        if self.notice != Notice::WithTask {
            self.notice = notice;
        }
    }
}

fn id_of(id: Loose<'_>) -> Option<Cow<'_, str>> {
    match id {
        Loose::Text(text) => Some(text),
        other => other.as_text().map(|text| Cow::Owned(text.into_owned())),
    }
}

/// Returns true for the names under which servers send signs of life.
pub(crate) fn is_ping(name: &str) -> bool {
    ["ping", "heartbeat", "keepalive", "keep-alive", "keep_alive"]
        .iter()
        .any(|known| name.trim().eq_ignore_ascii_case(known))
}

/// Returns true where an event that is named like a ping holds a part of a task all the same.
pub(crate) fn may_be_answer(data: &[u8]) -> bool {
    match json::from_body(data) {
        Ok(value) => holds_task(&value),
        Err(_) => [&b"\"result\""[..], b"\"error\"", b"\"status\"", b"\"artifact"]
            .iter()
            .any(|part| memchr::memmem::find(data, part).is_some()),
    }
}

/// Returns true where the parameters of a notification hold a part of a task.
fn holds_task(params: &Value) -> bool {
    const PARTS: [&str; 4] = ["artifact", "artifacts", "result", "error"];
    let has_status = match params.get("status") {
        Some(Value::Object(_)) => true,
        // `"alive"` is no state of a task.
        Some(Value::String(text)) => !matches!(TaskState::from(&**text), TaskState::Other(_)),
        _ => false,
    };
    has_status || PARTS.iter().any(|part| params.get(part).is_some_and(|value| !value.is_null()))
}

impl<'de> Deserialize<'de> for ResponseEnvelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ResponseEnvelopeVisitor)
    }
}

struct ResponseEnvelopeVisitor;

impl<'de> Visitor<'de> for ResponseEnvelopeVisitor {
    type Value = ResponseEnvelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON-RPC response or an event: an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ResponseEnvelope<'de>, A::Error> {
        let mut envelope = ResponseEnvelope::default();
        while let Some(field) = map.next_key::<Field>()? {
            match field {
                Field::Id => envelope.id = Some(map.next_value()?),
                Field::Error => put(&mut envelope.error, map.next_value()?, "error")?,
                Field::Result if envelope.result_kind == ResultKind::Absent => {
                    envelope.result_kind = map.next_value_seed(InPlace(&mut envelope.result))?;
                }
                Field::Result => return Err(de::Error::duplicate_field("result")),
                Field::Method => {
                    map.next_value::<IgnoredAny>()?;
                    envelope.note(Notice::Ignorable);
                }
                Field::Params => {
                    if holds_task(&map.next_value()?) {
                        envelope.note(Notice::WithTask);
                    }
                }
                Field::Type => {
                    if map.next_value::<Loose<'_>>()?.as_text().is_some_and(|name| is_ping(&name)) {
                        envelope.note(Notice::Ignorable);
                    }
                }
                Field::Ping => {
                    map.next_value::<IgnoredAny>()?;
                    envelope.note(Notice::Ignorable);
                }
                Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
                field => envelope.bare.get_or_insert_default().read(&field, &mut map)?,
            }
        }
        Ok(envelope)
    }
}

/// Reads the fields of a result into the place where they stay.
struct InPlace<'a, 'de>(&'a mut Payload<'de>);

impl<'de> DeserializeSeed<'de> for InPlace<'_, 'de> {
    type Value = ResultKind;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ResultKind, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for InPlace<'_, 'de> {
    type Value = ResultKind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a result")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ResultKind, A::Error> {
        while let Some(name) = map.next_key::<ResultField>()? {
            match name {
                // A number, where serde_json reads numbers as maps.
                ResultField::Number => {
                    map.next_value::<IgnoredAny>()?;
                    return Ok(ResultKind::Other);
                }
                ResultField::Named(field) => self.0.read(&field, &mut map)?,
            }
        }
        Ok(ResultKind::Object)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ResultKind, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(ResultKind::Other)
    }

    fn visit_unit<E>(self) -> Result<ResultKind, E> {
        Ok(ResultKind::Absent)
    }

    fn visit_str<E>(self, _: &str) -> Result<ResultKind, E> {
        Ok(ResultKind::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<ResultKind, E> {
        Ok(ResultKind::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<ResultKind, E> {
        Ok(ResultKind::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<ResultKind, E> {
        Ok(ResultKind::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<ResultKind, E> {
        Ok(ResultKind::Other)
    }
}

/// A field of a result.
enum ResultField {
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
        assert!(matches!(
            payload.into_update(&"x".into()),
            Some(Update::Status(update)) if update.task_id == "t"
        ));
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
    fn a_message_is_an_object() {
        for text in ["[]", r#"["2.0",1,{"status":{}}]"#, "1", "\"a\""] {
            assert!(
                matches!(decode_message(text.as_bytes()), Err(DecodeError::Shape { .. })),
                "{text}"
            );
        }
        assert!(matches!(decode_message(b"{"), Err(DecodeError::NotJson { .. })));
    }

    #[test]
    fn lone_surrogates_are_replaced_and_pairs_are_kept() {
        let cases = [
            (r#"\ud83d\ude00"#, "\u{1F600}"),
            (r#"a\ud83d"#, "a\u{FFFD}"),
            (r#"\ude00b"#, "\u{FFFD}b"),
            (r#"\ud83d\ud83d\ude00"#, "\u{FFFD}\u{1F600}"),
            (r#"\ud83d\n\ude00"#, "\u{FFFD}\n\u{FFFD}"),
            (r#"\\ud83d \uD83D"#, "\\ud83d \u{FFFD}"),
        ];
        for (escaped, wanted) in cases {
            let json = format!(r#"{{"id":"t","artifact":{{"parts":[{{"text":"{escaped}"}}]}}}}"#);
            let Ok(MessageContent::Result(payload)) = decode_message(json.as_bytes()) else {
                panic!("{json}");
            };
            let Some(Update::Artifact(update)) = payload.into_update(&"t".into()) else {
                panic!("{json}");
            };
            assert_eq!(update.text(), wanted, "{escaped}");
        }
    }

    #[test]
    fn what_is_not_json_says_why() {
        let deep = format!(r#"{{"result":{}1{}}}"#, "[".repeat(500), "]".repeat(500));
        let cases = [
            (r#"{"result":{"status":{"n":NaN}}}"#, "NaN or Infinity"),
            (r#"{"result":{"status":{"n":-Infinity}}}"#, "NaN or Infinity"),
            (r#"{"result":{"status":{"n":Infinity}}}"#, "NaN or Infinity"),
            (deep.as_str(), "nested deeper"),
            (r#"{"result":{"status":{"n":nope}}}"#, "not JSON"),
            (r#"{"result":{"status":7}}"#, "shape"),
        ];
        for (text, wanted) in cases {
            let error = decode_message(text.as_bytes()).expect_err(text);
            assert!(error.to_string().contains(wanted), "{text:.60}: {error}");
        }
    }
}
