//! What a stream yields.

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
/// Serialises to the JSON that the wire has for it: a `TaskStatusUpdateEvent`, a `TaskArtifactUpdateEvent`,
/// a `Task`, or what the server sent.
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
    /// The task came to stand elsewhere.
    Status(StatusUpdate),
    /// A piece of an artifact: usually some more words.
    Artifact(ArtifactUpdate),
    /// The whole task as of now: it replaces all that came before.
    Task(Task),
    /// An event of a kind that this version does not know, as the server sent it.
    Unknown(Value),
}

impl Event {
    /// The task that the event is of; `None` for an unknown one.
    #[must_use]
    pub fn task_id(&self) -> Option<&TaskId> {
        match self {
            Self::Status(update) => Some(&update.task_id),
            Self::Artifact(update) => Some(&update.task_id),
            Self::Task(task) => Some(&task.id),
            Self::Unknown(_) => None,
        }
    }

    /// Where the task stands, if the event says it.
    #[must_use]
    pub fn state(&self) -> Option<&TaskState> {
        match self {
            Self::Status(update) => Some(update.state()),
            Self::Task(task) => Some(task.state()),
            Self::Artifact(update) => update.status.as_ref().map(|status| &status.state),
            Self::Unknown(_) => None,
        }
    }

    /// True when the server says that the stream ends with this event.
    ///
    /// A task in a terminal state whose stream goes on is not final yet; see [`TaskState::is_terminal`].
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
