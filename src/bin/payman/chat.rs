//! `payman chat`: a conversation.

use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use futures::StreamExt;
use payman_sdk::{Ask, AskStream, Client, Error, Reply, SessionId, TaskId, TaskState};

use crate::options::Options;
use crate::output::{note, print_line, print_words};
use crate::platform::Platform;
use crate::progress::Progress;
use crate::prompt::{Line, Prompt};
use crate::signals::Interrupts;
use crate::status::{Failure, Status};
use crate::words::{Rest, Words};

const NOT_CANCELABLE: i64 = -32002;
const HELP: &str = "\
/new           begin a conversation
/session       tell this conversation's id; /session ID goes on with another
/task          look what became of the last task; /task ID of another
/quit          leave (or Ctrl-D)
Ctrl-C stops an answer and cancels its task; what the agent has done by then stays done.";

/// Talk with the agent
///
/// Answers come as they are made. Where the agent asks back, the next line is the answer, in the same task. Ctrl-C
/// stops an answer and cancels its task; /help tells the rest.
#[derive(Args)]
pub(crate) struct ChatArgs {
    /// The conversation to go on with
    #[arg(long, env = "PAYMAN_SESSION_ID", value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    session: Option<String>,

    /// Where the lines that you typed are kept; a file in your configuration folder unless given
    #[arg(long, env = "PAYMAN_HISTORY_FILE", value_name = "FILE")]
    history_file: Option<PathBuf>,
}

pub(crate) async fn run(args: ChatArgs, options: &Options) -> Result<Status, Failure> {
    let platform = Platform::reach(options).await?.in_chat();
    let client = match args.session {
        Some(id) => platform.client.with_session(id),
        None => platform.client.clone(),
    };
    let mut prompt = Prompt::new(args.history_file)?;
    let mut chat =
        Chat { platform, client, open: None, last: None, interrupts: Interrupts::listen() };
    note(format_args!(
        "Session {}. /help tells what else there is; /quit leaves.",
        chat.client.session_id()
    ));
    loop {
        let sign = if chat.open.is_some() { "answer> " } else { "> " };
        let line = tokio::select! {
            line = prompt.read(sign) => line?,
            // Only where the prompt does not see it itself: nobody sits at a terminal.
            () = chat.interrupts.next() => return Ok(Status::Completed),
        };
        chat.interrupts.forget();
        match line {
            Line::End => return Ok(Status::Completed),
            Line::Interrupted => note(format_args!("(To leave: /quit or Ctrl-D.)")),
            Line::Text(line) => match chat.take(line.trim()).await {
                Ok(true) => {}
                Ok(false) => return Ok(Status::Completed),
                // One answer less; the conversation goes on.
                Err(failure) => {
                    failure.tell();
                }
            },
        }
    }
}

struct Chat {
    platform: Platform,
    client: Client,
    /// The question that the next line answers.
    open: Option<Reply>,
    last: Option<TaskId>,
    interrupts: Interrupts,
}

impl Chat {
    /// Does what a line says; false to leave.
    async fn take(&mut self, line: &str) -> Result<bool, Failure> {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match word {
            "" => {}
            "/quit" | "/exit" => return Ok(false),
            "/help" => note(format_args!("{HELP}")),
            "/new" => self.go_on_in(self.client.new_session()),
            "/session" if rest.is_empty() => print_line(self.client.session_id().as_str())?,
            "/session" => self.go_on_in(self.client.with_session(SessionId::from(rest.trim()))),
            "/task" => self.look(rest.trim()).await?,
            _ if word.starts_with('/') => {
                note(format_args!("There is no {word}, and nothing was sent. There is:\n{HELP}"))
            }
            _ => self.ask(line).await?,
        }
        Ok(true)
    }

    fn go_on_in(&mut self, client: Client) {
        self.client = client;
        self.open = None;
        note(format_args!("Session {}.", self.client.session_id()));
    }

    async fn look(&mut self, id: &str) -> Result<(), Failure> {
        let id = if id.is_empty() { self.last.clone() } else { Some(TaskId::from(id)) };
        let Some(id) = id else {
            note(format_args!("Nothing was asked yet."));
            return Ok(());
        };
        let task =
            self.client.get_task(&id).await.map_err(|error| Failure::from(error).of_a_look())?;
        note(format_args!("Task {id}: {}", task.state()));
        print_words(&task.text())?;
        print_line("")
    }

    async fn ask(&mut self, text: &str) -> Result<(), Failure> {
        let question = self.open.take();
        let ask = match &question {
            Some(question) => question.answer(text),
            None => Ask::new(text),
        };
        let id = ask.task_id().clone();
        self.last = Some(id.clone());
        match self.answer(ask, &id).await {
            Ok(reply) => {
                self.open = reply.filter(|reply| *reply.state() == TaskState::InputRequired);
                Ok(())
            }
            Err(error) => {
                // What was not heard can be said again, to the same question.
                self.open = question.filter(|_| error.is_safe_to_ask_again());
                Err(self.platform.failure(error, &id))
            }
        }
    }

    /// Prints an answer as it comes; `None` where it was stopped.
    async fn answer(&mut self, ask: Ask, id: &TaskId) -> Result<Option<Reply>, Error> {
        let mut progress = Progress::start();
        let begun = tokio::select! {
            begun = self.client.ask_stream(ask) => Some(begun?),
            () = self.interrupts.next() => None,
        };
        let Some(mut stream) = begun else {
            progress.end();
            self.cancel(id).await;
            return Ok(None);
        };
        let mut words = Words::default();
        loop {
            let event = tokio::select! {
                event = stream.next() => event,
                () = self.interrupts.next() => {
                    progress.end();
                    let _ = print_line("");
                    if self.cancel(id).await {
                        return Ok(None);
                    }
                    continue;
                }
            };
            let Some(event) = event else { break };
            let event = event.inspect_err(|_| {
                progress.end();
                let _ = print_line("");
            })?;
            progress.note(&event);
            if let Some(more) = words.new_in(&event, &stream).filter(|more| !more.is_empty()) {
                progress.end();
                let _ = print_words(&more);
            }
        }
        progress.end();
        Ok(Some(self.finish(&stream, words)))
    }

    fn finish(&self, stream: &AskStream, mut words: Words) -> Reply {
        let reply = stream.reply_so_far();
        let rest = match words.rest_of(&reply) {
            Rest::More(rest) => rest,
            Rest::Rewritten(whole) => {
                note(format_args!("(The agent wrote its answer anew; this is all of it:)"));
                format!("\n{whole}")
            }
        };
        let _ = print_words(&rest);
        let _ = print_line("");
        self.platform.status_of(&reply);
        reply
    }

    /// Cancels a task; false where it was over already, so that its answer can be read on.
    async fn cancel(&mut self, id: &TaskId) -> bool {
        let canceled = tokio::select! {
            canceled = self.client.cancel_task(id) => canceled,
            () = self.interrupts.next() => {
                self.platform.interrupted(id).tell();
                return true;
            }
        };
        match canceled {
            Ok(task) if *task.state() == TaskState::Canceled => {
                note(format_args!("(Canceled. What the agent had done by then stays done.)"));
            }
            Ok(task) => {
                self.platform.status(task.state(), id, None);
            }
            Err(error) if error.rpc_code() == Some(NOT_CANCELABLE) => return false,
            Err(error) => {
                let failure =
                    Failure::new(Status::OutcomeUnknown, "the task could not be canceled")
                        .because(&error);
                self.platform.with_look(failure, id).tell();
            }
        }
        true
    }
}
