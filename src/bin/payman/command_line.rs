//! Parses the command line, the environment and `.env`.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};

use crate::Command;
use crate::command_failure::CommandFailure;
use crate::dot_env::DotEnv;
use crate::options::{self, ACCOUNT_OPTIONS, GlobalOptions};

/// Ask the Payman platform's agent in plain words. It moves real money when it is told to.
#[derive(Parser)]
#[command(name = "payman", version, after_help = AFTER_HELP, after_long_help = AFTER_LONG_HELP)]
#[command(propagate_version = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    options: GlobalOptions,
}

const AFTER_HELP: &str = "\
Without an account:
  payman ask --emulator 'How much money do I have in my wallet?'
Each option can also be given by the environment variable shown with it, or in a
.env file here.

Put what you ask in SINGLE quotes: in double quotes a shell turns $250 into 50.
Credentials of the form pm-test-… use test money, also on the live servers.";

const AFTER_LONG_HELP: &str = "\
Start without an account:
  payman ask --emulator 'How much money do I have in my wallet?'
  payman chat --emulator

With one (https://app.paymanai.com): set PAYMAN_CLIENT_ID and
PAYMAN_CLIENT_SECRET in the environment, or in a file named .env in the current
folder, then
  payman whoami
  payman ask 'List all payees'

Whether money is real depends on the credentials: those of the form pm-test-…
use test money, also on the live servers.

From a .env file only names that begin with PAYMAN_ are used. A server that it
names is used only with credentials from the same file.

Exit status:
  0  the task completed (a payment may still await approval: the text says so)
  1  any other error
  2  usage: an option, a variable or a text that cannot be used, or credentials
     that are missing
  3  the task failed, was canceled or rejected
  4  the agent asks back: answer in the same task
  5  not authorized: the credentials or the token are not accepted, or the user
     has to connect again
  6  the outcome is unknown: IT MAY HAVE BEEN DONE. Look before you ask again;
     the command that looks is printed

Quote what you say in single quotes: in double quotes a shell reads $50 as
something else.";

/// Returns the command and its options. Help, the version and usage errors end the program here.
pub(crate) fn parse() -> Result<(Command, GlobalOptions), CommandFailure> {
    let dot_env = DotEnv::read();
    if let Ok(dot_env) = &dot_env {
        dot_env.apply()?;
    }
    let matches = match build().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => with_context(error).exit(),
    };
    // The file is read only now, so that help is shown even if the file is invalid.
    let dot_env = dot_env?;
    let CommandLine { command, mut options } = read(&matches);
    options.settle(&matches, &dot_env)?;
    Ok((command, options))
}

fn read(matches: &ArgMatches) -> CommandLine {
    CommandLine::from_arg_matches(matches).unwrap_or_else(|error| error.exit())
}

/// Returns the definition of the command line, as help and completions show it.
pub(crate) fn build() -> clap::Command {
    let mut command = options::without_blank_variables(CommandLine::command());
    // Hands the global options down to the commands.
    command.build();
    for name in ["emulator", "completions", "journal"] {
        command = command.mut_subcommand(name, without_account_options);
    }
    command
}

/// Hides the options that have no effect in a command, and in the commands below it.
fn without_account_options(command: clap::Command) -> clap::Command {
    command
        .mut_args(|arg| {
            let is_useless = ACCOUNT_OPTIONS.contains(&arg.get_id().as_str());
            if is_useless { arg.hide(true) } else { arg }
        })
        .mut_subcommands(without_account_options)
}

/// Adds the suggestion or the variable that clap's message lacks.
fn with_context(error: clap::Error) -> clap::Error {
    match error.kind() {
        ErrorKind::InvalidSubcommand => with_suggestion(error),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => with_variable(error),
        _ => error,
    }
}

/// Suggests the command that takes the fewest changes. Clap's measure finds none for swapped
/// letters in a short word.
fn with_suggestion(mut error: clap::Error) -> clap::Error {
    const MAX_CHANGES: usize = 2;
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidSubcommand) else {
        return error;
    };
    let command = build();
    let similar = command
        .get_subcommands()
        .map(|command| (edit_distance(typed, command.get_name()), command.get_name().to_owned()))
        .filter(|(distance, name)| *distance <= MAX_CHANGES && *distance < name.len())
        .min();
    if let Some((_, name)) = similar {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![name]));
    }
    error
}

/// Returns the optimal string alignment distance: insertions, deletions, replacements and swaps of
/// neighbors.
fn edit_distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (i, c) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, d) in to.iter().enumerate() {
            let replaced = at(&last, j) + usize::from(c != d);
            let mut best = replaced.min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let is_swapped =
                i > 0 && j > 0 && from.get(i - 1) == Some(d) && to.get(j - 1) == Some(c);
            if is_swapped {
                best = best.min(at(&before_last, j - 1) + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    at(&last, to.len())
}

/// Names the variable that an unusable value came from: clap names its option only.
fn with_variable(mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let option = shown.split([' ', '=']).next().unwrap_or_default().to_owned();
    let is_on_command_line = std::env::args().any(|arg| {
        arg.strip_prefix(option.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    });
    if is_on_command_line {
        return error;
    }
    if let Some(variable) = variable_of(&build(), &option) {
        let shown = format!("{shown} (from the variable {variable})");
        error.insert(ContextKind::InvalidArg, ContextValue::String(shown));
    }
    error
}

fn variable_of(command: &clap::Command, option: &str) -> Option<String> {
    let long = option.strip_prefix("--")?;
    let variable = command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(long))
        .and_then(|arg| arg.get_env())
        .filter(|variable| std::env::var_os(variable).is_some())
        .map(|variable| variable.to_string_lossy().into_owned());
    variable.or_else(|| command.get_subcommands().find_map(|command| variable_of(command, option)))
}
