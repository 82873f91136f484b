//! The platform that a command talks to: the real one, or an emulator that lives as long as the command.

use payman_sdk::{Client, Config, Emulator, Reply, SessionId, TaskId, TaskState};

use crate::options::Options;
use crate::output;
use crate::status::{Failure, Status};

/// A client, and what keeps it going.
pub(crate) struct Platform {
    pub(crate) client: Client,
    embedded: Option<Emulator>,
    spelled: String,
}

impl Platform {
    pub(crate) async fn reach(options: &Options) -> Result<Self, Failure> {
        if options.emulator {
            return Self::emulated(options).await;
        }
        let client = Client::with_credentials(config(options)?)?;
        Ok(Self { client, embedded: None, spelled: options.spelled.clone() })
    }

    async fn emulated(options: &Options) -> Result<Self, Failure> {
        let emulator = Emulator::start().await?;
        output::note(format_args!(
            "(From the emulator at {}: no real money, and no real answer.)",
            emulator.base_url()
        ));
        let config = Config::new("payman").client_secret("emulator").base_url(emulator.base_url());
        let client = Client::with_credentials(limited(config, options))?;
        Ok(Self { client, embedded: Some(emulator), spelled: String::new() })
    }
}

fn config(options: &Options) -> Result<Config, Failure> {
    let mut missing = Vec::new();
    if options.client_id.is_none() {
        missing.push("PAYMAN_CLIENT_ID");
    }
    if options.client_secret.is_none() {
        missing.push("PAYMAN_CLIENT_SECRET");
    }
    let (Some(id), Some(secret)) = (&options.client_id, &options.client_secret) else {
        return Err(without_credentials(&missing));
    };
    let config = Config::new(id).client_secret(secret);
    Ok(limited(at(config, options), options))
}

fn at(config: Config, options: &Options) -> Config {
    match (&options.base_url, options.environment) {
        (Some(url), _) => config.base_url(url),
        (None, Some(environment)) => config.environment(environment),
        (None, None) => config,
    }
}

fn limited(config: Config, options: &Options) -> Config {
    match options.timeout {
        Some(limit) => config.deadline(limit),
        None => config,
    }
}

fn without_credentials(missing: &[&str]) -> Failure {
    Failure::usage(format!("missing in the environment: {}", missing.join(", ")))
        .next("Set them, or write them into a file named .env in this folder; each has an option too.")
        .next("Without an account: payman ask --emulator \"How much money do I have in my wallet?\"")
}

/// How a task ended, and what to do about it.
impl Platform {
    /// The status of a reply; says on stderr what a person has to do.
    pub(crate) fn status_of(&self, reply: &Reply) -> Status {
        self.status(reply.state(), reply.task_id(), reply.session_id())
    }

    pub(crate) fn status(&self, state: &TaskState, task: &TaskId, session: Option<&SessionId>) -> Status {
        let status = Status::of_state(state);
        match status {
            Status::NotCompleted => output::note(format_args!("The task is {state} ({task}).")),
            Status::InputRequired => self.say_how_to_answer(state, task, session),
            Status::OutcomeUnknown => {
                let failure = Failure::new(status, format!("the task has not ended: its state is {state}"));
                self.with_look(failure, task).tell();
            }
            _ => {}
        }
        status
    }

    fn say_how_to_answer(&self, state: &TaskState, task: &TaskId, session: Option<&SessionId>) {
        if self.embedded.is_some() {
            output::note(format_args!(
                "The agent asks back, and this emulator ends with the command. To answer: payman chat --emulator"
            ));
            return;
        }
        if *state == TaskState::AuthRequired {
            output::note(format_args!("The agent waits for you to authorise it elsewhere ({task})."));
            return;
        }
        let session =
            session.map(|id| format!(" --session {}", crate::options::quoted(id.as_str()))).unwrap_or_default();
        let task = crate::options::quoted(task.as_str());
        output::note(format_args!("The agent asks back. To answer:"));
        output::note(format_args!("  payman ask --task {task}{session}{} 'your answer'", self.spelled));
    }

    /// The error of an ask: where its outcome is unknown, with the command that looks.
    pub(crate) fn failure(&self, error: payman_sdk::Error, asked: &TaskId) -> Failure {
        let task = error.task_id().unwrap_or(asked).clone();
        let failure = Failure::from(error);
        if failure.status() == Status::OutcomeUnknown { self.with_look(failure, &task) } else { failure }
    }

    /// The ask was stopped from outside.
    pub(crate) fn interrupted(&self, task: &TaskId) -> Failure {
        let failure = Failure::new(Status::OutcomeUnknown, "stopped while the agent was at it: the outcome is unknown");
        self.with_look(failure, task)
    }

    fn with_look(&self, failure: Failure, task: &TaskId) -> Failure {
        if self.embedded.is_some() {
            return failure.next(format!(
                "It may have been done ({task}); only this command's emulator knew, and it is gone. No real money moved."
            ));
        }
        let task = crate::options::quoted(task.as_str());
        failure
            .next(format!("IT MAY HAVE BEEN DONE (task {task}). Do not ask again before you have looked:"))
            .next(format!("  payman task get {task}{}", self.spelled))
    }
}
