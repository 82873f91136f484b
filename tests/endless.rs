//! Tests that replies without end become typed errors within the limits of time and memory.

#![cfg(test)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::raw::read_request;
use common::{SEND, STREAM, TOKEN};
use futures::StreamExt;
use payman_sdk::ErrorKind::{self, Interrupted, Timeout, TooLarge};
use payman_sdk::{Client, Config, Error, RetryPolicy, TokenInfo};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::time::Instant;

const MIB: usize = 1024 * 1024;
/// The number of bytes that the server may send beyond a limit, because of socket buffers.
const IN_FLIGHT: usize = 16 * MIB;
const DEADLINE: Duration = Duration::from_secs(1);
const SLACK: Duration = Duration::from_secs(20);

/// A server that answers one path without end, and other paths with 404.
struct EndlessServer {
    url: String,
    sent: Arc<AtomicUsize>,
}

/// Starts a server that answers `path` with `head`, and then with `again` without end.
async fn serve_endless(path: &'static str, head: String, again: String) -> EndlessServer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let (head, again, sent) = (head.clone(), again.clone(), Arc::clone(&counted));
            tokio::spawn(async move {
                let Some(request) = read_request(&mut socket).await else { return };
                if request.path.split('?').next() != Some(path) {
                    let _ = socket
                        .write_all(
                            b"HTTP/1.1 404 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                        )
                        .await;
                    return;
                }
                let task_id = request.body["params"]["id"].as_str().unwrap_or_default();
                let again = again.replace("TASK", task_id);
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
    EndlessServer { url, sent }
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

/// The limit that ends an endless reply.
#[derive(PartialEq)]
enum Limit {
    Size,
    Time,
}

/// The expected kind of error, and the limit that causes it.
struct ExpectedError(ErrorKind, Limit);

fn check_error(what: &str, error: &Error, expected: &ExpectedError, took: Duration, sent: usize) {
    println!("{what}: {:?} after {took:.1?} and {:.1} MiB", error.kind(), sent as f64 / MIB as f64);
    assert_eq!(error.kind(), expected.0, "{what}: {error:?}");
    assert!(took < DEADLINE + SLACK, "{what} took {took:?}");
    if expected.1 == Limit::Size {
        assert!(sent < IN_FLIGHT, "{what}: {sent} bytes were sent");
    }
}

fn head(status: u16, content_type: &str) -> String {
    format!("HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\n\r\n")
}

fn event(result: &str) -> String {
    format!("data: {{\"jsonrpc\":\"2.0\",\"result\":{result}}}\n\n")
}

/// Returns the peak_memory memory of the process in bytes, if the system reports it.
fn peak_memory() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").trim().parse::<usize>().ok().map(|kib| kib * 1024)
}

/// A single test, because it measures the memory of the whole process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_without_end_fail_within_the_limits_of_time_and_memory() {
    let before = peak_memory();
    whole_replies().await;
    streams().await;
    tokens().await;
    if let (Some(before), Some(after)) = (before, peak_memory()) {
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
            ExpectedError(Interrupted, Limit::Size),
        ),
        (
            "one header",
            "HTTP/1.1 200 OK\r\nx: ".to_owned(),
            "y".to_owned(),
            ExpectedError(Interrupted, Limit::Size),
        ),
        (
            "a status line",
            "HTTP/1.1 200 ".to_owned(),
            "O".to_owned(),
            ExpectedError(Interrupted, Limit::Size),
        ),
        (
            "1xx",
            String::new(),
            "HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n".to_owned(),
            ExpectedError(Timeout, Limit::Time),
        ),
        ("spaces", json.clone(), " ".to_owned(), ExpectedError(TooLarge, Limit::Size)),
        (
            "a text",
            format!("{json}{{\"result\":{{\"id\":\""),
            "x".to_owned(),
            ExpectedError(TooLarge, Limit::Size),
        ),
        ("brackets", json.clone(), "[".to_owned(), ExpectedError(TooLarge, Limit::Size)),
        (
            "a 500",
            head(500, "text/html"),
            "<p>sorry</p>".to_owned(),
            ExpectedError(ErrorKind::Http, Limit::Size),
        ),
        (
            "a 400",
            head(400, "application/json"),
            "{\"error\":".to_owned(),
            ExpectedError(ErrorKind::Http, Limit::Size),
        ),
        (
            "a 401",
            head(401, "application/json"),
            " ".to_owned(),
            ExpectedError(ErrorKind::Auth, Limit::Size),
        ),
    ];
    for (what, head, again, expected) in cases {
        let server = serve_endless(SEND, head, again).await;
        let started = Instant::now();
        let error = client(&server.url).ask("hi").await.unwrap_err();
        assert!(error.is_outcome_unknown(), "{what}: {error:?}");
        check_error(
            &format!("a reply, {what}"),
            &error,
            &expected,
            started.elapsed(),
            server.sent.load(Ordering::SeqCst),
        );
    }
    let server = serve_endless(common::GET, json, " ".to_owned()).await;
    let started = Instant::now();
    let error = client(&server.url).get_task("tsk-1").await.unwrap_err();
    check_error(
        "a lookup",
        &error,
        &ExpectedError(TooLarge, Limit::Size),
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
        ("comments", sse(), ": ping\n\n".to_owned(), ExpectedError(Timeout, Limit::Time)),
        ("blank lines", sse(), "\n".to_owned(), ExpectedError(Timeout, Limit::Time)),
        ("one comment", sse() + ": ", "x".to_owned(), ExpectedError(Timeout, Limit::Time)),
        ("one event", sse() + "data: ", "x".to_owned(), ExpectedError(TooLarge, Limit::Size)),
        (
            "one event of many lines",
            sse(),
            "data: x\n".to_owned(),
            ExpectedError(TooLarge, Limit::Size),
        ),
        (
            "one event of empty lines",
            sse(),
            "data\n".to_owned(),
            ExpectedError(TooLarge, Limit::Size),
        ),
        (
            "a field of another name",
            sse() + "retry: ",
            "1".to_owned(),
            ExpectedError(TooLarge, Limit::Size),
        ),
        ("text", sse(), piece("0", "true"), ExpectedError(TooLarge, Limit::Size)),
        (
            "artifacts without an index",
            sse(),
            piece("0", "true").replace("\"index\":0,", ""),
            ExpectedError(TooLarge, Limit::Size),
        ),
        ("text that is replaced", sse(), piece("0", "false"), ExpectedError(Timeout, Limit::Time)),
        ("states", sse(), working.clone(), ExpectedError(Timeout, Limit::Time)),
        (
            "events of unknown shape",
            sse(),
            event("{\"novelty\":1}"),
            ExpectedError(Timeout, Limit::Time),
        ),
        (
            "another task's events",
            sse(),
            event("{\"id\":\"t\",\"status\":{\"state\":\"COMPLETED\"},\"final\":true}"),
            ExpectedError(Timeout, Limit::Time),
        ),
        (
            "whole tasks",
            sse(),
            event("{\"id\":\"TASK\",\"status\":{\"state\":\"WORKING\"},\"artifacts\":[]}"),
            ExpectedError(Timeout, Limit::Time),
        ),
        (
            "a whole reply",
            head(200, "application/json"),
            " ".to_owned(),
            ExpectedError(TooLarge, Limit::Size),
        ),
    ];
    for (what, head, again, expected) in cases {
        let server = serve_endless(STREAM, head, again).await;
        let started = Instant::now();
        let error = read(&client(&server.url)).await;
        assert!(error.is_outcome_unknown(), "{what}: {error:?}");
        check_error(
            &format!("a stream, {what}"),
            &error,
            &expected,
            started.elapsed(),
            server.sent.load(Ordering::SeqCst),
        );
    }
    for (what, again) in [("into_reply", piece("0", "true")), ("text", piece("0", "true"))] {
        let server = serve_endless(STREAM, sse(), again).await;
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
        let server = serve_endless(TOKEN, head, again.to_owned()).await;
        let started = Instant::now();
        let error =
            Client::with_credentials(config(&server.url)).unwrap().ask("hi").await.unwrap_err();
        assert!(error.is_safe_to_ask_again(), "{what}: {error:?}");
        // The token request is sent up to three times.
        let sent = server.sent.load(Ordering::SeqCst) / 3;
        let expected = ExpectedError(error.kind(), Limit::Size);
        assert!(
            matches!(error.kind(), TooLarge | ErrorKind::Http | Interrupted),
            "{what}: {error:?}"
        );
        check_error(&format!("a token, {what}"), &error, &expected, started.elapsed(), sent);
    }
}
