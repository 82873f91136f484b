use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use payman_sdk::emulator::{Fault, Operation};
use payman_sdk::{Emulator, TaskState};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::*;

/// The backend on a free port, with an actix system and workers of its own.
struct Backend {
    address: SocketAddr,
    handle: ServerHandle,
    thread: std::thread::JoinHandle<()>,
}

/// For the tests: which worker serves this connection.
#[get("/worker")]
async fn worker() -> String {
    format!("{:?}", std::thread::current().id())
}

impl Backend {
    async fn start(client: &Client, workers: usize) -> Self {
        let client = web::Data::new(client.clone());
        let (tell, told) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let app =
                    move || App::new().app_data(client.clone()).configure(routes).service(worker);
                let server = HttpServer::new(app).workers(workers).bind(("127.0.0.1", 0)).unwrap();
                let address = server.addrs()[0];
                let server = server.run();
                tell.send((address, server.handle())).ok();
                server.await.unwrap();
            });
        });
        let (address, handle) = told.await.unwrap();
        Self { address, handle, thread }
    }

    /// The server, its workers and their runtimes are gone once this returns.
    async fn stop(self) {
        self.handle.stop(true).await;
        tokio::task::spawn_blocking(|| self.thread.join().unwrap()).await.unwrap();
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// One connection, kept: one worker serves it.
fn connection() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .pool_max_idle_per_host(1)
        .build()
        .unwrap()
}

async fn post(http: &reqwest::Client, url: String, question: Value) -> reqwest::Response {
    let request = http.post(url).header("content-type", "application/json");
    request.body(question.to_string()).send().await.unwrap()
}

async fn json_of(response: reqwest::Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

#[tokio::test]
async fn all_workers_share_one_token_request() {
    let emulator = Emulator::start().await.unwrap();
    let backend = Backend::start(&emulator.client(), 4).await;
    let mut workers = HashSet::new();
    let mut asks = Vec::new();
    // Connections go to the workers in turn.
    for _ in 0..16 {
        let http = connection();
        workers
            .insert(http.get(backend.url("/worker")).send().await.unwrap().text().await.unwrap());
        let url = backend.url("/ask");
        asks.push(async move { post(&http, url, json!({"text": "List all wallets"})).await });
    }
    assert_eq!(workers.len(), 4);
    for answer in futures::future::join_all(asks).await {
        assert_eq!(answer.status(), 200);
        assert_eq!(json_of(answer).await["status"], "COMPLETED");
    }
    assert_eq!(emulator.state().token_requests, 1);
    backend.stop().await;
}

#[tokio::test]
async fn a_session_goes_on_and_others_do_not_see_it() {
    let emulator = Emulator::start().await.unwrap();
    let backend = Backend::start(&emulator.client(), 2).await;
    let http = connection();
    let first =
        json_of(post(&http, backend.url("/ask"), json!({"text": "List all payees"})).await).await;
    let again = json!({"text": "What did we talk about earlier?", "session": first["sessionId"]});
    let same = json_of(post(&http, backend.url("/ask"), again).await).await;
    assert!(
        same["artifacts"][0]["content"].as_str().unwrap().contains("List all payees"),
        "{same}"
    );
    let new = json_of(
        post(&http, backend.url("/ask"), json!({"text": "What did we talk about earlier?"})).await,
    )
    .await;
    assert!(!new["artifacts"][0]["content"].as_str().unwrap().contains("List all payees"), "{new}");
    backend.stop().await;
}

#[tokio::test]
async fn streams_are_server_sent_events_and_errors_are_problems() {
    let emulator = Emulator::start().await.unwrap();
    let backend = Backend::start(&emulator.client(), 1).await;
    let http = connection();
    let answer = post(&http, backend.url("/stream"), json!({"text": "List all wallets"})).await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let events = answer.text().await.unwrap();
    assert!(
        events.starts_with("event: status\n") && events.matches("event: artifact\n").count() > 1,
        "{events}"
    );
    assert!(events.ends_with("\n\n") && events.contains("event: done\n"), "{events}");

    let blank = post(&http, backend.url("/ask"), json!({"text": " "})).await;
    assert_eq!(blank.status(), 400);
    assert_eq!(json_of(blank).await["code"], "invalid-input");

    emulator.fault(Fault::status(500).on(Operation::SendSubscribe));
    emulator.fault(Fault::status(404).on(Operation::Get).always());
    let lost = post(&http, backend.url("/stream"), json!({"text": "List all wallets"})).await;
    assert_eq!(lost.status(), 502);
    let problem = json_of(lost).await;
    assert_eq!(problem["outcomeUnknown"], true, "{problem}");
    backend.stop().await;
}

#[tokio::test]
async fn an_ask_outlives_its_visitor() {
    let emulator =
        Emulator::builder().agent_delay(Duration::from_millis(300)).start().await.unwrap();
    let backend = Backend::start(&emulator.client(), 1).await;
    let leaving = connection().post(backend.url("/ask")).header("content-type", "application/json");
    let leaving = leaving
        .body(json!({"text": "Create payee Tyllen"}).to_string())
        .timeout(Duration::from_millis(100));
    assert!(leaving.send().await.unwrap_err().is_timeout());
    while emulator.state().tasks.iter().all(|task| *task.state() != TaskState::Completed) {
        sleep(Duration::from_millis(10)).await;
    }
    // A graceful stop has nothing to wait for that it knows of; the answer came before it.
    backend.stop().await;
    assert_eq!(emulator.state().payees.len(), 1);
}

/// The background task lives on the runtime of whoever came first. When that worker is gone, another takes over.
#[tokio::test]
async fn the_end_of_a_workers_runtime_does_not_end_the_renewal() {
    let emulator =
        Emulator::builder().token_lifetime(Duration::from_secs(2)).start().await.unwrap();
    let client = emulator.client();
    let question = || json!({"text": "List all wallets"});

    let first = Backend::start(&client, 1).await;
    assert_eq!(post(&connection(), first.url("/ask"), question()).await.status(), 200);
    first.stop().await;
    let requests = emulator.state().token_requests;

    // With the worker's runtime gone nothing renews the token any more, and it expires.
    let expired = Instant::now();
    while !client.is_access_token_expired() {
        assert!(expired.elapsed() < Duration::from_secs(10), "it does not expire");
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(emulator.state().token_requests, requests);

    let second = Backend::start(&client, 1).await;
    assert_eq!(post(&connection(), second.url("/ask"), question()).await.status(), 200);
    assert_eq!(emulator.state().token_requests, requests + 1);

    // From here the new worker's runtime renews it ahead of time, though nobody asks.
    let waiting = Instant::now();
    while emulator.state().token_requests < requests + 3 {
        assert!(waiting.elapsed() < Duration::from_secs(20), "the background task is gone");
        sleep(Duration::from_millis(50)).await;
    }
    second.stop().await;
}
