//! `payman completions`: what a shell needs to complete the program's commands and options.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::Cli;
use crate::output::print;
use crate::status::{Failure, Status};

/// Print a shell's completions
#[derive(Args)]
#[command(
    after_help = "Example:\n  payman completions bash > ~/.local/share/bash-completion/completions/payman"
)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs) -> Result<Status, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "payman", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Status::Completed)
}
