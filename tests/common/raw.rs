//! A scripted server that sends exactly the given bytes, one request per connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::STREAM;

/// One action of the server on a connection.
pub enum Step {
    /// Sends bytes.
    Send(Vec<u8>),
    /// Pauses.
    Wait(std::time::Duration),
    /// Sends nothing more until the client disconnects.
    Stall,
}

/// A request that the server received.
pub struct RawRequest {
    pub path: String,
    pub body: Value,
}

impl RawRequest {
    /// Returns the id of the task in the parameters.
    pub fn task_id(&self) -> &str {
        self.body["params"]["id"].as_str().unwrap()
    }
}

/// A running scripted server.
pub struct RawServer {
    /// The base URL.
    pub url: String,
    /// The number of connections that the client closed during a [`Step::Stall`].
    pub disconnects: Arc<AtomicUsize>,
    /// The number of requests.
    pub requests: Arc<AtomicUsize>,
}

/// Starts a server that answers one request on each connection, then closes it.
pub async fn serve(answer: impl Fn(RawRequest) -> Vec<Step> + Send + Sync + 'static) -> RawServer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (disconnects, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let server =
        RawServer { url, disconnects: Arc::clone(&disconnects), requests: Arc::clone(&requests) };
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let (answer, disconnects, requests) =
                (Arc::clone(&answer), Arc::clone(&disconnects), Arc::clone(&requests));
            tokio::spawn(async move {
                let Some(request) = read_request(&mut socket).await else { return };
                requests.fetch_add(1, Ordering::SeqCst);
                for step in answer(request) {
                    match step {
                        Step::Send(bytes) => {
                            if socket.write_all(&bytes).await.is_err() {
                                return;
                            }
                        }
                        Step::Wait(time) => tokio::time::sleep(time).await,
                        Step::Stall => {
                            let mut rest = [0; 64];
                            while !matches!(socket.read(&mut rest).await, Ok(0) | Err(_)) {}
                            disconnects.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
                let _ = socket.shutdown().await;
            });
        }
    });
    server
}

/// Starts a server whose streams have these bytes and end cleanly; other requests get a 404.
pub async fn stream_server(bytes: impl Fn(&str) -> String + Send + Sync + 'static) -> RawServer {
    serve(move |request: RawRequest| match request.path.as_str() {
        STREAM => vec![events_head(), Step::Send(bytes(request.task_id()).into_bytes())],
        _ => not_found(),
    })
    .await
}

/// Reads a request; a body that is not JSON becomes `null`.
pub async fn read_request(socket: &mut TcpStream) -> Option<RawRequest> {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let read = socket.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok()
        });
        if body.len() >= length.unwrap_or(0usize) {
            let path = head.split(' ').nth(1)?.to_owned();
            return Some(RawRequest {
                path,
                body: serde_json::from_str(body).unwrap_or(Value::Null),
            });
        }
    }
}

/// Returns the head of a response with status 200, without its last line end.
pub fn head(content_type: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\nconnection: close\r\n").into_bytes()
}

/// Sends the head of an event stream that ends with the connection.
pub fn events_head() -> Step {
    let mut bytes = head("text/event-stream");
    bytes.extend_from_slice(b"\r\n");
    Step::Send(bytes)
}

/// Sends the head of an event stream with a content length.
pub fn events_head_of(length: usize) -> Step {
    let mut bytes = head("text/event-stream");
    bytes.extend_from_slice(format!("content-length: {length}\r\n\r\n").as_bytes());
    Step::Send(bytes)
}

/// Sends a JSON response.
pub fn json_reply(body: &Value) -> Step {
    let mut bytes = head("application/json");
    let body = body.to_string();
    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n{body}", body.len()).as_bytes());
    Step::Send(bytes)
}

/// Returns the steps of a 404 response without a body.
pub fn not_found() -> Vec<Step> {
    vec![Step::Send(
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec(),
    )]
}
