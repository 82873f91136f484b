//! Tests HTTP/2 errors and dead connections, with a server that reads and writes single frames.
//! Asks are not resent even if the server states that it did not process them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use payman_sdk::{Ask, Client, Config, RetryPolicy};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::common::events::status_event;
use crate::common::{client_with, config, task};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// The server's reaction to a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reaction {
    Respond,
    Reset(u32),
    /// Sends GOAWAY with the last processed stream, then closes the connection.
    GoAway {
        last: u32,
        reason: u32,
    },
    /// Sends GOAWAY, and keeps the connection open.
    GoAwayKeepOpen {
        last: u32,
        reason: u32,
    },
    Close,
    /// Sends nothing more on this connection, not even to pings, as if packets were dropped.
    Silence,
    /// Does not answer this request, but later ones.
    Ignore,
    /// Begins a stream with one event.
    Stream,
}

#[derive(Clone)]
struct Http2Server {
    url: String,
    /// The bodies of the requests.
    requests: Arc<Mutex<Vec<Value>>>,
    connections: Arc<AtomicUsize>,
}

impl Http2Server {
    fn new(url: String) -> Self {
        Self { url, requests: Arc::default(), connections: Arc::default() }
    }

    /// Counts the requests that sent this text.
    fn count_sends(&self, text: &str) -> usize {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|body| body["params"]["message"]["parts"][0]["text"] == text).count()
    }
}

/// Starts a server. `react` gets the number of requests before.
async fn serve(react: impl Fn(usize) -> Reaction + Send + Sync + 'static) -> Http2Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = Http2Server::new(url);
    let shared = server.clone();
    let react = Arc::new(react);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            shared.connections.fetch_add(1, Ordering::SeqCst);
            let (react, requests) = (Arc::clone(&react), Arc::clone(&shared.requests));
            tokio::spawn(async move {
                let _ = serve_connection(socket, &*react, &requests, None).await;
            });
        }
    });
    server
}

async fn serve_connection<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: S,
    react: &(dyn Fn(usize) -> Reaction + Send + Sync),
    requests: &Mutex<Vec<Value>>,
    limit: Option<u32>,
) -> std::io::Result<()> {
    socket.read_exact(&mut [0; 24]).await?;
    let settings: &[u8] = match limit {
        // SETTINGS_MAX_CONCURRENT_STREAMS
        Some(limit) => &[&[0, 3], &u32::to_be_bytes(limit)[..]].concat(),
        None => &[],
    };
    write_frame(&mut socket, SETTINGS, 0, 0, settings).await?;
    let mut body = Vec::new();
    loop {
        let (kind, flags, stream, payload) = read_frame(&mut socket).await?;
        match kind {
            SETTINGS if flags & ACK == 0 => write_frame(&mut socket, SETTINGS, ACK, 0, &[]).await?,
            PING if flags & ACK == 0 => write_frame(&mut socket, PING, ACK, 0, &payload).await?,
            DATA => body.extend_from_slice(&payload),
            _ => {}
        }
        if kind != DATA || flags & END_STREAM == 0 {
            continue;
        }
        let request: Value = serde_json::from_slice(&std::mem::take(&mut body)).unwrap();
        let number = {
            let mut requests = requests.lock().unwrap();
            requests.push(request.clone());
            requests.len() - 1
        };
        let go_away = |last: u32, reason: u32| [last.to_be_bytes(), reason.to_be_bytes()].concat();
        match react(number) {
            Reaction::Respond => {
                // 0x88 is `:status: 200` in the HPACK static table.
                write_frame(&mut socket, HEADERS, END_HEADERS, stream, &[0x88]).await?;
                let id = request["params"]["id"].as_str().unwrap();
                let reply = json!({"result": task(id, "COMPLETED", "done")}).to_string();
                write_frame(&mut socket, DATA, END_STREAM, stream, reply.as_bytes()).await?;
            }
            Reaction::Stream => {
                let content_type = b"text/event-stream";
                // `:status: 200`, and a literal value for the static table's `content-type`.
                let mut headers = vec![0x88, 0x0f, 0x10, content_type.len() as u8];
                headers.extend_from_slice(content_type);
                write_frame(&mut socket, HEADERS, END_HEADERS, stream, &headers).await?;
                let event =
                    status_event(request["params"]["id"].as_str().unwrap(), "WORKING", false);
                write_frame(&mut socket, DATA, 0, stream, event.as_bytes()).await?;
            }
            Reaction::Reset(reason) => {
                write_frame(&mut socket, RST_STREAM, 0, stream, &reason.to_be_bytes()).await?
            }
            Reaction::GoAway { last, reason } => {
                write_frame(&mut socket, GOAWAY, 0, 0, &go_away(last, reason)).await?;
                return socket.shutdown().await;
            }
            Reaction::GoAwayKeepOpen { last, reason } => {
                write_frame(&mut socket, GOAWAY, 0, 0, &go_away(last, reason)).await?
            }
            Reaction::Close => return Ok(()),
            Reaction::Ignore => {}
            Reaction::Silence => {
                let mut ignored = [0; 1024];
                while socket.read(&mut ignored).await? > 0 {}
                return Ok(());
            }
        }
    }
}

async fn write_frame<S: AsyncWrite + Unpin>(
    socket: &mut S,
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &[u8],
) -> std::io::Result<()> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    socket.write_all(&[&head, payload].concat()).await
}

async fn read_frame<S: AsyncRead + Unpin>(
    socket: &mut S,
) -> std::io::Result<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    socket.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let mut payload = vec![0; length];
    socket.read_exact(&mut payload).await?;
    Ok((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
}

fn client(server: &Http2Server, policy: RetryPolicy) -> Client {
    client_with(
        config(&server.url)
            .reply_timeout(Duration::from_millis(500))
            .retry(policy)
            .configure_http(|http| http.http2_prior_knowledge()),
    )
}

fn refusals(stream: u32) -> Vec<Reaction> {
    let before = stream.saturating_sub(2);
    let mut refusals: Vec<Reaction> = [7, 8, 0, 2, 11].map(Reaction::Reset).into();
    for (last, reason) in [(before, 0), (before, 7), (before, 11), (stream, 0), (0x7fff_ffff, 0)] {
        refusals.push(Reaction::GoAway { last, reason });
        refusals.push(Reaction::GoAwayKeepOpen { last, reason });
    }
    refusals.push(Reaction::Close);
    refusals
}

#[tokio::test]
async fn unprocessed_requests_are_not_resent() {
    for refusal in refusals(1) {
        let server = serve(move |_| refusal).await;
        for policy in [
            RetryPolicy::none(),
            RetryPolicy::default().recovery_timeout(Duration::from_millis(200)),
        ] {
            let text = format!("{policy:?}");
            let error = client(&server, policy).ask(text.as_str()).await.unwrap_err();
            assert!(
                error.is_outcome_unknown() && !error.is_safe_to_ask_again(),
                "{refusal:?}: {error:?}"
            );
            assert_eq!(server.count_sends(&text), 1, "{refusal:?}");
        }
    }
}

#[tokio::test]
async fn unprocessed_requests_on_a_reused_connection_are_looked_up_and_not_resent() {
    for refusal in refusals(3) {
        let server =
            serve(move |number| if number == 1 { refusal } else { Reaction::Respond }).await;
        let client =
            client(&server, RetryPolicy::default().recovery_timeout(Duration::from_secs(5)));
        assert_eq!(client.ask("first").await.unwrap().text(), "done");
        assert_eq!(client.ask("second").await.unwrap().text(), "done", "{refusal:?}");
        assert_eq!(
            (server.count_sends("first"), server.count_sends("second")),
            (1, 1),
            "{refusal:?}"
        );
    }
}

#[tokio::test]
async fn asks_on_a_connection_that_goes_away_are_each_looked_up() {
    let server = serve(|number| {
        if number == 9 { Reaction::GoAway { last: 1, reason: 0 } } else { Reaction::Respond }
    })
    .await;
    let client = client(&server, RetryPolicy::default().recovery_timeout(Duration::from_secs(5)));
    client.ask("warm").await.unwrap();
    let asks = (0..40).map(|number| client.ask(format!("ask {number}")));
    for result in futures::future::join_all(asks).await {
        assert!(result.is_ok_and(|reply| reply.text() == "done"));
    }
    for number in 0..40 {
        assert!(server.count_sends(&format!("ask {number}")) <= 1, "ask {number}");
    }
    assert!(server.connections.load(Ordering::SeqCst) >= 2);
}

/// Starts a server with TLS and a self-signed certificate, which allows at most `limit` concurrent
/// requests on a connection.
async fn serve_tls(
    limit: Option<u32>,
    react: impl Fn(usize) -> Reaction + Send + Sync + 'static,
) -> (Http2Server, reqwest::Certificate) {
    let generated = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(generated.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![generated.cert.der().clone()], key)
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let server = Http2Server::new(url);
    let shared = server.clone();
    let react = Arc::new(react);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            shared.connections.fetch_add(1, Ordering::SeqCst);
            let (react, requests, acceptor) =
                (Arc::clone(&react), Arc::clone(&shared.requests), acceptor.clone());
            tokio::spawn(async move {
                let Ok(socket) = acceptor.accept(socket).await else { return };
                let _ = serve_connection(socket, &*react, &requests, limit).await;
            });
        }
    });
    (server, reqwest::Certificate::from_der(generated.cert.der()).unwrap())
}

fn tls_client(server: &Http2Server, certificate: reqwest::Certificate, config: Config) -> Client {
    client_with(
        config
            .base_url(&server.url)
            .configure_http(move |http| http.no_proxy().tls_certs_only([certificate.clone()])),
    )
}

fn config_with_recovery(seconds: u64) -> Config {
    config("https://localhost")
        .retry(RetryPolicy::default().recovery_timeout(Duration::from_secs(seconds)))
}

#[tokio::test]
async fn a_lookup_after_a_timeout_uses_a_new_connection() {
    // The first connection stops responding at its second request.
    let (server, certificate) =
        serve_tls(None, |number| if number == 1 { Reaction::Silence } else { Reaction::Respond })
            .await;
    let config = config_with_recovery(5).reply_timeout(Duration::from_millis(700));
    let client = tls_client(&server, certificate, config);
    assert_eq!(client.ask("first").await.unwrap().text(), "done");
    let started = Instant::now();
    assert_eq!(client.ask("second").await.unwrap().text(), "done");
    assert_eq!(client.ask("third").await.unwrap().text(), "done");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!((server.count_sends("second"), server.count_sends("third")), (1, 1));
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
}

/// Three streams share the connection that stops responding. The first whose idle limit passes
/// opens a new one for all of them.
#[tokio::test]
async fn silent_streams_are_looked_up_on_one_new_connection() {
    let (server, certificate) = serve_tls(None, |number| match number {
        0..3 => Reaction::Stream,
        3 => Reaction::Silence,
        _ => Reaction::Respond,
    })
    .await;
    // A lookup on the dead connection would take 10 s.
    let config = config_with_recovery(30).idle_timeout(Duration::from_millis(1500));
    let client = tls_client(&server, certificate, config);
    let mut replies = Vec::new();
    for _ in 0..3 {
        let mut stream = client.ask_stream("hi").await.unwrap();
        assert!(stream.next().await.unwrap().is_ok());
        replies.push(tokio::spawn(stream.into_reply()));
        // So that the idle limits pass one after the other.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let silent = tokio::spawn(client.ask("silent"));
    let started = Instant::now();
    for reply in replies {
        assert_eq!(reply.await.unwrap().unwrap().text(), "done");
    }
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
    silent.abort();
}

#[tokio::test]
async fn an_ask_after_a_deadline_uses_a_new_connection() {
    let (server, certificate) =
        serve_tls(None, |number| if number == 1 { Reaction::Silence } else { Reaction::Respond })
            .await;
    let client = tls_client(&server, certificate, config_with_recovery(5));
    assert_eq!(client.ask("first").await.unwrap().text(), "done");
    let short_ask = Ask::new("second").deadline(Duration::from_millis(400));
    assert!(client.ask(short_ask).await.unwrap_err().is_outcome_unknown());
    let started = Instant::now();
    assert_eq!(client.ask("third").await.unwrap().text(), "done");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

/// Without a timeout, only pings detect a dead connection.
#[tokio::test]
async fn pings_detect_a_dead_connection() {
    let (server, certificate) =
        serve_tls(None, |number| if number == 1 { Reaction::Silence } else { Reaction::Respond })
            .await;
    let client = tls_client(&server, certificate, config_with_recovery(15));
    assert_eq!(client.ask("first").await.unwrap().text(), "done");
    let started = Instant::now();
    assert_eq!(client.ask("second").await.unwrap().text(), "done");
    let took = started.elapsed();
    assert!(took < Duration::from_secs(28), "{took:?}");
    assert_eq!(server.count_sends("second"), 1);
}

#[tokio::test]
async fn an_ask_that_waits_for_the_concurrent_stream_limit_was_not_sent() {
    let (server, certificate) = serve_tls(Some(1), |number| match number {
        1 => Reaction::Ignore,
        _ => Reaction::Respond,
    })
    .await;
    let client = tls_client(&server, certificate, config_with_recovery(5));
    assert_eq!(client.ask("first").await.unwrap().text(), "done");
    let stalled = tokio::spawn(client.ask(Ask::new("stalled").deadline(Duration::from_secs(3))));
    while server.count_sends("stalled") == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let started = Instant::now();
    let waiting = Ask::new("waiting").deadline(Duration::from_millis(500));
    let error = client.ask(waiting).await.unwrap_err();
    assert!(error.is_timeout() && error.is_safe_to_ask_again(), "{error:?}");
    assert!(started.elapsed() < Duration::from_millis(750), "{:?}", started.elapsed());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(server.count_sends("waiting"), 0);
    assert!(stalled.await.unwrap().unwrap_err().is_outcome_unknown());
    assert_eq!(server.count_sends("waiting"), 0, "it is not sent later either");
}

#[tokio::test]
async fn an_ask_survives_goaway_over_tls() {
    for refusal in refusals(3) {
        let (server, certificate) =
            serve_tls(None, move |number| if number == 1 { refusal } else { Reaction::Respond })
                .await;
        let config = config_with_recovery(5).reply_timeout(Duration::from_millis(700));
        let client = tls_client(&server, certificate, config);
        assert_eq!(client.ask("first").await.unwrap().text(), "done");
        assert_eq!(client.ask("second").await.unwrap().text(), "done", "{refusal:?}");
        assert_eq!(server.count_sends("second"), 1, "{refusal:?}");
    }
}
