//! A plain HTTP client of an emulator, independent of the SDK's own client.

use std::time::Duration;

use base64::Engine as _;
use futures::StreamExt;
use payman_sdk::emulator::EmulatorBuilder;
use payman_sdk::{Emulator, SessionId, TaskId};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

/// The time limit of a test's requests and waits; only a failing test reaches it.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// An emulator with a plain HTTP client of it.
pub struct RawClient {
    pub emulator: Emulator,
    pub http: reqwest::Client,
    pub token: String,
    pub session: SessionId,
}

/// Starts an emulator, and returns a client with a token that has all scopes.
pub async fn start() -> RawClient {
    start_with(Emulator::builder()).await
}

pub async fn start_with(builder: EmulatorBuilder) -> RawClient {
    let emulator = builder.start().await.unwrap();
    let http = http();
    let mut client = RawClient { emulator, http, token: String::new(), session: SessionId::new() };
    client.token = client.emulator.issue_access_token(ALL_SCOPES);
    client
}

pub fn http() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

pub const ALL_SCOPES: [&str; 7] = [
    "read_balance",
    "read_list_wallets",
    "read_list_payees",
    "read_list_transactions",
    "write_create_payee",
    "write_send_payment",
    "write_create_wallet",
];

pub fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{id}:{secret}")))
}

impl RawClient {
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.emulator.base_url())
    }

    /// Sends a token request with its parameters in the query string.
    pub async fn token_request(
        &self,
        query: &str,
        authorization: Option<String>,
    ) -> (StatusCode, Value) {
        let mut request = self.http.post(self.url(&format!("/api/oauth2/token?{query}")));
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        read(request.send().await.unwrap()).await
    }

    pub fn params(&self, task: &TaskId, text: &str) -> Value {
        let parts = json!([{"type": "text", "text": text, "metadata": null}]);
        json!({
            "id": task,
            "sessionId": self.session,
            "metadata": null,
            "message": {"role": "user", "metadata": null, "parts": parts},
        })
    }

    pub fn request(&self, operation: &str, params: Value) -> reqwest::RequestBuilder {
        let method = format!("tasks/{operation}");
        let body = json!({"jsonrpc": "2.0", "id": "req-1", "method": method, "params": params});
        self.http
            .post(self.url(&format!("/api/a2a/tasks/{operation}")))
            .header("content-type", "application/json")
            .header("x-payman-access-token", &self.token)
            .body(body.to_string())
    }

    pub async fn call(&self, operation: &str, params: Value) -> (StatusCode, Value) {
        read(self.request(operation, params).send().await.unwrap()).await
    }

    /// Sends a message with `tasks/send`, and returns the task.
    pub async fn send(&self, task: &TaskId, text: &str) -> Value {
        let (status, body) = self.call("send", self.params(task, text)).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        assert_eq!(body["id"], "req-1");
        assert!(body["result"].is_object(), "{body}");
        body["result"].clone()
    }

    /// Sends a message in a new task, and returns the answer's text.
    pub async fn ask(&self, text: &str) -> String {
        answer_text(&self.send(&TaskId::new(), text).await)
    }

    pub async fn subscribe(&self, task: &TaskId, text: &str) -> Response {
        let response = self.request("sendSubscribe", self.params(task, text)).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        response
    }

    /// Sends a message with `tasks/sendSubscribe`, and returns the results of all events.
    pub async fn stream(&self, task: &TaskId, text: &str) -> Vec<Value> {
        events(&self.subscribe(task, text).await.text().await.unwrap())
    }

    pub async fn get(&self, task: &TaskId) -> Value {
        let (status, body) = self.call("get", json!({"id": task, "historyLength": 100})).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body["result"].clone()
    }
}

pub async fn read(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// Returns the JSON-RPC results in a body with LF line ends and one data line per event.
pub fn events(body: &str) -> Vec<Value> {
    body.split("\n\n")
        .filter_map(|event| event.strip_prefix("data: "))
        .map(|data| serde_json::from_str::<Value>(data).unwrap()["result"].clone())
        .collect()
}

/// Returns the text of a task's first artifact, or its status message.
pub fn answer_text(task: &Value) -> String {
    let artifact = &task["artifacts"][0]["parts"][0]["text"];
    artifact.as_str().or(task["status"]["message"].as_str()).unwrap_or_default().to_owned()
}

/// Reads a body until it contains `part`.
pub async fn read_until(
    response: Response,
    part: &str,
) -> (String, impl futures::Stream<Item = reqwest::Result<bytes::Bytes>> + Unpin) {
    let mut chunks = Box::pin(response.bytes_stream());
    let mut text = String::new();
    while !text.contains(part) {
        let chunk = chunks.next().await.expect("the stream ended before it").unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    (text, chunks)
}

/// Polls until the condition holds; panics after [`TIMEOUT`].
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(TIMEOUT, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never: {what}"));
}
