//! The platform that a command talks to: the real one, or an emulator that lives as long as the command.

use payman_sdk::{Client, Emulator, Error, Reply, SessionId, TaskId, TaskState};

use crate::options::{Options, quoted};
use crate::output::note;
use crate::sign_in;
use crate::status::{Failure, Status};

/// A client, and what is needed to say how to go on.
pub(crate) struct Platform {
    pub(crate) client: Client,
    embedded: Option<Emulator>,
    /// The options to be repeated in a command.
    spelled: String,
    in_chat: bool,
}

impl Platform {
    pub(crate) async fn reach(options: &Options) -> Result<Self, Failure> {
        if !options.emulator {
            let client = sign_in::client(options).await?;
            return Ok(Self {
                client,
                embedded: None,
                spelled: options.spelled.clone(),
                in_chat: false,
            });
        }
        let emulator = Emulator::start().await?;
        note(format_args!(
            "(From the emulator at {}: no real money, and no real answer.)",
            emulator.base_url()
        ));
        let options = Options {
            base_url: Some(emulator.base_url().to_owned()),
            client_secret: Some("emulator".to_owned()),
            ..options.clone()
        };
        let client = Client::with_credentials(sign_in::config(&options, "payman"))?;
        Ok(Self { client, embedded: Some(emulator), spelled: String::new(), in_chat: false })
    }

    /// For a conversation, where commands begin with `/`.
    pub(crate) fn in_chat(self) -> Self {
        Self { in_chat: true, ..self }
    }
}

/// How a task ended, and what to do about it.
impl Platform {
    /// The status of a reply; says on stderr what a person has to do.
    pub(crate) fn status_of(&self, reply: &Reply) -> Status {
        self.status(reply.state(), reply.task_id(), reply.session_id())
    }

    pub(crate) fn status(
        &self,
        state: &TaskState,
        task: &TaskId,
        session: Option<&SessionId>,
    ) -> Status {
        let status = Status::of_state(state);
        match status {
            Status::NotCompleted => {
                note(format_args!("The task did not complete: its state is {state} ({task})."))
            }
            Status::InputRequired if *state == TaskState::AuthRequired => {
                note(format_args!("The agent waits for you to authorise it elsewhere ({task})."));
            }
            Status::InputRequired => self.say_how_to_answer(task, session),
            Status::OutcomeUnknown => {
                let failure =
                    Failure::new(status, format!("the task has not ended: its state is {state}"));
                self.with_look(failure, task).tell();
            }
            _ => {}
        }
        status
    }

    fn say_how_to_answer(&self, task: &TaskId, session: Option<&SessionId>) {
        if self.in_chat {
            return;
        }
        if self.embedded.is_some() {
            note(format_args!(
                "The agent asks back, and this emulator ends now. To answer one: payman chat --emulator"
            ));
            return;
        }
        let session =
            session.map(|id| format!(" --session {}", quoted(id.as_str()))).unwrap_or_default();
        note(format_args!("The agent asks back. To answer:"));
        note(format_args!(
            "  payman ask --task {}{session}{} 'your answer'",
            quoted(task.as_str()),
            self.spelled
        ));
    }

    /// The error of an ask: where its outcome is unknown, with the command that looks.
    pub(crate) fn failure(&self, error: Error, asked: &TaskId) -> Failure {
        let task = error.task_id().unwrap_or(asked).clone();
        let failure = Failure::from(error);
        if failure.status() == Status::OutcomeUnknown {
            self.with_look(failure, &task)
        } else {
            failure
        }
    }

    /// The ask was stopped from outside.
    pub(crate) fn interrupted(&self, task: &TaskId) -> Failure {
        let failure = Failure::new(
            Status::OutcomeUnknown,
            "stopped before the answer: the outcome is unknown",
        );
        self.with_look(failure, task)
    }

    pub(crate) fn with_look(&self, failure: Failure, task: &TaskId) -> Failure {
        if self.embedded.is_some() && !self.in_chat {
            return failure.next(format!(
                "It may have been done (task {task}); this command's emulator knew, and is gone. No real money moved."
            ));
        }
        let task = quoted(task.as_str());
        let look = if self.in_chat {
            format!("  /task {task}")
        } else {
            format!("  payman task get {task}{}", self.spelled)
        };
        failure
            .next(format!(
                "IT MAY HAVE BEEN DONE (task {task}). Do not ask again before you have looked:"
            ))
            .next(look)
    }
}
