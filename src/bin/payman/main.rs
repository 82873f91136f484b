//! `payman`: asks the platform's agent from a terminal or a script, and stands in for the platform.

#![forbid(unsafe_code)]

mod ask;
mod chat;
mod completions;
mod connect;
mod dot_env;
mod emulator;
mod folder;
mod options;
mod output;
mod platform;
mod progress;
mod prompt;
mod sign_in;
mod signals;
mod status;
mod task;
mod token;
mod words;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::options::Options;
use crate::status::{Failure, Status};

/// Ask the Payman platform's agent, in plain words; it moves real money when it is told to.
#[derive(Parser)]
#[command(name = "payman", version, after_help = AFTER_HELP, after_long_help = AFTER_LONG_HELP)]
#[command(propagate_version = true, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum Command {
    Ask(Box<ask::AskArgs>),
    Chat(chat::ChatArgs),
    Task(task::TaskArgs),
    Token(token::TokenArgs),
    Connect(connect::ConnectArgs),
    Emulator(Box<emulator::EmulatorArgs>),
    Completions(completions::CompletionsArgs),
}

const AFTER_HELP: &str = "\
Without an account:  payman ask --emulator \"How much money do I have in my wallet?\"
Every option can also be given by the environment variable shown with it, and in a .env file here.";

const AFTER_LONG_HELP: &str = "\
Start without an account:
  payman ask --emulator \"How much money do I have in my wallet?\"
  payman chat --emulator

With one (https://app.paymanai.com): set PAYMAN_CLIENT_ID and PAYMAN_CLIENT_SECRET, in the
environment or in a file named .env in the folder that you are in, then
  payman ask \"List all payees\"

Exit status:
  0  the task completed (a payment may still await approval: the text says so)
  1  any other error
  2  usage: an option, a variable or a text that will not do, or credentials that are missing
  3  the task failed, was canceled or rejected
  4  the agent asks back: answer in the same task
  5  not authorised: the credentials or the token are not accepted, or the user has to connect again
  6  the outcome is unknown: IT MAY HAVE BEEN DONE. Look before you ask again; the command that
     looks is printed

Quote what you say in single quotes: in double quotes a shell reads $50 as something else.";

fn main() -> ExitCode {
    let status = dot_env::load().and_then(|()| start()).unwrap_or_else(|failure| failure.tell());
    ExitCode::from(status as u8)
}

fn start() -> Result<Status, Failure> {
    let matches = options::without_blank_variables(Cli::command()).get_matches();
    let mut cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    cli.options.settle(&matches)?;
    output::start_log(cli.options.verbose);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::other("the program could not start").because(&error))?;
    let result = runtime.block_on(run(cli));
    // A line that is being read from a terminal cannot be called back: it is not waited for.
    runtime.shutdown_background();
    result
}

async fn run(cli: Cli) -> Result<Status, Failure> {
    let options = &cli.options;
    match cli.command {
        Command::Ask(args) => ask::run(*args, options).await,
        Command::Chat(args) => chat::run(args, options).await,
        Command::Task(args) => task::run(args, options).await,
        Command::Token(args) => token::run(args, options).await,
        Command::Connect(args) => connect::run(args, options).await,
        Command::Completions(args) => completions::run(&args),
        Command::Emulator(args) => emulator::run(*args).await,
    }
}
