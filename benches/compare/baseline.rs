//! The baseline for requests: JSON built by hand and sent with reqwest.

use std::time::Duration;

use bytes::Bytes;
use payman_sdk::{Client, Config, RequestId, SessionId, Task, TaskId, TokenInfo, decode};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{ClientBuilder, Response, redirect};
use serde_json::json;

pub const TEXT: &str = "How much money do I have in my wallet?";
const HOUR: Duration = Duration::from_secs(60 * 60);

/// Creates a client of this crate with a token that is valid for an hour.
pub fn our_client(base_url: &str, http: fn(ClientBuilder) -> ClientBuilder) -> Client {
    let config = Config::new("client-id").base_url(base_url).configure_http(http);
    Client::with_token(config, TokenInfo::access("an-access-token", HOUR)).expect("a valid config")
}

/// A reqwest client with the settings that this crate's client has.
pub struct BaselineClient {
    http: reqwest::Client,
    base_url: String,
    session: SessionId,
}

impl BaselineClient {
    pub fn new(base_url: &str, http: fn(ClientBuilder) -> ClientBuilder) -> Self {
        let http = http(ClientBuilder::new())
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .user_agent("baseline/1.0")
            .connect_timeout(Duration::from_secs(10))
            .pool_idle_timeout(Duration::from_secs(30))
            .http2_initial_stream_window_size(128 * 1024)
            .http2_initial_connection_window_size(1 << 30)
            .no_proxy()
            .tls_certs_only([])
            .build()
            .expect("a valid client");
        Self { http, base_url: base_url.to_owned(), session: SessionId::new() }
    }

    fn request(&self, path: &str, method: &str, accept: &'static str) -> reqwest::RequestBuilder {
        let part = json!({"type": "text", "text": TEXT});
        let message = json!({"role": "user", "parts": [part]});
        let params = json!({"id": TaskId::new(), "sessionId": self.session, "message": message});
        let body =
            json!({"jsonrpc": "2.0", "id": RequestId::new(), "method": method, "params": params});
        self.http
            .post(format!("{}{path}", self.base_url))
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, accept)
            .header("x-payman-access-token", "an-access-token")
            .body(serde_json::to_vec(&body).expect("the request serializes"))
    }

    /// Sends an ask and decodes the reply.
    pub async fn ask(&self) -> Task {
        let request = self.request("/api/a2a/tasks/send", "tasks/send", "application/json");
        let response = request.timeout(Duration::from_secs(300)).send().await.expect("an answer");
        assert!(response.status().is_success());
        let body: Bytes = response.bytes().await.expect("a whole answer");
        decode::response(&body).expect("a task")
    }

    /// Opens a stream.
    pub async fn stream(&self) -> Response {
        let request = self.request(
            "/api/a2a/tasks/sendSubscribe",
            "tasks/sendSubscribe",
            "text/event-stream",
        );
        let response = request.send().await.expect("an answer");
        assert!(response.status().is_success());
        response
    }
}
