//! HTTP/2: what a server says that it did not process is not sent again all the same. Frame by
//! frame, by hand.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use payman_sdk::{Ask, Client, Config, RetryPolicy};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

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
enum Does {
    Answer,
    Reset(u32),
    /// Says which stream was the last that it processed, then closes.
    GoAway {
        last: u32,
        reason: u32,
    },
    /// The same, and keeps the connection open.
    GoAwayAndStay {
        last: u32,
        reason: u32,
    },
    Close,
    /// Says nothing more on this connection, not even to pings, as if its packets were dropped.
    Vanish,
    /// Leaves this request without an answer, and serves the others.
    Ignore,
}

struct Server {
    url: String,
    /// The body of each request.
    asked: Arc<Mutex<Vec<Value>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// Counts the requests that sent this text.
    fn sends_of(&self, text: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|body| body["params"]["message"]["parts"][0]["text"] == text).count()
    }
}

/// `does` decides by how many requests came before.
async fn serve(does: impl Fn(usize) -> Does + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked, connections) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let server = Server { url, asked: Arc::clone(&asked), connections: Arc::clone(&connections) };
    let does = Arc::new(does);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            connections.fetch_add(1, Ordering::SeqCst);
            let (does, asked) = (Arc::clone(&does), Arc::clone(&asked));
            tokio::spawn(async move {
                let _ = talk(socket, &*does, &asked, None).await;
            });
        }
    });
    server
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: S,
    does: &(dyn Fn(usize) -> Does + Send + Sync),
    asked: &Mutex<Vec<Value>>,
    limit: Option<u32>,
) -> std::io::Result<()> {
    socket.read_exact(&mut [0; 24]).await?;
    let most: &[u8] = match limit {
        // SETTINGS_MAX_CONCURRENT_STREAMS
        Some(most) => &[&[0, 3], &u32::to_be_bytes(most)[..]].concat(),
        None => &[],
    };
    say(&mut socket, SETTINGS, 0, 0, most).await?;
    let mut body = Vec::new();
    loop {
        let (kind, flags, stream, payload) = hear(&mut socket).await?;
        match kind {
            SETTINGS if flags & ACK == 0 => say(&mut socket, SETTINGS, ACK, 0, &[]).await?,
            PING if flags & ACK == 0 => say(&mut socket, PING, ACK, 0, &payload).await?,
            DATA => body.extend_from_slice(&payload),
            _ => {}
        }
        if kind != DATA || flags & END_STREAM == 0 {
            continue;
        }
        let request: Value = serde_json::from_slice(&std::mem::take(&mut body)).unwrap();
        let number = {
            let mut asked = asked.lock().unwrap();
            asked.push(request.clone());
            asked.len() - 1
        };
        let go_away = |last: u32, reason: u32| [last.to_be_bytes(), reason.to_be_bytes()].concat();
        match does(number) {
            Does::Answer => {
                // `:status: 200` is one byte in the static table.
                say(&mut socket, HEADERS, END_HEADERS, stream, &[0x88]).await?;
                let id = request["params"]["id"].as_str().unwrap();
                let reply = json!({"result": task(id, "COMPLETED", "done")}).to_string();
                say(&mut socket, DATA, END_STREAM, stream, reply.as_bytes()).await?;
            }
            Does::Reset(reason) => {
                say(&mut socket, RST_STREAM, 0, stream, &reason.to_be_bytes()).await?
            }
            Does::GoAway { last, reason } => {
                say(&mut socket, GOAWAY, 0, 0, &go_away(last, reason)).await?;
                return socket.shutdown().await;
            }
            Does::GoAwayAndStay { last, reason } => {
                say(&mut socket, GOAWAY, 0, 0, &go_away(last, reason)).await?
            }
            Does::Close => return Ok(()),
            Does::Ignore => {}
            Does::Vanish => {
                let mut heard = [0; 1024];
                while socket.read(&mut heard).await? > 0 {}
                return Ok(());
            }
        }
    }
}

async fn say<S: AsyncWrite + Unpin>(
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

async fn hear<S: AsyncRead + Unpin>(socket: &mut S) -> std::io::Result<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    socket.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let mut payload = vec![0; length];
    socket.read_exact(&mut payload).await?;
    Ok((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
}

fn client(server: &Server, policy: RetryPolicy) -> Client {
    client_with(
        config(&server.url)
            .reply_timeout(Duration::from_millis(500))
            .retry(policy)
            .configure_http(|http| http.http2_prior_knowledge()),
    )
}

fn refusals(stream: u32) -> Vec<Does> {
    let before = stream.saturating_sub(2);
    let mut refusals: Vec<Does> = [7, 8, 0, 2, 11].map(Does::Reset).into();
    for (last, reason) in [(before, 0), (before, 7), (before, 11), (stream, 0), (0x7fff_ffff, 0)] {
        refusals.push(Does::GoAway { last, reason });
        refusals.push(Does::GoAwayAndStay { last, reason });
    }
    refusals.push(Does::Close);
    refusals
}

#[tokio::test]
async fn what_was_not_processed_is_not_sent_again() {
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
            assert_eq!(server.sends_of(&text), 1, "{refusal:?}");
        }
    }
}

#[tokio::test]
async fn what_was_not_processed_on_a_connection_in_use_is_not_sent_again_and_is_found() {
    for refusal in refusals(3) {
        let server = serve(move |number| if number == 1 { refusal } else { Does::Answer }).await;
        let client =
            client(&server, RetryPolicy::default().recovery_timeout(Duration::from_secs(5)));
        assert_eq!(client.ask("first").await.unwrap().text(), "done");
        assert_eq!(client.ask("second").await.unwrap().text(), "done", "{refusal:?}");
        assert_eq!((server.sends_of("first"), server.sends_of("second")), (1, 1), "{refusal:?}");
    }
}

#[tokio::test]
async fn asks_share_a_connection_and_break_with_it_one_by_one() {
    let server =
        serve(
            |number| if number == 9 { Does::GoAway { last: 1, reason: 0 } } else { Does::Answer },
        )
        .await;
    let client = client(&server, RetryPolicy::default().recovery_timeout(Duration::from_secs(5)));
    client.ask("warm").await.unwrap();
    let asks = (0..40).map(|number| client.ask(format!("ask {number}")));
    for result in futures::future::join_all(asks).await {
        assert!(result.is_ok_and(|reply| reply.text() == "done"));
    }
    for number in 0..40 {
        assert!(server.sends_of(&format!("ask {number}")) <= 1, "ask {number}");
    }
    assert!(server.connections.load(Ordering::SeqCst) >= 2);
}

/// The same over TLS, with a certificate of its own; at most `limit` requests at once on a
/// connection.
async fn serve_tls(
    limit: Option<u32>,
    does: impl Fn(usize) -> Does + Send + Sync + 'static,
) -> (Server, reqwest::Certificate) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let (asked, connections) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let server = Server { url, asked: Arc::clone(&asked), connections: Arc::clone(&connections) };
    let does = Arc::new(does);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            connections.fetch_add(1, Ordering::SeqCst);
            let (does, asked, acceptor) = (Arc::clone(&does), Arc::clone(&asked), acceptor.clone());
            tokio::spawn(async move {
                let Ok(socket) = acceptor.accept(socket).await else { return };
                let _ = talk(socket, &*does, &asked, limit).await;
            });
        }
    });
    (server, reqwest::Certificate::from_der(made.cert.der()).unwrap())
}

fn tls_client(server: &Server, certificate: reqwest::Certificate, config: Config) -> Client {
    client_with(
        config
            .base_url(&server.url)
            .configure_http(move |http| http.no_proxy().tls_certs_only([certificate.clone()])),
    )
}

fn patient(seconds: u64) -> Config {
    config("https://localhost")
        .retry(RetryPolicy::default().recovery_timeout(Duration::from_secs(seconds)))
}

#[tokio::test]
async fn a_lookup_after_a_time_limit_does_not_share_a_dead_connection() {
    // The first connection is dead from its second request on.
    let (server, certificate) =
        serve_tls(None, |number| if number == 1 { Does::Vanish } else { Does::Answer }).await;
    let config = patient(5).reply_timeout(Duration::from_millis(700));
    let client = tls_client(&server, certificate, config);
    assert_eq!(client.ask("first").await.unwrap().text(), "done");
    let started = Instant::now();
    assert_eq!(client.ask("second").await.unwrap().text(), "done");
    assert_eq!(client.ask("third").await.unwrap().text(), "done");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!((server.sends_of("second"), server.sends_of("third")), (1, 1));
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_ask_that_ran_into_its_deadline_leaves_no_dead_connection_to_the_next() {
    let (server, certificate) =
        serve_tls(None, |number| if number == 1 { Does::Vanish } else { Does::Answer }).await;
    let client = tls_client(&server, certificate, patient(5));
    assert_eq!(client.ask("first").await.unwrap().text(), "done");
    let hurried = Ask::new("second").deadline(Duration::from_millis(400));
    assert!(client.ask(hurried).await.unwrap_err().is_outcome_unknown());
    let started = Instant::now();
    assert_eq!(client.ask("third").await.unwrap().text(), "done");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

/// Without any time limit of the caller's, pings notice a dead connection.
#[tokio::test]
async fn pings_notice_a_dead_connection() {
    let (server, certificate) =
        serve_tls(None, |number| if number == 1 { Does::Vanish } else { Does::Answer }).await;
    let client = tls_client(&server, certificate, patient(15));
    assert_eq!(client.ask("first").await.unwrap().text(), "done");
    let started = Instant::now();
    assert_eq!(client.ask("second").await.unwrap().text(), "done");
    let took = started.elapsed();
    assert!(took < Duration::from_secs(28), "{took:?}");
    assert_eq!(server.sends_of("second"), 1);
}

#[tokio::test]
async fn an_ask_that_waits_for_the_peers_stream_limit_was_not_sent() {
    let (server, certificate) = serve_tls(Some(1), |number| match number {
        1 => Does::Ignore,
        _ => Does::Answer,
    })
    .await;
    let client = tls_client(&server, certificate, patient(5));
    assert_eq!(client.ask("first").await.unwrap().text(), "done");
    let stalled = tokio::spawn(client.ask(Ask::new("stalled").deadline(Duration::from_secs(3))));
    while server.sends_of("stalled") == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let started = Instant::now();
    let waiting = Ask::new("waiting").deadline(Duration::from_millis(500));
    let error = client.ask(waiting).await.unwrap_err();
    assert!(error.is_timeout() && error.is_safe_to_ask_again(), "{error:?}");
    assert!(started.elapsed() < Duration::from_millis(750), "{:?}", started.elapsed());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(server.sends_of("waiting"), 0);
    assert!(stalled.await.unwrap().unwrap_err().is_outcome_unknown());
    assert_eq!(server.sends_of("waiting"), 0, "it is not sent when there is room again");
}

#[tokio::test]
async fn a_goaway_over_tls_is_survived() {
    for refusal in refusals(3) {
        let (server, certificate) =
            serve_tls(None, move |number| if number == 1 { refusal } else { Does::Answer }).await;
        let config = patient(5).reply_timeout(Duration::from_millis(700));
        let client = tls_client(&server, certificate, config);
        assert_eq!(client.ask("first").await.unwrap().text(), "done");
        assert_eq!(client.ask("second").await.unwrap().text(), "done", "{refusal:?}");
        assert_eq!(server.sends_of("second"), 1, "{refusal:?}");
    }
}
