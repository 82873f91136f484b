//! The events of a stream.

use serde::Serialize;

use super::Metadata;
pub(crate) use super::message::{DecodeError, MessageContent, decode_message};
use super::state::TaskState;
use super::task::{Artifact, Task, TaskStatus};
use crate::ids::TaskId;

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
    /// The status, where the server sends one along with the artifact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<TaskStatus>,
    /// True when the server says that the stream ends here.
    #[serde(rename = "final", skip_serializing_if = "std::ops::Not::not")]
    pub is_final: bool,
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
