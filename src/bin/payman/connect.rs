//! `payman connect`: a user lets the app act for them, and their token is kept.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::get;
use clap::Args;
use payman_sdk::{AuthCode, Client, Config, ConnectUrl, Error, FileTokenStore, SessionId};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use crate::account::{self, SUBJECT, token_file};
use crate::command_failure::{CommandFailure, CommandResult};
use crate::exit_status::ExitStatus;
use crate::folder;
use crate::options::GlobalOptions;
use crate::output::{note, print_line};
use crate::signals::EndSignals;

/// The time limit of the user's consent.
const CONSENT_LIMIT: Duration = Duration::from_secs(10 * 60);
/// The time limit of the browser's last request.
const LAST_PAGE_LIMIT: Duration = Duration::from_secs(2);

/// Let a user connect: prints the consent page's URL, waits for the browser, keeps the token
///
/// From then on, commands with the same client id, platform and token file act for that user; with
/// --as-app they act as the app itself. To disconnect, delete the token file. The app has to have
/// the redirect URI http://127.0.0.1:PORT/callback among its own.
#[derive(Args)]
pub(crate) struct ConnectArgs {
    /// The port on 127.0.0.1 that the browser returns to; 0 for a free one
    #[arg(long, env = "PAYMAN_CONNECT_PORT", default_value_t = 8976)]
    port: u16,

    /// The scopes that the app asks for, separated by commas
    #[arg(
        long,
        env = "PAYMAN_SCOPES",
        value_name = "SCOPES",
        default_value = "read_balance,read_list_wallets,read_list_payees,\
                         read_list_transactions,write_create_payee,write_send_payment"
    )]
    scopes: String,
}

pub(crate) async fn run(args: ConnectArgs, options: &GlobalOptions) -> CommandResult {
    if options.emulator {
        return Err(CommandFailure::usage(
            "an emulator of this command's own would end with it, and the token with that",
        )
        .next("Start one with `payman emulator`, and give its address: --base-url"));
    }
    let (Some(id), Some(_)) = (&options.client_id, &options.client_secret) else {
        return Err(CommandFailure::usage(
            "to connect a user, PAYMAN_CLIENT_ID and PAYMAN_CLIENT_SECRET are needed",
        )
        .next("Set them to the values in the Payman dashboard."));
    };
    let file = token_file(options).ok_or_else(|| {
        CommandFailure::usage("there is no folder to keep the token in")
            .next("Give a --token-file.")
    })?;
    folder::create_for(&file)?;
    let config = account::config(options, id)?
        .subject(SUBJECT)
        .token_store(FileTokenStore::new(file.as_path()));
    // Every setting is checked before the user is sent to the consent page.
    Client::with_credentials(config.clone()).map_err(|error| {
        CommandFailure::from(&error).next("Nothing was sent. Correct the option or variable.")
    })?;
    warn_of_given_token(options);

    let mut signals = EndSignals::listen();
    let code = tokio::select! {
        code = wait_for_code(&args, options, id) => code?,
        signal = signals.next() => {
            let message = format!("{signal} ended the command before the user agreed");
            return Err(CommandFailure::other(message)
                .next("Nothing was connected. Run payman connect again."));
        }
    };
    // Not stopped by a signal: the code works once, and the token must be kept.
    exchange(config, code, &file).await
}

/// Warns that a token that was given takes precedence over the connected user's.
fn warn_of_given_token(options: &GlobalOptions) {
    let origins = options.origins;
    for origin in [origins.access_token, origins.refresh_token] {
        if origin.is_given() {
            note(format_args!(
                "Warning: as long as {origin} is set, commands use that token and not the one of \
                 the user who connects."
            ));
        }
    }
}

async fn exchange(config: Config, code: AuthCode, file: &Path) -> CommandResult {
    let client = Client::with_auth_code(config, code).await.map_err(|error| {
        CommandFailure::from(&error).next(
            "The user is not connected. Check PAYMAN_CLIENT_ID and PAYMAN_CLIENT_SECRET, then run \
             payman connect again.",
        )
    })?;
    // Tries once more to store a token that could not be stored.
    account::close_client(&client).await;
    if client.token_status().is_store_behind() {
        return Err(CommandFailure::other(format!(
            "the user agreed, but the token could not be kept in {}",
            file.display()
        ))
        .next("Check the file and the disk, and connect again."));
    }
    note(format_args!("Connected. The token is kept in {}.", file.display()));
    Ok(ExitStatus::Completed)
}

/// The expected state of the redirect, and the channel for its result.
struct ConsentVisit {
    csrf: String,
    codes: mpsc::Sender<Result<AuthCode, Error>>,
}

async fn wait_for_code(
    args: &ConnectArgs,
    options: &GlobalOptions,
    client_id: &str,
) -> Result<AuthCode, CommandFailure> {
    let busy = |error: std::io::Error| {
        CommandFailure::other(format!("could not listen on 127.0.0.1:{}", args.port))
            .because(&error)
            .next("Give another --port; the app needs the redirect URI with it.")
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port)).await.map_err(busy)?;
    let port = listener.local_addr().map_err(busy)?.port();
    // A session id is random and cannot be guessed.
    let csrf = SessionId::new().to_string();
    let mut url = ConnectUrl::new(client_id, format!("http://127.0.0.1:{port}/callback"));
    if let Some(environment) = options.environment {
        url = url.environment(environment);
    }
    if let Some(base) = &options.base_url {
        url = url.base_url(base);
    }
    let url = url.scope_text(&args.scopes).state(&csrf);
    note("Open this page in a browser on this machine, and agree:");
    print_line(url.as_str()).map_err(CommandFailure::output)?;

    let (codes, mut received) = mpsc::channel(1);
    let visit = Arc::new(ConsentVisit { csrf, codes });
    let (done, when_done) = oneshot::channel::<()>();
    let pages =
        axum::serve(listener, Router::new().route("/callback", get(callback)).with_state(visit));
    let pages =
        tokio::spawn(pages.with_graceful_shutdown(async { drop(when_done.await) }).into_future());
    let limit = options.timeout.unwrap_or(CONSENT_LIMIT);
    let code = tokio::time::timeout(limit, received.recv()).await;
    // The browser receives its page before the program ends.
    drop(done);
    let _ = tokio::time::timeout(LAST_PAGE_LIMIT, pages).await;
    match code {
        Ok(Some(code)) => code.map_err(|error| refused(&error)),
        Ok(None) => Err(CommandFailure::other("the page for the redirect could not be served")
            .next("Run payman connect again.")),
        Err(_) => Err(CommandFailure::new(ExitStatus::NotAuthorized, "nobody agreed in time")
            .next("Run payman connect again.")),
    }
}

/// Builds the failure of a redirect with an error instead of a code.
fn refused(error: &Error) -> CommandFailure {
    if error.body().as_deref() == Some("access_denied") {
        return CommandFailure::new(ExitStatus::NotAuthorized, "the user said no (access_denied)")
            .next("Nobody was connected. If that was a mistake, run payman connect again.");
    }
    CommandFailure::from(error).next("Nobody was connected. Run payman connect again.")
}

async fn callback(
    State(visit): State<Arc<ConsentVisit>>,
    RawQuery(query): RawQuery,
) -> (StatusCode, Html<&'static str>) {
    let query = query.unwrap_or_default();
    let code = ConnectUrl::parse_redirect(format!("?{query}"), &visit.csrf);
    // A refusal carries its code; an error without one did not come from the consent page.
    if code.as_ref().is_err_and(|error| error.body().is_none()) {
        // Any page can redirect a browser here. A forged redirect neither connects nor ends the
        // wait.
        return (
            StatusCode::BAD_REQUEST,
            Html("<p>This is not the answer that <code>payman connect</code> waits for.</p>"),
        );
    }
    let page = match &code {
        Ok(_) => Html("<p>Connected. You may close this page, and go back to your terminal.</p>"),
        Err(_) => Html("<p>Not connected. Your terminal says why.</p>"),
    };
    let _ = visit.codes.try_send(code);
    (StatusCode::OK, page)
}
