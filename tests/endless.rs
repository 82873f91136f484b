//! Servers that send for ever: a typed error within the limits, and no more memory than they allow.

#![cfg(test)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{SEND, STREAM, TOKEN};
use futures::StreamExt;
use payman_sdk::ErrorKind::{self, Interrupted, Timeout, TooLarge};
use payman_sdk::{Client, Config, Error, RetryPolicy, TokenInfo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

const MIB: usize = 1024 * 1024;
/// The bytes that socket buffers and a server that writes ahead may hold, on top of a limit.
const IN_FLIGHT: usize = 16 * MIB;
const DEADLINE: Duration = Duration::from_secs(1);
const SLACK: Duration = Duration::from_secs(20);

/// Says `head` once, then `again` without end, as the answer to `path`; 404 to other paths.
struct Endless {
    url: String,
    sent: Arc<AtomicUsize>,
}

async fn endless(path: &'static str, head: String, again: String) -> Endless {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let (head, again, sent) = (head.clone(), again.clone(), Arc::clone(&counted));
            tokio::spawn(async move {
                let Some(request) = read_request(&mut socket).await else { return };
                if request.split(' ').nth(1).and_then(|target| target.split('?').next())
                    != Some(path)
                {
                    let _ = socket
                        .write_all(
                            b"HTTP/1.1 404 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                        )
                        .await;
                    return;
                }
                let id = request
                    .split("\"id\":\"tsk-")
                    .nth(1)
                    .and_then(|rest| rest.split('"').next())
                    .unwrap_or_default();
                let again = again.replace("TASK", &format!("tsk-{id}"));
                let block = again.repeat((16 * 1024 / again.len()).max(1));
                if socket.write_all(head.as_bytes()).await.is_err() {
                    return;
                }
                while socket.write_all(block.as_bytes()).await.is_ok() {
                    sent.fetch_add(block.len(), Ordering::SeqCst);
                    tokio::task::yield_now().await;
                }
            });
        }
    });
    Endless { url, sent }
}

async fn read_request(socket: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let read = socket.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
        request.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_ascii_lowercase();
        let length = length
            .lines()
            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        if body.len() >= length.unwrap_or(0usize) {
            return Some(text.into_owned());
        }
    }
}

fn config(url: &str) -> Config {
    Config::new("id")
        .base_url(url)
        .client_secret("secret")
        .deadline(DEADLINE)
        .max_reply_bytes(256 * 1024)
        .max_event_bytes(64 * 1024)
        .max_error_body_bytes(4 * 1024)
        .retry(RetryPolicy::default().recovery_timeout(Duration::from_millis(300)))
}

fn client(url: &str) -> Client {
    Client::with_token(config(url), TokenInfo::access("access-token", Duration::from_secs(3600)))
        .unwrap()
}

/// Reads a stream until it fails, and returns the error.
async fn read(client: &Client) -> Error {
    match client.ask_stream("hi").await {
        Ok(mut stream) => loop {
            match stream.next().await.expect("an error, not an end") {
                Ok(_) => {}
                Err(error) => return error,
            }
        },
        Err(error) => error,
    }
}

/// The expected end: the kind of error, and whether a limit of size causes it (else one of time).
struct Ends(ErrorKind, bool);

fn check_end(what: &str, error: &Error, ends: &Ends, took: Duration, sent: usize) {
    println!("{what}: {:?} after {took:.1?} and {:.1} MiB", error.kind(), sent as f64 / MIB as f64);
    assert_eq!(error.kind(), ends.0, "{what}: {error:?}");
    assert!(took < DEADLINE + SLACK, "{what} took {took:?}");
    if ends.1 {
        assert!(sent < IN_FLIGHT, "{what}: {sent} bytes were taken");
    }
}

fn head(status: u16, content_type: &str) -> String {
    format!("HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\n\r\n")
}

fn event(result: &str) -> String {
    format!("data: {{\"jsonrpc\":\"2.0\",\"result\":{result}}}\n\n")
}

/// The most memory that the process ever had, where the system says so.
fn peak() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").trim().parse::<usize>().ok().map(|kib| kib * 1024)
}

/// One test, so that nothing else runs in the process whose memory is measured.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_sends_for_ever_meets_the_limits() {
    let before = peak();
    whole_replies().await;
    streams().await;
    tokens().await;
    if let (Some(before), Some(after)) = (before, peak()) {
        let grown = (after - before) / MIB;
        println!("memory grew by {grown} MiB at most");
        assert!(grown < 100, "memory grew by {grown} MiB");
    }
}

async fn whole_replies() {
    let json = head(200, "application/json");
    let cases = [
        (
            "headers",
            "HTTP/1.1 200 OK\r\n".to_owned(),
            "x-header: y\r\n".to_owned(),
            Ends(Interrupted, true),
        ),
        (
            "one header",
            "HTTP/1.1 200 OK\r\nx: ".to_owned(),
            "y".to_owned(),
            Ends(Interrupted, true),
        ),
        ("a status line", "HTTP/1.1 200 ".to_owned(), "O".to_owned(), Ends(Interrupted, true)),
        (
            "1xx",
            String::new(),
            "HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n".to_owned(),
            Ends(Timeout, false),
        ),
        ("spaces", json.clone(), " ".to_owned(), Ends(TooLarge, true)),
        ("a text", format!("{json}{{\"result\":{{\"id\":\""), "x".to_owned(), Ends(TooLarge, true)),
        ("brackets", json.clone(), "[".to_owned(), Ends(TooLarge, true)),
        ("a 500", head(500, "text/html"), "<p>sorry</p>".to_owned(), Ends(ErrorKind::Http, true)),
        (
            "a 400",
            head(400, "application/json"),
            "{\"error\":".to_owned(),
            Ends(ErrorKind::Http, true),
        ),
        ("a 401", head(401, "application/json"), " ".to_owned(), Ends(ErrorKind::Auth, true)),
    ];
    for (what, head, again, ends) in cases {
        let server = endless(SEND, head, again).await;
        let started = Instant::now();
        let error = client(&server.url).ask("hi").await.unwrap_err();
        assert!(error.is_outcome_unknown(), "{what}: {error:?}");
        check_end(
            &format!("a reply, {what}"),
            &error,
            &ends,
            started.elapsed(),
            server.sent.load(Ordering::SeqCst),
        );
    }
    let server = endless(common::GET, json, " ".to_owned()).await;
    let started = Instant::now();
    let error = client(&server.url).get_task("tsk-1").await.unwrap_err();
    check_end(
        "a lookup",
        &error,
        &Ends(TooLarge, true),
        started.elapsed(),
        server.sent.load(Ordering::SeqCst),
    );
}

async fn streams() {
    let sse = || head(200, "text/event-stream");
    let piece = |index: &str, more: &str| {
        event(&format!(
            "{{\"id\":\"TASK\",\"artifact\":{{\"index\":{index},\"append\":{more},\"parts\":[{{\"type\":\"text\",\"text\":\"x\"}}]}}}}"
        ))
    };
    let working = event("{\"id\":\"TASK\",\"status\":{\"state\":\"WORKING\"}}");
    let cases = [
        ("comments", sse(), ": ping\n\n".to_owned(), Ends(Timeout, false)),
        ("blank lines", sse(), "\n".to_owned(), Ends(Timeout, false)),
        ("one comment", sse() + ": ", "x".to_owned(), Ends(Timeout, false)),
        ("one event", sse() + "data: ", "x".to_owned(), Ends(TooLarge, true)),
        ("one event of many lines", sse(), "data: x\n".to_owned(), Ends(TooLarge, true)),
        ("one event of empty lines", sse(), "data\n".to_owned(), Ends(TooLarge, true)),
        ("a field of another name", sse() + "retry: ", "1".to_owned(), Ends(TooLarge, true)),
        ("words", sse(), piece("0", "true"), Ends(TooLarge, true)),
        (
            "artifacts of no index",
            sse(),
            piece("0", "true").replace("\"index\":0,", ""),
            Ends(TooLarge, true),
        ),
        ("words that replace", sse(), piece("0", "false"), Ends(Timeout, false)),
        ("states", sse(), working.clone(), Ends(Timeout, false)),
        ("events of unknown shape", sse(), event("{\"novelty\":1}"), Ends(Timeout, false)),
        (
            "another task's events",
            sse(),
            event("{\"id\":\"t\",\"status\":{\"state\":\"COMPLETED\"},\"final\":true}"),
            Ends(Timeout, false),
        ),
        (
            "whole tasks",
            sse(),
            event("{\"id\":\"TASK\",\"status\":{\"state\":\"WORKING\"},\"artifacts\":[]}"),
            Ends(Timeout, false),
        ),
        ("a whole reply", head(200, "application/json"), " ".to_owned(), Ends(TooLarge, true)),
    ];
    for (what, head, again, ends) in cases {
        let server = endless(STREAM, head, again).await;
        let started = Instant::now();
        let error = read(&client(&server.url)).await;
        assert!(error.is_outcome_unknown(), "{what}: {error:?}");
        check_end(
            &format!("a stream, {what}"),
            &error,
            &ends,
            started.elapsed(),
            server.sent.load(Ordering::SeqCst),
        );
    }
    for (what, again) in [("into_reply", piece("0", "true")), ("text", piece("0", "true"))] {
        let server = endless(STREAM, sse(), again).await;
        let stream = client(&server.url).ask_stream("hi").await.unwrap();
        let error = match what {
            "into_reply" => stream.into_reply().await.err(),
            _ => stream.text().collect::<Vec<_>>().await.pop().and_then(Result::err),
        };
        assert_eq!(error.map(|error| error.kind()), Some(TooLarge), "{what}");
    }
}

async fn tokens() {
    for (what, head, again) in [
        ("a reply", head(200, "application/json"), " "),
        ("a text", head(200, "application/json") + "{\"accessToken\":\"", "x"),
        ("an error", head(500, "text/html"), "<p>"),
        ("headers", "HTTP/1.1 200 OK\r\n".to_owned(), "x: y\r\n"),
    ] {
        let server = endless(TOKEN, head, again.to_owned()).await;
        let started = Instant::now();
        let error =
            Client::with_credentials(config(&server.url)).unwrap().ask("hi").await.unwrap_err();
        assert!(error.is_safe_to_ask_again(), "{what}: {error:?}");
        // It is asked for up to three times.
        let sent = server.sent.load(Ordering::SeqCst) / 3;
        let ends = Ends(error.kind(), true);
        assert!(
            matches!(error.kind(), TooLarge | ErrorKind::Http | Interrupted),
            "{what}: {error:?}"
        );
        check_end(&format!("a token, {what}"), &error, &ends, started.elapsed(), sent);
    }
}
