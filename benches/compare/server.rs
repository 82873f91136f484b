//! A server for many at once, over HTTP/1 and HTTP/2: on a thread here, or in a process of its own.

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

use super::plain;

const AS_CHILD: &str = "PAYMAN_BENCH_SERVER";
/// More streams on one connection than any row opens.
const STREAMS: u32 = 20_000;
/// Room for all their requests at once. Where a connection's window runs out, requests go out in small pieces, and h2
/// takes too many of those for an attack: it ends the connection (ENHANCE_YOUR_CALM, too_many_data_frames).
const WINDOW: u32 = 1 << 30;

/// How often the token endpoint was asked.
#[derive(Clone, Default)]
pub struct TokenRequests(Arc<AtomicUsize>);

impl TokenRequests {
    pub fn take(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// A server on a thread of this process. Gives its base URL.
pub fn start() -> (String, TokenRequests) {
    let (said, says) = std::sync::mpsc::channel();
    let requests = TokenRequests::default();
    let counted = requests.clone();
    thread::spawn(move || serve(&counted, |url| drop(said.send(url))));
    (says.recv().expect("the server starts"), requests)
}

/// A server in a process of its own, so that its memory is not this process's. Ends with this.
pub struct Apart {
    process: Child,
    pub base_url: String,
}

impl Apart {
    pub fn start() -> Self {
        let this = env::current_exe().expect("this program");
        let mut process = Command::new(this)
            .env(AS_CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a second process");
        let mut base_url = String::new();
        let said = process.stdout.as_mut().expect("its output");
        BufReader::new(said).read_line(&mut base_url).expect("its address");
        Self { process, base_url: base_url.trim().to_owned() }
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// In the child: serves until the parent is gone. False in the parent.
pub fn is_child() -> bool {
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

fn serve(requests: &TokenRequests, say: impl FnOnce(String)) {
    let counted = requests.clone();
    let reply: Bytes = plain::reply().into();
    let app = Router::new()
        .route("/api/a2a/tasks/send", post(async move |_: Bytes| json(reply)))
        .route("/api/a2a/tasks/sendSubscribe", post(open_stream))
        .route("/api/oauth2/token", post(async move |_: Bytes| token(&counted)));
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port on loopback");
        say(format!("http://{}", listener.local_addr().expect("its address")));
        loop {
            let Ok((connection, _)) = listener.accept().await else {
                continue;
            };
            let service = TowerToHyperService::new(app.clone());
            tokio::spawn(async move {
                let mut server = auto::Builder::new(TokioExecutor::new());
                server
                    .http2()
                    .max_concurrent_streams(STREAMS)
                    .initial_connection_window_size(WINDOW)
                    .max_local_error_reset_streams(None)
                    .max_pending_accept_reset_streams(STREAMS as usize);
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
    json(
        r#"{"accessToken":"a-new-token","tokenType":"Bearer","expiresIn":3600,"refreshToken":"the-next"}"#,
    )
}

/// One event, and then nothing for as long as anyone waits.
async fn open_stream(request: Bytes) -> Response {
    let event = Ok::<_, Infallible>(plain::status_event(&request, "WORKING"));
    let body = Body::from_stream(stream::iter([event]).chain(stream::pending()));
    ([(CONTENT_TYPE, "text/event-stream")], body).into_response()
}
