//! The other end of the wire for the rows that need one: the plainest server that answers as the platform does.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::Response;
use axum::routing::{get, post};
use futures::{StreamExt, stream};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;

/// Set in the process that is only the server, so that its memory and time do not count.
const ALONE: &str = "PAYMAN_BENCH_SERVER";

/// The platform's real reply, but for its ids.
const REPLY: &str = r#"{"jsonrpc":"2.0","id":"req-6c3a1f0e","result":{"sessionId":"ses-1","status":{"state":"COMPLETED","message":"Processing completed successfully","timestamp":"2025-06-27T16:31:41.510422505Z"},"artifacts":[{"name":"response","description":"AI Assistant Response","parts":[{"type":"text","text":"Here's a summary of your wallets:\n\n- **Main wallet**: $1,000,000.00 available, nothing pending. You have made no payments in the last thirty days, and there are no payees yet. Would you like me to create one?"}],"index":0,"metadata":{}}],"metadata":{"timestamp":"2025-06-27T16:31:30.892Z","agentId":"ai-1","orgId":"org-1"}}}"#;
const EVENT: &str = "data: {\"jsonrpc\":\"2.0\",\"id\":\"req-1\",\"result\":{\"status\":{\"state\":\"WORKING\",\"message\":\"Processing your request\",\"timestamp\":\"2025-06-27T16:31:41.510422505Z\"},\"final\":false}}\n\n";
const TOKEN: &str = r#"{"accessToken":"an-access-token","tokenType":"Bearer","expiresIn":3600,"scope":"read_balance"}"#;
/// Before the first event of a stream: its head is out by then, and the reader waits.
const BEFORE_EVENT: Duration = Duration::from_millis(2);

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

#[derive(Clone, Default)]
struct Seen {
    tokens: Arc<AtomicU64>,
    /// When the last first event was written, in nanoseconds since the start of the process.
    written: Arc<AtomicU64>,
}

pub struct Server {
    pub url: String,
    seen: Seen,
    process: Option<Child>,
}

impl Server {
    /// In a thread of this process.
    pub fn start() -> Self {
        let seen = Seen::default();
        let (said, heard) = std::sync::mpsc::channel();
        let served = seen.clone();
        std::thread::spawn(move || {
            runtime().block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                said.send(listener.local_addr().expect("an address")).expect("someone waits");
                serve(listener, served).await;
            });
        });
        let url = format!("http://{}", heard.recv().expect("the server starts"));
        Self { url, seen, process: None }
    }

    /// In a process of its own.
    pub fn start_alone() -> Self {
        let this = std::env::current_exe().expect("this program");
        let mut process = Command::new(this)
            .env(ALONE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server's process");
        let mut url = String::new();
        BufReader::new(process.stdout.take().expect("its output")).read_line(&mut url).expect("its address");
        Self { url: url.trim().to_owned(), seen: Seen::default(), process: Some(process) }
    }

    /// How many tokens it gave out.
    pub fn tokens(&self) -> u64 {
        let url = format!("{}/count", self.url);
        let count = async { reqwest::get(url).await?.text().await };
        runtime().block_on(count).expect("the server answers").parse().expect("a number")
    }

    /// How long ago the last first event was written. Only for a server of this process.
    pub fn since_written(&self) -> Duration {
        let written = Duration::from_nanos(self.seen.written.load(Ordering::SeqCst));
        START.elapsed().saturating_sub(written)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Serves, and does not come back, where this process is only the server.
pub fn serve_if_alone() {
    if std::env::var_os(ALONE).is_none() {
        return;
    }
    // Whoever started it holds its input open.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    runtime().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        println!("http://{}", listener.local_addr().expect("an address"));
        serve(listener, Seen::default()).await;
    });
}

async fn serve(listener: TcpListener, seen: Seen) {
    let (tokens, count, written) = (Arc::clone(&seen.tokens), Arc::clone(&seen.tokens), seen.written);
    let app = Router::new()
        .route("/api/a2a/tasks/send", post(async |_: Bytes| of_type("application/json", Body::from(REPLY))))
        .route("/api/a2a/tasks/sendSubscribe", post(move |_: Bytes| std::future::ready(events(Arc::clone(&written)))))
        .route(
            "/api/oauth2/token",
            post(move || {
                tokens.fetch_add(1, Ordering::SeqCst);
                std::future::ready(of_type("application/json", Body::from(TOKEN)))
            }),
        )
        .route("/count", get(move || std::future::ready(count.load(Ordering::SeqCst).to_string())));
    while let Ok((socket, _)) = listener.accept().await {
        let _ = socket.set_nodelay(true);
        let service = TowerToHyperService::new(app.clone());
        tokio::spawn(async move {
            let mut builder = Builder::new(TokioExecutor::new());
            builder.http2().max_concurrent_streams(None);
            let _ = builder.serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

/// One event, and then silence.
fn events(written: Arc<AtomicU64>) -> Response {
    let first = stream::once(async move {
        tokio::time::sleep(BEFORE_EVENT).await;
        written.store(u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
        Ok::<_, Infallible>(Bytes::from_static(EVENT.as_bytes()))
    });
    of_type("text/event-stream", Body::from_stream(first.chain(stream::pending())))
}

fn of_type(media_type: &str, body: Body) -> Response {
    Response::builder().header("content-type", media_type).body(body).expect("a response")
}
