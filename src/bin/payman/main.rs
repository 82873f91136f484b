//! `payman`: asks the platform's agent from a terminal or a script, and runs an emulator of the
//! platform.
//!
//! To add a command: a module with its `clap` arguments and a function
//! `run(args, &GlobalOptions) -> CommandResult`; a variant of [`Command`]; an arm in
//! [`Command::run`]. A command that talks to the platform obtains its client with
//! [`account::with_account`]. It prints with the functions in [`output`] only, registers each task
//! with [`account::Account::track`] before it is sent, and converts each failure after that with
//! [`account::Account::ask_failure`].

#![forbid(unsafe_code)]

mod account;
mod ask;
mod batch;
mod chat;
mod command_failure;
mod command_line;
mod completions;
mod connect;
mod dot_env;
mod emulator;
mod exit_status;
mod folder;
mod journal;
#[cfg(feature = "mcp")]
mod mcp;
mod metadata;
mod options;
mod output;
mod signals;
mod spinner;
mod stream_printer;
mod task;
mod token;
mod value_origin;
mod whoami;

use std::process::ExitCode;

use clap::Subcommand;

use crate::command_failure::{CommandFailure, CommandResult};
use crate::options::GlobalOptions;

#[derive(Subcommand)]
pub(crate) enum Command {
    Ask(Box<ask::AskArgs>),
    Batch(batch::BatchArgs),
    Chat(chat::ChatArgs),
    Task(task::TaskArgs),
    Journal(journal::JournalArgs),
    Whoami(whoami::WhoamiArgs),
    Token(token::TokenArgs),
    Connect(connect::ConnectArgs),
    Emulator(Box<emulator::EmulatorArgs>),
    #[cfg(feature = "mcp")]
    Mcp(mcp::McpArgs),
    Completions(completions::CompletionsArgs),
}

impl Command {
    async fn run(self, options: &GlobalOptions) -> CommandResult {
        match self {
            Self::Ask(args) => ask::run(*args, options).await,
            Self::Batch(args) => batch::run(args, options).await,
            Self::Chat(args) => chat::run(args, options).await,
            Self::Task(args) => task::run(args, options).await,
            Self::Journal(args) => journal::run(args).await,
            Self::Whoami(args) => whoami::run(args, options).await,
            Self::Token(args) => token::run(args, options).await,
            Self::Connect(args) => connect::run(args, options).await,
            Self::Emulator(args) => emulator::run(*args).await,
            #[cfg(feature = "mcp")]
            Self::Mcp(args) => mcp::run(args, options).await,
            Self::Completions(args) => completions::run(&args),
        }
    }
}

fn main() -> ExitCode {
    let status = run().unwrap_or_else(CommandFailure::print);
    ExitCode::from(status as u8)
}

fn run() -> CommandResult {
    let (command, options) = command_line::parse()?;
    output::start_log(options.verbose);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| CommandFailure::other("the program could not start").because(&error))?;
    let result = runtime.block_on(command.run(&options));
    // A thread that reads a line from a terminal cannot be stopped, so it is not waited for.
    runtime.shutdown_background();
    result
}
