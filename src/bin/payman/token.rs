//! `payman token`: how the access token stands.

use std::fmt::Write;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};
use payman_sdk::{Client, TokenSource};

use crate::options::Options;
use crate::output::{note, print_line};
use crate::platform::Platform;
use crate::status::{Failure, Status};

/// Obtain an access token, and tell how it stands
#[derive(Args)]
#[command(after_help = "\
Example:
  curl -H \"x-payman-access-token: $(payman token --reveal)\" …")]
pub(crate) struct TokenArgs {
    /// Print the token itself, and nothing else, to stdout
    #[arg(long, env = "PAYMAN_REVEAL", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    reveal: bool,
}

pub(crate) async fn run(args: TokenArgs, options: &Options) -> Result<Status, Failure> {
    let platform = Platform::reach(options).await?;
    let token = match options.timeout {
        Some(limit) => {
            tokio::time::timeout(limit, platform.client.access_token()).await.map_err(|_| {
                Failure::other("no token came in time").next("Nothing was done. Try again.")
            })?
        }
        None => platform.client.access_token().await,
    }?;
    let status = status(&platform.client, token.expires_in());
    if args.reveal {
        note(format_args!("{status}"));
        print_line(token.expose_secret())?;
    } else {
        print_line(&status)?;
    }
    Ok(Status::Completed)
}

fn status(client: &Client, left: Duration) -> String {
    let status = client.token_status();
    let source = match status.source() {
        TokenSource::ClientCredentials => "the app's own credentials",
        TokenSource::AuthCode => "a user's consent",
        TokenSource::RefreshToken => "a user's refresh token",
        TokenSource::Given => "an option or a variable",
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
