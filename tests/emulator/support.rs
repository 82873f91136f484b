//! A plain HTTP client that knows the paths and nothing else.

use std::time::Duration;

use base64::Engine as _;
use futures::StreamExt;
use payman_sdk::emulator::EmulatorBuilder;
use payman_sdk::{Emulator, SessionId, TaskId};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

/// Long enough for any of these tests; reached only when something hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Peer {
    pub emulator: Emulator,
    pub http: reqwest::Client,
    pub token: String,
    pub session: SessionId,
}

/// A running emulator and a client with a token that may do everything.
pub async fn peer() -> Peer {
    peer_of(Emulator::builder()).await
}

pub async fn peer_of(builder: EmulatorBuilder) -> Peer {
    let emulator = builder.start().await.unwrap();
    let http = http();
    let mut peer = Peer { emulator, http, token: String::new(), session: SessionId::new() };
    peer.token = peer.emulator.issue_access_token(ALL);
    peer
}

pub fn http() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

pub const ALL: [&str; 7] = [
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

impl Peer {
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.emulator.base_url())
    }

    /// A token request with its parameters in the query string.
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
        json!({"id": task, "sessionId": self.session, "metadata": null,
            "message": {"role": "user", "metadata": null, "parts": [{"type": "text", "text": text, "metadata": null}]}})
    }

    pub fn request(&self, operation: &str, params: Value) -> reqwest::RequestBuilder {
        let body = json!({"jsonrpc": "2.0", "id": "req-1", "method": format!("tasks/{operation}"), "params": params});
        self.http
            .post(self.url(&format!("/api/a2a/tasks/{operation}")))
            .header("content-type", "application/json")
            .header("x-payman-access-token", &self.token)
            .body(body.to_string())
    }

    pub async fn call(&self, operation: &str, params: Value) -> (StatusCode, Value) {
        read(self.request(operation, params).send().await.unwrap()).await
    }

    /// The task that `tasks/send` answers with.
    pub async fn send(&self, task: &TaskId, text: &str) -> Value {
        let (status, body) = self.call("send", self.params(task, text)).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        assert_eq!(body["id"], "req-1");
        assert!(body["result"].is_object(), "{body}");
        body["result"].clone()
    }

    /// The words of a new task's answer.
    pub async fn ask(&self, text: &str) -> String {
        words(&self.send(&TaskId::new(), text).await)
    }

    pub async fn subscribe(&self, task: &TaskId, text: &str) -> Response {
        let response = self.request("sendSubscribe", self.params(task, text)).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        response
    }

    /// The results of all events of a stream.
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

/// The JSON-RPC results of a body with LF line ends and one data line an event.
pub fn events(body: &str) -> Vec<Value> {
    body.split("\n\n")
        .filter_map(|frame| frame.strip_prefix("data: "))
        .map(|data| serde_json::from_str::<Value>(data).unwrap()["result"].clone())
        .collect()
}

/// A task's words; its status message where it has none.
pub fn words(task: &Value) -> String {
    let artifact = &task["artifacts"][0]["parts"][0]["text"];
    artifact.as_str().or(task["status"]["message"].as_str()).unwrap_or_default().to_owned()
}

/// Reads a body until it holds this.
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

/// Waits until something holds, by looking often; gives up after [`PATIENCE`].
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never: {what}"));
}
