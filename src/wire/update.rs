//! The updates that a stream carries.

use serde::de;
use serde::{Deserializer, Serialize};

use super::Metadata;
use super::binary::serde_as_json_in_binary;
use super::state::TaskState;
use super::task::{Artifact, Task, TaskStatus};
use crate::ids::TaskId;

/// A change of a task's status: the specification's `TaskStatusUpdateEvent`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(remote = "Self")]
#[non_exhaustive]
pub struct StatusUpdate {
    /// The id of the task.
    #[serde(rename = "id")]
    pub task_id: TaskId,
    /// The new status.
    pub status: TaskStatus,
    /// True if the server marks this update as the last of the stream.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Data that the server attached.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
}

impl StatusUpdate {
    /// Creates an update without metadata that does not end the stream, for fixtures.
    #[must_use]
    pub fn new(task_id: impl Into<TaskId>, state: TaskState) -> Self {
        Self {
            task_id: task_id.into(),
            status: TaskStatus::new(state),
            is_final: false,
            metadata: Metadata::new(),
        }
    }

    /// Returns the new state.
    #[must_use]
    pub fn state(&self) -> &TaskState {
        &self.status.state
    }

    /// Returns the agent's message; empty if there is none.
    #[must_use]
    pub fn message(&self) -> std::borrow::Cow<'_, str> {
        self.status.message.as_ref().map_or("".into(), |message| message.text())
    }
}

/// A chunk of an artifact: the specification's `TaskArtifactUpdateEvent`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(remote = "Self")]
#[non_exhaustive]
pub struct ArtifactUpdate {
    /// The id of the task.
    #[serde(rename = "id")]
    pub task_id: TaskId,
    /// The chunk; [`Artifact::append`] says whether it extends or replaces the artifact.
    pub artifact: Artifact,
    /// The status, if the server sends one along with the artifact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<TaskStatus>,
    /// True if the server marks this update as the last of the stream.
    #[serde(rename = "final", skip_serializing_if = "std::ops::Not::not")]
    pub is_final: bool,
    /// Data that the server attached.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
}

impl ArtifactUpdate {
    /// Creates an update without a status that does not end the stream, for fixtures.
    #[must_use]
    pub fn new(task_id: impl Into<TaskId>, artifact: Artifact) -> Self {
        Self {
            task_id: task_id.into(),
            artifact,
            status: None,
            is_final: false,
            metadata: Metadata::new(),
        }
    }

    /// Returns the text of this chunk.
    #[must_use]
    pub fn text(&self) -> String {
        self.artifact.content()
    }
}

impl StatusUpdate {
    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Update::deserialize(deserializer)? {
            Some(Update::Status(update)) => Ok(update),
            _ => Err(de::Error::custom("it is not a status update")),
        }
    }
}

impl ArtifactUpdate {
    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Update::deserialize(deserializer)? {
            Some(Update::Artifact(update)) => Ok(update),
            _ => Err(de::Error::custom("it is not an artifact update")),
        }
    }
}

serde_as_json_in_binary!(StatusUpdate, ArtifactUpdate);

/// One decoded event. Its task is not checked yet.
#[derive(Debug)]
pub(crate) enum Update {
    Status(StatusUpdate),
    Artifact(ArtifactUpdate),
    Task(Task),
}
