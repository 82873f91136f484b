//! Tests single edge cases of the retry table, against scripted servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use payman_sdk::{Ask, ErrorKind, RetryPolicy};
use serde_json::json;
use tokio::time::Instant;

use crate::common::raw::{
    RawRequest, Step, events_head, json_reply, not_found, serve, stream_server,
};
use crate::common::{SEND, STREAM, TOKEN, client_with, config, task};

fn answer(status: u16, headers: &str, body: &str) -> Vec<Step> {
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}connection: close\r\n\r\n",
        body.len()
    );
    vec![Step::Send([head.as_bytes(), body.as_bytes()].concat())]
}

fn refusal() -> String {
    format!(
        "data: {}\n\n",
        json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "no"}})
    )
}

#[tokio::test]
async fn a_refusal_after_the_first_event_has_an_unknown_outcome() {
    let beginnings = [
        json!({"jsonrpc": "2.0", "result": {"progress": 1}}),
        json!({"jsonrpc": "2.0", "result": {"id": "another-task", "status": {"state": "WORKING"}}}),
        json!({"jsonrpc": "2.0", "result": {"status": {"state": "WORKING"}}}),
    ];
    for beginning in beginnings {
        let first = format!("data: {beginning}\n\n");
        let server = stream_server(move |_| first.clone() + &refusal()).await;
        let error = client_with(config(&server.url))
            .ask_stream("hi")
            .await
            .unwrap()
            .into_reply()
            .await
            .unwrap_err();
        assert!(error.is_outcome_unknown(), "{beginning}: {error:?}");
    }
    let server = stream_server(|_| refusal()).await;
    let error = client_with(config(&server.url))
        .ask_stream("hi")
        .await
        .unwrap()
        .into_reply()
        .await
        .unwrap_err();
    assert!(error.is_safe_to_ask_again(), "{error:?}");
}

#[tokio::test]
async fn a_refusal_with_a_result_has_an_unknown_outcome() {
    for (status, body) in [
        (
            200,
            json!({"result": task("t", "WORKING", ""), "error": {"code": -32602, "message": "no"}}),
        ),
        (
            400,
            json!({"result": task("t", "WORKING", ""), "error": {"code": -32602, "message": "no"}}),
        ),
        (
            400,
            json!({"id": "t", "status": {"state": "WORKING"}, "error": {"code": -32602,
                "message": "no"}}),
        ),
        (400, json!({"result": {"artifacts": []}})),
        (400, json!({"result": {"novelty": 1}})),
        (401, json!({"result": "done"})),
        (403, json!({"jsonrpc": "2.0", "result": {"id": "t", "status": {"state": "COMPLETED"}}})),
    ] {
        let text = body.to_string();
        let server = serve(move |request: RawRequest| match request.path.as_str() {
            SEND => answer(status, "content-type: application/json\r\n", &text),
            _ => not_found(),
        })
        .await;
        let error = client_with(config(&server.url)).ask("hi").await.unwrap_err();
        assert!(error.is_outcome_unknown(), "{status} {body}: {error:?}");
    }
}

/// Gateways add a numeric `status`, which must not hide the server's `error`.
#[tokio::test]
async fn error_bodies_with_a_numeric_status_are_parsed() {
    for (body, safe) in [
        (json!({"status": 400, "error": {"code": -32603, "message": "boom"}}), false),
        (json!({"status": 400, "error": {"code": -32602, "message": "no"}}), true),
        (
            json!({"timestamp": "2025-06-27", "status": 400, "error": "Bad Request", "path": "/x"}),
            true,
        ),
        (json!({"type": "about:blank", "title": "Bad Request", "status": 400}), true),
        (json!({"result": {"artifacts": "odd"}}), false),
    ] {
        let text = body.to_string();
        let server = serve(move |request: RawRequest| match request.path.as_str() {
            SEND => answer(400, "content-type: application/json\r\n", &text),
            _ => not_found(),
        })
        .await;
        let error = client_with(config(&server.url)).ask("hi").await.unwrap_err();
        assert_eq!(
            (error.is_safe_to_ask_again(), error.is_outcome_unknown()),
            (safe, !safe),
            "{body}: {error:?}"
        );
    }
}

#[tokio::test]
async fn without_retries_a_retry_after_is_not_waited_for() {
    let server = serve(|_| answer(429, "retry-after: 30\r\n", "")).await;
    let client = client_with(config(&server.url).retry(RetryPolicy::none()));
    let started = Instant::now();
    let error = client.ask("hi").await.unwrap_err();
    assert!(error.is_rate_limited() && error.is_outcome_unknown());
    assert!(started.elapsed() < Duration::from_secs(20), "the error is returned at once");
}

/// A refusal proves nothing about an earlier send that was opted into.
#[tokio::test]
async fn after_an_unknown_send_no_error_is_safe_to_ask_again() {
    for second in [400, 401, 429] {
        let sends = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sends);
        let server = serve(move |request: RawRequest| match request.path.as_str() {
            SEND if counted.fetch_add(1, Ordering::SeqCst) == 0 => {
                answer(429, "retry-after: 0\r\n", "")
            }
            SEND => answer(second, "retry-after: 0\r\n", ""),
            _ => not_found(),
        })
        .await;
        let policy = RetryPolicy::default()
            .recovery_timeout(Duration::from_millis(200))
            .resend_when_busy(true);
        let error = client_with(config(&server.url).retry(policy)).ask("hi").await.unwrap_err();
        assert!(sends.load(Ordering::SeqCst) > 1);
        assert!(error.is_outcome_unknown() && !error.is_safe_to_ask_again(), "{second}: {error:?}");
    }
}

/// The failure of a lookup proves nothing about the ask of the task.
#[tokio::test]
async fn errors_of_lookups_and_cancels_are_never_safe_to_ask_again() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let refusing = serve(|_| answer(401, "", "")).await;
    for url in [closed, refusing.url.clone()] {
        let client = client_with(config(&url).deadline(Duration::from_secs(5)));
        for error in [
            client.get_task("tsk-1").await.unwrap_err(),
            client.cancel_task("tsk-1").await.unwrap_err(),
        ] {
            assert!(!error.is_safe_to_ask_again(), "{error:?}");
            assert_eq!(error.task_id().map(|id| id.as_str()), Some("tsk-1"), "{error:?}");
        }
    }
}

#[tokio::test]
async fn a_refused_token_request_of_an_app_requires_no_reauthorization() {
    for body in ["", "<html>", r#"{"error":"invalid_grant"}"#, r#"{"error":"invalid_request"}"#] {
        let server =
            serve(move |request: RawRequest| match request.path.split('?').next().unwrap() {
                TOKEN => answer(400, "", body),
                _ => not_found(),
            })
            .await;
        let client =
            payman_sdk::Client::with_credentials(config(&server.url).client_secret("s")).unwrap();
        let error = client.ask("hi").await.unwrap_err();
        assert!(
            error.is_safe_to_ask_again() && !error.is_reauthorization_required(),
            "{body}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_slow_reader_does_not_cause_an_idle_timeout() {
    let server = serve(|request: RawRequest| {
        let event = |last: bool| {
            let state = if last { "COMPLETED" } else { "WORKING" };
            format!(
                "data: {}\n\n",
                json!({"id": request.task_id(), "status": {"state": state}, "final": last})
            )
        };
        match request.path.as_str() {
            STREAM => vec![
                events_head(),
                Step::Send(event(false).into_bytes()),
                Step::Wait(Duration::from_millis(1500)),
                Step::Send(event(true).into_bytes()),
            ],
            _ => not_found(),
        }
    })
    .await;
    let ask = Ask::new("hi").idle_timeout(Duration::from_millis(1000));
    let mut stream = client_with(config(&server.url)).ask_stream(ask).await.unwrap();
    stream.next().await.unwrap().unwrap();
    // The reader is busy for longer than the limit, and only then waits for the server.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    stream.next().await.unwrap().unwrap();
    assert!(stream.next().await.is_none());
}

/// The limits of an ask apply to its lookups.
#[tokio::test]
async fn a_lookup_uses_the_size_limit_of_its_ask() {
    let server = serve(|request: RawRequest| match request.path.as_str() {
        SEND => answer(500, "", ""),
        _ => vec![json_reply(
            &json!({"result": task(request.task_id(), "COMPLETED", &"x".repeat(5000))}),
        )],
    })
    .await;
    let client = client_with(config(&server.url).max_reply_bytes(100));
    let reply = client.ask(Ask::new("hi").max_reply_bytes(10_000)).await.unwrap();
    assert_eq!(reply.text().len(), 5000);
    let error = client.ask("hi").await.unwrap_err();
    assert!(error.is_outcome_unknown() && error.kind() == ErrorKind::Http, "{error:?}");
}

/// Dropping an ask causes no panic and leaves no connection open.
#[tokio::test]
async fn an_ask_that_is_dropped_at_any_time_closes_its_connection() {
    let server = serve(|request: RawRequest| match request.path.as_str() {
        SEND | STREAM => {
            vec![
                Step::Send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n".to_vec()),
                Step::Stall,
            ]
        }
        _ => not_found(),
    })
    .await;
    let client = client_with(config(&server.url));
    for number in 0..40 {
        let wait = Duration::from_millis(number);
        let dropped = tokio::time::timeout(wait, client.ask("hi")).await;
        assert!(dropped.is_err());
        let dropped =
            tokio::time::timeout(wait, async { client.ask_stream("hi").await?.into_reply().await })
                .await;
        assert!(dropped.is_err());
    }
    drop(client);
    tokio::time::timeout(Duration::from_secs(20), async {
        while server.disconnects.load(Ordering::SeqCst) < server.requests.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("a connection was left open");
    assert!(server.requests.load(Ordering::SeqCst) > 0);
}
