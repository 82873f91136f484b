//! `payman mcp`: the platform as a tool for any host of the Model Context Protocol.

mod asking;
mod attempt;
mod bounded;
mod call;
mod confirm;
mod connection;
mod consent;
mod dialog;
mod journal;
mod lookup;
mod order;
mod progress;
mod repeats;
mod result;
mod server;
mod shared;
mod tools;
mod visible;

use std::sync::Arc;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};
use rmcp::ServiceExt;
use rmcp::service::ServerInitializeError;
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::stdio_pipes;
use tokio::time::timeout;

use crate::account::close_client;
use crate::command_failure::{CommandFailure, CommandResult};
use crate::exit_status::ExitStatus;
use crate::journal::JournalOption;
use crate::options::{GlobalOptions, parse_duration, quoted};
use crate::output::note;
use crate::signals::EndSignals;

use confirm::Confirm;
use connection::{AskAccess, LazyConnection};
use server::McpServer;
use shared::{MAX_ASKS, McpCore};

/// The longest message that a host may send, in bytes.
const MAX_LINE: usize = 1024 * 1024;
/// The time limit of waiting for calls in progress at the end.
const LAST_CALLS: Duration = Duration::from_secs(12);
/// The time limit of waiting for a token to be stored at the end.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// Serve the Model Context Protocol over stdin and stdout: the platform as a tool for an assistant
///
/// A host (Claude, VS Code, Cursor, …) starts this command and offers its user three tools:
/// ask_payman, get_task and cancel_task. Before an ask is sent, the host's user is shown all of it
/// and has to accept; hosts that cannot ask their user need --confirm never. Only the protocol is
/// written to stdout.
///
/// An ask with the same content as an earlier one is not sent again while that one is in progress,
/// while its outcome is unknown, and for the --repeat-window after its answer.
#[derive(Args)]
#[command(after_long_help = "\
Entry in a host's configuration (Claude Desktop, Claude Code, Cursor, Windsurf, Cline):
  {\"mcpServers\": {\"payman\": {\"command\": \"payman\", \"args\": [\"mcp\"],
    \"env\": {\"PAYMAN_CLIENT_ID\": \"…\", \"PAYMAN_CLIENT_SECRET\": \"…\"}}}}
VS Code (.vscode/mcp.json):
  {\"servers\": {\"payman\": {\"type\": \"stdio\", \"command\": \"payman\", \"args\": [\"mcp\"]}}}
Without an account: \"args\": [\"mcp\", \"--emulator\"]")]
pub(crate) struct McpArgs {
    /// The asks that the host's user has to accept before they are sent
    // It has no variable: a file named .env in a project's folder must not be able to set it.
    #[arg(long, value_enum, default_value_t = Confirm::Always)]
    confirm: Confirm,

    /// Send nothing unless the access token is known to allow reading only
    ///
    /// A user's sign-in can be limited so: payman connect --scopes read_balance,… The app's own
    /// cannot, and is refused. With --emulator the token is limited by itself.
    #[arg(
        long,
        env = "PAYMAN_MCP_READ_ONLY",
        action = ArgAction::SetTrue,
        value_parser = BoolishValueParser::new()
    )]
    read_only: bool,

    /// Cancel the task where the host cancels the call; else only the connection is closed, and the
    /// agent continues
    #[arg(
        long,
        env = "PAYMAN_MCP_CANCEL_TASKS",
        action = ArgAction::SetTrue,
        value_parser = BoolishValueParser::new()
    )]
    cancel_tasks: bool,

    /// The time after its answer for which an ask with the same text counts as a repeated call, and
    /// gets that answer
    // Without a variable, for the same reason.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "5m")]
    repeat_window: Duration,

    #[command(flatten)]
    journal: JournalOption,
}

pub(crate) async fn run(args: McpArgs, options: &GlobalOptions) -> CommandResult {
    let mut signals = EndSignals::listen();
    let access = if args.read_only { AskAccess::ReadOnly } else { AskAccess::ReadWrite };
    let core = Arc::new(McpCore::new(
        LazyConnection::new(options.clone(), access, args.journal),
        args.confirm,
        args.cancel_tasks,
        options.timeout,
        args.repeat_window,
    ));
    let (stdin, stdout) = stdio_pipes();
    let transport = AsyncRwTransport::new(stdin, stdout).with_max_line_length(MAX_LINE);
    let started = tokio::select! {
        started = McpServer(Arc::clone(&core)).serve(transport) => started,
        _ = signals.next() => return Ok(ExitStatus::Completed),
    };
    let service = match started {
        Ok(service) => service,
        // The host closed the connection before its first message.
        Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(ExitStatus::Completed),
        Err(error) => {
            return Err(CommandFailure::other("no MCP host could be served").because(&error).next(
                "This command talks to an MCP host over stdin and stdout; see: payman mcp --help",
            ));
        }
    };
    let end = service.cancellation_token();
    let waiting = service.waiting();
    tokio::pin!(waiting);
    tokio::select! {
        _ = &mut waiting => {}
        _ = signals.next() => {
            end.cancel();
            let _ = waiting.await;
        }
    }
    // Calls that the host abandoned end now: their streams are closed, and their tasks are canceled
    // with `--cancel-tasks`.
    let _ = timeout(LAST_CALLS, core.slots.acquire_many(MAX_ASKS)).await;
    let unresolved = core.repeats.unresolved();
    // This command's own emulator has ended with it, and no money was moved.
    for task in unresolved.iter().filter(|_| !options.emulator) {
        note(format_args!(
            "payman mcp: ended before an answer. IT MAY HAVE BEEN DONE. To look: payman task get \
             {}{}",
            quoted(task.as_str()),
            options.spelled
        ));
    }
    if let Some(client) = core.connection.existing() {
        let _ = timeout(CLOSE_LIMIT, close_client(&client)).await;
    }
    Ok(if unresolved.is_empty() { ExitStatus::Completed } else { ExitStatus::OutcomeUnknown })
}
