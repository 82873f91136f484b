//! Tests streams as server-sent events: interruptions, disconnects, keep-alive comments and early
//! responses.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use payman_sdk::Emulator;
use payman_sdk::emulator::Fault;
use serde_json::{Value, json};

use super::support::{
    Actix, Axum, body_text, client, events_in, header, post_text, service,
    service_with_half_closed, stream_server,
};
use crate::common::raw::{Step, serve};

#[tokio::test]
async fn an_interrupted_stream_ends_with_an_error_event() {
    for framework in [Axum, Actix] {
        let upstream = stream_server(Vec::new).await;
        let text = body_text(
            post_text(&service(framework, client(&upstream.url)).await, "/stream", "Pay").await,
        )
        .await;
        assert!(!text.contains("event: done"), "{framework:?}: {text}");
        let data = text.rsplit("event: error\ndata: ").next().unwrap();
        let data: Value = serde_json::from_str(data.trim_end()).unwrap();
        assert_eq!(
            (&data["code"], &data["outcomeUnknown"]),
            (&json!("outcome-unknown"), &json!(true)),
            "{framework:?}"
        );
        assert!(data["taskId"].as_str().unwrap().starts_with("tsk-"));
    }
}

/// Waits up to ten seconds for the client to close its connection.
async fn is_disconnected(upstream: &AtomicUsize) -> bool {
    let left = async {
        while upstream.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), left).await.is_ok()
}

#[tokio::test]
async fn a_disconnect_closes_the_upstream_connection() {
    for framework in [Axum, Actix] {
        let upstream = stream_server(|| vec![Step::Stall]).await;
        let url = service(framework, client(&upstream.url)).await;
        let mut response = post_text(&url, "/stream", "Pay").await;
        let first = response.chunk().await.unwrap().unwrap();
        assert!(first.starts_with(b"event: status"), "{framework:?}");
        assert_eq!(upstream.disconnects.load(Ordering::SeqCst), 0);
        drop(response);
        assert!(
            is_disconnected(&upstream.disconnects).await,
            "{framework:?}: the connection is still open"
        );
    }
}

/// With its default settings, actix-web detects a disconnect only when it writes.
#[tokio::test]
async fn keep_alive_comments_detect_a_disconnect() {
    let upstream = stream_server(|| vec![Step::Stall]).await;
    let url = service_with_half_closed(Actix, client(&upstream.url), true).await;
    let mut response = post_text(&url, "/events", "Pay").await;
    response.chunk().await.unwrap().unwrap();
    drop(response);
    assert!(is_disconnected(&upstream.disconnects).await, "the connection is still open");
}

#[tokio::test]
async fn a_silent_stream_sends_keep_alive_comments() {
    for framework in [Axum, Actix] {
        let upstream = stream_server(|| vec![Step::Stall]).await;
        let mut response =
            post_text(&service(framework, client(&upstream.url)).await, "/events", "Pay").await;
        let mut all = Vec::new();
        while !all.ends_with(b":\n\n:\n\n") {
            let chunk = tokio::time::timeout(Duration::from_secs(10), response.chunk()).await;
            all.extend_from_slice(&chunk.expect("a keep-alive comment").unwrap().unwrap());
        }
    }
}

/// The platform sends nothing at all, not even a status line.
#[tokio::test]
async fn an_early_response_begins_before_the_platform_answers() {
    for framework in [Axum, Actix] {
        for path in ["/early", "/early-ask"] {
            let upstream = serve(|_| vec![Step::Stall]).await;
            let url = service(framework, client(&upstream.url)).await;
            let mut response =
                tokio::time::timeout(Duration::from_secs(10), post_text(&url, path, "Pay"))
                    .await
                    .expect("the response begins");
            assert_eq!(header(&response, "content-type"), "text/event-stream");
            let first = response.chunk().await.unwrap().unwrap();
            assert_eq!(first, ":\n\n", "{framework:?} {path}");
        }
    }
}

#[tokio::test]
async fn an_early_response_ends_with_an_error_event() {
    for framework in [Axum, Actix] {
        for path in ["/early", "/early-ask"] {
            let payman = Emulator::start().await.unwrap();
            let url = service(framework, payman.client()).await;
            payman.fault(Fault::status(400).always());
            let response = post_text(&url, path, "Pay").await;
            assert_eq!(response.status(), 200);
            let events = events_in(&body_text(response).await);
            let (name, data) = events.last().unwrap();
            assert_eq!((name.as_str(), events.len()), ("error", 1), "{framework:?}: {events:?}");
            assert_eq!(data["status"], 502, "{data}");
        }
    }
}

#[tokio::test]
async fn a_detached_ask_continues_after_a_disconnect() {
    for framework in [Axum, Actix] {
        let agent_delay = Duration::from_millis(300);
        let payman = Emulator::builder().agent_delay(agent_delay).start().await.unwrap();
        let url = service(framework, payman.client()).await;
        let mut response = post_text(&url, "/early-ask", "Create payee Tyllen").await;
        response.chunk().await.unwrap().unwrap();
        drop(response);
        let created = async {
            while payman.state().payees.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), created).await.expect("the ask is done");
    }
}
