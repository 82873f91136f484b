//! The serialized form of a reply: the format of the platform's own SDKs.

use std::borrow::Cow;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Reply;
use crate::ids::{RequestId, SessionId, TaskId};
use crate::wire::part::Part;
use crate::wire::state::TaskState;
use crate::wire::task::{Artifact, StatusMessage, Task};
use crate::wire::timestamp::Timestamp;
use crate::wire::{Metadata, binary};

/// Writes the formatted reply; in formats that are not human-readable, the whole task and the
/// request id.
impl Serialize for Reply {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            let whole = WholeReply {
                task: Cow::Borrowed(&self.task),
                request_id: Cow::Borrowed(&self.request_id),
            };
            return binary::serialize(&whole, serializer);
        }
        let artifacts: Vec<_> = (0..)
            .zip(self.artifacts())
            .map(|(position, artifact)| Formatted { artifact, at: self.timestamp(), position })
            .collect();
        let mut out = serializer.serialize_struct("Reply", 8)?;
        out.serialize_field("taskId", self.task_id())?;
        out.serialize_field("requestId", &self.request_id)?;
        out.serialize_field("sessionId", &self.session_id())?;
        out.serialize_field("status", self.state())?;
        out.serialize_field("statusMessage", &self.status_message)?;
        out.serialize_field("timestamp", &self.timestamp())?;
        out.serialize_field("artifacts", &artifacts)?;
        out.serialize_field("metadata", self.metadata())?;
        out.end()
    }
}

/// Reads a serialized reply. The formatted reply has no history; serialized again, it is the same.
impl<'de> Deserialize<'de> for Reply {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            let whole: WholeReply<'static> = binary::deserialize(deserializer)?;
            let request_id = whole.request_id.into_owned();
            return Ok(Self { request_id, ..Self::from(whole.task.into_owned()) });
        }
        FormattedReply::deserialize(deserializer).map(Self::from)
    }
}

/// A reply with all its fields.
#[derive(Serialize, Deserialize)]
struct WholeReply<'a> {
    task: Cow<'a, Task>,
    request_id: Cow<'a, Option<RequestId>>,
}

/// The formatted reply, for reading.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FormattedReply {
    task_id: TaskId,
    #[serde(default)]
    request_id: Option<RequestId>,
    #[serde(default)]
    session_id: Option<SessionId>,
    status: TaskState,
    #[serde(default)]
    status_message: Option<String>,
    #[serde(default)]
    timestamp: Option<Timestamp>,
    #[serde(default)]
    artifacts: Vec<FormattedArtifact>,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Deserialize)]
struct FormattedArtifact {
    #[serde(default, rename = "artifactId")]
    id: Option<String>,
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    content: String,
    #[serde(default)]
    timestamp: Option<Timestamp>,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    parts: Option<Vec<Part>>,
    #[serde(default)]
    index: Option<i64>,
}

impl From<FormattedReply> for Reply {
    fn from(reply: FormattedReply) -> Self {
        let mut task = Task::new(reply.task_id, reply.status);
        task.session_id = reply.session_id;
        task.status.message = reply.status_message.map(StatusMessage::Text);
        task.status.timestamp = reply.timestamp;
        task.artifacts = (0..).zip(reply.artifacts).map(Artifact::from).collect();
        for artifact in &mut task.artifacts {
            // An artifact without a time is written with that of the status.
            artifact.timestamp.take_if(|at| Some(&*at) == task.status.timestamp.as_ref());
        }
        task.metadata = reply.metadata;
        Self { request_id: reply.request_id, ..Self::from(task) }
    }
}

impl From<(i64, FormattedArtifact)> for Artifact {
    fn from((index, artifact): (i64, FormattedArtifact)) -> Self {
        let text = || vec![Part::text(artifact.content)];
        Self {
            id: artifact.id,
            // An artifact without a name is written with the name `artifact`.
            name: Some(artifact.name).filter(|name| name != "artifact"),
            description: artifact.description,
            parts: artifact.parts.unwrap_or_else(text),
            index: artifact.index.unwrap_or(index),
            timestamp: artifact.timestamp,
            metadata: artifact.metadata,
            ..Self::default()
        }
    }
}

/// An artifact as the platform's SDKs format it.
struct Formatted<'a> {
    artifact: &'a Artifact,
    at: Option<&'a Timestamp>,
    position: i64,
}

impl Serialize for Formatted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let artifact = self.artifact;
        let mut out = serializer.serialize_struct("Artifact", 9)?;
        out.serialize_field("name", artifact.name())?;
        out.serialize_field("description", &artifact.description)?;
        out.serialize_field("content", &artifact.content())?;
        out.serialize_field("type", artifact.kind())?;
        out.serialize_field("timestamp", &artifact.timestamp.as_ref().or(self.at))?;
        out.serialize_field("metadata", &artifact.metadata)?;
        // Parts that do not fit into `content` must not be lost.
        if !matches!(&*artifact.parts, [Part::Text(text)] if text.metadata.is_empty()) {
            out.serialize_field("parts", &artifact.parts)?;
        }
        if let Some(id) = &artifact.id {
            out.serialize_field("artifactId", id)?;
        }
        if artifact.index != self.position {
            out.serialize_field("index", &artifact.index)?;
        }
        out.end()
    }
}
