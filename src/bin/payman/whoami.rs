//! `payman whoami`: the account that commands act as.

use clap::{Args, ValueEnum};

use crate::account::AccountSetup;
use crate::command_failure::{CommandFailure, CommandResult};
use crate::exit_status::ExitStatus;
use crate::options::GlobalOptions;
use crate::output::{print_json, print_line};

/// Show which account and platform commands act as
///
/// Uses the same options and files as the other commands, and does not talk to the platform: it
/// does not show whether the credentials are accepted (`payman token` does).
#[derive(Args)]
pub(crate) struct WhoamiArgs {
    /// The output format
    #[arg(short, long, env = "PAYMAN_WHOAMI_OUTPUT", value_enum,
        default_value_t = WhoamiOutput::Text)]
    output: WhoamiOutput,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WhoamiOutput {
    /// One sentence
    Text,
    /// A JSON object
    Json,
}

pub(crate) async fn run(args: WhoamiArgs, options: &GlobalOptions) -> CommandResult {
    let setup = AccountSetup::new(options).without_announcement();
    setup
        .run(async |account| {
            let printed = match args.output {
                WhoamiOutput::Text => print_line(&format!("{}.", account.identity)),
                WhoamiOutput::Json => {
                    let json = serde_json::to_string_pretty(&account.identity.to_json());
                    print_json(&json.map_err(|error| {
                        CommandFailure::other("the identity could not be written as JSON")
                            .because(&error)
                    })?)
                }
            };
            printed.map_err(CommandFailure::output)?;
            Ok(ExitStatus::Completed)
        })
        .await
}
