//! A failed command: one sentence about the failure, lines of advice, and an exit status.

use std::error::Error as StdError;
use std::io;

use payman_sdk::Error;

use crate::exit_status::ExitStatus;
use crate::output::note;

/// The result of a command.
pub(crate) type CommandResult = Result<ExitStatus, CommandFailure>;

/// One readable sentence, with lines on what to do next.
#[derive(Debug)]
pub(crate) struct CommandFailure {
    status: ExitStatus,
    sentence: String,
    next: Vec<String>,
}

impl CommandFailure {
    pub(crate) fn new(status: ExitStatus, sentence: impl Into<String>) -> Self {
        Self { status, sentence: sentence.into(), next: Vec::new() }
    }

    /// Builds the failure of an unusable option, variable or text.
    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self::new(ExitStatus::Usage, sentence)
    }

    pub(crate) fn other(sentence: impl Into<String>) -> Self {
        Self::new(ExitStatus::Other, sentence)
    }

    /// Builds the failure to write stdout in a command that changes nothing on the platform.
    pub(crate) fn output(error: io::Error) -> Self {
        Self::other("the output could not be written").because(&error)
    }

    /// Appends the causes to the sentence.
    pub(crate) fn because(mut self, cause: &dyn StdError) -> Self {
        self.sentence = join_causes(self.sentence, Some(cause));
        self
    }

    /// Adds a line on what to do.
    pub(crate) fn next(mut self, line: impl Into<String>) -> Self {
        self.next.push(line.into());
        self
    }

    pub(crate) fn next_if_some(self, line: Option<impl Into<String>>) -> Self {
        match line {
            Some(line) => self.next(line),
            None => self,
        }
    }

    /// Marks the failure of a lookup, which leaves the outcome of the task as it was.
    pub(crate) fn of_lookup(mut self) -> Self {
        if self.status == ExitStatus::OutcomeUnknown {
            self.status = ExitStatus::Other;
        }
        self
    }

    pub(crate) fn status(&self) -> ExitStatus {
        self.status
    }

    /// Returns the sentence and what to do next, in one line.
    #[cfg(feature = "mcp")]
    pub(crate) fn to_line(&self) -> String {
        let sentence = format!("{}.", self.sentence.trim_end_matches('.'));
        self.next.iter().fold(sentence, |line, next| format!("{line} {next}"))
    }

    /// Prints the failure on stderr and returns the exit status.
    pub(crate) fn print(self) -> ExitStatus {
        note(format_args!("payman: {}.", self.sentence.trim_end_matches('.')));
        for line in &self.next {
            note(line);
        }
        self.status
    }
}

/// Takes over the sentence only: [`Account`](crate::account::Account) adds the advice.
impl From<&Error> for CommandFailure {
    fn from(error: &Error) -> Self {
        Self::new(error.into(), join_causes(error.to_string(), error.source()))
    }
}

fn join_causes(mut sentence: String, mut cause: Option<&dyn StdError>) -> String {
    while let Some(error) = cause {
        let text = error.to_string();
        // Many errors repeat the text of their source.
        if !text.is_empty() && !sentence.contains(&text) {
            sentence.push_str(": ");
            sentence.push_str(&text);
        }
        cause = error.source();
    }
    sentence
}
