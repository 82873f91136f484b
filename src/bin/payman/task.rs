//! `payman task`: looks up a task, or cancels it.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand, ValueEnum};
use payman_sdk::{ErrorKind, Reply, TaskId, TaskState};

use crate::account::{Account, AskFailure, with_account};
use crate::command_failure::{CommandFailure, CommandResult};
use crate::exit_status::ExitStatus;
use crate::options::GlobalOptions;
use crate::output::{note, print_json, print_line};
use crate::stream_printer::printable;

/// The JSON-RPC code for a task that cannot be canceled.
pub(crate) const NOT_CANCELABLE: i64 = -32002;

/// Look up a task, or cancel it
#[derive(Args)]
pub(crate) struct TaskArgs {
    #[command(subcommand)]
    action: TaskAction,
}

#[derive(Subcommand)]
enum TaskAction {
    /// Print the outcome of a task; the exit status depends on its state
    ///
    /// Use it for an ask whose outcome is unknown. A lookup changes nothing.
    Get {
        /// The task's id
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        id: String,
        /// The output format
        #[arg(short, long, env = "PAYMAN_TASK_OUTPUT", value_enum,
            default_value_t = TaskOutput::Text)]
        output: TaskOutput,
    },
    /// Cancel a task; what the agent has done by then stays done
    ///
    /// Exit status 0: it is canceled. 1: it was over already, or could not be canceled.
    Cancel {
        /// The task's id
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        id: String,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TaskOutput {
    /// The text of the answer
    Text,
    /// The formatted reply, as `payman ask --output json` prints it
    Json,
    /// The task as the platform returns it, with its history
    Task,
}

pub(crate) async fn run(args: TaskArgs, options: &GlobalOptions) -> CommandResult {
    with_account(options, async |account| match args.action {
        TaskAction::Get { id, output } => get(account, &TaskId::from(id), output).await,
        TaskAction::Cancel { id } => cancel(account, &TaskId::from(id)).await,
    })
    .await
}

async fn get(account: &Account, id: &TaskId, output: TaskOutput) -> CommandResult {
    let task =
        account.client.get_task(id).await.map_err(|error| lookup_failure(account, &error))?;
    let json = match output {
        TaskOutput::Text => None,
        TaskOutput::Json => Some(serde_json::to_string_pretty(&Reply::from(task.clone()))),
        TaskOutput::Task => Some(serde_json::to_string_pretty(&task)),
    };
    let printed = match json.transpose() {
        Ok(Some(json)) => print_json(&json),
        Ok(None) => print_line(&printable(&task)),
        Err(error) => {
            return Err(
                CommandFailure::other("the task could not be written as JSON").because(&error)
            );
        }
    };
    printed.map_err(CommandFailure::output)?;
    Ok(account.report_reply(&Reply::from(task)))
}

/// Returns the failure of a lookup. It changes nothing, so it never has an unknown outcome itself.
pub(crate) fn lookup_failure(account: &Account, error: &payman_sdk::Error) -> CommandFailure {
    let advice = match error.kind() {
        ErrorKind::Unsupported => {
            Some("Look at the wallet's transactions, or have a person do so.")
        }
        ErrorKind::TaskNotFound => Some(
            "If it is the task that was asked, it may not have arrived: look at the wallet's \
             transactions as well.",
        ),
        _ if error.is_outcome_unknown() => Some("Nothing was learned. Look again later."),
        _ => None,
    };
    account.failure(error).of_lookup().next_if_some(advice)
}

async fn cancel(account: &Account, id: &TaskId) -> CommandResult {
    let _in_flight = account.track(id);
    let task = match account.client.cancel_task(id).await {
        Ok(task) => task,
        Err(error) if error.is_outcome_unknown() => {
            return Err(account.ask_failure(error.into(), id));
        }
        Err(error) => {
            return Err(account.failure(&error).next(account.lookup_hint(id)));
        }
    };
    print_line(&printable(&task))
        .map_err(|error| account.ask_failure(AskFailure::Output(error), id))?;
    match task.state() {
        TaskState::Canceled => Ok(ExitStatus::Completed),
        TaskState::Completed => {
            note("The task had completed already.");
            Ok(ExitStatus::Other)
        }
        _ => Ok(account.report_reply(&Reply::from(task))),
    }
}
