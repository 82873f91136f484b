//! `payman emulator`: an emulator of the platform on loopback.

use std::error::Error as _;
use std::time::Duration;

use clap::builder::{
    BoolishValueParser, NonEmptyStringValueParser, PossibleValuesParser, TypedValueParser,
};
use clap::{ArgAction, Args};
use payman_sdk::Emulator;
use payman_sdk::emulator::{
    Decimal, Dialect, Envelope, Fault, FinalFlag, LastChunkFlag, LineEnd, Operation, Settings,
    StateCase, StatusText, TokenNames,
};

use crate::command_failure::{CommandFailure, CommandResult};
use crate::exit_status::ExitStatus;
use crate::options::parse_duration;
use crate::output::{is_interactive, note, print_line};
use crate::signals::EndSignals;

/// Run an emulator of the platform: in memory, on loopback, without real money
///
/// The first line on stdout is `listening on http://127.0.0.1:PORT`. Ctrl-C ends it. Any client id
/// and secret are accepted, unless some are set. Point any SDK at it, or this program: --base-url,
/// PAYMAN_BASE_URL.
#[derive(Args)]
#[command(after_help = "\
Over HTTP, for tests in any language:
  GET  /_emulator/state    wallets, payees, payments, tasks, sends per task id, token requests,
                           refresh reuses
  POST /_emulator/reset    back to the initial state
  POST /_emulator/faults   one fault or a list of them, as for --fault

Faults:
  {\"on\": \"send\", \"times\": 2, \"status\": 503, \"retryAfter\": 1}    answers 503 twice
  {\"on\": \"send\", \"when\": \"after\", \"close\": true}             pays, and the answer is lost
  {\"on\": \"sendSubscribe\", \"cutAfter\": 100}                   the stream is cut after 100 bytes
  {\"on\": \"get\", \"stall\": true}                               never answers
  on: send, sendSubscribe, get, cancel, resubscribe, token, agentCard, any")]
pub(crate) struct EmulatorArgs {
    /// The port on 127.0.0.1; 0 for a free one
    #[arg(long, env = "PAYMAN_EMULATOR_PORT", default_value_t = 0)]
    port: u16,

    /// The only client id and secret that are accepted
    #[arg(
        long, env = "PAYMAN_EMULATOR_CREDENTIALS", hide_env_values = true,
        value_name = "ID:SECRET", value_parser = credentials,
    )]
    credentials: Option<(String, String)>,

    /// Accept any access token, with all scopes
    #[arg(
        long, env = "PAYMAN_EMULATOR_ACCEPT_ANY_TOKEN", action = ArgAction::SetTrue,
        value_parser = BoolishValueParser::new(),
    )]
    accept_any_token: bool,

    /// The lifetime of an access token: 3600, 30s, 2m
    #[arg(
        long, env = "PAYMAN_EMULATOR_TOKEN_LIFETIME", value_name = "TIME",
        value_parser = parse_duration, default_value = "1h",
    )]
    token_lifetime: Duration,

    /// Issue a new refresh token with each refresh; the use of an old one ends the whole sign-in
    #[arg(
        long, env = "PAYMAN_EMULATOR_ROTATE", action = ArgAction::SetTrue,
        value_parser = BoolishValueParser::new(),
    )]
    rotate_refresh_tokens: bool,

    /// The scopes of an app that signs in as itself, separated by commas; all unless given
    #[arg(
        long, env = "PAYMAN_EMULATOR_SCOPES", value_delimiter = ',',
        value_parser = NonEmptyStringValueParser::new(),
    )]
    scopes: Vec<String>,

    /// The wallet's opening balance
    #[arg(
        long,
        env = "PAYMAN_EMULATOR_BALANCE",
        value_name = "AMOUNT",
        default_value = "1000000.00"
    )]
    balance: Decimal,

    /// Payments of more than this amount await approval
    #[arg(
        long,
        env = "PAYMAN_EMULATOR_APPROVAL_LIMIT",
        value_name = "AMOUNT",
        default_value = "10000.00"
    )]
    approval_limit: Decimal,

    /// The number of characters in a chunk of a streamed answer; 0 for all at once
    #[arg(long, env = "PAYMAN_EMULATOR_CHUNK_CHARS", value_name = "N", default_value_t = 24)]
    chunk_chars: usize,

    /// The agent's pause after each chunk: 50ms
    #[arg(
        long, env = "PAYMAN_EMULATOR_CHUNK_DELAY", value_name = "TIME",
        value_parser = parse_duration, default_value = "0",
    )]
    chunk_delay: Duration,

    /// The agent's pause before it acts
    #[arg(
        long, env = "PAYMAN_EMULATOR_AGENT_DELAY", value_name = "TIME",
        value_parser = parse_duration, default_value = "0",
    )]
    agent_delay: Duration,

    /// The delay of each request
    #[arg(
        long, env = "PAYMAN_EMULATOR_LATENCY", value_name = "TIME", value_parser = parse_duration,
        default_value = "0",
    )]
    latency: Duration,

    /// A fault for the next matching request, as JSON (see below); may be repeated, or be a list
    #[arg(long, env = "PAYMAN_EMULATOR_FAULTS", value_name = "JSON", value_parser = faults)]
    fault: Vec<Faults>,

    /// An operation that the server does not offer: get, cancel, resubscribe, …; may be repeated
    #[arg(long, env = "PAYMAN_EMULATOR_WITHOUT", value_name = "OPERATION", value_delimiter = ',')]
    without: Vec<Operation>,

    #[command(flatten)]
    dialect: DialectArgs,
}

/// The format of the emulator's responses; the default is the platform's.
#[derive(Args)]
#[command(next_help_heading = "Dialect")]
struct DialectArgs {
    /// The line end of streams
    #[arg(
        long, env = "PAYMAN_EMULATOR_LINE_END", value_parser = one_of::<LineEnd>(LineEnd::NAMES),
        default_value = "lf",
    )]
    line_end: LineEnd,

    /// The spelling of task states
    #[arg(
        long, env = "PAYMAN_EMULATOR_STATES",
        value_parser = one_of::<StateCase>(StateCase::NAMES), default_value = "upper",
    )]
    states: StateCase,

    /// The name of the flag on a stream's last event
    #[arg(
        long, env = "PAYMAN_EMULATOR_FINAL_FLAG",
        value_parser = one_of::<FinalFlag>(FinalFlag::NAMES), default_value = "final",
    )]
    final_flag: FinalFlag,

    /// The name of the flag on an artifact's last chunk
    #[arg(
        long,
        env = "PAYMAN_EMULATOR_LAST_CHUNK_FLAG",
        value_parser = one_of::<LastChunkFlag>(LastChunkFlag::NAMES),
        default_value = "lastChunk"
    )]
    last_chunk_flag: LastChunkFlag,

    /// The content of an event's data
    #[arg(
        long, env = "PAYMAN_EMULATOR_ENVELOPE",
        value_parser = one_of::<Envelope>(Envelope::NAMES), default_value = "json-rpc",
    )]
    envelope: Envelope,

    /// The form of a status message
    #[arg(
        long, env = "PAYMAN_EMULATOR_STATUS_TEXT",
        value_parser = one_of::<StatusText>(StatusText::NAMES), default_value = "text",
    )]
    status_text: StatusText,

    /// The field names of token replies
    #[arg(
        long, env = "PAYMAN_EMULATOR_TOKEN_NAMES",
        value_parser = one_of::<TokenNames>(TokenNames::NAMES), default_value = "camel",
    )]
    token_names: TokenNames,

    /// Begin streams with a byte-order mark
    #[arg(
        long, env = "PAYMAN_EMULATOR_BYTE_ORDER_MARK", action = ArgAction::SetTrue,
        value_parser = BoolishValueParser::new(),
    )]
    byte_order_mark: bool,

    /// Write comments and fields of other names between events
    #[arg(
        long, env = "PAYMAN_EMULATOR_COMMENTS", action = ArgAction::SetTrue,
        value_parser = BoolishValueParser::new(),
    )]
    comments: bool,

    /// Spread an event's JSON over several lines
    #[arg(
        long, env = "PAYMAN_EMULATOR_SEVERAL_LINES", action = ArgAction::SetTrue,
        value_parser = BoolishValueParser::new(),
    )]
    several_lines: bool,

    /// The interval of keep-alive comments in a silent stream; 0 for none
    #[arg(
        long, env = "PAYMAN_EMULATOR_PING", value_name = "TIME", value_parser = parse_duration,
        default_value = "15s",
    )]
    ping: Duration,
}

#[derive(Clone)]
struct Faults(Vec<Fault>);

fn faults(json: &str) -> Result<Faults, String> {
    let one_or_more = if json.trim_start().starts_with('[') {
        serde_json::from_str(json)
    } else {
        serde_json::from_str(json).map(|fault| vec![fault])
    };
    one_or_more.map(Faults).map_err(|error| {
        format!("it is not a fault such as {{\"on\": \"send\", \"status\": 503}}: {error}")
    })
}

fn credentials(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((id, secret)) if !id.is_empty() && !secret.is_empty() => {
            Ok((id.to_owned(), secret.to_owned()))
        }
        _ => Err("expected ID:SECRET".to_owned()),
    }
}

fn one_of<T>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: std::str::FromStr<Err = payman_sdk::Error> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| name.parse::<T>())
}

pub(crate) async fn run(args: EmulatorArgs) -> CommandResult {
    // Before it prints that it listens: the parent process may end it right after.
    let mut signals = EndSignals::listen();
    let faults: Vec<Fault> = args.fault.iter().flat_map(|faults| faults.0.clone()).collect();
    let emulator = Emulator::builder()
        .configure(|settings| args.set(settings))
        .start()
        .await
        .map_err(not_started)?;
    emulator.faults(faults);
    let base_url = emulator.base_url().to_owned();
    print_line(&format!("listening on {base_url}")).map_err(CommandFailure::output)?;
    if is_interactive() {
        note("Any client id and secret are accepted. In another terminal:");
        note(format_args!(
            "  export PAYMAN_BASE_URL={base_url} PAYMAN_CLIENT_ID=me PAYMAN_CLIENT_SECRET=hush"
        ));
        note("  payman ask 'How much money do I have in my wallet?'");
    }
    tokio::select! {
        () = emulator.serve_forever() => {
            Err(CommandFailure::other("the emulator stopped by itself").next("Start it again."))
        }
        _ = signals.next() => Ok(ExitStatus::Completed),
    }
}

fn not_started(error: payman_sdk::Error) -> CommandFailure {
    let failure =
        CommandFailure::other(error.to_string()).next("Give another --port, or 0 for a free one.");
    match error.source() {
        Some(cause) => failure.because(cause),
        None => failure,
    }
}

impl EmulatorArgs {
    fn set(self, settings: &mut Settings) {
        settings.port = self.port;
        settings.credentials = self.credentials.map(|(id, secret)| (id, secret.into()));
        settings.accept_any_token = self.accept_any_token;
        settings.token_lifetime = self.token_lifetime;
        settings.rotate_refresh_tokens = self.rotate_refresh_tokens;
        if !self.scopes.is_empty() {
            settings.scopes = self.scopes.into_iter().collect();
        }
        settings.opening_balance = self.balance;
        settings.approval_limit = self.approval_limit;
        settings.chunk_chars = self.chunk_chars;
        settings.chunk_delay = self.chunk_delay;
        settings.agent_delay = self.agent_delay;
        settings.latency = self.latency;
        settings.missing = self.without.into_iter().collect();
        self.dialect.set(&mut settings.dialect);
    }
}

impl DialectArgs {
    fn set(self, dialect: &mut Dialect) {
        dialect.line_end = self.line_end;
        dialect.states = self.states;
        dialect.final_flag = self.final_flag;
        dialect.last_chunk_flag = self.last_chunk_flag;
        dialect.envelope = self.envelope;
        dialect.status_text = self.status_text;
        dialect.token_names = self.token_names;
        dialect.byte_order_mark = self.byte_order_mark;
        dialect.comments = self.comments;
        dialect.several_lines = self.several_lines;
        dialect.ping = Some(self.ping).filter(|every| !every.is_zero());
    }
}
