//! What several test programs share: a client on a mock server, and replies as the platform writes them.
#![expect(dead_code, reason = "each test program uses a part of this")]

pub mod holders;
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

/// Looks fail fast in tests: their limit is short, not their number.
pub fn impatient() -> RetryPolicy {
    RetryPolicy::default().recovery_timeout(Duration::from_millis(400))
}

pub fn config(base_url: &str) -> Config {
    Config::new("client-id").base_url(base_url).retry(impatient())
}

pub fn client_with(config: Config) -> Client {
    Client::with_token(config, TokenInfo::access("access-token", Duration::from_secs(3600)))
        .unwrap()
}

pub fn client(server: &MockServer) -> Client {
    client_with(config(&server.uri()))
}

pub async fn on(server: &MockServer, at: &str, answer: ResponseTemplate) {
    Mock::given(method("POST")).and(path(at)).respond_with(answer).mount(server).await;
}

/// The first `times` requests; later mocks take over.
pub async fn first(server: &MockServer, at: &str, times: u64, answer: ResponseTemplate) {
    Mock::given(method("POST"))
        .and(path(at))
        .respond_with(answer)
        .up_to_n_times(times)
        .mount(server)
        .await;
}

/// Answers with the task that the request names, in this state, with this text.
pub fn task_reply(
    state: &'static str,
    text: &'static str,
) -> impl Fn(&Request) -> ResponseTemplate {
    move |request: &Request| {
        let body: Value = request.body_json().unwrap();
        ResponseTemplate::new(200).set_body_json(json!({
            "jsonrpc": "2.0", "id": body["id"], "result": task(body["params"]["id"].as_str().unwrap(), state, text),
        }))
    }
}

pub fn task(id: &str, state: &str, text: &str) -> Value {
    json!({
        "id": id, "sessionId": "ses-server",
        "status": {"state": state, "message": "Processing completed successfully", "timestamp": "2025-06-27T16:31:41.510422505Z"},
        "artifacts": [{"name": "response", "description": "AI Assistant Response", "parts": [{"type": "text", "text": text}], "index": 0}],
        "metadata": {"agentId": "ai-1"},
    })
}

pub fn rpc_error(code: i64) -> Value {
    json!({"jsonrpc": "2.0", "id": "x", "error": {"code": code, "message": "as the server says"}})
}

pub fn json_answer(body: Value) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(body)
}

pub async fn requests_to(server: &MockServer, at: &str) -> Vec<Request> {
    let all = server.received_requests().await.unwrap();
    all.into_iter().filter(|request| request.url.path() == at).collect()
}

pub async fn count(server: &MockServer, at: &str) -> usize {
    requests_to(server, at).await.len()
}
