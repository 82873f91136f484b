//! Users connect their own Payman accounts, and the service asks on their behalf.
//!
//! ```sh
//! cargo run --example axum_connect                        # http://127.0.0.1:8080, PORT for another
//! cargo run --example axum_connect -- --store tokens.json # sign-ins survive a restart
//! cargo run --example axum_connect -- --live              # register the redirect URI first
//! cargo run --example axum_connect -- --origin https://my.example # its address behind a proxy
//! ```
//!
//! A user goes from `/` to `/connect`, to the platform's consent page, to `/callback` and back to
//! `/`, and asks from there. When the sign-in has ended, for any reason, the next ask leads to
//! `/connect` again.

mod cookies;
mod pages;
#[path = "../support/serving.rs"]
mod serving;
#[path = "../support/site.rs"]
mod site;
#[path = "../support/mod.rs"]
mod support;
#[cfg(test)]
mod tests;
mod users;

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use payman_sdk::web::{Problem, Shutdown, detach};
use payman_sdk::{
    ConnectUrl, Error, FileTokenStore, MemoryTokenStore, Reply, Result, Scope, TokenStore,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use cookies::{STATE, User, add_cookie};
use site::Site;
use support::Payman;
use users::Users;

/// The time limit for the consent page.
const CONNECT_LIMIT: u32 = 600;

/// The state of the service.
struct Service {
    payman: Payman,
    users: Users,
    site: Site,
}

type Shared = State<Arc<Service>>;

impl Service {
    fn new(payman: Payman, store: Arc<dyn TokenStore>, site: Site) -> Result<Self> {
        let users = Users::new(payman.config()?, store)?;
        Ok(Self { payman, users, site })
    }

    /// Returns the URI that the platform redirects the browser to.
    fn redirect_uri(&self) -> String {
        format!("{}/callback", self.site.origin())
    }
}

fn router(service: Arc<Service>) -> Router {
    let site = service.site.clone();
    let router = Router::new()
        .route("/", get(home))
        .route("/page.js", get(pages::script))
        .route("/connect", get(connect))
        .route("/callback", get(callback))
        .route("/ask", post(ask))
        .route("/disconnect", post(disconnect))
        .layer(DefaultBodyLimit::max(16 * 1024))
        .layer(middleware::from_fn_with_state(site.clone(), cookies::with_user))
        .with_state(service);
    serving::guarded(router, site)
}

/// Shows whether the user is connected.
async fn home(State(service): Shared, user: User) -> Result<Response> {
    match service.users.client(&user)?.access_token().await {
        Ok(_) => Ok(pages::connected().into_response()),
        Err(error) if error.is_reauthorization_required() => Ok(pages::stranger().into_response()),
        Err(error) => Err(error),
    }
}

/// Redirects to the consent page, with a `state` that only this browser knows.
async fn connect(State(service): Shared) -> Result<Response> {
    let state = cookies::random();
    let url = service
        .payman
        .connect_url(&service.redirect_uri())?
        .scopes([
            Scope::ReadBalance,
            Scope::ReadListWallets,
            Scope::ReadListPayees,
            Scope::WriteCreatePayee,
        ])
        .scopes([Scope::WriteSendPayment])
        .state(&state);
    let mut response = Redirect::to(url.as_str()).into_response();
    add_cookie(&mut response, &service.site.set_cookie(STATE, &state, CONNECT_LIMIT));
    Ok(response)
}

/// Takes the user back from the consent page, and exchanges the code for a token at once.
///
/// The user gets a new cookie: one that somebody else put into this browser before the sign-in does
/// not become the key to the account.
async fn callback(
    State(service): Shared,
    user: User,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response> {
    let site = &service.site;
    let state = cookies::get(site, &headers, STATE).unwrap_or_default();
    let code = match ConnectUrl::parse_redirect(query.unwrap_or_default(), state) {
        Ok(code) => code,
        // 403 where the user said no, 400 where this browser was not sent there.
        Err(error) => {
            let problem = Problem::from(error);
            let status = StatusCode::from_u16(problem.status()).unwrap_or(StatusCode::BAD_REQUEST);
            return Ok((status, pages::not_connected(&problem)).into_response());
        }
    };
    let connected = User::new();
    service.users.sign_in(&connected, code).await?;
    // The sign-in under the earlier cookie, if there is one, is no longer needed.
    if let Err(error) = service.users.sign_out(&user).await {
        tracing::warn!(?error, "an earlier sign-in could not be removed");
    }
    let mut response = Redirect::to("/").into_response();
    add_cookie(&mut response, &connected.cookie(site));
    add_cookie(&mut response, &site.set_cookie(STATE, "", 0)); // it is used up
    Ok(response)
}

#[derive(Deserialize)]
struct Question {
    text: String,
}

/// Asks on the user's behalf. An error whose code is `connect-again` leads the page to `/connect`.
async fn ask(
    State(service): Shared,
    user: User,
    question: std::result::Result<Json<Question>, JsonRejection>,
) -> std::result::Result<Reply, Problem> {
    let Json(question) = question.map_err(|error| {
        Problem::new(error.status().as_u16(), "unreadable", "Unreadable", error.body_text())
    })?;
    let client = service.users.client(&user)?;
    // Detached: a disconnect drops the handler, and a dropped ask has an unknown outcome.
    Ok(detach(client.ask(question.text)).await?)
}

/// Removes the user's token.
async fn disconnect(State(service): Shared, user: User) -> Result<Json<Value>, Error> {
    service.users.sign_out(&user).await?;
    Ok(Json(json!({ "connected": false })))
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::var("PORT").ok().map_or(Ok(8080), |port| port.parse())?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let address = listener.local_addr()?;
    let site = Site::new(address.port(), argument("--origin")?);
    let service = Service::new(Payman::start().await?, store()?, site)?;
    println!("listening on http://{address}");
    let service = Arc::new(service);
    // After Ctrl-C or SIGTERM, asks in progress end, and every user's token is stored.
    serving::serve(listener, router(Arc::clone(&service)), Shutdown::new()).await?;
    service.users.close().await;
    Ok(())
}

fn store() -> std::result::Result<Arc<dyn TokenStore>, String> {
    Ok(match argument("--store")? {
        Some(path) => Arc::new(FileTokenStore::new(path)),
        None => Arc::new(MemoryTokenStore::new()),
    })
}

fn argument(name: &str) -> std::result::Result<Option<String>, String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    match (arguments.next(), arguments.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(value)) => Ok(Some(value)),
        (Some(name), None) => Err(format!("{name} needs a value")),
    }
}
