//! The state of a task.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::lenient;

/// The state of a task.
///
/// States are read without regard to case, `-` and `_` alike, with or without a `TASK_STATE_`
/// prefix. A state that this version does not know is kept as [`TaskState::Other`]. `Display` and
/// [`as_str`](Self::as_str) use the specification's spelling (`input-required`); serde writes the
/// platform's (`INPUT_REQUIRED`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TaskState {
    /// The server has received the ask; the agent has not begun.
    Submitted,
    /// The agent is working on the ask.
    Working,
    /// The agent waits for an answer; see [`Reply::answer`](crate::Reply::answer). Ends a stream,
    /// not the task.
    InputRequired,
    /// The agent waits for the user to authorize something elsewhere. Ends a stream, not the task.
    AuthRequired,
    /// The agent has finished its answer. **Not** a proof that a payment went through: it may be
    /// awaiting approval, which is stated only in the text.
    Completed,
    /// The task was canceled before it was done.
    Canceled,
    /// The task failed.
    Failed,
    /// The agent rejected the ask.
    Rejected,
    /// The server does not know the state, or did not send it.
    #[default]
    Unknown,
    /// A state that this version of the SDK does not know, as the server wrote it.
    Other(String),
}

static KNOWN: [(&str, TaskState); 10] = [
    ("submitted", TaskState::Submitted),
    ("working", TaskState::Working),
    ("input-required", TaskState::InputRequired),
    ("auth-required", TaskState::AuthRequired),
    ("completed", TaskState::Completed),
    ("canceled", TaskState::Canceled),
    ("cancelled", TaskState::Canceled),
    ("failed", TaskState::Failed),
    ("rejected", TaskState::Rejected),
    ("unknown", TaskState::Unknown),
];

impl TaskState {
    /// Returns the state in the specification's spelling: lower case, words joined with `-`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Submitted => "submitted",
            Self::Working => "working",
            Self::InputRequired => "input-required",
            Self::AuthRequired => "auth-required",
            Self::Completed => "completed",
            Self::Canceled => "canceled",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Unknown => "unknown",
            Self::Other(text) => text,
        }
    }

    /// Returns true if the task has ended: completed, canceled, failed or rejected.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Completed | Self::Canceled | Self::Failed | Self::Rejected)
    }

    /// Returns true if the agent waits for the user: input or authorization required.
    #[must_use]
    pub fn is_waiting_for_user(&self) -> bool {
        matches!(self, Self::InputRequired | Self::AuthRequired)
    }

    /// Returns true while the agent works on the task: submitted or working.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Submitted | Self::Working)
    }

    /// Returns the state in the platform's spelling: upper case, words joined with `_`.
    pub(crate) fn upper_case(&self) -> &str {
        match self {
            Self::Submitted => "SUBMITTED",
            Self::Working => "WORKING",
            Self::InputRequired => "INPUT_REQUIRED",
            Self::AuthRequired => "AUTH_REQUIRED",
            Self::Completed => "COMPLETED",
            Self::Canceled => "CANCELED",
            Self::Failed => "FAILED",
            Self::Rejected => "REJECTED",
            Self::Unknown => "UNKNOWN",
            Self::Other(text) => text,
        }
    }
}

impl From<&str> for TaskState {
    fn from(text: &str) -> Self {
        const PREFIX: &str = "task-state-";
        let bare = match text.split_at_checked(PREFIX.len()) {
            Some((start, rest)) if same(start, PREFIX) => rest,
            _ => text,
        };
        let known = known(bare).or_else(|| known(bare.trim()));
        known.map_or_else(|| Self::Other(text.to_owned()), Self::clone)
    }
}

/// Finds the known state of a name.
fn known(text: &str) -> Option<&'static TaskState> {
    KNOWN.iter().find(|(name, _)| same(text, name)).map(|(_, state)| state)
}

/// Compares without regard to case, `-` and `_` alike.
fn same(text: &str, name: &str) -> bool {
    text.len() == name.len()
        && text
            .bytes()
            .zip(name.bytes())
            .all(|(a, b)| a.eq_ignore_ascii_case(&b) || (a == b'_' && b == b'-'))
}

/// Never fails: a state that this version does not know is kept.
impl FromStr for TaskState {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::from(text))
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for TaskState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.upper_case())
    }
}

impl<'de> Deserialize<'de> for TaskState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return String::deserialize(deserializer).map(|text| Self::from(text.as_str()));
        }
        Ok(lenient::id(deserializer)?.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_state_is_read() {
        for spelling in [
            "input-required",
            "INPUT_REQUIRED",
            "Input-Required",
            "TASK_STATE_INPUT_REQUIRED",
            "task-state-input_required",
        ] {
            assert_eq!(TaskState::from(spelling), TaskState::InputRequired, "{spelling}");
        }
        assert_eq!(TaskState::from("cancelled"), TaskState::Canceled);
        assert_eq!(TaskState::from("CANCELED"), TaskState::Canceled);
    }

    #[test]
    fn a_state_nobody_knows_is_kept() -> Result<(), serde_json::Error> {
        let state: TaskState = serde_json::from_str("\"Awaiting_Approval\"")?;
        assert_eq!(state, TaskState::Other("Awaiting_Approval".into()));
        assert_eq!(serde_json::to_string(&state)?, "\"Awaiting_Approval\"");
        assert_eq!(serde_json::from_str::<TaskState>("null")?, TaskState::Unknown);
        assert_eq!(TaskState::from("é_STATE_ääää"), TaskState::Other("é_STATE_ääää".into()));
        Ok(())
    }
}
