//! The events of a stream, and the one flat shape that they, tasks and JSON-RPC responses are read from.

use serde::{Deserialize, Serialize};

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

    /// As an event of a stream; `None` where it is none that is known.
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
    pub(crate) result: Option<Payload>,
    #[serde(default)]
    pub(crate) error: Option<RpcError>,
    #[serde(default, rename = "sessionId", deserialize_with = "lenient::id")]
    session_id: Option<SessionId>,
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

/// What a frame turned out to be.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // nearly every frame is a result: a box would cost each of them
pub(crate) enum Content {
    /// A result, with the id of the request that it answers where the envelope had one.
    Result(Payload, Option<RequestId>),
    /// An error.
    Error(RpcError),
    /// Neither result nor error nor event.
    Nothing,
}

impl Frame {
    pub(crate) fn into_content(self) -> Content {
        if let Some(result) = self.result {
            return Content::Result(result, self.id.map(|id| RequestId::from(id.as_str())));
        }
        if let Some(error) = self.error {
            return Content::Error(error);
        }
        if self.status.is_none() && self.artifact.is_none() && self.artifacts.is_none() && self.history.is_none() {
            return Content::Nothing;
        }
        let bare = Payload {
            id: self.id,
            session_id_camel: self.session_id,
            session_id_snake: None,
            status: self.status,
            artifact: self.artifact,
            artifacts: self.artifacts,
            history: self.history,
            final_bare: self.final_bare,
            final_camel: self.final_camel,
            final_snake: self.final_snake,
            metadata: self.metadata,
        };
        Content::Result(bare, None)
    }
}
