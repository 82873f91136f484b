//! The options that every command takes.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser as Text;
use clap::builder::{BoolishValueParser, Resettable};
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, Command};
use payman_sdk::Environment;

use crate::status::Failure;

/// Each has an environment variable; the command line wins over it. Secrets belong in the variables: other users
/// of a machine may see a command line.
#[derive(Args, Clone)]
#[command(next_help_heading = "Which platform, and as whom")]
pub(crate) struct Options {
    /// Talk to an emulator that lives as long as this command: no account, play money
    #[arg(long, global = true, env = "PAYMAN_EMULATOR", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub(crate) emulator: bool,

    /// `live` (real money; the default) or `test`
    #[arg(long, global = true, env = "PAYMAN_ENVIRONMENT", value_name = "live|test")]
    pub(crate) environment: Option<Environment>,

    /// Another server, such as a running `payman emulator`; wins over the environment
    #[arg(long, global = true, env = "PAYMAN_BASE_URL", value_name = "URL", value_parser = Text::new())]
    pub(crate) base_url: Option<String>,

    /// The app's id, from the Payman dashboard
    #[arg(long, global = true, env = "PAYMAN_CLIENT_ID", value_name = "ID", value_parser = Text::new())]
    pub(crate) client_id: Option<String>,

    /// The app's secret
    #[arg(
        long,
        global = true,
        env = "PAYMAN_CLIENT_SECRET",
        hide_env_values = true,
        value_name = "SECRET",
        value_parser = Text::new()
    )]
    pub(crate) client_secret: Option<String>,

    /// A user's access token, instead of the app's own sign-in
    #[arg(
        long,
        global = true,
        env = "PAYMAN_ACCESS_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN",
        value_parser = Text::new()
    )]
    pub(crate) access_token: Option<String>,

    /// How long the access token still lives, in seconds
    #[arg(
        long,
        global = true,
        env = "PAYMAN_EXPIRES_IN",
        value_name = "SECONDS",
        default_value_t = 3600
    )]
    pub(crate) expires_in: u64,

    /// A user's refresh token; what it is exchanged for is kept in the token file, as it may work only once
    #[arg(
        long,
        global = true,
        env = "PAYMAN_REFRESH_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN",
        value_parser = Text::new()
    )]
    pub(crate) refresh_token: Option<String>,

    /// Where `payman connect` keeps the user's token; a file in your configuration folder unless given
    #[arg(long, global = true, env = "PAYMAN_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// Act as the app itself, also where a user is connected
    #[arg(long, global = true, env = "PAYMAN_AS_APP", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub(crate) as_app: bool,

    /// The deadline, with all waiting and looking: 45, 30s, 2m. Six minutes unless given; a stream has none
    #[arg(long, global = true, env = "PAYMAN_TIMEOUT", value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,

    /// Tell on stderr what is done; -vv tells all. No secret and nothing of what is said is in it
    #[arg(short, long, global = true, env = "PAYMAN_VERBOSE", action = ArgAction::Count, display_order = 900)]
    pub(crate) verbose: u8,

    /// The options of the command line that say which platform and sign-in it was, for commands to be repeated.
    #[arg(skip)]
    pub(crate) spelled: String,
}

impl Options {
    /// What the command line says wins over variables that say otherwise.
    pub(crate) fn settle(&mut self, matches: &ArgMatches) -> Result<(), Failure> {
        let mut innermost = matches;
        while let Some((_, inner)) = innermost.subcommand() {
            innermost = inner;
        }
        let given = |id: &str| innermost.value_source(id) == Some(ValueSource::CommandLine);
        if given("emulator") && (given("base_url") || given("environment")) {
            return Err(Failure::usage(
                "--emulator starts one of its own, so it goes with neither --base-url nor --environment",
            )
            .next("Give the --base-url of an emulator that runs already, or --emulator."));
        }
        if given("base_url") && given("environment") {
            return Err(Failure::usage(
                "--base-url and --environment both say which platform; give one of them",
            ));
        }
        if given("base_url") || given("environment") {
            self.emulator = false;
        }
        if given("environment") {
            self.base_url = None;
        }
        for (id, name) in [
            ("base_url", "--base-url"),
            ("environment", "--environment"),
            ("client_id", "--client-id"),
            ("token_file", "--token-file"),
        ] {
            if given(id)
                && let Some(value) = innermost.get_raw(id).and_then(|mut values| values.next())
            {
                self.spelled.push_str(&format!(" {name} {}", quoted(&value.to_string_lossy())));
            }
        }
        if given("as_app") {
            self.spelled.push_str(" --as-app");
        }
        Ok(())
    }
}

/// As a shell reads it back.
pub(crate) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A variable that is set to nothing counts as not set.
pub(crate) fn without_blank_variables(command: Command) -> Command {
    let is_blank = |name: &std::ffi::OsStr| {
        std::env::var_os(name)
            .is_some_and(|value| value.to_str().is_some_and(|text| text.trim().is_empty()))
    };
    command
        .mut_args(|arg| match arg.get_env() {
            Some(name) if is_blank(name) => arg.env(Resettable::Reset),
            _ => arg,
        })
        .mut_subcommands(without_blank_variables)
}

/// Reads `30`, `30s`, `500ms`, `2m`, `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let seconds =
        match unit.trim() {
            "" | "s" => 1.0,
            "ms" => 0.001,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            _ => return Err(
                "a time is a number of seconds, or has one of the units ms, s, m, h: 45, 30s, 2m"
                    .to_owned(),
            ),
        };
    let number: f64 =
        number.parse().map_err(|_| "a time starts with a number: 45, 30s, 2m".to_owned())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| "that is too long a time".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, millis) in
            [("30", 30_000), ("30s", 30_000), ("1.5m", 90_000), ("2 h", 7_200_000), ("250ms", 250)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "-1", "3 days", "1e400", "99999999999999999999"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_a_shell_would_change_is_quoted() {
        assert_eq!(quoted("http://127.0.0.1:80"), "http://127.0.0.1:80");
        assert_eq!(quoted("it's $5"), r"'it'\''s $5'");
        assert_eq!(quoted(""), "''");
    }
}
