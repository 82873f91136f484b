//! Replies, errors and streams as responses of axum and actix-web, over sockets.

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
use payman_sdk::web::{Problem, ServerEvent, ServerEvents, Shutdown, detach, sse};
use payman_sdk::{
    Ask, AskStream, Client, Config, ConnectUrl, Emulator, Reply, Result, RetryPolicy, TaskId,
    TokenInfo,
};
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

fn early(client: &Client, text: String) -> ServerEvents {
    let ask = Ask::new(text);
    let id = ask.task_id().clone();
    ServerEvents::from_future(client.ask_stream(ask)).with_task_id(id)
}

async fn axum_early(State(client): State<Client>, text: String) -> ServerEvents {
    early(&client, text)
}

async fn axum_early_ask(State(client): State<Client>, text: String) -> ServerEvents {
    ServerEvents::from_future(detach(client.ask(text)))
}

async fn actix_early(client: web::Data<Client>, text: String) -> ServerEvents {
    early(&client, text)
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

/// Starts a service whose routes return the client's results: `/events` sends comments early, and
/// `/early…` begin before the platform answers.
async fn service(framework: Framework, client: Client) -> String {
    service_that(framework, client, false).await
}

/// `half_closed`: whether actix-web goes on for visitors who closed their side, which is its
/// default.
async fn service_that(framework: Framework, client: Client, half_closed: bool) -> String {
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

/// Starts a platform that answers every ask with 429 and does not know the task.
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

/// With its default settings, actix-web notices that the visitor left when it cannot write.
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

const TASK: &str = r#"{"sessionId": "ses-secret", "status": {"state": "COMPLETED"},
    "metadata": {"agentId": "ai-secret", "orgId": "org-secret"},
    "artifacts": [{"name": "response", "metadata": {"agentId": "ai-secret"}, "parts": [
        {"type": "text", "text": "Paid.", "metadata": {"sessionId": "ses-secret"}},
        {"type": "data", "data": {"a": 1}, "metadata": {"orgId": "org-secret"}}]}]}"#;

fn task_of(asked: &Asked) -> Value {
    let mut task: Value = serde_json::from_str(TASK).unwrap();
    task["id"] = json!(asked.task_id());
    json!({"jsonrpc": "2.0", "id": "r", "result": task})
}

#[tokio::test]
async fn no_internal_id_reaches_the_browser_unless_requested() {
    let upstream = serve(|asked: Asked| match asked.path.ends_with("sendSubscribe") {
        true => {
            vec![events_head(), Step::Say(format!("data: {}\n\n", task_of(&asked)).into_bytes())]
        }
        false => vec![raw::json_reply(&task_of(&asked))],
    })
    .await;
    for framework in [Axum, Actix] {
        let url = service(framework, client(&upstream.url)).await;
        for path in ["/ask", "/stream", "/events", "/early", "/early-ask"] {
            let text = text_of(say(&url, path, "Pay").await).await;
            assert!(text.contains("Paid.") && text.contains("\"a\":1"), "{path}: {text}");
            assert!(!text.contains("secret"), "{framework:?} {path}: {text}");
        }
        let requested = text_of(say(&url, "/full", "Pay").await).await;
        for id in ["ses-secret", "ai-secret", "org-secret"] {
            assert!(requested.contains(id), "{framework:?}: {requested}");
        }
    }
}

/// The state of a page that merges events like the script in the documentation.
#[derive(Default)]
struct Page {
    artifacts: Vec<(i64, String)>,
    message: String,
}

impl Page {
    fn apply(&mut self, name: &str, data: &Value) {
        let text = || data["text"].as_str().unwrap_or_default().to_owned();
        match name {
            "artifact" => {
                let index = data["index"].as_i64().unwrap();
                match self.artifacts.iter_mut().find(|(known, _)| *known == index) {
                    Some((_, known)) if data["append"] == true => known.push_str(&text()),
                    Some((_, known)) => *known = text(),
                    None => self.artifacts.push((index, text())),
                }
            }
            "task" => {
                let artifacts = data["artifacts"].as_array().into_iter().flatten();
                self.artifacts = artifacts
                    .map(|artifact| {
                        let text = artifact["text"].as_str().unwrap().to_owned();
                        (artifact["index"].as_i64().unwrap(), text)
                    })
                    .collect();
                self.message = data["message"].as_str().unwrap_or_default().to_owned();
            }
            "status" => self.message = text(),
            _ => {}
        }
    }

    fn text(&self) -> String {
        let texts = self.artifacts.iter().map(|(_, text)| text.as_str());
        let text = texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n");
        if text.is_empty() { self.message.clone() } else { text }
    }
}

fn events_in(text: &str) -> Vec<(String, Value)> {
    let blocks = text.split("\n\n").filter_map(|block| block.strip_prefix("event: "));
    blocks
        .map(|block| {
            let (name, data) = block.split_once("\ndata: ").unwrap();
            (name.to_owned(), serde_json::from_str(data).unwrap())
        })
        .collect()
}

#[tokio::test]
async fn a_page_can_append_to_a_task() {
    let text = |text: &str| json!([{"type": "text", "text": text}]);
    // The artifacts of a task, and what is appended to the last one.
    for artifacts in [
        json!([{"parts": text("The balance is $")}]),
        json!([{"parts": text("First.")}, {"parts": text("The balance is $")}]),
        json!([{"index": 3, "parts": text("First.")}, {"index": 9, "parts": text("It is $")}]),
        json!([]),
    ] {
        let last = artifacts.as_array().unwrap().last().cloned().unwrap_or_default();
        let position = artifacts.as_array().unwrap().len().saturating_sub(1);
        let index = last["index"].as_i64().unwrap_or(position as i64);
        let (shown, appended) = (artifacts.clone(), text("50."));
        let upstream = serve(move |asked: Asked| {
            if !asked.path.ends_with("sendSubscribe") {
                return not_found();
            }
            let id = asked.task_id();
            let task = json!({"id": id, "artifacts": shown,
                "status": {"state": "WORKING", "message": "Busy"}});
            let chunk = json!({"id": id,
                "artifact": {"index": index, "append": true, "parts": appended}});
            let end = json!({"id": id, "status": {"state": "COMPLETED"}, "final": true});
            let events = [task, chunk, end].map(|result| {
                format!("data: {}\n\n", json!({"jsonrpc": "2.0", "id": "r", "result": result}))
            });
            vec![events_head(), Step::Say(events.concat().into_bytes())]
        })
        .await;
        let client = client(&upstream.url);
        let reply = client.ask_stream("How much?").await.unwrap().into_reply().await.unwrap();
        let text = text_of(say(&service(Axum, client).await, "/stream", "How much?").await).await;
        let mut page = Page::default();
        events_in(&text).iter().for_each(|(name, data)| page.apply(name, data));
        assert_eq!(page.text(), reply.text(), "{artifacts}: {text}");
    }
}

#[tokio::test]
async fn a_whole_reply_is_a_task_and_the_end() {
    for framework in [Axum, Actix] {
        let payman = Emulator::start().await.unwrap();
        let url = service(framework, payman.client()).await;
        let events = events_in(&text_of(say(&url, "/early-ask", "List all payees").await).await);
        let names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["task", "done"], "{framework:?}");
        assert_eq!(events[0].1["artifacts"][0]["text"], "You have no payees yet.");
    }
}

/// The response begins although the platform has not sent a byte, not even its status.
#[tokio::test]
async fn a_response_begins_while_the_agent_thinks() {
    for framework in [Axum, Actix] {
        for path in ["/early", "/early-ask"] {
            let upstream = serve(|_| vec![Step::Stall]).await;
            let url = service(framework, client(&upstream.url)).await;
            let mut response =
                tokio::time::timeout(Duration::from_secs(10), say(&url, path, "Pay"))
                    .await
                    .expect("the response begins");
            assert_eq!(header(&response, "content-type"), "text/event-stream");
            let first = response.chunk().await.unwrap().unwrap();
            assert_eq!(first, ":\n\n", "{framework:?} {path}");
        }
    }
}

#[tokio::test]
async fn a_response_that_has_begun_ends_with_the_error() {
    for framework in [Axum, Actix] {
        for path in ["/early", "/early-ask"] {
            let payman = Emulator::start().await.unwrap();
            let url = service(framework, payman.client()).await;
            payman.fault(Fault::status(400).always());
            let response = say(&url, path, "Pay").await;
            assert_eq!(response.status(), 200);
            let events = events_in(&text_of(response).await);
            let (name, data) = events.last().unwrap();
            assert_eq!((name.as_str(), events.len()), ("error", 1), "{framework:?}: {events:?}");
            assert_eq!(data["status"], 502, "{data}");
        }
    }
}

#[tokio::test]
async fn a_detached_ask_outlives_its_visitor() {
    for framework in [Axum, Actix] {
        let agent_delay = Duration::from_millis(300);
        let payman = Emulator::builder().agent_delay(agent_delay).start().await.unwrap();
        let url = service(framework, payman.client()).await;
        let mut visitor = say(&url, "/early-ask", "Create payee Tyllen").await;
        visitor.chunk().await.unwrap().unwrap();
        drop(visitor);
        let created = async {
            while payman.state().payees.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), created).await.expect("it goes on");
    }
}

/// A graceful shutdown stops accepting connections and waits for open responses.
#[tokio::test]
async fn open_streams_end_with_the_news_of_a_shutdown() {
    for stalls_at_once in [false, true] {
        let upstream = serve(move |asked: Asked| match stalls_at_once {
            true => vec![Step::Stall],
            false => vec![events_head(), working(asked.task_id()), Step::Stall],
        })
        .await;
        let shutdown = Shutdown::new();
        let (client, signal) = (client(&upstream.url), shutdown.clone());
        let handler = move |text: String| {
            let events = early(&client, text).until(signal.begun());
            async move { events }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let begun = shutdown.begun();
        let server = axum::serve(listener, Router::new().route("/early", post(handler)));
        let server = tokio::spawn(server.with_graceful_shutdown(begun).into_future());
        let mut visitor = say(&url, "/early", "Pay").await;
        visitor.chunk().await.unwrap().unwrap();
        shutdown.begin();
        let ended = tokio::time::timeout(Duration::from_secs(10), text_of(visitor));
        let events = events_in(&ended.await.expect("the stream ends"));
        let (name, data) = events.last().unwrap();
        assert_eq!((name.as_str(), &data["code"]), ("error", &json!("shutting-down")));
        assert_eq!(data["outcomeUnknown"], true);
        assert!(data["taskId"].as_str().unwrap().starts_with("tsk-"), "{data}");
        let ended = tokio::time::timeout(Duration::from_secs(10), server);
        ended.await.expect("the server ends").unwrap().unwrap();
    }
}

#[tokio::test]
async fn an_answer_that_is_complete_is_not_replaced_by_the_news_of_a_shutdown() {
    use futures::StreamExt;
    let payman = Emulator::start().await.unwrap();
    let reply = payman.client().ask("List all payees").await.unwrap();
    let events = ServerEvents::from_future(async move { Ok::<_, payman_sdk::Error>(reply) });
    let mut events = events.until(async {});
    let names: Vec<_> = events.by_ref().map(|event| event.name()).collect().await;
    assert_eq!(names, ["task", "done"]);

    let failed = ServerEvents::from_future(payman.client().ask(" "));
    let events: Vec<_> = failed.until(async {}).collect().await;
    assert!(events[0].data().contains("invalid-input"), "{events:?}");
}

#[tokio::test]
async fn a_callback_that_the_visitor_refused_or_forged_is_no_fault_of_the_server() {
    for (redirect, status, code) in [
        ("error=access_denied&state=s", 403, "connect-denied"),
        ("error=user_cancelled&state=s", 403, "connect-denied"),
        ("error=access_denied&state=forged", 400, "invalid-redirect"),
        ("error=access_denied", 400, "invalid-redirect"),
        ("code=c0de&state=forged", 400, "invalid-redirect"),
        ("code=c0de", 400, "invalid-redirect"),
        ("", 400, "invalid-redirect"),
        ("state=s", 400, "invalid-input"),
        ("code=&state=s", 400, "invalid-input"),
        ("code=a&code=b&state=s", 400, "invalid-input"),
        // This server or the platform is at fault.
        ("error=invalid_scope&state=s", 502, "refused"),
        ("error=server_error&state=s", 502, "refused"),
    ] {
        let error = ConnectUrl::parse_redirect(redirect, "s").unwrap_err();
        let problem = Problem::from(&error);
        assert_eq!((problem.status(), problem.code()), (status, code), "{redirect}");
        assert!(problem.is_safe_to_ask_again() && !problem.detail().contains("forged"));
    }
    // Without a `state` of its own a service cannot know whose answer it is.
    let error = ConnectUrl::parse_redirect("code=c0de&state=", "").unwrap_err();
    assert_eq!(Problem::from(error).status(), 400);
}

#[test]
fn an_unknown_outcome_is_never_safe_to_ask_again() {
    let lost = Problem::outcome_unknown(&TaskId::from("tsk-1"));
    assert_eq!((lost.status(), lost.task_id().unwrap().as_str()), (502, "tsk-1"));
    assert!(lost.is_outcome_unknown() && !lost.is_safe_to_ask_again());
    let event = ServerEvent::problem(&Problem::shutting_down());
    assert!(event.name() == "error" && event.data().contains("\"outcomeUnknown\":true"));
}

#[test]
fn events_fit_axums_own_sse() {
    let event = payman_sdk::web::ServerEvent::new("greeting", &json!({"text": "hi"}));
    let event = format!("{:?}", axum::response::sse::Event::from(event));
    assert!(event.contains("greeting"), "{event}");
}
