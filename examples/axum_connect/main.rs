//! Users connect their own Payman accounts, and the service asks on their behalf.
//!
//! ```sh
//! cargo run --example axum_connect                             # http://127.0.0.1:8080, PORT for another
//! cargo run --example axum_connect -- --store tokens.json      # sign-ins outlive the process
//! cargo run --example axum_connect -- --live                   # the platform; register the redirect URI first
//! ```
//!
//! The way of a user: `/` → `/connect` → the platform's consent page → `/callback` → `/`, and from there asks. When the
//! sign-in is gone, whoever took it away, the next ask leads to `/connect` again.

mod cookies;
mod pages;
#[path = "../support/mod.rs"]
mod support;
#[cfg(test)]
mod tests;
mod users;

use std::sync::Arc;

use axum::extract::{Form, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use payman_sdk::{ConnectUrl, Error, FileTokenStore, MemoryTokenStore, Result, Scope, TokenStore};
use serde::Deserialize;
use tokio::net::TcpListener;

use cookies::{STATE, User};
use support::Payman;
use users::Users;

/// What the service knows.
struct Service {
    payman: Payman,
    users: Users,
    /// Where the platform sends the browser back to.
    redirect_uri: String,
}

type Shared = State<Arc<Service>>;

impl Service {
    fn new(payman: Payman, store: Arc<dyn TokenStore>, address: &str) -> Result<Self> {
        let users = Users::new(payman.config()?, store)?;
        Ok(Self { payman, users, redirect_uri: format!("{address}/callback") })
    }
}

fn router(service: Service) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/connect", get(connect))
        .route("/callback", get(callback))
        .route("/ask", post(ask))
        .route("/disconnect", post(disconnect))
        .layer(middleware::from_fn(cookies::with_user))
        .with_state(Arc::new(service))
}

/// Shows whether the user is connected.
async fn home(State(service): Shared, user: User) -> Result<Response> {
    match service.users.client(&user)?.access_token().await {
        Ok(_) => Ok(pages::connected(None).into_response()),
        Err(error) if error.is_reauthorization_required() => Ok(pages::stranger().into_response()),
        Err(error) => Err(error),
    }
}

/// To the consent page, with a `state` that only this browser knows.
async fn connect(State(service): Shared) -> Result<Response> {
    let state = cookies::random();
    let url = service
        .payman
        .connect_url(&service.redirect_uri)?
        .scopes([
            Scope::ReadBalance,
            Scope::ReadListWallets,
            Scope::ReadListPayees,
            Scope::WriteCreatePayee,
        ])
        .scopes([Scope::WriteSendPayment])
        .state(&state);
    Ok((cookies::set(STATE, &state, "/callback", 600), Redirect::to(url.as_str())).into_response())
}

/// Back from the consent page. The code is exchanged at once, for a token under this user's name.
async fn callback(
    State(service): Shared,
    user: User,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response> {
    let state = cookies::get(&headers, STATE).unwrap_or_default();
    let code = match ConnectUrl::parse_redirect(query.unwrap_or_default(), state) {
        Ok(code) => code,
        // The user said no, or this is not the browser that was sent there.
        Err(error) => {
            return Ok((StatusCode::BAD_REQUEST, pages::not_connected(&error)).into_response());
        }
    };
    service.users.sign_in(&user, code).await?;
    // The state is used up.
    Ok((cookies::set(STATE, "", "/callback", 0), Redirect::to("/")).into_response())
}

#[derive(Deserialize)]
struct Question {
    text: String,
}

/// Asks on the user's behalf. Only this site's own pages can post it with the user's cookie: the cookie is `SameSite`.
async fn ask(
    State(service): Shared,
    user: User,
    Form(question): Form<Question>,
) -> Result<Response> {
    let client = service.users.client(&user)?;
    // In a task of its own: a visitor who leaves drops the handler, and a dropped ask has an unknown outcome.
    let asking = tokio::spawn(client.ask(question.text));
    match asking.await {
        Ok(Ok(reply)) => Ok(pages::connected(Some(&reply)).into_response()),
        Ok(Err(error)) => or_connect(error),
        Err(_) => Ok((
            StatusCode::INTERNAL_SERVER_ERROR,
            "the outcome is unknown: look before you ask again",
        )
            .into_response()),
    }
}

/// The sign-in is gone, and nothing was done: only the user can begin anew.
fn or_connect(error: Error) -> Result<Response> {
    if error.is_reauthorization_required() {
        return Ok(Redirect::to("/connect").into_response());
    }
    Err(error)
}

/// Forgets the user's token.
async fn disconnect(State(service): Shared, user: User) -> Result<Redirect> {
    service.users.sign_out(&user).await?;
    Ok(Redirect::to("/"))
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::var("PORT").ok().map_or(Ok(8080), |port| port.parse())?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let address = format!("http://{}", listener.local_addr()?);
    let service = Service::new(Payman::start().await?, store()?, &address)?;
    println!("listening on {address}");
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    axum::serve(listener, router(service)).with_graceful_shutdown(stop).await?;
    Ok(())
}

fn store() -> std::result::Result<Arc<dyn TokenStore>, &'static str> {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--store");
    match (arguments.next(), arguments.next()) {
        (None, _) => Ok(Arc::new(MemoryTokenStore::new())),
        (Some(_), Some(path)) => Ok(Arc::new(FileTokenStore::new(path))),
        (Some(_), None) => Err("--store needs a path"),
    }
}
