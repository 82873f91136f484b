//! `payman ask`: one thing to say, one answer.

use std::io::Read;

use clap::builder::{BoolishValueParser, NonEmptyStringValueParser};
use clap::{ArgAction, Args, ValueEnum};
use futures::StreamExt;
use payman_sdk::{Ask, Client, Reply, TaskId, TaskState};
use serde_json::Value;

use crate::options::Options;
use crate::output::{note, print_line, print_words};
use crate::platform::Platform;
use crate::progress::Progress;
use crate::signals::Stop;
use crate::status::{Failure, Status};
use crate::words::{Rest, Words};

/// Ask the agent, and print its answer
///
/// Prints the agent's words, or, where it made none, what it says of the task's state. While it waits on
/// a terminal it shows where the task stands; what is not an answer goes to stderr.
///
/// Ctrl-C does not stop the agent: the task's id is printed, and how to look what became of it.
#[derive(Args)]
#[command(after_help = "\
Examples:
  payman ask 'How much money do I have in my wallet?'
  payman ask --stream 'List all payees'
  payman ask --session groceries 'Pay Tyllen $50' --metadata source=shell --part-metadata currency=USD
  payman ask --output json 'List all wallets' | jq -r .sessionId
  echo 'Pay Tyllen $50' | payman ask -")]
pub(crate) struct AskArgs {
    /// What to say; `-` reads it from standard input
    text: String,

    /// Print the answer as it comes
    #[arg(long, env = "PAYMAN_STREAM", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    stream: bool,

    /// What to print
    #[arg(short, long, env = "PAYMAN_OUTPUT", value_enum, default_value_t = Output::Text)]
    output: Output,

    /// The conversation to go on with: an id that a reply gave, or any text of your own
    #[arg(long, env = "PAYMAN_SESSION_ID", value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    session: Option<String>,

    /// Begin a conversation, whatever the environment says
    #[arg(long, env = "PAYMAN_NEW_SESSION", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    new_session: bool,

    /// The task to go on with: to answer where the agent asked back
    #[arg(long, env = "PAYMAN_TASK_ID", value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    task: Option<String>,

    /// Attach a value to the request; may be repeated. V is JSON, or else text. A JSON object attaches all its fields
    #[arg(long, env = "PAYMAN_METADATA", value_name = "K=V", value_parser = pairs)]
    metadata: Vec<Pairs>,

    /// Attach a value to the message
    #[arg(long, env = "PAYMAN_MESSAGE_METADATA", value_name = "K=V", value_parser = pairs)]
    message_metadata: Vec<Pairs>,

    /// Attach a value to the message's text part
    #[arg(long, env = "PAYMAN_PART_METADATA", value_name = "K=V", value_parser = pairs)]
    part_metadata: Vec<Pairs>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// The words
    Text,
    /// The formatted reply: ids, status, artifacts, metadata
    Json,
    /// The server's JSON-RPC response, byte for byte; with --stream one after the other, as they come
    Raw,
    /// One JSON object a line for each event, as it comes
    Events,
}

#[derive(Clone)]
struct Pairs(Vec<(String, Value)>);

/// `k=v`, or a JSON object.
fn pairs(text: &str) -> Result<Pairs, String> {
    if let Ok(Value::Object(fields)) = serde_json::from_str(text) {
        return Ok(Pairs(fields.into_iter().collect()));
    }
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
            Ok(Pairs(vec![(key.trim().to_owned(), value)]))
        }
        _ => Err("it looks like key=value, or is a JSON object".to_owned()),
    }
}

pub(crate) async fn run(args: AskArgs, options: &Options) -> Result<Status, Failure> {
    let ask = args.ask()?;
    let platform = Platform::reach(options).await?;
    let task_id = ask.task_id().clone();
    let mut stop = Stop::listen();
    tokio::select! {
        answered = answer(&args, ask, &platform) => answered,
        () = stop.told() => Err(platform.interrupted(&task_id)),
    }
}

impl AskArgs {
    fn ask(&self) -> Result<Ask, Failure> {
        let mut ask = Ask::new(self.words()?);
        if let Some(task) = &self.task {
            ask = ask.continue_task(task.as_str());
        }
        if let (Some(session), false) = (&self.session, self.new_session) {
            ask = ask.session(session.as_str());
        }
        for (key, value) in flat(&self.metadata) {
            ask = ask.metadata(key, value);
        }
        for (key, value) in flat(&self.message_metadata) {
            ask = ask.message_metadata(key, value);
        }
        for (key, value) in flat(&self.part_metadata) {
            ask = ask.part_metadata(key, value);
        }
        Ok(ask)
    }

    fn words(&self) -> Result<String, Failure> {
        if self.text != "-" {
            return Ok(self.text.clone());
        }
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|error| {
            Failure::usage("what to say could not be read from standard input").because(&error)
        })?;
        Ok(text.trim().to_owned())
    }
}

fn flat(pairs: &[Pairs]) -> impl Iterator<Item = (String, Value)> {
    pairs.iter().flat_map(|pairs| pairs.0.clone())
}

async fn answer(args: &AskArgs, ask: Ask, platform: &Platform) -> Result<Status, Failure> {
    match (args.output, args.stream) {
        (Output::Text, false) => {
            let reply = whole(ask, platform).await?;
            print_words(&reply.text())?;
            print_line("")?;
            Ok(platform.status_of(&reply))
        }
        (Output::Text, true) => words(ask, platform).await,
        (Output::Json, stream) => {
            let reply =
                if stream { gathered(ask, platform).await? } else { whole(ask, platform).await? };
            let json = serde_json::to_string_pretty(&reply).map_err(|error| {
                Failure::other("the reply could not be written as JSON").because(&error)
            })?;
            print_line(&json)?;
            Ok(platform.status_of(&reply))
        }
        (Output::Raw, false) => raw(ask, platform).await,
        (Output::Raw, true) => raw_stream(ask, platform).await,
        (Output::Events, _) => events(ask, platform).await,
    }
}

/// Waits for a whole reply, and shows meanwhile where the task stands.
async fn whole(ask: Ask, platform: &Platform) -> Result<Reply, Failure> {
    let id = ask.task_id().clone();
    let asked = platform.client.ask(ask);
    waiting(asked, &platform.client, &id).await.map_err(|error| platform.failure(error, &id))
}

async fn waiting<T>(asked: impl Future<Output = T>, client: &Client, id: &TaskId) -> T {
    let progress = Progress::start();
    tokio::select! {
        answer = asked => answer,
        () = progress.follow(client, id) => std::future::pending().await,
    }
}

async fn gathered(ask: Ask, platform: &Platform) -> Result<Reply, Failure> {
    let id = ask.task_id().clone();
    let progress = Progress::start();
    let failed = |error| platform.failure(error, &id);
    let mut stream = platform.client.ask_stream(ask).await.map_err(failed)?;
    while let Some(event) = stream.next().await {
        progress.note(&event.map_err(failed)?);
    }
    Ok(stream.reply_so_far())
}

async fn words(ask: Ask, platform: &Platform) -> Result<Status, Failure> {
    let id = ask.task_id().clone();
    let mut progress = Progress::start();
    let mut stream =
        platform.client.ask_stream(ask).await.map_err(|error| platform.failure(error, &id))?;
    let mut words = Words::default();
    while let Some(event) = stream.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                progress.end();
                // What was printed is not the answer, and must not run into what comes next.
                print_line("")?;
                return Err(platform.failure(error, &id));
            }
        };
        progress.note(&event);
        if let Some(words) = words.new_in(&event, &stream).filter(|words| !words.is_empty()) {
            progress.end();
            print_words(&words)?;
        }
    }
    progress.end();
    let reply = stream.reply_so_far();
    match words.rest_of(&reply) {
        Rest::More(rest) => print_words(&rest)?,
        Rest::Rewritten(whole) => {
            note(format_args!("(The agent wrote its answer anew; this is all of it:)"));
            print_words(&format!("\n{whole}"))?;
        }
    }
    print_line("")?;
    Ok(platform.status_of(&reply))
}

async fn events(ask: Ask, platform: &Platform) -> Result<Status, Failure> {
    let id = ask.task_id().clone();
    let failed = |error| platform.failure(error, &id);
    let mut stream = platform.client.ask_stream(ask).await.map_err(failed)?;
    while let Some(event) = stream.next().await {
        let event = event.map_err(failed)?;
        let json = serde_json::to_string(&event).map_err(|error| {
            Failure::other("an event could not be written as JSON").because(&error)
        })?;
        print_line(&json)?;
    }
    Ok(platform.status_of(&stream.reply_so_far()))
}

async fn raw(ask: Ask, platform: &Platform) -> Result<Status, Failure> {
    let id = ask.task_id().clone();
    let asked = platform.client.ask_raw(ask);
    let reply = waiting(asked, &platform.client, &id)
        .await
        .map_err(|error| platform.failure(error, &id))?;
    print_line(reply.as_str())?;
    let result = reply.result().map(|result| result.get()).unwrap_or_default();
    Ok(status_of_raw(platform, serde_json::from_str(result).ok().as_ref(), &id))
}

async fn raw_stream(ask: Ask, platform: &Platform) -> Result<Status, Failure> {
    let id = ask.task_id().clone();
    let failed = |error| platform.failure(error, &id);
    let mut stream = platform.client.ask_stream_raw(ask).await.map_err(failed)?;
    let session = stream.session_id().clone();
    let mut last: Option<Value> = None;
    while let Some(response) = stream.next().await {
        let response = response.map_err(failed)?;
        print_line(response.as_str())?;
        let whole: Option<Value> = serde_json::from_str(response.as_str()).ok();
        // A bare event is its own result.
        let event =
            whole.and_then(|mut whole| whole.get_mut("result").map(Value::take).or(Some(whole)));
        if let Some(mut event) = event.filter(|event| event.get("status").is_some()) {
            if let Value::Object(fields) = &mut event {
                fields.entry("sessionId").or_insert_with(|| session.as_str().into());
            }
            last = Some(event);
        }
    }
    Ok(status_of_raw(platform, last.as_ref(), &id))
}

fn status_of_raw(platform: &Platform, task: Option<&Value>, id: &TaskId) -> Status {
    let state = task.and_then(|task| task.pointer("/status/state")).and_then(Value::as_str);
    let session =
        task.and_then(|task| task.get("sessionId")).and_then(Value::as_str).map(Into::into);
    platform.status(&state.map_or(TaskState::Unknown, TaskState::from), id, session.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_json_or_else_text() {
        let read = |text: &str| pairs(text).map(|pairs| pairs.0);
        assert_eq!(read("a=1").unwrap(), [("a".to_owned(), json!(1))]);
        assert_eq!(read("a=x=y").unwrap(), [("a".to_owned(), json!("x=y"))]);
        assert_eq!(read("a=").unwrap(), [("a".to_owned(), json!(""))]);
        assert_eq!(read(r#"a={"b":[true]}"#).unwrap(), [("a".to_owned(), json!({"b": [true]}))]);
        assert_eq!(
            read(r#"{"a":1,"b":"c"}"#).unwrap(),
            [("a".to_owned(), json!(1)), ("b".to_owned(), json!("c"))]
        );
        assert!(read("=1").is_err() && read("a").is_err());
    }
}
