//! The outcome of a task, and the advice to a person about it.

use std::io;

use payman_sdk::{Error, Reply, SessionId, TaskId, TaskState};

use super::Account;
use crate::command_failure::CommandFailure;
use crate::exit_status::ExitStatus;
use crate::options::quoted;
use crate::output::note;

/// A failure after an ask may have been sent.
///
/// There is no conversion from `io::Error` to `CommandFailure`, so that a failure to print the
/// answer cannot be reported as "the command failed": a script might repeat the payment.
#[derive(Debug)]
pub(crate) enum AskFailure {
    Sdk(Error),
    Output(io::Error),
    Json(serde_json::Error),
}

impl From<Error> for AskFailure {
    fn from(error: Error) -> Self {
        Self::Sdk(error)
    }
}

impl From<io::Error> for AskFailure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<serde_json::Error> for AskFailure {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

impl Account {
    /// Returns the exit status for a reply, and writes advice to a person to stderr.
    pub(crate) fn report_reply(&self, reply: &Reply) -> ExitStatus {
        self.report_state(reply.state(), reply.task_id(), reply.session_id())
    }

    /// Returns the exit status for a task's state, and writes advice to a person to stderr.
    pub(crate) fn report_state(
        &self,
        state: &TaskState,
        task: &TaskId,
        session: Option<&SessionId>,
    ) -> ExitStatus {
        let status = ExitStatus::from(state);
        match status {
            ExitStatus::NotCompleted => {
                note(format_args!("The task did not complete: its state is {state} ({task})."));
            }
            ExitStatus::InputRequired if *state == TaskState::AuthRequired => {
                note(format_args!("The agent waits for you to authorize it elsewhere ({task})."));
            }
            ExitStatus::InputRequired => self.say_how_to_answer(task, session),
            ExitStatus::OutcomeUnknown => {
                let failure = CommandFailure::new(
                    status,
                    format!("the task has not ended: its state is {state}"),
                );
                self.with_lookup(failure, task).print();
            }
            _ => {}
        }
        status
    }

    fn say_how_to_answer(&self, task: &TaskId, session: Option<&SessionId>) {
        if self.in_chat {
            return;
        }
        if self.emulator.is_some() {
            note(
                "The agent asks back, and this emulator ends now. To answer one: \
                 payman chat --emulator",
            );
            return;
        }
        let session =
            session.map(|id| format!(" --session {}", quoted(id.as_str()))).unwrap_or_default();
        note("The agent asks back. To answer:");
        note(format_args!(
            "  payman ask --task {}{session}{} 'your answer'",
            quoted(task.as_str()),
            self.spelled
        ));
    }

    /// Returns the failure of an ask, with the lookup command where its outcome is unknown.
    pub(crate) fn ask_failure(&self, failure: AskFailure, asked: &TaskId) -> CommandFailure {
        match failure {
            AskFailure::Sdk(error) => {
                let task = error.task_id().unwrap_or(asked).clone();
                let failure = self.failure(&error);
                if failure.status() == ExitStatus::OutcomeUnknown {
                    self.with_lookup(failure, &task)
                } else {
                    failure
                }
            }
            AskFailure::Output(error) => {
                let failure = CommandFailure::new(
                    ExitStatus::OutcomeUnknown,
                    "the agent answered, and the answer could not be written",
                );
                self.with_lookup(failure.because(&error), asked)
            }
            AskFailure::Json(error) => {
                let failure = CommandFailure::new(
                    ExitStatus::OutcomeUnknown,
                    "the agent answered, and the answer could not be written as JSON",
                );
                self.with_lookup(failure.because(&error), asked)
            }
        }
    }

    /// Returns the line that tells how to look up a task.
    pub(crate) fn lookup_hint(&self, task: &TaskId) -> String {
        let id = quoted(task.as_str());
        format!("To see what became of the task: payman task get {id}{}", self.spelled)
    }

    /// Adds the warning that the task may have been done, and the lookup command.
    pub(crate) fn with_lookup(&self, failure: CommandFailure, task: &TaskId) -> CommandFailure {
        if self.emulator.is_some() && !self.in_chat {
            return failure.next(format!(
                "It may have been done (task {task}); this command's emulator knew, and has \
                 ended. No real money moved."
            ));
        }
        // A conversation that has ended accepts no further commands.
        let id = quoted(task.as_str());
        let mut failure = failure.next(format!(
            "IT MAY HAVE BEEN DONE (task {task}). Do not ask again before you have looked:"
        ));
        if self.in_chat {
            failure = failure.next(format!("  /task {id}"));
        }
        if self.emulator.is_none() {
            failure = failure.next(format!("  payman task get {id}{}", self.spelled));
        }
        failure
    }
}
