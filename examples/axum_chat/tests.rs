//! The routes, as a browser uses them: over sockets, with cookies.

#[expect(dead_code, reason = "shared with the integration tests, which use the rest")]
#[path = "../../tests/common/raw.rs"]
mod raw;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use payman_sdk::emulator::{Fault, Operation};
use payman_sdk::{Client, Config, Emulator, EmulatorBuilder, RetryPolicy, TaskState, TokenInfo};
use raw::{Asked, RawServer, Step, events_head, json_reply, not_found, serve};
use reqwest::header::{CONTENT_TYPE, COOKIE, SET_COOKIE};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;

async fn site(client: Client) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, crate::routes::router(client)).await });
    url
}

/// One that speaks slowly enough to be interrupted.
fn slow() -> EmulatorBuilder {
    Emulator::builder().chunk_chars(3).chunk_delay(Duration::from_millis(30))
}

/// A client that gives up looking soon.
fn impatient(url: &str) -> Client {
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

    /// Says something, and gives all events of the answer.
    async fn hear(&self, text: &str) -> Vec<(String, Value)> {
        self.say(text).await.rest().await
    }

    async fn conversation(&self) -> Value {
        let request =
            self.http.get(format!("{}/conversation", self.url)).header(COOKIE, &self.cookie);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
    }

    /// The conversation, once nothing runs any more.
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
    let events = browser.hear("How much money do I have in my wallet?").await;
    let names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names[0], names[1], *names.last().unwrap()), ("turn", "status", "done"));
    assert!(names.iter().filter(|name| **name == "artifact").count() > 5, "{names:?}");
    browser.hear("List all payees").await;

    let kept = browser.conversation().await;
    assert_eq!(kept["turns"][0]["asked"], "How much money do I have in my wallet?");
    assert_eq!(kept["turns"][0]["text"], words(&events));
    assert!(words(&events).contains("$1,000,000.00"));
    assert_eq!(kept["turns"][1]["text"], "You have no payees yet.");
    assert_eq!(kept["turns"][1]["state"], "completed");
    assert!(!kept.to_string().contains("ses-"), "sessions stay on the server");
}

#[tokio::test]
async fn visitors_do_not_mix() {
    let payman = Emulator::start().await.unwrap();
    let url = site(payman.client()).await;
    let (one, two) = (Browser::open(&url).await, Browser::open(&url).await);
    assert_ne!(one.cookie, two.cookie);
    let (first, second) = tokio::join!(one.hear("List all wallets"), two.hear("List all payees"));
    assert!(!first.is_empty() && !second.is_empty());
    let recalled = words(&two.hear("What did we talk about earlier?").await);
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
    let events = browser.hear("Pay Tyllen $50").await;
    assert_eq!(events.last().unwrap().1["state"], "input-required");
    let paid = words(&browser.hear("yes, create them").await);
    assert!(paid.contains("Paid $50.00 to Tyllen"), "{paid}");
    let state = payman.state();
    assert_eq!((state.tasks.len(), state.payments.len()), (1, 1));
    // What comes next is a task of its own.
    browser.hear("List all payees").await;
    assert_eq!(payman.state().tasks.len(), 2);
}

#[tokio::test]
async fn a_question_that_was_surely_not_answered_still_waits() {
    let payman = Emulator::start().await.unwrap();
    let browser = Browser::open(&site(payman.client()).await).await;
    browser.hear("Pay Tyllen $50").await;
    payman.fault(Fault::status(400).on(Operation::SendSubscribe));
    let (status, body) =
        problem(browser.post("/ask", json!({"text": "yes"}).to_string()).await).await;
    assert_eq!((status, &body["safeToAskAgain"]), (502, &json!(true)));
    browser.hear("yes").await;
    assert_eq!((payman.state().tasks.len(), payman.state().payments.len()), (1, 1));
}

#[tokio::test]
async fn whoever_leaves_finds_the_answer_on_reload() {
    let payman = slow().start().await.unwrap();
    let browser = Browser::open(&site(payman.client()).await).await;
    browser.hear("Create a payee named Tyllen").await;
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

fn event(id: &str, result: Value) -> String {
    let mut result = result;
    result["id"] = json!(id);
    format!("data: {}\n\n", json!({"jsonrpc": "2.0", "id": "r", "result": result}))
}

fn first_words(id: &str) -> Step {
    let working = event(id, json!({"status": {"state": "WORKING"}}));
    let words = event(id, json!({"artifact": {"parts": [{"type": "text", "text": "Paying"}]}}));
    Step::Say([working, words].concat().into_bytes())
}

/// An agent that says a word and then `then`; a look finds `task`.
async fn agent(then: fn() -> Vec<Step>, task: fn(&str) -> Vec<Step>) -> RawServer {
    serve(move |asked: Asked| match asked.path.rsplit('/').next() {
        Some("sendSubscribe") => {
            let mut steps = vec![events_head(), first_words(asked.task_id())];
            steps.extend(then());
            steps
        }
        Some("get") => task(asked.task_id()),
        _ => not_found(),
    })
    .await
}

#[tokio::test]
async fn leaving_closes_the_stream_upstream() {
    let upstream = agent(
        || vec![Step::Stall],
        |id| {
            let artifacts = json!([{"parts": [{"type": "text", "text": "Paid."}]}]);
            let task = json!({"id": id, "status": {"state": "COMPLETED"}, "artifacts": artifacts});
            vec![json_reply(&json!({"jsonrpc": "2.0", "id": "r", "result": task}))]
        },
    )
    .await;
    let browser = Browser::open(&site(impatient(&upstream.url)).await).await;
    let mut answer = browser.say("Pay Tyllen $50").await;
    assert_eq!(answer.until("artifact").await["text"], "Paying");
    assert_eq!(upstream.left.load(Ordering::SeqCst), 0);
    drop(answer);
    let left = Arc::clone(&upstream.left);
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
async fn a_cut_is_told_with_the_task_and_the_doubt() {
    let upstream = agent(Vec::new, |_| not_found()).await;
    let browser = Browser::open(&site(impatient(&upstream.url)).await).await;
    let events = browser.hear("Pay Tyllen $50").await;
    let (name, data) = events.last().unwrap();
    assert_eq!(
        (name.as_str(), &data["outcomeUnknown"], &data["status"]),
        ("error", &json!(true), &json!(502))
    );
    assert!(data["taskId"].as_str().unwrap().starts_with("tsk-"), "{data}");
    // It is not known how that ends, and the page says so; nothing is in the way of going on.
    let kept = browser.conversation().await;
    assert_eq!(
        (&kept["turns"][0]["state"], &kept["turns"][0]["text"]),
        (&json!("unknown"), &json!("Paying"))
    );
    assert_eq!(kept["running"], false);
    assert!(kept["turns"][0]["problem"]["code"].is_string(), "{kept}");
}

#[tokio::test]
async fn errors_have_sensible_statuses() {
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

    let form = browser
        .http
        .post(format!("{}/ask", browser.url))
        .header(COOKIE, &browser.cookie)
        .body("text=Pay");
    assert_eq!(form.send().await.unwrap().status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
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
async fn a_platform_that_is_not_there_is_a_503_and_nothing_was_done() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let browser = Browser::open(&site(impatient(&url)).await).await;
    let (status, body) =
        problem(browser.post("/ask", json!({"text": "hi"}).to_string()).await).await;
    assert_eq!(
        (status, &body["code"], &body["safeToAskAgain"]),
        (503, &json!("unreachable"), &json!(true))
    );
    assert!(!body.to_string().contains(&url));
    let kept = browser.conversation().await;
    assert_eq!((&kept["turns"][0]["state"], &kept["running"]), (&json!("failed"), &json!(false)));
}

#[tokio::test]
async fn a_new_conversation_is_forgotten_by_the_agent_too() {
    let payman = Emulator::start().await.unwrap();
    let browser = Browser::open(&site(payman.client()).await).await;
    browser.hear("List all wallets").await;
    assert_eq!(browser.post("/new", "").await.status(), StatusCode::OK);
    assert_eq!(browser.conversation().await["turns"], json!([]));
    let recalled = words(&browser.hear("What did we talk about earlier?").await);
    assert!(recalled.contains("not talked"), "{recalled}");
}

#[tokio::test]
async fn the_transcript_is_bounded() {
    let payman = Emulator::start().await.unwrap();
    let browser = Browser::open(&site(payman.client()).await).await;
    for round in 0..55 {
        browser.hear(&format!("round {round}")).await;
    }
    let kept = browser.conversation().await;
    let turns = kept["turns"].as_array().unwrap();
    assert_eq!((turns.len(), &turns[49]["asked"]), (50, &json!("round 54")));
}
