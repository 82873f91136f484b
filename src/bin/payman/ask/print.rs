//! Prints an answer in each of the output formats.

use futures::StreamExt;
use payman_sdk::{Ask, Client, Reply, TaskId, TaskState};
use serde_json::Value;

use super::{AskArgs, AskOutput};
use crate::account::{Account, AskFailure};
use crate::exit_status::ExitStatus;
use crate::output::{print_json, print_line, print_server_json};
use crate::spinner::Spinner;
use crate::stream_printer::{StreamPrinter, printable};

pub(super) type AskResult = Result<ExitStatus, AskFailure>;

pub(super) async fn answer(args: &AskArgs, ask: Ask, account: &Account) -> AskResult {
    match (args.output, args.stream) {
        (AskOutput::Text, false) => {
            let reply = whole_reply(ask, account).await?;
            print_line(&printable(reply.task()))?;
            Ok(account.report_reply(&reply))
        }
        (AskOutput::Text, true) => streamed_text(ask, account).await,
        (AskOutput::Json, stream) => {
            let reply = match stream {
                true => streamed_reply(ask, account).await?,
                false => whole_reply(ask, account).await?,
            };
            print_json(&serde_json::to_string_pretty(&reply)?)?;
            Ok(account.report_reply(&reply))
        }
        (AskOutput::Raw, false) => raw_reply(ask, account).await,
        (AskOutput::Raw, true) => raw_stream(ask, account).await,
        (AskOutput::Events, _) => events(ask, account).await,
    }
}

/// Waits for a whole reply and shows the task's state meanwhile.
async fn whole_reply(ask: Ask, account: &Account) -> Result<Reply, AskFailure> {
    let id = ask.task_id().clone();
    let reply = account.client.ask(ask);
    Ok(with_progress(reply, &account.client, &id).await?)
}

async fn with_progress<T>(answer: impl Future<Output = T>, client: &Client, id: &TaskId) -> T {
    let progress = Spinner::start();
    tokio::select! {
        answer = answer => answer,
        () = progress.follow(client, id) => std::future::pending().await,
    }
}

async fn streamed_reply(ask: Ask, account: &Account) -> Result<Reply, AskFailure> {
    let progress = Spinner::start();
    let mut stream = account.client.ask_stream(ask).await?;
    while let Some(event) = stream.next().await {
        if let Some(state) = event?.state() {
            progress.show(state);
        }
    }
    Ok(stream.reply_so_far())
}

async fn streamed_text(ask: Ask, account: &Account) -> AskResult {
    let progress = Spinner::start();
    let stream = account.client.ask_stream(ask).await?;
    let mut printer = StreamPrinter::new(stream.text(), progress);
    printer.print_all().await?;
    Ok(account.report_reply(&printer.reply()))
}

async fn events(ask: Ask, account: &Account) -> AskResult {
    let mut stream = account.client.ask_stream(ask).await?;
    while let Some(event) = stream.next().await {
        print_json(&serde_json::to_string(&event?)?)?;
    }
    Ok(account.report_reply(&stream.reply_so_far()))
}

async fn raw_reply(ask: Ask, account: &Account) -> AskResult {
    let id = ask.task_id().clone();
    let answer = account.client.ask_raw(ask);
    let reply = with_progress(answer, &account.client, &id).await?;
    print_server_json(reply.as_str())?;
    let result = reply.result().and_then(|result| serde_json::from_str(result.get()).ok());
    Ok(report_raw(account, result.as_ref(), &id))
}

async fn raw_stream(ask: Ask, account: &Account) -> AskResult {
    let id = ask.task_id().clone();
    let mut stream = account.client.ask_stream_raw(ask).await?;
    let session = stream.session_id().clone();
    let mut last: Option<Value> = None;
    while let Some(response) = stream.next().await {
        let response = response?;
        print_server_json(response.as_str())?;
        let whole: Option<Value> = serde_json::from_str(response.as_str()).ok();
        // An event that is not wrapped in JSON-RPC is its own result.
        let event =
            whole.and_then(|mut whole| whole.get_mut("result").map(Value::take).or(Some(whole)));
        if let Some(mut event) = event.filter(|event| event.get("status").is_some()) {
            if let Value::Object(fields) = &mut event {
                fields.entry("sessionId").or_insert_with(|| session.as_str().into());
            }
            last = Some(event);
        }
    }
    Ok(report_raw(account, last.as_ref(), &id))
}

fn report_raw(account: &Account, task: Option<&Value>, id: &TaskId) -> ExitStatus {
    let state = task.and_then(|task| task.pointer("/status/state")).and_then(Value::as_str);
    let session =
        task.and_then(|task| task.get("sessionId")).and_then(Value::as_str).map(Into::into);
    account.report_state(&state.map_or(TaskState::Unknown, TaskState::from), id, session.as_ref())
}
