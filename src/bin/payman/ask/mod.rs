//! `payman ask`: one ask, one answer.

mod print;

use std::io::Read;
use std::sync::Arc;

use clap::builder::{BoolishValueParser, NonEmptyStringValueParser};
use clap::{ArgAction, Args, ValueEnum};
use payman_sdk::{Ask, Journal};

use crate::account::AccountSetup;
use crate::command_failure::{CommandFailure, CommandResult};
use crate::journal::{JournalOption, asked_task, journal_of};
use crate::metadata::{MetadataArg, parse_metadata};
use crate::options::{GlobalOptions, quoted};
use crate::output::note;

const MAX_TEXT_BYTES: u64 = 1024 * 1024;

/// Ask the agent and print its answer
///
/// Put the text in SINGLE quotes: in double quotes a shell replaces $250 before this program sees
/// it. On a terminal the text is shown as it was received.
///
/// Prints the text of the answer, or the agent's message about the task's state if there is none.
/// While it waits on a terminal it shows the state of the task. Everything that is not the answer
/// goes to stderr.
///
/// Ctrl-C does not stop the agent: the task's id is printed, and the command that looks it up.
#[derive(Args)]
#[command(
    override_usage = "payman ask [OPTIONS] <TEXT>",
    after_help = "\
Put the text in SINGLE quotes: in double quotes a shell turns $250 into 50.

Examples:
  payman ask 'How much money do I have in my wallet?'
  payman ask --stream 'List all payees'
  payman ask --session groceries --metadata source=shell 'Pay Tyllen $50'
  payman ask --output json 'List all wallets' | jq -r .sessionId
  payman ask --idempotency-key order-4711 'Pay Tyllen $50'
  echo 'Pay Tyllen $50' | payman ask -"
)]
pub(crate) struct AskArgs {
    /// The text of the ask, in single quotes; `-` reads it from standard input
    text: String,

    /// Print the answer as it arrives
    #[arg(long, env = "PAYMAN_STREAM", action = ArgAction::SetTrue,
        value_parser = BoolishValueParser::new())]
    stream: bool,

    /// The output format
    #[arg(short, long, env = "PAYMAN_OUTPUT", value_enum, default_value_t = AskOutput::Text)]
    output: AskOutput,

    /// The conversation to continue: an id from a reply, or any text of your own
    #[arg(long, env = "PAYMAN_SESSION_ID", value_name = "ID",
        value_parser = NonEmptyStringValueParser::new())]
    session: Option<String>,

    /// Start a new conversation, even if the environment names one
    #[arg(long, env = "PAYMAN_NEW_SESSION", action = ArgAction::SetTrue,
        value_parser = BoolishValueParser::new())]
    new_session: bool,

    /// The task to continue: to answer where the agent asked back
    #[arg(long, env = "PAYMAN_TASK_ID", value_name = "ID",
        value_parser = NonEmptyStringValueParser::new())]
    task: Option<String>,

    /// The id of the new task, instead of a random one: a script can store it before the ask is
    /// sent, and look it up with `payman task get` whatever happens. Use a new id for each ask. A
    /// key that was asked before keeps its task: a note on stderr says so
    #[arg(long, env = "PAYMAN_NEW_TASK_ID", value_name = "ID", conflicts_with = "task",
        value_parser = NonEmptyStringValueParser::new())]
    task_id: Option<String>,

    /// Ask once per key: the same key again, at any time, prints the reply to the first ask, and
    /// nothing is sent
    #[arg(long, env = "PAYMAN_IDEMPOTENCY_KEY", value_name = "KEY",
        value_parser = NonEmptyStringValueParser::new())]
    idempotency_key: Option<String>,

    #[command(flatten)]
    journal: JournalOption,

    /// Attach a value to the request; may be repeated. V is JSON, or else text; a number that JSON
    /// would write in another way is sent as text. A JSON object attaches all its fields
    #[arg(long, env = "PAYMAN_METADATA", value_name = "K=V", value_parser = parse_metadata)]
    metadata: Vec<MetadataArg>,

    /// Attach a value to the message
    #[arg(long, env = "PAYMAN_MESSAGE_METADATA", value_name = "K=V",
        value_parser = parse_metadata)]
    message_metadata: Vec<MetadataArg>,

    /// Attach a value to the message's text part
    #[arg(long, env = "PAYMAN_PART_METADATA", value_name = "K=V", value_parser = parse_metadata)]
    part_metadata: Vec<MetadataArg>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AskOutput {
    /// The text of the answer
    Text,
    /// The formatted reply: ids, status, artifacts, metadata
    Json,
    /// The server's JSON-RPC response, byte for byte; with --stream each one as it arrives
    Raw,
    /// One JSON object per line for each event as it arrives
    Events,
}

pub(crate) async fn run(args: AskArgs, options: &GlobalOptions) -> CommandResult {
    let text = args.read_text()?;
    let mut setup = AccountSetup::new(options);
    let mut journal = None;
    if args.idempotency_key.is_some() {
        let opened = journal_of(&args.journal, options).await?;
        journal = Some(Arc::clone(&opened));
        setup = setup.configure(|config| config.journal(opened));
    }
    let keyed = args.idempotency_key.as_deref().zip(journal.as_deref());
    setup
        .run(async |account| {
            let ask = args.to_ask(&text);
            account.show_asked(&text);
            let mut task = ask.task_id().clone();
            if let Some((key, journal)) = keyed {
                task = asked_task(journal, key).await.unwrap_or(task);
            }
            let _in_flight = account.track(&task);
            let answer = print::answer(&args, ask, account).await;
            if let (Some(given), Some((key, journal))) = (&args.task_id, keyed) {
                note_unused_task_id(given, key, journal).await;
            }
            answer.map_err(|failure| account.ask_failure(failure, &task))
        })
        .await
}

/// Says that the key had a task before, with another id than the one that was given.
async fn note_unused_task_id(given: &str, key: &str, journal: &dyn Journal) {
    if let Some(task) = asked_task(journal, key).await
        && task.as_str() != given
    {
        note(format_args!(
            "--task-id {} was not used: the key {} was asked before, as task {}.",
            quoted(given),
            quoted(key),
            quoted(task.as_str())
        ));
    }
}

impl AskArgs {
    fn to_ask(&self, text: &str) -> Ask {
        let mut ask = Ask::new(text);
        if let Some(task) = &self.task {
            ask = ask.continue_task(task.as_str());
        }
        if let Some(id) = &self.task_id {
            ask = ask.with_task_id(id.as_str());
        }
        if let (Some(session), false) = (&self.session, self.new_session) {
            ask = ask.session(session.as_str());
        }
        if let Some(key) = &self.idempotency_key {
            ask = ask.idempotency_key(key);
        }
        for (key, value) in MetadataArg::pairs(&self.metadata) {
            ask = ask.metadata(key, value);
        }
        for (key, value) in MetadataArg::pairs(&self.message_metadata) {
            ask = ask.message_metadata(key, value);
        }
        for (key, value) in MetadataArg::pairs(&self.part_metadata) {
            ask = ask.part_metadata(key, value);
        }
        ask
    }

    fn read_text(&self) -> Result<String, CommandFailure> {
        let mut text = String::new();
        if self.text == "-" {
            std::io::stdin().take(MAX_TEXT_BYTES + 1).read_to_string(&mut text).map_err(
                |error| {
                    CommandFailure::usage("what to ask could not be read from standard input")
                        .because(&error)
                },
            )?;
            text.truncate(text.trim_end().len());
        } else {
            text.clone_from(&self.text);
        }
        if text.trim().is_empty() {
            return Err(CommandFailure::usage("there is nothing to ask: the text is empty").next(
                "Nothing was sent. Give the text in single quotes: payman ask 'List all payees'",
            ));
        }
        if text.len() as u64 > MAX_TEXT_BYTES {
            return Err(CommandFailure::usage("the text is longer than 1 MiB")
                .next("Nothing was sent. Ask for less at once."));
        }
        Ok(text)
    }
}
