//! The options that every command accepts.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser as Text;
use clap::builder::{BoolishValueParser, Resettable};
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, Command};
use payman_sdk::Environment;
use payman_sdk::escape::is_unsafe;

use crate::command_failure::CommandFailure;
use crate::dot_env::DotEnv;
use crate::value_origin::{OriginKind, ValueOrigin};

/// The options for the platform that a command talks to, and for its account.
///
/// Each has an environment variable; the command line wins over it. Secrets belong in variables,
/// because other users of a machine may see a command line.
#[derive(Args, Clone)]
#[command(next_help_heading = "Platform and account")]
pub(crate) struct GlobalOptions {
    /// Talk to an emulator that lives as long as this command: no account, no real money
    #[arg(long, global = true, env = "PAYMAN_EMULATOR", action = ArgAction::SetTrue,
        value_parser = BoolishValueParser::new())]
    pub(crate) emulator: bool,

    /// `live` (the default) or `test`, Payman's own development servers. Test money does not need
    /// `test`: it comes with test credentials (pm-test-…), which work on the live servers
    #[arg(long, global = true, env = "PAYMAN_ENVIRONMENT", value_name = "live|test")]
    pub(crate) environment: Option<Environment>,

    /// Another server, such as a running `payman emulator`; wins over the environment
    #[arg(long, global = true, env = "PAYMAN_BASE_URL", value_name = "URL",
        value_parser = Text::new())]
    pub(crate) base_url: Option<String>,

    /// The app's id, from the Payman dashboard
    #[arg(long, global = true, env = "PAYMAN_CLIENT_ID", value_name = "ID",
        value_parser = Text::new())]
    pub(crate) client_id: Option<String>,

    /// The app's secret
    #[arg(long, global = true, env = "PAYMAN_CLIENT_SECRET", hide_env_values = true,
        value_name = "SECRET", value_parser = Text::new())]
    pub(crate) client_secret: Option<String>,

    /// A user's access token, used instead of the app's own credentials
    #[arg(long, global = true, env = "PAYMAN_ACCESS_TOKEN", hide_env_values = true,
        value_name = "TOKEN", value_parser = Text::new())]
    pub(crate) access_token: Option<String>,

    /// The remaining lifetime of the access token, in seconds
    #[arg(
        long,
        global = true,
        env = "PAYMAN_EXPIRES_IN",
        value_name = "SECONDS",
        default_value_t = 3600
    )]
    pub(crate) expires_in: u64,

    /// A user's refresh token. It may work only once, so its successors are kept in the token file
    #[arg(long, global = true, env = "PAYMAN_REFRESH_TOKEN", hide_env_values = true,
        value_name = "TOKEN", value_parser = Text::new())]
    pub(crate) refresh_token: Option<String>,

    /// The file in which `payman connect` keeps the user's token [default: a file in your
    /// configuration folder]
    #[arg(long, global = true, env = "PAYMAN_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// Act as the app itself, even where a user is connected
    #[arg(long, global = true, env = "PAYMAN_AS_APP", action = ArgAction::SetTrue,
        value_parser = BoolishValueParser::new())]
    pub(crate) as_app: bool,

    /// The time limit of the whole command: 45, 30s, 2m [default: none; 6m for each ask
    /// that is not streamed]
    #[arg(long, global = true, env = "PAYMAN_TIMEOUT", value_name = "TIME",
        value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,

    /// Do not show on stderr which account a command acts as
    #[arg(short, long, global = true, env = "PAYMAN_QUIET", action = ArgAction::SetTrue,
        value_parser = BoolishValueParser::new(), display_order = 899)]
    pub(crate) quiet: bool,

    /// Log to stderr what the program does; -vv logs everything. The log holds no secrets and no
    /// text of an ask
    #[arg(short, long, global = true, env = "PAYMAN_VERBOSE", action = ArgAction::Count,
        display_order = 900)]
    pub(crate) verbose: u8,

    #[arg(skip)]
    pub(crate) origins: Origins,

    /// The account options of the command line, to be repeated in commands that are suggested.
    #[arg(skip)]
    pub(crate) spelled: String,
}

/// The options of [`GlobalOptions`] that only matter to a command with an account.
pub(crate) const ACCOUNT_OPTIONS: [&str; 11] = [
    "emulator",
    "environment",
    "base_url",
    "client_id",
    "client_secret",
    "access_token",
    "expires_in",
    "refresh_token",
    "token_file",
    "as_app",
    "timeout",
];

/// The origins of the values that error messages and checks refer to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Origins {
    pub(crate) emulator: ValueOrigin,
    pub(crate) environment: ValueOrigin,
    pub(crate) base_url: ValueOrigin,
    pub(crate) client_secret: ValueOrigin,
    pub(crate) access_token: ValueOrigin,
    pub(crate) refresh_token: ValueOrigin,
    pub(crate) token_file: ValueOrigin,
}

impl GlobalOptions {
    /// Decides between contradicting options by their origins.
    pub(crate) fn settle(
        &mut self,
        matches: &ArgMatches,
        dot_env: &DotEnv,
    ) -> Result<(), CommandFailure> {
        let mut innermost = matches;
        while let Some((_, inner)) = innermost.subcommand() {
            innermost = inner;
        }
        let origin =
            |id, option, variable| ValueOrigin::find(innermost, dot_env, id, option, variable);
        self.origins = Origins {
            emulator: origin("emulator", "--emulator", "PAYMAN_EMULATOR"),
            environment: origin("environment", "--environment", "PAYMAN_ENVIRONMENT"),
            base_url: origin("base_url", "--base-url", "PAYMAN_BASE_URL"),
            client_secret: origin("client_secret", "--client-secret", "PAYMAN_CLIENT_SECRET"),
            access_token: origin("access_token", "--access-token", "PAYMAN_ACCESS_TOKEN"),
            refresh_token: origin("refresh_token", "--refresh-token", "PAYMAN_REFRESH_TOKEN"),
            token_file: origin("token_file", "--token-file", "PAYMAN_TOKEN_FILE"),
        };
        self.settle_destination()?;
        self.spelled = self.spell(innermost);
        Ok(())
    }

    fn settle_destination(&mut self) -> Result<(), CommandFailure> {
        let Origins { emulator, environment, base_url, .. } = self.origins;
        let is_elsewhere = environment.is_command_line() || base_url.is_command_line();
        if emulator.is_command_line() && is_elsewhere {
            return Err(CommandFailure::usage(
                "--emulator starts an emulator of its own, so it excludes --base-url and \
                 --environment",
            )
            .next("Give the --base-url of an emulator that runs already, or only --emulator."));
        }
        if environment.is_command_line() && base_url.is_command_line() {
            return Err(CommandFailure::usage("--base-url and --environment name two platforms")
                .next("Give one of them."));
        }
        if self.emulator && emulator.kind < environment.kind.max(base_url.kind) {
            self.emulator = false;
        }
        if environment.kind > base_url.kind {
            self.base_url = None;
        }
        Ok(())
    }

    /// Returns the origin of the base URL.
    pub(crate) fn destination(&self) -> ValueOrigin {
        if self.base_url.is_some() { self.origins.base_url } else { self.origins.environment }
    }

    /// Refuses to send credentials to a destination that a file in the current folder chose,
    /// unless they come from the same file.
    pub(crate) fn check_destination(&self) -> Result<(), CommandFailure> {
        let destination = self.destination();
        if destination.kind != OriginKind::DotEnv {
            return Ok(());
        }
        let Origins { client_secret, access_token, refresh_token, .. } = self.origins;
        let foreign = [client_secret, access_token, refresh_token]
            .into_iter()
            .find(|origin| origin.is_given() && origin.kind != OriginKind::DotEnv);
        match foreign {
            None => Ok(()),
            Some(credential) => Err(CommandFailure::usage(format!(
                "{destination} names the server, and the credentials come from {credential}: \
                 they were not sent there"
            ))
            .next(format!(
                "If you trust that server, give its address with {}, or put the credentials \
                 into the same file.",
                destination.option()
            ))),
        }
    }

    fn spell(&self, matches: &ArgMatches) -> String {
        let mut spelled = String::new();
        for (id, option) in [
            ("base_url", "--base-url"),
            ("environment", "--environment"),
            ("client_id", "--client-id"),
            ("token_file", "--token-file"),
        ] {
            if matches.value_source(id) == Some(ValueSource::CommandLine)
                && let Some(value) = matches.get_raw(id).and_then(|mut values| values.next())
            {
                spelled.push_str(&format!(" {option} {}", quoted(&value.to_string_lossy())));
            }
        }
        if matches.value_source("as_app") == Some(ValueSource::CommandLine) {
            spelled.push_str(" --as-app");
        }
        spelled
    }
}

/// Returns the text as a shell reads it back; control characters as `$'…'`, which bash, zsh and
/// ksh understand.
pub(crate) fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    if !text.chars().any(is_unsafe) {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    let mut out = String::from("$'");
    for c in text.chars() {
        match c {
            '\'' | '\\' => out.extend(['\\', c]),
            _ if is_unsafe(c) => out.push_str(&format!("\\U{:08x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out.push('\'');
    out
}

/// Treats a variable that is set to white space as not set.
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

/// Parses a duration, such as `30`, `30s`, `500ms`, `2m` or `1h`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
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
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "-1", "3 days", "1e400", "99999999999999999999"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn special_characters_of_a_shell_are_quoted() {
        assert_eq!(quoted("http://127.0.0.1:80"), "http://127.0.0.1:80");
        assert_eq!(quoted("it's $5"), r"'it'\''s $5'");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("a\u{9b}'\n"), r"$'a\U0000009b\'\U0000000a'");
    }
}
