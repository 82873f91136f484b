//! The routes as a browser uses them: over sockets, with cookies.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode as Status;
use axum::response::IntoResponse;
use axum::routing::post;
use axum::{Json, Router};
use futures::{StreamExt, stream};
use payman_sdk::emulator::{Fault, Operation};
use payman_sdk::web::Shutdown;
use payman_sdk::{Client, Config, Emulator, EmulatorBuilder, RetryPolicy, TaskState, TokenInfo};
use reqwest::header::{CONTENT_TYPE, COOKIE, HOST, HeaderMap, ORIGIN, SET_COOKIE};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::site::Site;

async fn site(client: Client) -> String {
    serve(client, Shutdown::new()).await.0
}

async fn serve(client: Client, shutdown: Shutdown) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let site = Site::new(address.port(), None);
    let router = crate::routes::router(client, site, shutdown.clone());
    let server = tokio::spawn(async move {
        crate::serving::serve(listener, router, shutdown).await.unwrap();
    });
    (format!("http://{address}"), server)
}

/// Configures an emulator that speaks slowly enough to be interrupted.
fn slow() -> EmulatorBuilder {
    Emulator::builder().chunk_chars(3).chunk_delay(Duration::from_millis(30))
}

/// Creates a client that soon gives up lookups.
fn client_of(url: &str) -> Client {
    let config = Config::new("id")
        .base_url(url)
        .retry(RetryPolicy::default().recovery_timeout(Duration::from_millis(200)));
    Client::with_token(config, TokenInfo::access("token", Duration::from_secs(600))).unwrap()
}

/// A browser with one cookie.
struct Browser {
    http: reqwest::Client,
    url: String,
    cookie: String,
}

impl Browser {
    /// Opens the page.
    async fn open(url: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let page = http.get(url).send().await.unwrap();
        assert_eq!(page.status(), StatusCode::OK);
        let cookie =
            page.headers()[SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
        Self { http, url: url.to_owned(), cookie }
    }

    async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Response {
        let request = self.http.post(format!("{}{path}", self.url));
        let request = request.header(COOKIE, &self.cookie).header(CONTENT_TYPE, "application/json");
        request.body(body).send().await.unwrap()
    }

    async fn say(&self, text: &str) -> Answer {
        let response = self.post("/ask", json!({ "text": text }).to_string()).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[CONTENT_TYPE], "text/event-stream");
        Answer { response, pending: String::new() }
    }

    /// Says something and returns all events of the answer.
    async fn ask(&self, text: &str) -> Vec<(String, Value)> {
        self.say(text).await.rest().await
    }

    async fn conversation(&self) -> Value {
        let request =
            self.http.get(format!("{}/conversation", self.url)).header(COOKIE, &self.cookie);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
    }

    /// Starts a new conversation, which has a new cookie.
    async fn start_over(&mut self) {
        let response = self.post("/new", "").await;
        assert_eq!(response.status(), StatusCode::OK);
        let cookie = response.headers()[SET_COOKIE].to_str().unwrap();
        self.cookie = cookie.split(';').next().unwrap().to_owned();
    }

    /// Waits until nothing runs any more and returns the conversation.
    async fn settled(&self) -> Value {
        for _ in 0..200 {
            let now = self.conversation().await;
            if now["running"] == false {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the conversation does not settle: {}", self.conversation().await);
    }
}

/// An answer as it comes.
struct Answer {
    response: Response,
    pending: String,
}

impl Answer {
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((frame, rest)) = self.pending.split_once("\n\n") {
                let field = |name: &str| {
                    frame.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
                };
                let event = (field("event: "), field("data: "));
                self.pending = rest.to_owned();
                if let (Some(name), Some(data)) = event {
                    return Some((name, serde_json::from_str(&data).unwrap()));
                }
                continue;
            }
            let chunk = self.response.chunk().await.unwrap()?;
            self.pending.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    async fn until(&mut self, name: &str) -> Value {
        while let Some((next, data)) = self.next().await {
            if next == name {
                return data;
            }
        }
        panic!("no {name} came");
    }

    async fn rest(&mut self) -> Vec<(String, Value)> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

fn words(events: &[(String, Value)]) -> String {
    events
        .iter()
        .filter(|(name, _)| name == "artifact")
        .filter_map(|(_, data)| data["text"].as_str())
        .collect()
}

async fn problem(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
    let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    assert_eq!(body["status"], status);
    (status, body)
}

#[tokio::test]
async fn an_answer_grows_and_a_reload_keeps_it() {
    let payman = slow().start().await.unwrap();
    let browser = Browser::open(&site(payman.client()).await).await;
    let events = browser.ask("How much money do I have in my wallet?").await;
    let names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names[0], names[1], *names.last().unwrap()), ("turn", "status", "done"));
    assert!(names.iter().filter(|name| **name == "artifact").count() > 5, "{names:?}");
    browser.ask("List all payees").await;

    let kept = browser.conversation().await;
    assert_eq!(kept["turns"][0]["asked"], "How much money do I have in my wallet?");
    assert_eq!(kept["turns"][0]["text"], words(&events));
    assert!(words(&events).contains("$1,000,000.00"));
    assert_eq!(kept["turns"][1]["text"], "You have no payees yet.");
    assert_eq!(kept["turns"][1]["state"], "completed");
    assert!(!kept.to_string().contains("ses-"), "sessions stay on the server");
}

#[tokio::test]
async fn visitors_do_not_share_state() {
    let payman = Emulator::start().await.unwrap();
    let url = site(payman.client()).await;
    let (one, two) = (Browser::open(&url).await, Browser::open(&url).await);
    assert_ne!(one.cookie, two.cookie);
    let (first, second) = tokio::join!(one.ask("List all wallets"), two.ask("List all payees"));
    assert!(!first.is_empty() && !second.is_empty());
    let recalled = words(&two.ask("What did we talk about earlier?").await);
    assert!(
        recalled.contains("List all payees") && !recalled.contains("List all wallets"),
        "{recalled}"
    );
    let text = one.conversation().await.to_string();
    assert!(text.contains("List all wallets") && !text.contains("List all payees"), "{text}");
    let tasks = payman.state().tasks;
    assert_eq!(tasks.len(), 3);
    assert_ne!(tasks[0].session_id, tasks[1].session_id);
}

#[tokio::test]
async fn stop_cancels_the_visitors_own_task() {
    let payman = slow().start().await.unwrap();
    let url = site(payman.client()).await;
    let (browser, other) = (Browser::open(&url).await, Browser::open(&url).await);
    let mut answer = browser.say("What can you do?").await;
    answer.until("artifact").await;

    let (status, body) = problem(other.post("/stop", "").await).await;
    assert_eq!((status, &body["code"]), (409, &json!("nothing-to-stop")));

    let stopped = browser.post("/stop", "").await;
    assert_eq!(stopped.status(), StatusCode::OK);
    let rest = answer.rest().await;
    let (name, last) = rest.last().unwrap();
    assert_eq!((name.as_str(), &last["state"]), ("done", &json!("canceled")));
    let kept = browser.conversation().await;
    assert_eq!((&kept["turns"][0]["state"], &kept["running"]), (&json!("canceled"), &json!(false)));
    assert_eq!(*payman.state().tasks[0].state(), TaskState::Canceled);
}

#[tokio::test]
async fn a_question_is_answered_in_the_same_task() {
    let payman = Emulator::start().await.unwrap();
    let browser = Browser::open(&site(payman.client()).await).await;
    let events = browser.ask("Pay Tyllen $50").await;
    assert_eq!(events.last().unwrap().1["state"], "input-required");
    let paid = words(&browser.ask("yes, create them").await);
    assert!(paid.contains("Paid $50.00 to Tyllen"), "{paid}");
    let state = payman.state();
    assert_eq!((state.tasks.len(), state.payments.len()), (1, 1));
    // The next message is a new task.
    browser.ask("List all payees").await;
    assert_eq!(payman.state().tasks.len(), 2);
}

#[tokio::test]
async fn a_question_whose_answer_was_not_sent_stays_open() {
    let payman = Emulator::start().await.unwrap();
    let browser = Browser::open(&site(payman.client()).await).await;
    browser.ask("Pay Tyllen $50").await;
    payman.fault(Fault::status(400).on(Operation::SendSubscribe));
    assert_eq!(browser.conversation().await["turns"][0]["answered"], false);
    let events = browser.ask("yes").await;
    let (name, data) = events.last().unwrap();
    assert_eq!((name.as_str(), &data["status"]), ("error", &json!(502)));
    assert_eq!(data["safeToAskAgain"], true, "{data}");
    assert_eq!(
        browser.conversation().await["turns"][0]["answered"],
        false,
        "the question is open again"
    );
    browser.ask("yes").await;
    assert_eq!((payman.state().tasks.len(), payman.state().payments.len()), (1, 1));
    assert_eq!(browser.conversation().await["turns"][0]["answered"], true);
}

#[tokio::test]
async fn a_page_that_disconnected_gets_the_answer_on_reload() {
    let payman = slow().start().await.unwrap();
    let browser = Browser::open(&site(payman.client()).await).await;
    browser.ask("Create a payee named Tyllen").await;
    let mut answer = browser.say("Pay Tyllen $50").await;
    answer.until("artifact").await;
    drop(answer);

    let kept = browser.settled().await;
    let text = kept["turns"][1]["text"].as_str().unwrap();
    assert!(text.contains("Paid $50.00 to Tyllen") && text.contains("Payment"), "{text}");
    assert_eq!(kept["turns"][1]["state"], "completed");
    let state = payman.state();
    assert_eq!(state.payments.len(), 1);
    assert!(state.sends.values().all(|sends| *sends == 1), "{:?}", state.sends);
}

fn event(id: &str, mut result: Value) -> String {
    result["id"] = json!(id);
    format!("data: {}\n\n", json!({"jsonrpc": "2.0", "id": "r", "result": result}))
}

/// Counts when it is dropped: the connection was closed.
struct DropCounter(Arc<AtomicUsize>);

impl Drop for DropCounter {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// The platform's behavior after the first word of an answer.
#[derive(Clone, Copy)]
enum PlatformBehavior {
    Stall,
    Cut,
}

/// A platform that streams one word and then nothing more.
struct Platform {
    url: String,
    closed: Arc<AtomicUsize>,
}

impl Platform {
    /// Starts the platform. Lookups find `task`, or no task.
    async fn start(then: PlatformBehavior, task: Option<Value>) -> Self {
        let closed = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&closed);
        let subscribe = move |Json(request): Json<Value>| {
            let id = request["params"]["id"].as_str().unwrap().to_owned();
            let word = json!({"artifact": {"parts": [{"type": "text", "text": "Paying"}]}});
            let working = json!({"status": {"state": "WORKING"}});
            let first = event(&id, working) + &event(&id, word);
            let counts = DropCounter(Arc::clone(&counter));
            async move {
                let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from(first))]);
                let body = match then {
                    PlatformBehavior::Cut => Body::from_stream(first),
                    PlatformBehavior::Stall => {
                        Body::from_stream(first.chain(stream::pending()).map(move |chunk| {
                            let _ = &counts;
                            chunk
                        }))
                    }
                };
                ([("content-type", "text/event-stream")], body)
            }
        };
        let get = move |Json(request): Json<Value>| {
            let found = task.clone().map(|mut task| {
                task["id"] = request["params"]["id"].clone();
                Json(json!({"jsonrpc": "2.0", "id": "r", "result": task})).into_response()
            });
            async move { found.unwrap_or_else(|| Status::NOT_FOUND.into_response()) }
        };
        let router = Router::new()
            .route("/api/a2a/tasks/sendSubscribe", post(subscribe))
            .route("/api/a2a/tasks/get", post(get));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, closed }
    }
}

#[tokio::test]
async fn a_disconnect_closes_the_stream_to_the_platform() {
    let artifacts = json!([{"parts": [{"type": "text", "text": "Paid."}]}]);
    let task = json!({"status": {"state": "COMPLETED"}, "artifacts": artifacts});
    let upstream = Platform::start(PlatformBehavior::Stall, Some(task)).await;
    let browser = Browser::open(&site(client_of(&upstream.url)).await).await;
    let mut answer = browser.say("Pay Tyllen $50").await;
    assert_eq!(answer.until("artifact").await["text"], "Paying");
    assert_eq!(upstream.closed.load(Ordering::SeqCst), 0);
    drop(answer);
    let left = Arc::clone(&upstream.closed);
    let closed = async {
        while left.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), closed)
        .await
        .expect("the upstream connection is closed");
    let kept = browser.settled().await;
    assert_eq!(
        (&kept["turns"][0]["text"], &kept["turns"][0]["state"]),
        (&json!("Paid."), &json!("completed"))
    );
}

#[tokio::test]
async fn a_cut_is_reported_with_the_task_id_and_the_unknown_outcome() {
    let upstream = Platform::start(PlatformBehavior::Cut, None).await;
    let browser = Browser::open(&site(client_of(&upstream.url)).await).await;
    let events = browser.ask("Pay Tyllen $50").await;
    let (name, data) = events.last().unwrap();
    assert_eq!(
        (name.as_str(), &data["outcomeUnknown"], &data["status"]),
        ("error", &json!(true), &json!(502))
    );
    assert!(data["taskId"].as_str().unwrap().starts_with("tsk-"), "{data}");
    // The outcome is unknown, and the page shows that. The visitor can continue.
    let kept = browser.conversation().await;
    assert_eq!(
        (&kept["turns"][0]["state"], &kept["turns"][0]["text"]),
        (&json!("unknown"), &json!("Paying"))
    );
    assert_eq!(kept["running"], false);
    // After a failed lookup the outcome stays unknown: never "nothing was done".
    assert_eq!(kept["turns"][0]["problem"]["code"], "outcome-unknown", "{kept}");
    assert_eq!(browser.conversation().await, kept);
}

#[tokio::test]
async fn errors_have_the_documented_statuses() {
    let payman = slow().start().await.unwrap();
    let browser = Browser::open(&site(payman.client()).await).await;
    for (body, status) in [
        (json!({"text": " "}).to_string(), 400),
        (json!({"text": "x".repeat(2001)}).to_string(), 400),
        ("{".to_owned(), 400),
        (json!({"txt": "hi"}).to_string(), 422),
        (json!({"text": "x".repeat(20_000)}).to_string(), 413),
    ] {
        assert_eq!(problem(browser.post("/ask", body).await).await.0, status);
    }
    assert!(payman.state().tasks.is_empty());

    let stranger =
        Browser { cookie: "visitor=00000000-0000-4000-8000-000000000000".to_owned(), ..browser };
    let (status, body) =
        problem(stranger.post("/ask", json!({"text": "hi"}).to_string()).await).await;
    assert_eq!((status, &body["code"]), (403, &json!("stranger")));

    let browser = Browser::open(&stranger.url).await;
    let mut answer = browser.say("What can you do?").await;
    answer.until("artifact").await;
    let again = browser.post("/ask", json!({"text": "hi"}).to_string()).await;
    assert_eq!(problem(again).await.1["code"], "one-at-a-time");
    assert_eq!(problem(browser.post("/new", "").await).await.0, 409);
}

#[tokio::test]
async fn an_unreachable_platform_is_a_503_and_nothing_was_done() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let browser = Browser::open(&site(client_of(&url)).await).await;
    let events = browser.ask("hi").await;
    let names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["turn", "error"]);
    let body = &events[1].1;
    assert_eq!(
        (&body["status"], &body["code"], &body["safeToAskAgain"]),
        (&json!(503), &json!("unreachable"), &json!(true))
    );
    assert!(!body.to_string().contains(&url));
    let kept = browser.conversation().await;
    assert_eq!((&kept["turns"][0]["state"], &kept["running"]), (&json!("failed"), &json!(false)));
}

#[tokio::test]
async fn a_new_conversation_has_a_new_session_of_the_agent() {
    let payman = Emulator::start().await.unwrap();
    let mut browser = Browser::open(&site(payman.client()).await).await;
    browser.ask("List all wallets").await;
    browser.start_over().await;
    assert_eq!(browser.conversation().await["turns"], json!([]));
    let recalled = words(&browser.ask("What did we talk about earlier?").await);
    assert!(recalled.contains("not talked"), "{recalled}");
}

#[tokio::test]
async fn a_new_conversation_has_a_new_cookie() {
    let payman = Emulator::start().await.unwrap();
    let mut browser = Browser::open(&site(payman.client()).await).await;
    let old = browser.cookie.clone();
    browser.start_over().await;
    let mut other = Browser::open(&browser.url).await;
    other.cookie = old.clone();
    let worthless = problem(other.post("/stop", "").await).await;
    assert_eq!(worthless.0, 403);
    assert_ne!(browser.cookie, old);
    assert_eq!(problem(browser.post("/stop", "").await).await.0, 409);
}

#[tokio::test]
async fn requests_of_other_sites_are_refused() {
    let payman = Emulator::start().await.unwrap();
    let browser = Browser::open(&site(payman.client()).await).await;
    let headers = |pairs: &[(reqwest::header::HeaderName, &str)]| {
        let pairs = pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
        pairs.collect::<HeaderMap>()
    };
    let json = "application/json";
    for path in ["/ask", "/stop", "/new"] {
        for (sent, status) in [
            (headers(&[(CONTENT_TYPE, json), (ORIGIN, "http://evil.example")]), 403),
            (headers(&[(CONTENT_TYPE, json), (ORIGIN, "null")]), 403),
            (headers(&[(CONTENT_TYPE, json), (HOST, "evil.example")]), 403),
            (headers(&[(CONTENT_TYPE, "text/plain")]), 415),
            (headers(&[(CONTENT_TYPE, "application/x-www-form-urlencoded")]), 415),
            (headers(&[]), 415),
        ] {
            let request = browser.http.post(format!("{}{path}", browser.url));
            let request = request.header(COOKIE, &browser.cookie).headers(sent.clone());
            let refused = request.body(json!({"text": "List all payees"}).to_string()).send();
            assert_eq!(problem(refused.await.unwrap()).await.0, status, "{path} {sent:?}");
        }
    }
    for path in ["/", "/conversation", "/chat.js"] {
        let request = browser.http.get(format!("{}{path}", browser.url));
        let refused = request.header(HOST, "evil.example:80").send().await.unwrap();
        assert!(!refused.headers().contains_key(SET_COOKIE), "{path}");
        assert_eq!(problem(refused).await.0, 403, "{path}");
    }
    assert!(payman.state().tasks.is_empty());
    let own = browser.http.post(format!("{}/ask", browser.url)).header(COOKIE, &browser.cookie);
    let own = own.header(CONTENT_TYPE, json).header(ORIGIN, &browser.url);
    let own = own.body(json!({"text": "List all payees"}).to_string()).send().await.unwrap();
    assert_eq!(own.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_response_begins_before_the_first_event_of_the_agent() {
    let payman = Emulator::builder().agent_delay(Duration::from_secs(3600)).start().await.unwrap();
    let browser = Browser::open(&site(payman.client()).await).await;
    let begun = async { browser.say("Pay Tyllen $50").await.until("turn").await };
    tokio::time::timeout(Duration::from_secs(10), begun).await.expect("the response begins");
}

#[tokio::test]
async fn a_shutdown_ends_open_answers_with_an_error_event() {
    let upstream = Platform::start(PlatformBehavior::Stall, None).await;
    let shutdown = Shutdown::new();
    let (url, server) = serve(client_of(&upstream.url), shutdown.clone()).await;
    let browser = Browser::open(&url).await;
    let mut answer = browser.say("Pay Tyllen $50").await;
    answer.until("artifact").await;
    shutdown.begin();
    let rest = tokio::time::timeout(Duration::from_secs(10), answer.rest()).await;
    let (name, data) = rest.expect("the stream ends").pop().unwrap();
    assert_eq!((name.as_str(), &data["code"]), ("error", &json!("shutting-down")));
    assert_eq!(data["outcomeUnknown"], true);
    assert!(data["taskId"].as_str().unwrap().starts_with("tsk-"), "{data}");
    let ended = tokio::time::timeout(Duration::from_secs(10), server).await;
    ended.expect("the server ends").unwrap();
}

#[tokio::test]
async fn the_transcript_is_bounded() {
    let payman = Emulator::start().await.unwrap();
    let browser = Browser::open(&site(payman.client()).await).await;
    for round in 0..55 {
        browser.ask(&format!("round {round}")).await;
    }
    let kept = browser.conversation().await;
    let turns = kept["turns"].as_array().unwrap();
    assert_eq!((turns.len(), &turns[49]["asked"]), (50, &json!("round 54")));
}
