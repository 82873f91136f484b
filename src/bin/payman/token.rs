//! `payman token`: obtains an access token and shows its state.

use std::fmt::Write;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};
use payman_sdk::TokenSource;

use crate::account::{Account, with_account};
use crate::command_failure::{CommandFailure, CommandResult};
use crate::exit_status::ExitStatus;
use crate::options::GlobalOptions;
use crate::output::{note_lines, print_line};

/// Obtain an access token and show its state
#[derive(Args)]
#[command(after_help = "\
Example:
  curl -H \"x-payman-access-token: $(payman token --reveal)\" …")]
pub(crate) struct TokenArgs {
    /// Print the token itself, and nothing else, to stdout
    #[arg(long, env = "PAYMAN_REVEAL", action = ArgAction::SetTrue,
        value_parser = BoolishValueParser::new())]
    reveal: bool,
}

pub(crate) async fn run(args: TokenArgs, options: &GlobalOptions) -> CommandResult {
    with_account(options, async |account| {
        let limit = options.timeout.unwrap_or(Duration::MAX);
        let token = tokio::time::timeout(limit, account.client.access_token())
            .await
            .map_err(|_| {
                CommandFailure::other("no token arrived in time")
                    .next("Nothing was done. Try again.")
            })?
            .map_err(|error| account.failure(&error))?;
        let status = describe(account, token.expires_in());
        let printed = if args.reveal {
            note_lines(&status);
            print_line(token.expose_secret())
        } else {
            print_line(&status)
        };
        printed.map_err(CommandFailure::output)?;
        if account.client.token_status().is_store_behind() {
            note_lines("The token could not be kept in the token file; it works until it expires.");
        }
        Ok(ExitStatus::Completed)
    })
    .await
}

fn describe(account: &Account, left: Duration) -> String {
    let client = &account.client;
    let status = client.token_status();
    let given;
    let source = match status.source() {
        TokenSource::ClientCredentials => "the app's own credentials",
        TokenSource::AuthCode => "a user's consent",
        TokenSource::RefreshToken => "a user's refresh token",
        TokenSource::Given => {
            given = account.identity.given_token();
            &given
        }
        TokenSource::Store => "the token file",
        _ => "elsewhere",
    };
    let mut text = format!("valid for {}\nfrom {source}", in_words(left));
    if !status.scopes().is_empty() {
        let scopes: Vec<_> = status.scopes().iter().map(ToString::to_string).collect();
        let _ = write!(text, "\nscopes: {}", scopes.join(", "));
    }
    let renewal = match (status.source(), client.refresh_token()) {
        (_, Some(_)) => "by a refresh token",
        (TokenSource::ClientCredentials, None) => "by the app's own credentials",
        (_, None) => "not: the user has to connect again",
    };
    let _ = write!(text, "\nrenewed {renewal}");
    text
}

fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}
