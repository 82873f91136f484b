//! How the program ends: its exit status, and what it says of an error.

use std::error::Error as StdError;

use payman_sdk::{Error, ErrorKind, TaskState};

use crate::output::{self, one_line};

/// The exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Status {
    Completed = 0,
    Other = 1,
    Usage = 2,
    NotCompleted = 3,
    InputRequired = 4,
    NotAuthorised = 5,
    OutcomeUnknown = 6,
}

impl Status {
    pub(crate) fn of_state(state: &TaskState) -> Self {
        match state {
            TaskState::Completed => Self::Completed,
            TaskState::Failed | TaskState::Canceled | TaskState::Rejected => Self::NotCompleted,
            TaskState::InputRequired | TaskState::AuthRequired => Self::InputRequired,
            _ => Self::OutcomeUnknown,
        }
    }

    fn of_error(error: &Error) -> Self {
        if error.is_outcome_unknown() {
            return Self::OutcomeUnknown;
        }
        match error.kind() {
            ErrorKind::InvalidInput => Self::Usage,
            ErrorKind::Auth | ErrorKind::ReauthorizationRequired => Self::NotAuthorised,
            _ => Self::Other,
        }
    }
}

/// One readable sentence, and what to do next.
#[derive(Debug)]
pub(crate) struct Failure {
    status: Status,
    sentence: String,
    next: Vec<String>,
}

impl Failure {
    pub(crate) fn new(status: Status, sentence: impl Into<String>) -> Self {
        Self { status, sentence: sentence.into(), next: Vec::new() }
    }

    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self::new(Status::Usage, sentence)
    }

    pub(crate) fn other(sentence: impl Into<String>) -> Self {
        Self::new(Status::Other, sentence)
    }

    /// Adds the causes to the sentence.
    pub(crate) fn because(mut self, cause: &dyn StdError) -> Self {
        self.sentence = join_causes(self.sentence, Some(cause));
        self
    }

    /// Adds a line on what to do.
    pub(crate) fn next(mut self, line: impl Into<String>) -> Self {
        self.next.push(line.into());
        self
    }

    /// An error in looking at something: what was asked before is as it was.
    pub(crate) fn of_a_look(mut self) -> Self {
        if self.status == Status::OutcomeUnknown {
            self.status = Status::Other;
        }
        self
    }

    pub(crate) fn status(&self) -> Status {
        self.status
    }

    /// Says it on stderr.
    pub(crate) fn tell(self) -> Status {
        output::note(format_args!("payman: {}.", one_line(&self.sentence).trim_end_matches('.')));
        for line in &self.next {
            output::note(format_args!("{line}"));
        }
        self.status
    }
}

/// An error of the SDK; what to do where a task is concerned is for the caller to add.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let mut failure =
            Self::new(Status::of_error(&error), join_causes(error.to_string(), error.source()));
        if let Some(said) = said_by_platform(&error) {
            failure = failure.next(format!("The platform said: {said}"));
        }
        if error.is_outcome_unknown() {
            return failure;
        }
        match advice(&error) {
            Some(line) => failure.next(line),
            None => failure,
        }
    }
}

fn join_causes(mut sentence: String, mut cause: Option<&dyn StdError>) -> String {
    while let Some(error) = cause {
        let text = error.to_string();
        // Many errors repeat what they were caused by.
        if !text.is_empty() && !sentence.contains(&text) {
            sentence.push_str(": ");
            sentence.push_str(&text);
        }
        cause = error.source();
    }
    sentence
}

fn said_by_platform(error: &Error) -> Option<String> {
    const LONGEST: usize = 300;
    let rpc = error.rpc_error().map(|rpc| rpc.message.clone()).filter(|said| !said.is_empty());
    let text = match rpc {
        Some(message) => message,
        None => error.body()?.into_owned(),
    };
    let text = one_line(&text);
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    Some(text.chars().take(LONGEST).collect())
}

fn advice(error: &Error) -> Option<String> {
    let line = match error.kind() {
        ErrorKind::InvalidInput => "Nothing was sent. See: payman --help".to_owned(),
        ErrorKind::Connect => "Nothing was sent. Check the network and the base URL, then ask again.".to_owned(),
        ErrorKind::ReauthorizationRequired => "Nothing was done. Sign in again: payman connect".to_owned(),
        ErrorKind::Auth => "Nothing was done. Check PAYMAN_CLIENT_ID and PAYMAN_CLIENT_SECRET, or the access token, \
            and that they belong to this environment."
            .to_owned(),
        ErrorKind::TaskNotFound => {
            "Check the id, and that this is the same platform and sign-in that was asked.".to_owned()
        }
        ErrorKind::TokenStore => "Check the token file: --token-file, PAYMAN_TOKEN_FILE.".to_owned(),
        _ if error.is_safe_to_ask_again() => match error.retry_after() {
            Some(wait) => format!("Nothing was done. Ask again in {} s.", wait.as_secs().max(1)),
            None => "Nothing was done: it is safe to ask again.".to_owned(),
        },
        _ => return None,
    };
    Some(line)
}
