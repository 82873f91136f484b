use std::net::SocketAddr;
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use payman_sdk::emulator::{Fault, Operation};
use payman_sdk::{Config, Emulator, RetryPolicy, TaskState};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::*;

/// The backend on a free port, with an actix system and workers of its own.
struct Running {
    address: SocketAddr,
    shutdown: Shutdown,
    handle: ServerHandle,
    thread: std::thread::JoinHandle<()>,
}

impl Running {
    async fn start(client: &Client, workers: usize) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let site = Site::new(address.port(), None);
        let backend = Backend::new(client.clone(), site, shutdown.clone());
        let (tell, told) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let server = server(listener, backend, workers).unwrap();
                tell.send(server.handle()).ok();
                server.await.unwrap();
            });
        });
        Self { address, shutdown, handle: told.await.unwrap(), thread }
    }

    /// Stops the server. Its workers and their runtimes have ended when this returns.
    async fn stop(self) {
        stop(&self.shutdown, &self.handle).await;
        tokio::task::spawn_blocking(|| self.thread.join().unwrap()).await.unwrap();
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// Creates a client with one connection, which one worker serves.
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
    let backend = Running::start(&emulator.client(), 4).await;
    // Connections go to the workers in turn.
    let asks = (0..16).map(|_| {
        let (http, url) = (connection(), backend.url("/ask"));
        async move { post(&http, url, json!({"text": "List all wallets"})).await }
    });
    for answer in futures::future::join_all(asks).await {
        assert_eq!(answer.status(), 200);
        assert_eq!(json_of(answer).await["status"], "COMPLETED");
    }
    assert_eq!(emulator.state().token_requests, 1);
    backend.stop().await;
}

#[tokio::test]
async fn a_session_belongs_to_its_visitor_and_stays_on_the_server() {
    let emulator = Emulator::start().await.unwrap();
    let backend = Running::start(&emulator.client(), 2).await;
    let http = connection();
    let first = post(&http, backend.url("/ask"), json!({"text": "List all payees"})).await;
    let cookie = first.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
    let first = json_of(first).await;
    assert!(!first.to_string().contains("ses-"), "{first}");

    let recall = || json!({"text": "What did we talk about earlier?"});
    for path in ["/ask", "/stream"] {
        let request = http.post(backend.url(path)).header("content-type", "application/json");
        let same = request.header("cookie", cookie.split(';').next().unwrap());
        let same = same.body(recall().to_string()).send().await.unwrap().text().await.unwrap();
        assert!(same.contains("payees") && !same.contains("ses-"), "{path}: {same}");
        let other = post(&http, backend.url(path), recall()).await.text().await.unwrap();
        assert!(!other.contains("payees"), "{path}: {other}");
    }
    backend.stop().await;
}

#[tokio::test]
async fn requests_of_other_sites_are_refused() {
    let emulator = Emulator::start().await.unwrap();
    let backend = Running::start(&emulator.client(), 1).await;
    let http = connection();
    let body = json!({"text": "Create payee Mallory"}).to_string();
    for path in ["/ask", "/stream"] {
        for (name, value) in [
            ("origin", "http://evil.example"),
            ("sec-fetch-site", "cross-site"),
            ("host", "evil.example"),
        ] {
            let request = http.post(backend.url(path)).header("content-type", "application/json");
            let refused = request.header(name, value).body(body.clone()).send().await.unwrap();
            assert_eq!(refused.status(), 403, "{path} {name}");
        }
        let plain = http.post(backend.url(path)).body(body.clone()).send().await.unwrap();
        assert_eq!(plain.status(), 415, "{path}");
    }
    let garbled = http.post(backend.url("/ask")).header("content-type", "application/json");
    let garbled = garbled.body("{").send().await.unwrap();
    assert_eq!(garbled.status(), 400);
    assert_eq!(json_of(garbled).await["code"], "unreadable");
    assert!(emulator.state().tasks.is_empty());
    backend.stop().await;
}

#[tokio::test]
async fn a_shutdown_ends_open_streams_and_waits_for_asks() {
    let delay = Duration::from_millis(500);
    let emulator = Emulator::builder().agent_delay(delay).start().await.unwrap();
    let backend = Running::start(&emulator.client(), 1).await;
    let mut stream =
        post(&connection(), backend.url("/stream"), json!({"text": "List all wallets"})).await;
    let first = stream.chunk().await.unwrap().unwrap();
    assert_eq!(first, ":\n\n", "the response begins before the answer");
    let url = backend.url("/ask");
    let asked = tokio::spawn(async move {
        json_of(post(&connection(), url, json!({"text": "List all wallets"})).await).await
    });
    while emulator.state().sends.len() < 2 {
        sleep(Duration::from_millis(5)).await;
    }
    backend.stop().await;
    let rest = stream.text().await.unwrap();
    assert!(rest.contains("event: error\n") && rest.contains("\"shutting-down\""), "{rest}");
    assert_eq!(asked.await.unwrap()["status"], "COMPLETED");
}

#[tokio::test]
async fn streams_are_server_sent_events_and_errors_are_problems() {
    let emulator = Emulator::start().await.unwrap();
    // A client that soon gives up lookups.
    let retry = RetryPolicy::default().recovery_timeout(Duration::from_millis(200));
    let config = Config::new("id").client_secret("s").base_url(emulator.base_url()).retry(retry);
    let backend = Running::start(&Client::with_credentials(config).unwrap(), 1).await;
    let http = connection();
    let answer = post(&http, backend.url("/stream"), json!({"text": "List all wallets"})).await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let events = answer.text().await.unwrap();
    assert!(
        events.contains("event: status\n") && events.matches("event: artifact\n").count() > 1,
        "{events}"
    );
    assert!(events.ends_with("\n\n") && events.contains("event: done\n"), "{events}");

    let blank = post(&http, backend.url("/ask"), json!({"text": " "})).await;
    assert_eq!(blank.status(), 400);
    assert_eq!(json_of(blank).await["code"], "invalid-input");

    emulator.fault(Fault::status(500).on(Operation::SendSubscribe));
    emulator.fault(Fault::status(404).on(Operation::Get).always());
    let lost = post(&http, backend.url("/stream"), json!({"text": "List all wallets"})).await;
    let lost = lost.text().await.unwrap();
    assert!(lost.contains("event: error\n") && lost.contains("\"outcomeUnknown\":true"), "{lost}");
    backend.stop().await;
}

#[tokio::test]
async fn an_ask_continues_after_its_visitor_disconnects() {
    let emulator =
        Emulator::builder().agent_delay(Duration::from_millis(300)).start().await.unwrap();
    let backend = Running::start(&emulator.client(), 1).await;
    let leaving = connection().post(backend.url("/ask")).header("content-type", "application/json");
    let leaving = leaving
        .body(json!({"text": "Create payee Tyllen"}).to_string())
        .timeout(Duration::from_millis(100));
    assert!(leaving.send().await.unwrap_err().is_timeout());
    while emulator.state().tasks.iter().all(|task| *task.state() != TaskState::Completed) {
        sleep(Duration::from_millis(10)).await;
    }
    // The answer arrived before the graceful stop, which has no request to wait for.
    backend.stop().await;
    assert_eq!(emulator.state().payees.len(), 1);
}

/// The background task runs on the runtime of the first caller. When that worker ends, another
/// takes over.
#[tokio::test]
async fn the_end_of_a_workers_runtime_does_not_stop_the_refresh() {
    let emulator =
        Emulator::builder().token_lifetime(Duration::from_secs(2)).start().await.unwrap();
    let client = emulator.client();
    let question = || json!({"text": "List all wallets"});

    let first = Running::start(&client, 1).await;
    assert_eq!(post(&connection(), first.url("/ask"), question()).await.status(), 200);
    first.stop().await;
    let requests = emulator.state().token_requests;

    // Without the worker's runtime nothing renews the token, and it expires.
    let expired = Instant::now();
    while !client.is_access_token_expired() {
        assert!(expired.elapsed() < Duration::from_secs(10), "it does not expire");
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(emulator.state().token_requests, requests);

    let second = Running::start(&client, 1).await;
    assert_eq!(post(&connection(), second.url("/ask"), question()).await.status(), 200);
    assert_eq!(emulator.state().token_requests, requests + 1);

    // From here the new worker's runtime renews it ahead of time without a request.
    let waiting = Instant::now();
    while emulator.state().token_requests < requests + 3 {
        assert!(waiting.elapsed() < Duration::from_secs(20), "the background task has ended");
        sleep(Duration::from_millis(50)).await;
    }
    second.stop().await;
}
