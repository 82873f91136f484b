//! The program's exit statuses. `payman --help` documents them.

use payman_sdk::{Error, ErrorKind, TaskState};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ExitStatus {
    Completed = 0,
    Other = 1,
    Usage = 2,
    NotCompleted = 3,
    InputRequired = 4,
    NotAuthorized = 5,
    OutcomeUnknown = 6,
}

impl From<&TaskState> for ExitStatus {
    fn from(state: &TaskState) -> Self {
        match state {
            TaskState::Completed => Self::Completed,
            TaskState::Failed | TaskState::Canceled | TaskState::Rejected => Self::NotCompleted,
            TaskState::InputRequired | TaskState::AuthRequired => Self::InputRequired,
            _ => Self::OutcomeUnknown,
        }
    }
}

impl From<&Error> for ExitStatus {
    fn from(error: &Error) -> Self {
        if error.is_outcome_unknown() {
            return Self::OutcomeUnknown;
        }
        match error.kind() {
            ErrorKind::InvalidInput | ErrorKind::IdempotencyConflict => Self::Usage,
            ErrorKind::Auth | ErrorKind::ReauthorizationRequired => Self::NotAuthorized,
            _ => Self::Other,
        }
    }
}
