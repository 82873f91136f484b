//! `payman task`: looks at a task, or cancels it.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand, ValueEnum};
use payman_sdk::{ErrorKind, Reply, TaskId, TaskState};

use crate::options::Options;
use crate::output::{note, print_line, print_words};
use crate::platform::Platform;
use crate::status::{Failure, Status};

const NOT_CANCELABLE: i64 = -32002;

/// Look at a task, or cancel it
#[derive(Args)]
pub(crate) struct TaskArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Print what became of a task; the exit status says how it stands
    ///
    /// After an ask whose outcome is unknown this is how to look. Looking changes nothing.
    Get {
        /// The task's id
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        id: String,
        /// What to print
        #[arg(short, long, env = "PAYMAN_TASK_OUTPUT", value_enum, default_value_t = Output::Text)]
        output: Output,
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
enum Output {
    /// The words
    Text,
    /// The formatted reply, as `payman ask --output json` has it
    Json,
    /// The task as the wire has it, with its history
    Task,
}

pub(crate) async fn run(args: TaskArgs, options: &Options) -> Result<Status, Failure> {
    let platform = Platform::reach(options).await?;
    match args.action {
        Action::Get { id, output } => get(&platform, &TaskId::from(id), output).await,
        Action::Cancel { id } => cancel(&platform, &TaskId::from(id)).await,
    }
}

async fn get(platform: &Platform, id: &TaskId, output: Output) -> Result<Status, Failure> {
    let task = platform.client.get_task(id).await.map_err(not_seen)?;
    let json = match output {
        Output::Text => None,
        Output::Json => Some(serde_json::to_string_pretty(&Reply::from(task.clone()))),
        Output::Task => Some(serde_json::to_string_pretty(&task)),
    };
    match json {
        Some(json) => {
            print_line(&json.map_err(|error| {
                Failure::other("the task could not be written as JSON").because(&error)
            })?)?;
        }
        None => {
            print_words(&task.text())?;
            print_line("")?;
        }
    }
    Ok(platform.status_of(&Reply::from(task)))
}

/// Looking does nothing, so that its own outcome is of no matter; the task's stays what it was.
fn not_seen(error: payman_sdk::Error) -> Failure {
    let advice = match error.kind() {
        ErrorKind::Unsupported => {
            Some("Look at the wallet's transactions, or have a person do so.")
        }
        ErrorKind::TaskNotFound => Some(
            "If it is the one that was asked, it may not have arrived: look at the wallet's transactions as well.",
        ),
        _ if error.is_outcome_unknown() => Some("Nothing was seen. Look again later."),
        _ => None,
    };
    let failure = Failure::from(error).of_a_look();
    match advice {
        Some(line) => failure.next(line),
        None => failure,
    }
}

async fn cancel(platform: &Platform, id: &TaskId) -> Result<Status, Failure> {
    let task = match platform.client.cancel_task(id).await {
        Ok(task) => task,
        Err(error) if error.rpc_code() == Some(NOT_CANCELABLE) => {
            return Err(Failure::from(error)
                .next(format!("To see what became of it: payman task get {id}")));
        }
        Err(error) => return Err(platform.failure(error, id)),
    };
    print_words(&task.text())?;
    print_line("")?;
    match task.state() {
        TaskState::Canceled => Ok(Status::Completed),
        TaskState::Completed => {
            note(format_args!("The task had completed already."));
            Ok(Status::Other)
        }
        _ => Ok(platform.status_of(&Reply::from(task))),
    }
}
