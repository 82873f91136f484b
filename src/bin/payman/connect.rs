//! `payman connect`: a user lets the app act for them, and the token is kept.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::get;
use clap::Args;
use payman_sdk::{AuthCode, Client, ConnectUrl, FileTokenStore, SessionId};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use crate::folder;
use crate::options::Options;
use crate::output::{note, print_line};
use crate::sign_in::{self, SUBJECT};
use crate::status::{Failure, Status};

const PATIENCE: Duration = Duration::from_secs(10 * 60);
const LAST_PAGE: Duration = Duration::from_secs(2);

/// Let a user connect: prints the consent page's URL, waits for the browser, keeps the token
///
/// From then on, commands with the same client id, platform and token file act for that user; with --as-app for the
/// app itself. To disconnect, delete the token file. The app has to know the redirect URI, which is
/// http://127.0.0.1:PORT/callback.
#[derive(Args)]
pub(crate) struct ConnectArgs {
    /// The port on 127.0.0.1 that the browser comes back to; 0 for a free one
    #[arg(long, env = "PAYMAN_CONNECT_PORT", default_value_t = 8976)]
    port: u16,

    /// What the app may do for the user, between commas
    #[arg(
        long,
        env = "PAYMAN_SCOPES",
        value_name = "SCOPES",
        default_value = "read_balance,read_list_wallets,read_list_payees,read_list_transactions,write_create_payee,write_send_payment"
    )]
    scopes: String,
}

pub(crate) async fn run(args: ConnectArgs, options: &Options) -> Result<Status, Failure> {
    if options.emulator {
        return Err(Failure::usage(
            "an emulator of this command's own would end with it, and the token with that",
        )
        .next("Start one with `payman emulator`, and give its address: --base-url"));
    }
    let (Some(id), Some(_)) = (&options.client_id, &options.client_secret) else {
        return Err(Failure::usage(
            "to connect a user, PAYMAN_CLIENT_ID and PAYMAN_CLIENT_SECRET are needed",
        ));
    };
    let file = sign_in::token_file(options).ok_or_else(|| {
        Failure::usage("there is no folder to keep the token in: give a --token-file")
    })?;
    folder::make_for(&file)?;
    let config =
        sign_in::config(options, id).subject(SUBJECT).token_store(FileTokenStore::new(&file));
    // Checks every setting before a user is sent anywhere.
    Client::with_credentials(config.clone())?;

    let code = wait_for_code(&args, options, id).await?;
    let client = Client::with_auth_code(config, code).await?;
    if client.token_status().is_store_behind() {
        return Err(Failure::other(format!(
            "the user is connected, but the token could not be kept in {}",
            file.display()
        ))
        .next("Check the file, and connect again."));
    }
    note(format_args!("Connected. The token is kept in {}.", file.display()));
    Ok(Status::Completed)
}

/// What the browser brought, and who it waits for.
struct Desk {
    csrf: String,
    codes: mpsc::Sender<Result<AuthCode, payman_sdk::Error>>,
}

async fn wait_for_code(
    args: &ConnectArgs,
    options: &Options,
    client_id: &str,
) -> Result<AuthCode, Failure> {
    let busy = |error: std::io::Error| {
        Failure::other(format!("could not listen on 127.0.0.1:{}", args.port))
            .because(&error)
            .next("Give another --port; the app has to know the redirect URI with it.")
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port)).await.map_err(busy)?;
    let port = listener.local_addr().map_err(busy)?.port();
    // Random and unguessable, as a session's id is.
    let csrf = SessionId::new().to_string();
    let mut url = ConnectUrl::new(client_id, format!("http://127.0.0.1:{port}/callback"));
    if let Some(environment) = options.environment {
        url = url.environment(environment);
    }
    if let Some(base) = &options.base_url {
        url = url.base_url(base);
    }
    let url = url.scope_text(&args.scopes).state(&csrf);
    note(format_args!("Open this page in a browser on this machine, and agree:"));
    print_line(url.as_str())?;

    let (codes, mut brought) = mpsc::channel(1);
    let desk = Arc::new(Desk { csrf, codes });
    let (done, when_done) = oneshot::channel::<()>();
    let pages =
        axum::serve(listener, Router::new().route("/callback", get(callback)).with_state(desk));
    let pages =
        tokio::spawn(pages.with_graceful_shutdown(async { drop(when_done.await) }).into_future());
    let code = tokio::time::timeout(options.timeout.unwrap_or(PATIENCE), brought.recv()).await;
    // The browser gets its page, whichever it is, before the program ends.
    drop(done);
    let _ = tokio::time::timeout(LAST_PAGE, pages).await;
    match code {
        Ok(Some(code)) => Ok(code?),
        Ok(None) => Err(Failure::other("the page for the redirect could not be served")
            .next("Run payman connect again.")),
        Err(_) => Err(Failure::new(Status::NotAuthorised, "nobody agreed in time")
            .next("Run payman connect again.")),
    }
}

async fn callback(
    State(desk): State<Arc<Desk>>,
    RawQuery(query): RawQuery,
) -> (StatusCode, Html<&'static str>) {
    let query = query.unwrap_or_default();
    let code = ConnectUrl::parse_redirect(format!("?{query}"), &desk.csrf);
    // A refusal carries its code; an error without one means that this is nobody's answer.
    if code.as_ref().is_err_and(|error| error.body().is_none()) {
        // Any page can send a browser here: it neither connects nor ends the waiting.
        return (
            StatusCode::BAD_REQUEST,
            Html("<p>This is not the answer that <code>payman connect</code> waits for.</p>"),
        );
    }
    let page = match &code {
        Ok(_) => Html("<p>Connected. You may close this page, and go back to your terminal.</p>"),
        Err(_) => Html("<p>Not connected. Your terminal says why.</p>"),
    };
    let _ = desk.codes.try_send(code);
    (StatusCode::OK, page)
}
