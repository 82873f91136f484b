//! `payman chat`: a conversation.

mod answer;
mod prompt;
mod terminal_mode;

use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use payman_sdk::{Client, Reply, SessionId, TaskId};

use crate::account::{Account, AccountSetup};
use crate::command_failure::{CommandFailure, CommandResult};
use crate::exit_status::ExitStatus;
use crate::options::GlobalOptions;
use crate::output::{StdoutReader, note, note_lines, print_line};
use crate::signals::Interrupts;
use crate::stream_printer::printable;
use crate::task::lookup_failure;
use prompt::{Prompt, PromptLine};

const HELP: &str = "\
/new           start a conversation
/session       show this conversation's id; /session ID continues another
/task          look up the last task; /task ID another one
/skip          leave the agent's question unanswered: the next line is a new task
/quit          leave (or Ctrl-D)
Ctrl-C stops an answer and cancels its task; what the agent has done by then stays done.";

/// Talk with the agent
///
/// Answers are printed as they arrive. Where the agent asks back, the next line is the answer, in
/// the same task; /skip leaves the question. Ctrl-C stops an answer and cancels its task; /help
/// shows the other commands.
///
/// Lines can be piped in: they are asked one by one, and the first failure ends the conversation.
#[derive(Args)]
pub(crate) struct ChatArgs {
    /// The conversation to continue
    #[arg(long, env = "PAYMAN_SESSION_ID", value_name = "ID",
        value_parser = NonEmptyStringValueParser::new())]
    session: Option<String>,

    /// The file in which the typed lines are kept [default: a file in your configuration folder]
    #[arg(long, env = "PAYMAN_HISTORY_FILE", value_name = "FILE")]
    history_file: Option<PathBuf>,
}

pub(crate) async fn run(args: ChatArgs, options: &GlobalOptions) -> CommandResult {
    let setup = AccountSetup::new(options).in_chat();
    setup
        .run(async |account| {
            let client = match &args.session {
                Some(id) => account.client.with_session(id.as_str()),
                None => account.client.clone(),
            };
            let mut prompt = Prompt::new(args.history_file.clone())?;
            let chat = Chat {
                account,
                client,
                question: None,
                last: None,
                interrupts: Interrupts::listen(),
                reader: StdoutReader::Present,
                status: ExitStatus::Completed,
            };
            chat.run(&mut prompt).await
        })
        .await
}

struct Chat<'a> {
    account: &'a Account,
    client: Client,
    /// The question that the next line answers.
    question: Option<Reply>,
    last: Option<TaskId>,
    interrupts: Interrupts,
    reader: StdoutReader,
    /// The status of the last answer.
    status: ExitStatus,
}

/// The effect of a line on the conversation.
enum LineOutcome {
    Continue,
    /// Ctrl-C stopped the answer.
    Stopped,
    Leave,
}

impl Chat<'_> {
    async fn run(mut self, prompt: &mut Prompt) -> CommandResult {
        note(format_args!(
            "Session {}. /help shows the commands; /quit leaves.",
            self.client.session_id()
        ));
        loop {
            let Some(line) = self.next_line(prompt).await? else { break };
            let next = match self.process_line(line.trim()).await {
                Ok(next) => next,
                // A person decides how to continue; a script cannot.
                Err(failure) if prompt.is_terminal() => {
                    failure.print();
                    LineOutcome::Continue
                }
                Err(failure) => {
                    return Err(with_unsent(failure, prompt).await);
                }
            };
            match next {
                LineOutcome::Leave => break,
                // Ctrl-C while a script is read ends the script.
                LineOutcome::Stopped if !prompt.is_terminal() => {
                    let failure = CommandFailure::new(self.status, "Ctrl-C ended the conversation");
                    return Err(with_unsent(failure, prompt).await);
                }
                LineOutcome::Stopped | LineOutcome::Continue => {}
            }
            if self.reader == StdoutReader::Gone {
                // The next answer would not be read.
                return Err(with_unsent(
                    CommandFailure::other("nobody reads the answers any more"),
                    prompt,
                )
                .await);
            }
        }
        Ok(if prompt.is_terminal() { ExitStatus::Completed } else { self.status })
    }

    /// Returns the next line to process, or `None` at the end of the conversation.
    ///
    /// At a terminal, lines that were typed or pasted before the last answer was there are shown
    /// and not sent: the second of them might answer a question that has not been read.
    async fn next_line(&mut self, prompt: &mut Prompt) -> Result<Option<String>, CommandFailure> {
        if prompt.is_terminal() {
            show_ahead(&prompt.take_ahead());
        }
        loop {
            let sign = if self.question.is_some() { "answer> " } else { "> " };
            let line = tokio::select! {
                line = prompt.read(sign) => line?,
                // The line editor handles Ctrl-C itself.
                () = self.interrupts.next() => match prompt.is_terminal() {
                    true => PromptLine::Interrupted,
                    false => return Ok(None),
                },
            };
            self.interrupts.clear();
            match line {
                PromptLine::End => return Ok(None),
                PromptLine::Interrupted => note("(To leave: /quit or Ctrl-D.)"),
                PromptLine::Text(line) => return Ok(Some(line)),
            }
        }
    }

    /// Processes one line.
    async fn process_line(&mut self, line: &str) -> Result<LineOutcome, CommandFailure> {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match word {
            "" => {}
            "/quit" | "/exit" => return Ok(LineOutcome::Leave),
            "/help" => note_lines(HELP),
            "/new" => self.switch_to(self.client.new_session()),
            "/skip" => self.skip(),
            "/session" if rest.is_empty() => {
                self.reader = print_line(self.client.session_id().as_str())
                    .map_err(CommandFailure::output)?;
            }
            "/session" => self.switch_to(self.client.with_session(SessionId::from(rest.trim()))),
            "/task" => self.look_up(rest.trim()).await?,
            _ if word.starts_with('/') => {
                note(format_args!("There is no command {word}, and nothing was sent. There is:"));
                note_lines(HELP);
            }
            _ => return self.ask(line).await,
        }
        Ok(LineOutcome::Continue)
    }

    fn switch_to(&mut self, client: Client) {
        self.client = client;
        self.question = None;
        note(format_args!("Session {}.", self.client.session_id()));
    }

    fn skip(&mut self) {
        match self.question.take() {
            Some(question) => note(format_args!(
                "(The question of task {} stays unanswered. The next line is a new task in this \
                 session.)",
                question.task_id()
            )),
            None => note("(There is no question to skip.)"),
        }
    }

    async fn look_up(&mut self, id: &str) -> Result<(), CommandFailure> {
        let id = if id.is_empty() { self.last.clone() } else { Some(TaskId::from(id)) };
        let Some(id) = id else {
            note("Nothing was asked yet.");
            return Ok(());
        };
        let task = self
            .client
            .get_task(&id)
            .await
            .map_err(|error| lookup_failure(self.account, &error))?;
        note(format_args!("Task {id}: {}", task.state()));
        self.reader = print_line(&printable(&task)).map_err(CommandFailure::output)?;
        Ok(())
    }
}

fn show_ahead(ahead: &[String]) {
    if ahead.is_empty() {
        return;
    }
    note("(These lines arrived before the answer, and were NOT sent. To send one, type it again:)");
    for line in ahead {
        note(format_args!("  {}", line.trim_end()));
    }
}

/// Adds the number of a script's lines that were not sent.
async fn with_unsent(failure: CommandFailure, prompt: &mut Prompt) -> CommandFailure {
    let ahead = prompt.take_ahead();
    match ahead.iter().filter(|line| !line.trim().is_empty()).count() {
        0 => failure,
        count => {
            failure.next(format!("The conversation ends here: {count} more lines were not sent."))
        }
    }
}
