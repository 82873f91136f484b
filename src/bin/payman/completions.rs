//! `payman completions`: a shell's completion script.

use clap::Args;
use clap_complete::Shell;

use crate::command_failure::{CommandFailure, CommandResult};
use crate::command_line;
use crate::exit_status::ExitStatus;
use crate::output::print_text;

/// Print a shell's completion script
#[derive(Args)]
#[command(after_help = "Example:
  payman completions bash > ~/.local/share/bash-completion/completions/payman")]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs) -> CommandResult {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command_line::build(), "payman", &mut script);
    print_text(&String::from_utf8_lossy(&script)).map_err(CommandFailure::output)?;
    Ok(ExitStatus::Completed)
}
