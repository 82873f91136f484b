//! The events of a stream, and the one flat shape that they, tasks and JSON-RPC responses are read from.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::jsonrpc::RpcError;
use super::state::TaskState;
use super::task::{Artifact, Message, Task, TaskStatus};
use super::{Metadata, lenient};
use crate::ids::{RequestId, SessionId, TaskId};

/// A task came to stand elsewhere: the specification's `TaskStatusUpdateEvent`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StatusUpdate {
    /// The task.
    #[serde(rename = "id")]
    pub task_id: TaskId,
    /// Where it stands now.
    pub status: TaskStatus,
    /// True when the server says that the stream ends here.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// What the server attached.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
}

impl StatusUpdate {
    /// Where the task stands now.
    #[must_use]
    pub fn state(&self) -> &TaskState {
        &self.status.state
    }

    /// What the agent says of it; empty where it says nothing.
    #[must_use]
    pub fn message(&self) -> std::borrow::Cow<'_, str> {
        self.status.message.as_ref().map_or("".into(), |message| message.text())
    }
}

/// A piece of an artifact: the specification's `TaskArtifactUpdateEvent`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ArtifactUpdate {
    /// The task.
    #[serde(rename = "id")]
    pub task_id: TaskId,
    /// The piece; see [`Artifact::append`] for what it does to what was there.
    pub artifact: Artifact,
    /// What the server attached.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
}

impl ArtifactUpdate {
    /// The words in this piece.
    #[must_use]
    pub fn text(&self) -> String {
        self.artifact.content()
    }
}

/// One decoded event, before anyone checked whose it is.
#[derive(Debug)]
pub(crate) enum Update {
    Status(StatusUpdate),
    Artifact(ArtifactUpdate),
    Task(Task),
}

impl Update {
    pub(crate) fn task_id(&self) -> &TaskId {
        match self {
            Self::Status(update) => &update.task_id,
            Self::Artifact(update) => &update.task_id,
            Self::Task(task) => &task.id,
        }
    }
}

/// The fields of a task and of both updates, side by side.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Payload {
    #[serde(default, deserialize_with = "lenient::id")]
    pub(crate) id: Option<TaskId>,
    #[serde(default, rename = "sessionId", deserialize_with = "lenient::id")]
    session_id_camel: Option<SessionId>,
    #[serde(default, rename = "session_id", deserialize_with = "lenient::id")]
    session_id_snake: Option<SessionId>,
    #[serde(default)]
    pub(crate) status: Option<TaskStatus>,
    #[serde(default)]
    pub(crate) artifact: Option<Artifact>,
    #[serde(default)]
    pub(crate) artifacts: Option<Vec<Artifact>>,
    #[serde(default)]
    pub(crate) history: Option<Vec<Message>>,
    #[serde(default, rename = "final", deserialize_with = "lenient::flag")]
    final_bare: Option<bool>,
    #[serde(default, rename = "isFinal", deserialize_with = "lenient::flag")]
    final_camel: Option<bool>,
    #[serde(default, rename = "is_final", deserialize_with = "lenient::flag")]
    final_snake: Option<bool>,
    #[serde(default, deserialize_with = "lenient::metadata")]
    metadata: Metadata,
}

impl Payload {
    /// True where it has one of the fields that a task or an update is told by.
    fn is_known(&self) -> bool {
        self.status.is_some() || self.artifact.is_some() || self.artifacts.is_some() || self.history.is_some()
    }

    pub(crate) fn is_final(&self) -> bool {
        self.final_bare.or(self.final_camel).or(self.final_snake).unwrap_or(false)
    }

    /// As a whole task, whatever it looks like: the reply to `send`, `get` and `cancel`.
    ///
    /// `None` where there is no status: without one nothing is known of the task.
    pub(crate) fn into_task(self, asked_for: &TaskId) -> Option<Task> {
        Some(Task {
            id: self.id.unwrap_or_else(|| asked_for.clone()),
            session_id: self.session_id_camel.or(self.session_id_snake),
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
        if let Some(artifact) = self.artifact {
            let task_id = self.id.unwrap_or_else(|| stream_of.clone());
            return Some(Update::Artifact(ArtifactUpdate { task_id, artifact, metadata: self.metadata }));
        }
        if self.artifacts.is_some() || self.history.is_some() {
            return self.into_task(stream_of).map(Update::Task);
        }
        let is_final = self.is_final();
        let task_id = self.id.unwrap_or_else(|| stream_of.clone());
        Some(Update::Status(StatusUpdate { task_id, status: self.status?, is_final, metadata: self.metadata }))
    }
}

/// A JSON-RPC response, or a bare event where the envelope was left out.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Frame {
    /// The request's id in an envelope, the task's in a bare event.
    #[serde(default, deserialize_with = "lenient::id")]
    id: Option<TaskId>,
    #[serde(default)]
    result: Option<Outcome>,
    #[serde(default)]
    error: Option<RpcError>,
    #[serde(default, rename = "sessionId", deserialize_with = "lenient::id")]
    session_id_camel: Option<SessionId>,
    #[serde(default, rename = "session_id", deserialize_with = "lenient::id")]
    session_id_snake: Option<SessionId>,
    #[serde(default)]
    status: Option<TaskStatus>,
    #[serde(default)]
    artifact: Option<Artifact>,
    #[serde(default)]
    artifacts: Option<Vec<Artifact>>,
    #[serde(default)]
    history: Option<Vec<Message>>,
    #[serde(default, rename = "final", deserialize_with = "lenient::flag")]
    final_bare: Option<bool>,
    #[serde(default, rename = "isFinal", deserialize_with = "lenient::flag")]
    final_camel: Option<bool>,
    #[serde(default, rename = "is_final", deserialize_with = "lenient::flag")]
    final_snake: Option<bool>,
    #[serde(default, deserialize_with = "lenient::metadata")]
    metadata: Metadata,
}

/// A result: fields that are looked for, or JSON of any other kind.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // nearly every result is an object: a box would cost each of them
enum Outcome {
    Fields(Payload),
    Other,
}

struct OutcomeVisitor;

impl<'de> Deserialize<'de> for Outcome {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OutcomeVisitor)
    }
}

impl<'de> Visitor<'de> for OutcomeVisitor {
    type Value = Outcome;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a result")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Outcome, A::Error> {
        Payload::deserialize(MapAccessDeserializer::new(map)).map(Outcome::Fields)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Outcome, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Outcome::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Outcome, E> {
        Ok(Outcome::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Outcome, E> {
        Ok(Outcome::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Outcome, E> {
        Ok(Outcome::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Outcome, E> {
        Ok(Outcome::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Outcome, E> {
        Ok(Outcome::Other)
    }
}

/// What a frame turned out to be.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // nearly every frame is a result: a box would cost each of them
pub(crate) enum Content {
    /// A result, with the id of the request that it answers where the envelope had one.
    Result(Payload, Option<RequestId>),
    /// An error.
    Error(RpcError),
    /// A result of a shape that this version does not know.
    Unknown(Value),
    /// Neither result nor error nor event.
    Nothing,
}

/// Why a frame could not be read. Says where, never what: the text is the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("it is not valid UTF-8")]
    Utf8,
    #[error("it is not JSON (line {line}, column {column})")]
    NotJson { line: usize, column: usize },
    #[error("its JSON is not of the shape that it claims (line {line}, column {column})")]
    Shape { line: usize, column: usize },
}

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        if error.is_data() { Self::Shape { line, column } } else { Self::NotJson { line, column } }
    }
}

/// Reads one frame: the data of an event, or the body of a reply.
///
/// A result of an unknown shape is kept as it is; one of a known shape that cannot be read is an error, since
/// an answer that lost a piece must not look whole.
pub(crate) fn decode_frame(data: &[u8]) -> Result<Content, Unreadable> {
    // Checked at once and then read as text: faster than to check string by string.
    let text = std::str::from_utf8(data).map_err(|_| Unreadable::Utf8)?;
    let frame: Frame = serde_json::from_str(text)?;
    match frame.into_content() {
        Content::Unknown(_) => Ok(Content::Unknown(result_of(text)?)),
        content => Ok(content),
    }
}

fn result_of(text: &str) -> Result<Value, Unreadable> {
    #[derive(Deserialize)]
    struct Envelope {
        result: Value,
    }
    let envelope: Envelope = serde_json::from_str(text)?;
    Ok(envelope.result)
}

impl Frame {
    /// An unknown result comes without its JSON: see [`decode_frame`].
    fn into_content(self) -> Content {
        match (self.result, self.error) {
            (_, Some(error)) if error.says_something() => return Content::Error(error),
            (Some(Outcome::Fields(result)), _) if result.is_known() => {
                return Content::Result(result, self.id.map(|id| RequestId::from(id.as_str())));
            }
            (_, Some(error)) => return Content::Error(error),
            (Some(_), None) => return Content::Unknown(Value::Null),
            (None, None) => {}
        }
        let bare = Payload {
            id: self.id,
            session_id_camel: self.session_id_camel,
            session_id_snake: self.session_id_snake,
            status: self.status,
            artifact: self.artifact,
            artifacts: self.artifacts,
            history: self.history,
            final_bare: self.final_bare,
            final_camel: self.final_camel,
            final_snake: self.final_snake,
            metadata: self.metadata,
        };
        if bare.is_known() { Content::Result(bare, None) } else { Content::Nothing }
    }
}
