//! What axum and actix-web make of replies, errors and streams, over sockets.

#![cfg(test)]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::{App, HttpServer, web};
use axum::Router;
use axum::extract::State;
use axum::routing::post;
use common::raw::{self, Asked, RawServer, Step, events_head, not_found, serve};
use payman_sdk::emulator::{Fault, Operation};
use payman_sdk::web::{Problem, ServerEvents, sse};
use payman_sdk::{AskStream, Client, Config, Emulator, Reply, Result, RetryPolicy, TokenInfo};
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[derive(Clone, Copy, Debug)]
enum Framework {
    Axum,
    Actix,
}
use Framework::{Actix, Axum};

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

/// A service with `/ask`, `/stream` and `/events` (a stream that says early that it is alive).
async fn service(framework: Framework, client: Client) -> String {
    service_that(framework, client, false).await
}

/// `half_closed`: whether actix-web goes on for visitors who closed their side, which is its default.
async fn service_that(framework: Framework, client: Client, half_closed: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    match framework {
        Axum => {
            let router = Router::new()
                .route("/ask", post(axum_ask))
                .route("/stream", post(axum_stream))
                .route("/events", post(axum_events))
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
            // Runs on a thread of its own, as it would in a program of its own.
            std::thread::spawn(move || {
                actix_web::rt::System::new().block_on(async { server().await })
            });
        }
    }
    url
}

fn client(url: &str) -> Client {
    let config = Config::new("id")
        .base_url(url)
        .retry(RetryPolicy::default().recovery_timeout(Duration::from_millis(200)));
    Client::with_token(config, TokenInfo::access("token", Duration::from_secs(600))).unwrap()
}

async fn say(url: &str, path: &str, text: &'static str) -> reqwest::Response {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    http.post(format!("{url}{path}")).body(text).send().await.unwrap()
}

fn header<'a>(response: &'a reqwest::Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

async fn json_of(response: reqwest::Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

async fn text_of(response: reqwest::Response) -> String {
    String::from_utf8(response.bytes().await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn a_reply_is_json_and_a_stream_is_events() {
    for framework in [Axum, Actix] {
        let payman = Emulator::builder().chunk_chars(8).start().await.unwrap();
        let url = service(framework, payman.client()).await;

        let reply = say(&url, "/ask", "List all payees").await;
        assert_eq!(
            (
                reply.status().as_u16(),
                header(&reply, "content-type"),
                header(&reply, "cache-control")
            ),
            (200, "application/json", "no-store"),
            "{framework:?}"
        );
        let reply = json_of(reply).await;
        assert_eq!(
            (&reply["status"], &reply["artifacts"][0]["content"]),
            (&json!("COMPLETED"), &json!("You have no payees yet."))
        );

        let stream = say(&url, "/stream", "List all payees").await;
        assert_eq!(
            (stream.status().as_u16(), header(&stream, "content-type")),
            (200, "text/event-stream")
        );
        assert_eq!(header(&stream, "cache-control"), "no-store, no-transform");
        let stream = text_of(stream).await;
        assert!(
            stream.starts_with("event: status\ndata: {\"taskId\":\"tsk-"),
            "{framework:?}: {stream}"
        );
        assert_eq!(stream.matches("event: artifact\n").count(), 3, "{framework:?}: {stream}");
        let last = stream.trim_end().rsplit("\n\n").next().unwrap();
        assert!(
            last.starts_with("event: done\n") && last.contains("\"state\":\"completed\""),
            "{framework:?}: {last}"
        );
    }
}

#[tokio::test]
async fn an_error_at_set_up_is_a_status_and_a_problem() {
    for framework in [Axum, Actix] {
        let payman = Emulator::start().await.unwrap();
        let url = service(framework, payman.client()).await;
        for path in ["/ask", "/stream", "/events"] {
            let blank = say(&url, path, "  ").await;
            assert_eq!(
                (blank.status().as_u16(), header(&blank, "content-type")),
                (400, "application/problem+json")
            );
            assert_eq!(header(&blank, "cache-control"), "no-store");
            let blank = json_of(blank).await;
            assert_eq!(
                (&blank["code"], &blank["status"]),
                (&json!("invalid-input"), &json!(400)),
                "{framework:?}"
            );
        }
        payman.fault(
            Fault::status(400).on(Operation::Send).body("a secret of the platform", "text/plain"),
        );
        let refused = text_of(say(&url, "/ask", "hi").await).await;
        assert!(
            refused.contains("\"code\":\"refused\"") && !refused.contains("secret"),
            "{framework:?}: {refused}"
        );
    }
}

/// Too busy for any ask, for so many seconds; does not know the task.
async fn busy_for(seconds: &'static str) -> RawServer {
    serve(move |asked: Asked| match asked.path.ends_with("get") {
        true => vec![raw::json_reply(
            &json!({"jsonrpc": "2.0", "error": {"code": -32001, "message": "no"}}),
        )],
        false => {
            let head = format!("HTTP/1.1 429 Too Many Requests\r\nretry-after: {seconds}\r\n");
            vec![Step::Say(
                format!("{head}content-length: 0\r\nconnection: close\r\n\r\n").into_bytes(),
            )]
        }
    })
    .await
}

#[tokio::test]
async fn busy_is_a_429_only_where_surely_nothing_was_done() {
    for framework in [Axum, Actix] {
        // Waited and looked, a few times: the platform never took the ask.
        let busy =
            say(&service(framework, client(&busy_for("0").await.url)).await, "/ask", "hi").await;
        assert_eq!(
            (busy.status().as_u16(), header(&busy, "retry-after")),
            (429, "0"),
            "{framework:?}"
        );
        let busy = json_of(busy).await;
        assert_eq!((&busy["retryAfter"], &busy["safeToAskAgain"]), (&json!(0), &json!(true)));

        // Longer than anybody waits: nobody looked.
        let doubt =
            say(&service(framework, client(&busy_for("3600").await.url)).await, "/ask", "hi").await;
        assert_eq!(
            (doubt.status().as_u16(), header(&doubt, "retry-after")),
            (502, ""),
            "{framework:?}"
        );
        assert_eq!(json_of(doubt).await["outcomeUnknown"], true);
    }
}

fn working(id: &str) -> Step {
    let result = json!({"id": id, "status": {"state": "WORKING"}});
    Step::Say(
        format!("data: {}\n\n", json!({"jsonrpc": "2.0", "id": "r", "result": result}))
            .into_bytes(),
    )
}

async fn begins_and(then: fn() -> Vec<Step>) -> RawServer {
    serve(move |asked: Asked| match asked.path.ends_with("sendSubscribe") {
        true => [events_head(), working(asked.task_id())].into_iter().chain(then()).collect(),
        false => not_found(),
    })
    .await
}

#[tokio::test]
async fn a_cut_is_an_error_event_and_never_done() {
    for framework in [Axum, Actix] {
        let upstream = begins_and(Vec::new).await;
        let text =
            text_of(say(&service(framework, client(&upstream.url)).await, "/stream", "Pay").await)
                .await;
        assert!(!text.contains("event: done"), "{framework:?}: {text}");
        let data = text.rsplit("event: error\ndata: ").next().unwrap();
        let data: Value = serde_json::from_str(data.trim_end()).unwrap();
        assert_eq!(
            (&data["code"], &data["outcomeUnknown"]),
            (&json!("outcome-unknown"), &json!(true)),
            "{framework:?}"
        );
        assert!(data["taskId"].as_str().unwrap().starts_with("tsk-"));
    }
}

async fn is_left(upstream: &AtomicUsize) -> bool {
    let left = async {
        while upstream.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), left).await.is_ok()
}

#[tokio::test]
async fn a_visitor_who_leaves_closes_the_connection_upstream() {
    for framework in [Axum, Actix] {
        let upstream = begins_and(|| vec![Step::Stall]).await;
        let url = service(framework, client(&upstream.url)).await;
        let mut visitor = say(&url, "/stream", "Pay").await;
        let first = visitor.chunk().await.unwrap().unwrap();
        assert!(first.starts_with(b"event: status"), "{framework:?}");
        assert_eq!(upstream.left.load(Ordering::SeqCst), 0);
        drop(visitor);
        assert!(is_left(&upstream.left).await, "{framework:?}: the connection is still open");
    }
}

/// As actix-web is out of the box, it sees that the visitor left when it cannot write.
#[tokio::test]
async fn keeping_alive_finds_out_who_left() {
    let upstream = begins_and(|| vec![Step::Stall]).await;
    let url = service_that(Actix, client(&upstream.url), true).await;
    let mut visitor = say(&url, "/events", "Pay").await;
    visitor.chunk().await.unwrap().unwrap();
    drop(visitor);
    assert!(is_left(&upstream.left).await, "the connection is still open");
}

#[tokio::test]
async fn a_silent_stream_says_that_it_is_alive() {
    for framework in [Axum, Actix] {
        let upstream = begins_and(|| vec![Step::Stall]).await;
        let mut visitor =
            say(&service(framework, client(&upstream.url)).await, "/events", "Pay").await;
        let mut all = Vec::new();
        while !all.ends_with(b":\n\n:\n\n") {
            let chunk = tokio::time::timeout(Duration::from_secs(10), visitor.chunk()).await;
            all.extend_from_slice(&chunk.expect("no life").unwrap().unwrap());
        }
    }
}

#[test]
fn events_fit_axums_own_sse() {
    let event = payman_sdk::web::ServerEvent::new("greeting", &json!({"text": "hi"}));
    let event = format!("{:?}", axum::response::sse::Event::from(event));
    assert!(event.contains("greeting"), "{event}");
}
