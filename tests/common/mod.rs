//! Helpers of several test programs: clients of a mock server, and replies in the platform's
//! format.
#![expect(dead_code, reason = "each test program uses a part of this")]

pub mod dns;
pub mod events;
pub mod holders;
pub mod property;
pub mod proxy;
pub mod raw;
pub mod replies;

use std::time::Duration;

use payman_sdk::{Client, Config, RetryPolicy, TokenInfo};
use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

pub const SEND: &str = "/api/a2a/tasks/send";
pub const STREAM: &str = "/api/a2a/tasks/sendSubscribe";
pub const GET: &str = "/api/a2a/tasks/get";
pub const CANCEL: &str = "/api/a2a/tasks/cancel";
pub const TOKEN: &str = "/api/oauth2/token";

/// Returns a retry policy with a short recovery timeout.
pub fn short_recovery() -> RetryPolicy {
    RetryPolicy::default().recovery_timeout(Duration::from_millis(400))
}

/// Returns the settings of a client of this server.
pub fn config(base_url: &str) -> Config {
    Config::new("client-id").base_url(base_url).retry(short_recovery())
}

/// Returns a client with a valid access token.
pub fn client_with(config: Config) -> Client {
    Client::with_token(config, TokenInfo::access("access-token", Duration::from_secs(3600)))
        .unwrap()
}

/// Returns a client of a mock server, with a valid access token.
pub fn client(server: &MockServer) -> Client {
    client_with(config(&server.uri()))
}

/// Answers every request to a path.
pub async fn on(server: &MockServer, at: &str, answer: ResponseTemplate) {
    Mock::given(method("POST")).and(path(at)).respond_with(answer).mount(server).await;
}

/// Answers the first `times` requests; later mocks answer the rest.
pub async fn first(server: &MockServer, at: &str, times: u64, answer: ResponseTemplate) {
    Mock::given(method("POST"))
        .and(path(at))
        .respond_with(answer)
        .up_to_n_times(times)
        .mount(server)
        .await;
}

/// Answers with the task that the request names, in this state and with this text.
pub fn task_reply(
    state: &'static str,
    text: &'static str,
) -> impl Fn(&Request) -> ResponseTemplate {
    move |request: &Request| {
        let body: Value = request.body_json().unwrap();
        let task = task(body["params"]["id"].as_str().unwrap(), state, text);
        json_answer(json!({"jsonrpc": "2.0", "id": body["id"], "result": task}))
    }
}

/// Returns a task in the platform's format.
pub fn task(id: &str, state: &str, text: &str) -> Value {
    json!({
        "id": id,
        "sessionId": "ses-server",
        "status": {
            "state": state,
            "message": "Processing completed successfully",
            "timestamp": "2025-06-27T16:31:41.510422505Z",
        },
        "artifacts": [{
            "name": "response",
            "description": "AI Assistant Response",
            "parts": [{"type": "text", "text": text}],
            "index": 0,
        }],
        "metadata": {"agentId": "ai-1"},
    })
}

/// Returns a JSON-RPC response with an error.
pub fn rpc_error(code: i64) -> Value {
    json!({"jsonrpc": "2.0", "id": "x", "error": {"code": code, "message": "as the server says"}})
}

/// Returns a response with status 200 and this JSON.
pub fn json_answer(body: Value) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(body)
}

/// Returns the requests to a path so far.
pub async fn requests_to(server: &MockServer, at: &str) -> Vec<Request> {
    let all = server.received_requests().await.unwrap();
    all.into_iter().filter(|request| request.url.path() == at).collect()
}

/// Returns the number of requests to a path so far.
pub async fn count(server: &MockServer, at: &str) -> usize {
    requests_to(server, at).await.len()
}
