//! Tests replies and errors as HTTP responses.

use payman_sdk::Emulator;
use payman_sdk::emulator::{Fault, Operation};
use serde_json::{Value, json};

use super::support::{
    Actix, Axum, body_json, body_text, client, events_in, header, post_text, service,
};
use crate::common::raw::{RawRequest, RawServer, Step, events_head, json_reply, serve};

#[tokio::test]
async fn replies_are_json_and_streams_are_server_sent_events() {
    for framework in [Axum, Actix] {
        let payman = Emulator::builder().chunk_chars(8).start().await.unwrap();
        let url = service(framework, payman.client()).await;

        let reply = post_text(&url, "/ask", "List all payees").await;
        assert_eq!(
            (
                reply.status().as_u16(),
                header(&reply, "content-type"),
                header(&reply, "cache-control")
            ),
            (200, "application/json", "no-store"),
            "{framework:?}"
        );
        let reply = body_json(reply).await;
        assert_eq!(
            (&reply["status"], &reply["artifacts"][0]["content"]),
            (&json!("COMPLETED"), &json!("You have no payees yet."))
        );

        let stream = post_text(&url, "/stream", "List all payees").await;
        assert_eq!(
            (stream.status().as_u16(), header(&stream, "content-type")),
            (200, "text/event-stream")
        );
        assert_eq!(header(&stream, "cache-control"), "no-store, no-transform");
        let stream = body_text(stream).await;
        assert!(
            stream.starts_with("event: status\ndata: {\"taskId\":\"tsk-"),
            "{framework:?}: {stream}"
        );
        assert_eq!(stream.matches("event: artifact\n").count(), 3, "{framework:?}: {stream}");
        let last = stream.trim_end().rsplit("\n\n").next().unwrap();
        assert!(
            last.starts_with("event: done\n") && last.contains("\"state\":\"completed\""),
            "{framework:?}: {last}"
        );
    }
}

#[tokio::test]
async fn an_error_before_the_response_is_a_status_and_a_problem() {
    for framework in [Axum, Actix] {
        let payman = Emulator::start().await.unwrap();
        let url = service(framework, payman.client()).await;
        for path in ["/ask", "/stream", "/events"] {
            let blank = post_text(&url, path, "  ").await;
            assert_eq!(
                (blank.status().as_u16(), header(&blank, "content-type")),
                (400, "application/problem+json")
            );
            assert_eq!(header(&blank, "cache-control"), "no-store");
            let blank = body_json(blank).await;
            assert_eq!(
                (&blank["code"], &blank["status"]),
                (&json!("invalid-input"), &json!(400)),
                "{framework:?}"
            );
        }
        payman.fault(
            Fault::status(400).on(Operation::Send).body("a secret of the platform", "text/plain"),
        );
        let refused = body_text(post_text(&url, "/ask", "hi").await).await;
        assert!(
            refused.contains("\"code\":\"refused\"") && !refused.contains("secret"),
            "{framework:?}: {refused}"
        );
    }
}

/// Starts a platform that answers every ask with 429 and does not know the task.
async fn busy_server(retry_after: &'static str) -> RawServer {
    serve(move |request: RawRequest| match request.path.ends_with("get") {
        true => {
            vec![json_reply(&json!({"jsonrpc": "2.0", "error": {"code": -32001, "message": "no"}}))]
        }
        false => {
            let head = format!("HTTP/1.1 429 Too Many Requests\r\nretry-after: {retry_after}\r\n");
            vec![Step::Send(
                format!("{head}content-length: 0\r\nconnection: close\r\n\r\n").into_bytes(),
            )]
        }
    })
    .await
}

#[tokio::test]
async fn a_busy_platform_is_a_429_only_if_nothing_was_done() {
    for framework in [Axum, Actix] {
        // The client retried and looked the task up: the platform never accepted the ask.
        let busy =
            post_text(&service(framework, client(&busy_server("0").await.url)).await, "/ask", "hi")
                .await;
        assert_eq!(
            (busy.status().as_u16(), header(&busy, "retry-after")),
            (429, "0"),
            "{framework:?}"
        );
        let busy = body_json(busy).await;
        assert_eq!((&busy["retryAfter"], &busy["safeToAskAgain"]), (&json!(0), &json!(true)));

        // The wait is too long, so the client did not look the task up.
        let unknown = post_text(
            &service(framework, client(&busy_server("3600").await.url)).await,
            "/ask",
            "hi",
        )
        .await;
        assert_eq!(
            (unknown.status().as_u16(), header(&unknown, "retry-after")),
            (502, ""),
            "{framework:?}"
        );
        assert_eq!(body_json(unknown).await["outcomeUnknown"], true);
    }
}

const TASK: &str = r#"{"sessionId": "ses-secret", "status": {"state": "COMPLETED"},
    "metadata": {"agentId": "ai-secret", "orgId": "org-secret"},
    "artifacts": [{"name": "response", "metadata": {"agentId": "ai-secret"}, "parts": [
        {"type": "text", "text": "Paid.", "metadata": {"sessionId": "ses-secret"}},
        {"type": "data", "data": {"a": 1}, "metadata": {"orgId": "org-secret"}}]}]}"#;

fn task_response(request: &RawRequest) -> Value {
    let mut task: Value = serde_json::from_str(TASK).unwrap();
    task["id"] = json!(request.task_id());
    json!({"jsonrpc": "2.0", "id": "r", "result": task})
}

#[tokio::test]
async fn no_internal_id_reaches_the_browser_unless_requested() {
    let upstream = serve(|request: RawRequest| match request.path.ends_with("sendSubscribe") {
        true => {
            vec![
                events_head(),
                Step::Send(format!("data: {}\n\n", task_response(&request)).into_bytes()),
            ]
        }
        false => vec![json_reply(&task_response(&request))],
    })
    .await;
    for framework in [Axum, Actix] {
        let url = service(framework, client(&upstream.url)).await;
        for path in ["/ask", "/stream", "/events", "/early", "/early-ask"] {
            let text = body_text(post_text(&url, path, "Pay").await).await;
            assert!(text.contains("Paid.") && text.contains("\"a\":1"), "{path}: {text}");
            assert!(!text.contains("secret"), "{framework:?} {path}: {text}");
        }
        let requested = body_text(post_text(&url, "/full", "Pay").await).await;
        for id in ["ses-secret", "ai-secret", "org-secret"] {
            assert!(requested.contains(id), "{framework:?}: {requested}");
        }
    }
}

#[tokio::test]
async fn a_reply_is_sent_as_a_task_and_a_done_event() {
    for framework in [Axum, Actix] {
        let payman = Emulator::start().await.unwrap();
        let url = service(framework, payman.client()).await;
        let events =
            events_in(&body_text(post_text(&url, "/early-ask", "List all payees").await).await);
        let names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["task", "done"], "{framework:?}");
        assert_eq!(events[0].1["artifacts"][0]["text"], "You have no payees yet.");
    }
}
