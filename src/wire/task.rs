//! Tasks, their status, messages and artifacts.

use std::borrow::Cow;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::binary::serde_as_json_in_binary;
use super::lenient::Loose;
use super::part::{Part, joined_text};
use super::state::TaskState;
use super::timestamp::Timestamp;
use super::{Metadata, lenient};
use crate::ids::{SessionId, TaskId};

/// The agent's work on one ask, as of now: its state, its artifacts and its messages.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(remote = "Self", rename_all = "camelCase")]
#[non_exhaustive]
pub struct Task {
    /// The id of the task.
    pub id: TaskId,
    /// The session that the task belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// The state, with its message and time.
    pub status: TaskStatus,
    /// The results of the agent's work, in the server's order.
    pub artifacts: Vec<Artifact>,
    /// The messages of the task, if the server keeps and sends them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Message>,
    /// Data that the server attached.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
}

impl Task {
    /// Creates a task without artifacts, for fixtures. Its fields are public.
    ///
    /// ```
    /// use payman_sdk::{Artifact, Reply, Task, TaskState};
    ///
    /// let mut task = Task::new("tsk-1", TaskState::Completed);
    /// task.artifacts.push(Artifact::from_text("You have $5.00."));
    /// assert_eq!(Reply::from(task).text(), "You have $5.00.");
    /// ```
    #[must_use]
    pub fn new(id: impl Into<TaskId>, state: TaskState) -> Self {
        Self {
            id: id.into(),
            session_id: None,
            status: TaskStatus::new(state),
            artifacts: Vec::new(),
            history: Vec::new(),
            metadata: Metadata::new(),
        }
    }

    /// Returns the state of the task; short for `status.state`.
    #[must_use]
    pub fn state(&self) -> &TaskState {
        &self.status.state
    }

    /// Returns the text of all artifacts, joined with newlines; the status message if there is
    /// none.
    #[must_use]
    pub fn text(&self) -> String {
        text_of(&self.artifacts, &self.status)
    }
}

serde_as_json_in_binary!(Task, TaskStatus, StatusMessage, Message, Artifact);

/// Returns the text of the artifacts; the status message if there is none.
pub(crate) fn text_of(artifacts: &[Artifact], status: &TaskStatus) -> String {
    let text = words_of(artifacts);
    match &status.message {
        Some(message) if text.is_empty() => message.text().into_owned(),
        _ => text,
    }
}

/// Joins the text of the artifacts that have some with newlines.
pub(crate) fn words_of(artifacts: &[Artifact]) -> String {
    let mut text = String::new();
    for artifact in artifacts {
        let content = artifact.content();
        if !text.is_empty() && !content.is_empty() {
            text.push('\n');
        }
        text.push_str(&content);
    }
    text
}

/// The state of a task, with the agent's message and the time of the last change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
#[non_exhaustive]
pub struct TaskStatus {
    /// The state.
    #[serde(default)]
    pub state: TaskState,
    /// The agent's message about the state.
    #[serde(
        default,
        deserialize_with = "lenient::null_as_default",
        skip_serializing_if = "Option::is_none"
    )]
    pub message: Option<StatusMessage>,
    /// The time at which the task entered the state.
    #[serde(default, deserialize_with = "lenient::id", skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
}

impl TaskStatus {
    /// Creates a status with this state, for fixtures.
    #[must_use]
    pub fn new(state: TaskState) -> Self {
        Self { state, ..Self::default() }
    }
}

/// The message of a status: the platform sends plain text, the specification a message.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum StatusMessage {
    /// Plain text.
    Text(String),
    /// A message with parts. Boxed, so that a status with plain text stays small.
    Message(Box<Message>),
    /// Any other JSON, as it was received.
    Other(Box<Value>),
}

impl StatusMessage {
    /// Returns the text of either form; empty if there is none.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Message(message) => match message.parts.as_slice() {
                [Part::Text(part)] => Cow::Borrowed(&part.text),
                parts => Cow::Owned(joined_text(parts)),
            },
            Self::Other(_) => Cow::Borrowed(""),
        }
    }
}

impl StatusMessage {
    fn serialize<S: Serializer>(this: &Self, serializer: S) -> Result<S::Ok, S::Error> {
        match this {
            Self::Text(text) => Serialize::serialize(text, serializer),
            Self::Message(message) => Serialize::serialize(message, serializer),
            Self::Other(value) => Serialize::serialize(value, serializer),
        }
    }

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The platform sends text. Messages are short, so the intermediate `Value` is cheap.
        Ok(match <Loose<'_> as Deserialize>::deserialize(deserializer)? {
            Loose::Text(text) => Self::Text(text.into_owned()),
            Loose::Other(value) if value.get("parts").is_some() => {
                match Message::deserialize(&value) {
                    Ok(message) => Self::Message(Box::new(message)),
                    Err(_) => Self::Other(Box::new(value)),
                }
            }
            Loose::Other(value) => Self::Other(Box::new(value)),
        })
    }
}

/// The sender of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// The user.
    User,
    /// The agent; also read from `assistant`.
    #[default]
    Agent,
    /// A role that this version does not know, as the server wrote it.
    Other(String),
}

impl Role {
    /// Returns the role in the specification's spelling.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::User => "user",
            Self::Agent => "agent",
            Self::Other(text) => text,
        }
    }
}

impl Serialize for Role {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Role {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match deserializer.is_human_readable() {
            true => lenient::text(deserializer)?,
            false => Some(String::deserialize(deserializer)?),
        };
        let Some(text) = text else {
            return Ok(Self::Agent);
        };
        let name = text.to_ascii_lowercase();
        Ok(match name.strip_prefix("role_").unwrap_or(&name) {
            "user" => Self::User,
            "agent" | "assistant" => Self::Agent,
            _ => Self::Other(text),
        })
    }
}

/// A message of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
#[non_exhaustive]
pub struct Message {
    /// The sender.
    #[serde(default)]
    pub role: Role,
    /// The content.
    #[serde(default, deserialize_with = "lenient::null_as_default")]
    pub parts: Vec<Part>,
    /// Data that the sender attached.
    #[serde(
        default,
        deserialize_with = "lenient::metadata",
        skip_serializing_if = "Metadata::is_empty"
    )]
    pub metadata: Metadata,
}

impl Message {
    /// Creates a message with one text part, for fixtures.
    #[must_use]
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Self { role, parts: vec![Part::text(text)], metadata: Metadata::new() }
    }

    /// Returns the text parts, joined with newlines.
    #[must_use]
    pub fn text(&self) -> String {
        joined_text(&self.parts)
    }
}

/// A result of the agent's work: usually the text of the answer.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Artifact {
    /// The id, which the newer dialect has instead of an index.
    pub id: Option<String>,
    /// The name, if the server sends one.
    pub name: Option<String>,
    /// The description, if the server sends one.
    pub description: Option<String>,
    /// The content.
    pub parts: Vec<Part>,
    /// The number of the artifact in its task, from 0.
    pub index: i64,
    /// In a stream: whether the parts are appended to the artifact (true) or replace its content.
    pub append: bool,
    /// In a stream: whether this is the artifact's last chunk, if the server says so.
    pub last_chunk: Option<bool>,
    /// The time of creation, if the server sends it.
    pub timestamp: Option<Timestamp>,
    /// Data that the server attached.
    pub metadata: Metadata,
}

impl Artifact {
    /// Creates an artifact with one text part, for fixtures.
    #[must_use]
    pub fn from_text(text: impl Into<String>) -> Self {
        Self { parts: vec![Part::text(text)], ..Self::default() }
    }

    /// Returns the name; `artifact` if the server sends none.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().filter(|name| !name.is_empty()).unwrap_or("artifact")
    }

    /// Returns the text parts, joined with newlines.
    #[must_use]
    pub fn content(&self) -> String {
        joined_text(&self.parts)
    }

    /// Returns the kind of the first part: `text`, `file`, `data`; `text` where there is none.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.parts.first().map_or("text", Part::kind)
    }

    /// Applies an update: appends its parts, or replaces the content.
    ///
    /// Appended text extends the last text part, so that the streamed chunks, joined, are the text.
    pub(crate) fn merge(&mut self, update: &Self) {
        self.id = update.id.clone().or_else(|| self.id.take());
        self.name = update.name.clone().or_else(|| self.name.take());
        self.description = update.description.clone().or_else(|| self.description.take());
        self.timestamp = update.timestamp.clone().or_else(|| self.timestamp.take());
        self.last_chunk = update.last_chunk.or(self.last_chunk);
        if !update.append {
            self.parts.clone_from(&update.parts);
            self.metadata.clone_from(&update.metadata);
            return;
        }
        for (key, value) in &update.metadata {
            self.metadata.insert(key.clone(), value.clone());
        }
        for (position, part) in update.parts.iter().enumerate() {
            match (position, self.parts.last_mut(), part) {
                (0, Some(Part::Text(last)), Part::Text(more)) => last.text.push_str(&more.text),
                _ => self.parts.push(part.clone()),
            }
        }
    }
}

impl Artifact {
    fn serialize<S: Serializer>(this: &Self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Artifact", 9)?;
        if let Some(id) = &this.id {
            out.serialize_field("artifactId", id)?;
        }
        if let Some(name) = &this.name {
            out.serialize_field("name", name)?;
        }
        if let Some(description) = &this.description {
            out.serialize_field("description", description)?;
        }
        out.serialize_field("parts", &this.parts)?;
        out.serialize_field("index", &this.index)?;
        if this.append {
            out.serialize_field("append", &true)?;
        }
        if let Some(last_chunk) = this.last_chunk {
            out.serialize_field("lastChunk", &last_chunk)?;
        }
        if let Some(timestamp) = &this.timestamp {
            out.serialize_field("timestamp", timestamp)?;
        }
        if !this.metadata.is_empty() {
            out.serialize_field("metadata", &this.metadata)?;
        }
        out.end()
    }
}

/// The fields of an artifact as servers write them. Each spelling has a field of its own: a server
/// may send both, and serde rejects an alias that occurs twice.
#[derive(Deserialize)]
struct ArtifactFields {
    #[serde(default, rename = "artifactId", deserialize_with = "lenient::text")]
    id_camel: Option<String>,
    #[serde(default, rename = "artifact_id", deserialize_with = "lenient::text")]
    id_snake: Option<String>,
    #[serde(default, deserialize_with = "lenient::text")]
    name: Option<String>,
    #[serde(default, deserialize_with = "lenient::text")]
    description: Option<String>,
    #[serde(default, deserialize_with = "lenient::null_as_default")]
    parts: Vec<Part>,
    #[serde(default, deserialize_with = "lenient::integer")]
    index: Option<i64>,
    #[serde(default, deserialize_with = "lenient::flag")]
    append: Option<bool>,
    #[serde(default, rename = "lastChunk", deserialize_with = "lenient::flag")]
    last_chunk_camel: Option<bool>,
    #[serde(default, rename = "last_chunk", deserialize_with = "lenient::flag")]
    last_chunk_snake: Option<bool>,
    #[serde(default, deserialize_with = "lenient::id")]
    timestamp: Option<Timestamp>,
    #[serde(default, deserialize_with = "lenient::metadata")]
    metadata: Metadata,
}

impl Artifact {
    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = ArtifactFields::deserialize(deserializer)?;
        Ok(Self {
            id: fields.id_camel.or(fields.id_snake),
            name: fields.name,
            description: fields.description,
            parts: fields.parts,
            index: fields.index.unwrap_or(0),
            append: fields.append.unwrap_or(false),
            last_chunk: fields.last_chunk_camel.or(fields.last_chunk_snake),
            timestamp: fields.timestamp,
            metadata: fields.metadata,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A limit for the size, since each open stream and each event contains a status.
    #[test]
    fn a_status_is_small() {
        assert_eq!(size_of::<Option<StatusMessage>>(), size_of::<String>());
        assert!(size_of::<TaskStatus>() <= size_of::<[usize; 11]>());
    }
}
