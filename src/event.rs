//! The events of a stream.

use serde::de;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::ids::TaskId;
use crate::wire::binary::serde_as_json_in_binary;
use crate::wire::state::TaskState;
use crate::wire::task::Task;
use crate::wire::update::{ArtifactUpdate, StatusUpdate, Update};

/// One event of a stream.
///
/// Serializes to the JSON of the wire: a `TaskStatusUpdateEvent`, a `TaskArtifactUpdateEvent`, a
/// `Task`, or the JSON that the server sent.
///
/// ```
/// use payman_sdk::Event;
///
/// fn show(event: &Event) -> String {
///     match event {
///         Event::Status(update) => format!("[{}]", update.state()),
///         Event::Artifact(update) => update.text(),
///         Event::Task(task) => task.text(),
///         _ => String::new(),
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(remote = "Self", untagged)]
#[non_exhaustive]
pub enum Event {
    /// The status of the task changed.
    Status(StatusUpdate),
    /// A chunk of an artifact: usually more text.
    Artifact(ArtifactUpdate),
    /// The whole task in its present state, which replaces all earlier events.
    Task(Task),
    /// An event of a kind that this version does not know, as the server sent it.
    Unknown(Value),
}

impl Event {
    /// Returns the id of the event's task; `None` for an unknown event.
    #[must_use]
    pub fn task_id(&self) -> Option<&TaskId> {
        match self {
            Self::Status(update) => Some(&update.task_id),
            Self::Artifact(update) => Some(&update.task_id),
            Self::Task(task) => Some(&task.id),
            Self::Unknown(_) => None,
        }
    }

    /// Returns the state of the task, if the event has it.
    #[must_use]
    pub fn state(&self) -> Option<&TaskState> {
        match self {
            Self::Status(update) => Some(update.state()),
            Self::Task(task) => Some(task.state()),
            Self::Artifact(update) => update.status.as_ref().map(|status| &status.state),
            Self::Unknown(_) => None,
        }
    }

    /// Returns true if the server marks this event as the last of the stream.
    ///
    /// A stream may continue after a terminal state; see [`TaskState::is_terminal`].
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Status(update) => update.is_final,
            Self::Artifact(update) => update.is_final,
            Self::Task(_) | Self::Unknown(_) => false,
        }
    }
}

impl Event {
    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let update = Update::from_value(&value).map_err(de::Error::custom)?;
        Ok(update.map_or(Self::Unknown(value), Self::from))
    }
}

serde_as_json_in_binary!(Event);

impl From<Update> for Event {
    fn from(update: Update) -> Self {
        match update {
            Update::Status(update) => Self::Status(update),
            Update::Artifact(update) => Self::Artifact(update),
            Update::Task(task) => Self::Task(task),
        }
    }
}
