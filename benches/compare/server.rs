//! An HTTP/1 and HTTP/2 server for many requests at once, on a thread or in its own process.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, io, thread};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::{StreamExt, stream};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::runtime::Builder;

use super::minimal_server;

const AS_CHILD: &str = "PAYMAN_BENCH_SERVER";
/// The limit of streams per connection, more than any row opens.
const MAX_STREAMS: u32 = 20_000;
/// The window of a connection, large enough for all requests at once. When the window is exhausted,
/// requests are split into small frames, and h2 treats too many of these as an attack: it closes
/// the connection (ENHANCE_YOUR_CALM, too_many_data_frames).
const WINDOW: u32 = 1 << 30;

/// The number of requests to the token endpoint.
#[derive(Clone, Default)]
pub struct TokenRequests(Arc<AtomicUsize>);

impl TokenRequests {
    /// Returns the number and resets it.
    pub fn take(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// Starts a server on a thread of this process, and returns its base URL.
pub fn start() -> (String, TokenRequests) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let requests = TokenRequests::default();
    let counted = requests.clone();
    thread::spawn(move || serve(&counted, |url| drop(sender.send(url))));
    (receiver.recv().expect("the server starts"), requests)
}

/// A server in its own process, whose memory is not counted. Dropping this ends the process.
pub struct ServerProcess {
    process: Child,
    pub base_url: String,
}

impl ServerProcess {
    pub fn start() -> Self {
        let this = env::current_exe().expect("this program");
        let mut process = Command::new(this)
            .env(AS_CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a second process");
        let mut base_url = String::new();
        let output = process.stdout.as_mut().expect("its output");
        BufReader::new(output).read_line(&mut base_url).expect("its address");
        Self { process, base_url: base_url.trim().to_owned() }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Serves until the parent process ends, if this is the child process; else returns false.
pub fn serve_as_child() -> bool {
    if env::var_os(AS_CHILD).is_none() {
        return false;
    }
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    serve(&TokenRequests::default(), |url| {
        println!("{url}");
        let _ = io::stdout().flush();
    });
    true
}

fn serve(requests: &TokenRequests, announce: impl FnOnce(String)) {
    let counted = requests.clone();
    let reply: Bytes = minimal_server::reply().into();
    let app = Router::new()
        .route("/api/a2a/tasks/send", post(async move |_: Bytes| json(reply)))
        .route("/api/a2a/tasks/sendSubscribe", post(open_stream))
        .route("/api/oauth2/token", post(async move |_: Bytes| token(&counted)));
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port on loopback");
        announce(format!("http://{}", listener.local_addr().expect("its address")));
        loop {
            let Ok((connection, _)) = listener.accept().await else {
                continue;
            };
            let service = TowerToHyperService::new(app.clone());
            tokio::spawn(async move {
                let mut server = auto::Builder::new(TokioExecutor::new());
                server
                    .http2()
                    .max_concurrent_streams(MAX_STREAMS)
                    .initial_connection_window_size(WINDOW)
                    .max_local_error_reset_streams(None)
                    .max_pending_accept_reset_streams(MAX_STREAMS as usize);
                let _ = server.serve_connection(TokioIo::new(connection), service).await;
            });
        }
    });
}

fn json(body: impl Into<Body>) -> Response {
    ([(CONTENT_TYPE, "application/json")], body.into()).into_response()
}

fn token(requests: &TokenRequests) -> Response {
    requests.0.fetch_add(1, Ordering::Relaxed);
    let reply = serde_json::json!({
        "accessToken": "a-new-token",
        "tokenType": "Bearer",
        "expiresIn": 3600,
        "refreshToken": "the-next",
    });
    json(reply.to_string())
}

/// Sends one event and keeps the stream open.
async fn open_stream(request: Bytes) -> Response {
    let event = Ok::<_, Infallible>(minimal_server::status_event(&request, "WORKING"));
    let body = Body::from_stream(stream::iter([event]).chain(stream::pending()));
    ([(CONTENT_TYPE, "text/event-stream")], body).into_response()
}
