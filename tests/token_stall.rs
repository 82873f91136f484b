//! A runtime of one thread that stands still while the reply of the token endpoint is already in
//! the socket: the reply is taken up, and the refresh token is not spent again.
//!
//! The thread of the runtime really blocks until the reply is written, and then its paused clock
//! jumps. A blocking task keeps that clock from running ahead on its own.
#![cfg(test)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use payman_sdk::{Client, Config, FileTokenStore, TokenInfo};
use secrecy::ExposeSecret;

const HOUR: Duration = Duration::from_secs(3600);
const GRANTED: &str = r#"{"accessToken":"new","refreshToken":"next","expiresIn":36000}"#;
const REFUSED: &str = r#"{"error":"invalid_grant"}"#;

/// The form in which the server writes its reply. The first part is written before the runtime
/// stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Whole,
    /// The head before, the body while the runtime stands still.
    BodyLater,
    Chunked,
    Http2,
    Http2BodyLater,
}

impl Form {
    fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Http2BodyLater)
    }

    /// Returns what is written before the runtime stands still, and after that.
    fn reply(self, status: u16, body: &str) -> (Vec<u8>, Vec<u8>) {
        let head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n");
        let length = format!("content-length: {}\r\n\r\n", body.len());
        match self {
            Self::Whole => (Vec::new(), format!("{head}{length}{body}").into()),
            Self::BodyLater => (format!("{head}{length}").into(), body.into()),
            Self::Chunked => {
                let chunks: String = body.chars().map(|byte| format!("1\r\n{byte}\r\n")).collect();
                let head = format!("{head}transfer-encoding: chunked\r\n\r\n");
                (head.into(), format!("{chunks}0\r\n\r\n").into())
            }
            Self::Http2 | Self::Http2BodyLater => {
                // An indexed field of HPACK's static table: `:status: 200` or `:status: 400`.
                let status = if status == 200 { 0x88 } else { 0x8c };
                let head = frame(HEADERS, END_HEADERS, 1, &[status]);
                let body = frame(DATA, END_STREAM, 1, body.as_bytes());
                if self == Self::Http2 { (Vec::new(), [head, body].concat()) } else { (head, body) }
            }
        }
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PREFACE: usize = 24;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A token endpoint on threads of its own. It writes each reply when it is told to.
struct Endpoint {
    url: String,
    requests: Arc<AtomicUsize>,
    asked: Receiver<()>,
    go: Sender<()>,
    written: Receiver<()>,
}

/// The server's ends of the channels.
struct Gate {
    requests: Arc<AtomicUsize>,
    asked: Sender<()>,
    go: Receiver<()>,
    written: Sender<()>,
}

impl Gate {
    fn answer(&self, socket: &mut TcpStream, reply: &(Vec<u8>, Vec<u8>)) {
        self.requests.fetch_add(1, Ordering::SeqCst);
        socket.write_all(&reply.0).unwrap();
        let _ = self.asked.send(());
        let _ = self.go.recv();
        socket.write_all(&reply.1).unwrap();
        let _ = self.written.send(());
    }
}

impl Endpoint {
    fn start(form: Form, status: u16, body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::<AtomicUsize>::default();
        let ((asked_in, asked), (go, go_out), (written_in, written)) =
            (channel(), channel(), channel());
        let gate = Gate {
            requests: Arc::clone(&requests),
            asked: asked_in,
            go: go_out,
            written: written_in,
        };
        let reply = form.reply(status, body);
        std::thread::spawn(move || {
            // One connection after the other: only a second request opens a second one.
            for socket in listener.incoming() {
                let mut socket = socket.unwrap();
                let _ = if form.is_http2() {
                    serve_http2(&mut socket, &gate, &reply)
                } else {
                    serve_http1(&mut socket, &gate, &reply)
                };
            }
        });
        Self { url, requests, asked, go, written }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn serve_http1(
    socket: &mut TcpStream,
    gate: &Gate,
    reply: &(Vec<u8>, Vec<u8>),
) -> std::io::Result<()> {
    loop {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte)?;
            request.push(byte[0]);
        }
        gate.answer(socket, reply);
    }
}

fn serve_http2(
    socket: &mut TcpStream,
    gate: &Gate,
    reply: &(Vec<u8>, Vec<u8>),
) -> std::io::Result<()> {
    socket.write_all(&frame(SETTINGS, 0, 0, &[]))?;
    socket.read_exact(&mut [0; PREFACE])?;
    loop {
        let mut head = [0; 9];
        socket.read_exact(&mut head)?;
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        socket.read_exact(&mut payload)?;
        match (head[3], head[4]) {
            (kind @ (SETTINGS | PING), 0) => {
                let payload = if kind == PING { &*payload } else { &[] };
                socket.write_all(&frame(kind, ACK, 0, payload))?;
            }
            (HEADERS | DATA, flags) if flags & END_STREAM != 0 => gate.answer(socket, reply),
            _ => {}
        }
    }
}

/// Runs the runtime until `is_done`, or fails: without a clock, that takes real time.
async fn run_until(what: &str, mut is_done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_done() {
        assert!(started.elapsed() < Duration::from_secs(5), "{what}: not done");
        tokio::task::yield_now().await;
    }
}

fn config(endpoint: &Endpoint, form: Form) -> Config {
    // A caller's own deadline may pass meanwhile: that is not what is tested here.
    let config = Config::new("client-id").base_url(&endpoint.url).deadline(24 * HOUR);
    if form.is_http2() {
        config.configure_http(reqwest::ClientBuilder::http2_prior_knowledge)
    } else {
        config
    }
}

/// Lets the runtime stand still for these times, one after the other, while the reply comes.
async fn stand_still(endpoint: &Endpoint, case: &str, stalls: &[u64]) {
    run_until(case, || endpoint.asked.try_recv().is_ok()).await;
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    endpoint.go.send(()).unwrap();
    // The thread of the runtime blocks here.
    endpoint.written.recv().unwrap();
    for seconds in stalls {
        tokio::time::advance(Duration::from_secs(*seconds)).await;
    }
}

/// Keeps the paused clock where it is until it is dropped.
fn hold_clock() -> Sender<()> {
    let (hold, held) = channel::<()>();
    tokio::task::spawn_blocking(move || held.recv());
    hold
}

const FORMS: [Form; 5] =
    [Form::Whole, Form::BodyLater, Form::Chunked, Form::Http2, Form::Http2BodyLater];
/// Shorter and longer than every time limit of a refresh, and twice in a row.
const STALLS: [&[u64]; 7] = [&[29], &[31], &[50], &[70], &[600], &[70, 70], &[31, 1, 31, 600]];

#[tokio::test(start_paused = true)]
async fn a_reply_in_the_socket_is_taken_up() {
    let _hold = hold_clock();
    for form in FORMS {
        for stalls in STALLS {
            let case = format!("{form:?} {stalls:?}");
            let endpoint = Endpoint::start(form, 200, GRANTED);
            let token = TokenInfo::refresh_only("first");
            let client = Client::with_token(config(&endpoint, form), token).unwrap();
            let asking = tokio::spawn({
                let client = client.clone();
                async move { client.access_token().await }
            });
            stand_still(&endpoint, &case, stalls).await;
            run_until(&case, || asking.is_finished()).await;
            let token = asking.await.unwrap().unwrap_or_else(|error| panic!("{case}: {error:?}"));
            assert_eq!(token.expose_secret(), "new", "{case}");
            assert_eq!(client.refresh_token().unwrap().expose_secret(), "next", "{case}");
            assert_eq!(endpoint.requests(), 1, "{case}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_in_the_socket_is_taken_up() {
    let _hold = hold_clock();
    for form in FORMS {
        for stalls in STALLS {
            let case = format!("{form:?} {stalls:?}");
            let endpoint = Endpoint::start(form, 400, REFUSED);
            let token = TokenInfo::refresh_only("first");
            let client = Client::with_token(config(&endpoint, form), token).unwrap();
            let asking = tokio::spawn(async move { client.access_token().await });
            stand_still(&endpoint, &case, stalls).await;
            run_until(&case, || asking.is_finished()).await;
            let error = asking.await.unwrap().unwrap_err();
            assert!(error.is_reauthorization_required(), "{case}: {error:?}");
            assert_eq!(endpoint.requests(), 1, "{case}");
        }
    }
}

/// The token is stored by another thread, which does not stand still.
#[tokio::test(start_paused = true)]
async fn a_reply_in_the_socket_is_stored_in_a_file() {
    let _hold = hold_clock();
    for stalls in STALLS {
        let case = format!("{stalls:?}");
        let endpoint = Endpoint::start(Form::Http2, 200, GRANTED);
        let directory = tempfile::tempdir().unwrap();
        let store = FileTokenStore::new(directory.path().join("tokens.json"));
        let config = config(&endpoint, Form::Http2).subject("alice").token_store(store);
        let client = Client::with_token(config, TokenInfo::refresh_only("first")).unwrap();
        let asking = tokio::spawn(async move { client.access_token().await });
        stand_still(&endpoint, &case, stalls).await;
        run_until(&case, || asking.is_finished()).await;
        assert_eq!(asking.await.unwrap().unwrap().expose_secret(), "new", "{case}");
        assert_eq!(endpoint.requests(), 1, "{case}");
        let text = std::fs::read_to_string(directory.path().join("tokens.json")).unwrap();
        assert!(text.contains("next"), "{case}: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_auth_code_whose_reply_is_in_the_socket_signs_in() {
    let _hold = hold_clock();
    for form in FORMS {
        for stalls in STALLS {
            let case = format!("{form:?} {stalls:?}");
            let endpoint = Endpoint::start(form, 200, GRANTED);
            let config = config(&endpoint, form).client_secret("secret");
            let signing_in = tokio::spawn(Client::with_auth_code(config, "c0de"));
            stand_still(&endpoint, &case, stalls).await;
            run_until(&case, || signing_in.is_finished()).await;
            let client = signing_in.await.unwrap().unwrap();
            assert!(client.token_status().is_usable(), "{case}");
            assert_eq!(endpoint.requests(), 1, "{case}");
        }
    }
}

/// A time limit that the program sets for its HTTP client is not for token requests.
#[tokio::test(start_paused = true)]
async fn the_http_clients_own_time_limit_discards_no_reply() {
    let _hold = hold_clock();
    for form in FORMS {
        let endpoint = Endpoint::start(form, 200, GRANTED);
        let config =
            Config::new("client-id").base_url(&endpoint.url).configure_http(move |client| {
                let client = client.timeout(Duration::from_secs(5));
                if form.is_http2() { client.http2_prior_knowledge() } else { client }
            });
        let client = Client::with_token(config, TokenInfo::refresh_only("first")).unwrap();
        let asking = tokio::spawn(async move { client.access_token().await });
        stand_still(&endpoint, "", &[6]).await;
        run_until("own limit", || asking.is_finished()).await;
        assert_eq!(asking.await.unwrap().unwrap().expose_secret(), "new", "{form:?}");
        assert_eq!(endpoint.requests(), 1, "{form:?}");
    }
}

/// The limit still counts while the runtime runs.
#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_reply_is_given_up() {
    let hold = hold_clock();
    let endpoint = Endpoint::start(Form::Whole, 200, GRANTED);
    let config = config(&endpoint, Form::Whole).retry_lost_refresh(false);
    let client = Client::with_token(config, TokenInfo::refresh_only("first")).unwrap();
    let asking = tokio::spawn(async move { client.access_token().await });
    run_until("asked", || endpoint.asked.try_recv().is_ok()).await;
    drop(hold);
    let started = tokio::time::Instant::now();
    let error = asking.await.unwrap().unwrap_err();
    assert!(error.is_reauthorization_required(), "{error:?}");
    let took = started.elapsed();
    assert!(took > Duration::from_secs(29) && took < Duration::from_secs(34), "{took:?}");
}
