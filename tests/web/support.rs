//! A service on axum or actix-web that uses a client, and a plain HTTP client of the service.

use std::time::Duration;

use actix_web::{App, HttpServer, web};
use axum::Router;
use axum::extract::State;
use axum::routing::post;
use payman_sdk::web::{Problem, ServerEvents, detach, sse};
use payman_sdk::{Ask, AskStream, Client, Config, Reply, Result, RetryPolicy, TokenInfo};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::common::raw::{RawRequest, RawServer, Step, events_head, not_found, serve};

#[derive(Clone, Copy, Debug)]
pub enum Framework {
    Axum,
    Actix,
}
pub use Framework::{Actix, Axum};

async fn axum_ask(State(client): State<Client>, text: String) -> Result<Reply> {
    client.ask(text).await
}

async fn axum_stream(State(client): State<Client>, text: String) -> Result<AskStream> {
    client.ask_stream(text).await
}

async fn axum_events(
    State(client): State<Client>,
    text: String,
) -> Result<axum::response::Response, Problem> {
    use axum::response::IntoResponse;
    let events = ServerEvents::from(client.ask_stream(text).await?);
    Ok(sse(events).keep_alive(Duration::from_millis(50)).into_response())
}

pub fn early_events(client: &Client, text: String) -> ServerEvents {
    let ask = Ask::new(text);
    let id = ask.task_id().clone();
    ServerEvents::from_future(client.ask_stream(ask)).with_task_id(id)
}

async fn axum_early(State(client): State<Client>, text: String) -> ServerEvents {
    early_events(&client, text)
}

async fn axum_early_ask(State(client): State<Client>, text: String) -> ServerEvents {
    ServerEvents::from_future(detach(client.ask(text)))
}

async fn actix_early(client: web::Data<Client>, text: String) -> ServerEvents {
    early_events(&client, text)
}

async fn actix_early_ask(client: web::Data<Client>, text: String) -> ServerEvents {
    ServerEvents::from_future(detach(client.ask(text)))
}

async fn axum_full(State(client): State<Client>, text: String) -> Result<axum::Json<Reply>> {
    client.ask(text).await.map(axum::Json)
}

async fn actix_full(client: web::Data<Client>, text: String) -> Result<web::Json<Reply>> {
    client.ask(text).await.map(web::Json)
}

async fn actix_ask(client: web::Data<Client>, text: String) -> Result<Reply> {
    client.ask(text).await
}

async fn actix_stream(client: web::Data<Client>, text: String) -> Result<AskStream> {
    client.ask_stream(text).await
}

async fn actix_events(
    client: web::Data<Client>,
    text: String,
) -> Result<impl actix_web::Responder> {
    let events = ServerEvents::from(client.ask_stream(text).await?);
    Ok(sse(events).keep_alive(Duration::from_millis(50)))
}

/// Starts a service whose routes return the client's results. `/events` sends keep-alive comments
/// every 50 ms; `/early` and `/early-ask` begin before the platform answers.
pub async fn service(framework: Framework, client: Client) -> String {
    service_with_half_closed(framework, client, false).await
}

/// Starts the service. With `half_closed`, which is its default, actix-web keeps connections that
/// the peer has half-closed.
pub async fn service_with_half_closed(
    framework: Framework,
    client: Client,
    half_closed: bool,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    match framework {
        Axum => {
            let router = Router::new()
                .route("/ask", post(axum_ask))
                .route("/stream", post(axum_stream))
                .route("/events", post(axum_events))
                .route("/early", post(axum_early))
                .route("/early-ask", post(axum_early_ask))
                .route("/full", post(axum_full))
                .with_state(client);
            tokio::spawn(async move { axum::serve(listener, router).await });
        }
        Actix => {
            let app = move || {
                App::new()
                    .app_data(web::Data::new(client.clone()))
                    .route("/ask", web::post().to(actix_ask))
                    .route("/stream", web::post().to(actix_stream))
                    .route("/events", web::post().to(actix_events))
                    .route("/early", web::post().to(actix_early))
                    .route("/early-ask", web::post().to(actix_early_ask))
                    .route("/full", web::post().to(actix_full))
            };
            let listener = listener.into_std().unwrap();
            let server = move || {
                HttpServer::new(app)
                    .workers(1)
                    .disable_signals()
                    .h1_allow_half_closed(half_closed)
                    .listen(listener)
                    .unwrap()
                    .run()
            };
            // Runs on its own thread, because actix-web has its own runtime.
            std::thread::spawn(move || {
                actix_web::rt::System::new().block_on(async { server().await })
            });
        }
    }
    url
}

pub fn client(url: &str) -> Client {
    let config = Config::new("id")
        .base_url(url)
        .retry(RetryPolicy::default().recovery_timeout(Duration::from_millis(200)));
    Client::with_token(config, TokenInfo::access("token", Duration::from_secs(600))).unwrap()
}

pub async fn post_text(url: &str, path: &str, text: &'static str) -> reqwest::Response {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    http.post(format!("{url}{path}")).body(text).send().await.unwrap()
}

pub fn header<'a>(response: &'a reqwest::Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

pub async fn body_json(response: reqwest::Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

pub async fn body_text(response: reqwest::Response) -> String {
    String::from_utf8(response.bytes().await.unwrap().to_vec()).unwrap()
}

pub fn working(id: &str) -> Step {
    let result = json!({"id": id, "status": {"state": "WORKING"}});
    Step::Send(
        format!("data: {}\n\n", json!({"jsonrpc": "2.0", "id": "r", "result": result}))
            .into_bytes(),
    )
}

/// Starts a platform whose streams begin with a status and continue with these steps.
pub async fn stream_server(rest: fn() -> Vec<Step>) -> RawServer {
    serve(move |request: RawRequest| match request.path.ends_with("sendSubscribe") {
        true => [events_head(), working(request.task_id())].into_iter().chain(rest()).collect(),
        false => not_found(),
    })
    .await
}

pub fn events_in(text: &str) -> Vec<(String, Value)> {
    let blocks = text.split("\n\n").filter_map(|block| block.strip_prefix("event: "));
    blocks
        .map(|block| {
            let (name, data) = block.split_once("\ndata: ").unwrap();
            (name.to_owned(), serde_json::from_str(data).unwrap())
        })
        .collect()
}
