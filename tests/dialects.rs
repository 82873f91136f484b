//! Tests variants in the bytes that servers send: byte-order marks, lone surrogates, pings with
//! data, and the newer dialect, wherever JSON is parsed.

#![cfg(test)]

mod common;

use common::raw::{RawRequest, RawServer, Step, events_head, head, not_found, serve};
use common::{GET, SEND, STREAM, TOKEN, client_with, config};
use futures::StreamExt;
use payman_sdk::{Client, TaskState};

const BOM: &str = "\u{feff}";

/// Returns an HTTP response with exactly this JSON body.
fn answer(status: &str, body: &str) -> Vec<Step> {
    let mut bytes = head("application/json");
    bytes.splice(..b"HTTP/1.1 200 OK".len(), format!("HTTP/1.1 {status}").bytes());
    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n{body}", body.len()).as_bytes());
    vec![Step::Send(bytes)]
}

/// Returns the JSON of a completed task with this text, which is not escaped.
fn task(id: &str, text: &str) -> String {
    format!(
        concat!(
            r#"{{"jsonrpc":"2.0","id":"r","#,
            r#""result":{{"id":"{id}","status":{{"state":"COMPLETED"}},"#,
            r#""artifacts":[{{"parts":[{{"type":"text","text":"{text}"}}],"index":0}}]}}}}"#
        ),
        id = id,
        text = text
    )
}

/// Starts a server that answers asks and lookups with `body` of the task's id.
async fn reply_server(
    status: &'static str,
    body: impl Fn(&str) -> String + Send + Sync + 'static,
) -> RawServer {
    serve(move |request: RawRequest| match request.path.as_str() {
        SEND | GET => answer(status, &body(request.task_id())),
        _ => not_found(),
    })
    .await
}

/// Starts a server whose stream is a chunk, these events and a final event; `$ID` is the task's id.
async fn stream_server(events: &'static str) -> RawServer {
    stream_server_after(
        r#"data: {"result":{"id":"$ID","artifact":{"parts":[{"type":"text","text":"Hi"}]}}}"#,
        events,
    )
    .await
}

async fn stream_server_after(chunk: &'static str, events: &'static str) -> RawServer {
    serve(move |request: RawRequest| match request.path.as_str() {
        STREAM => {
            let end =
                r#"data: {"result":{"id":"$ID","status":{"state":"completed"},"final":true}}"#;
            let all = format!("{chunk}\n\n{events}\n\n{end}\n\n");
            vec![events_head(), Step::Send(all.replace("$ID", request.task_id()).into_bytes())]
        }
        _ => not_found(),
    })
    .await
}

fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[tokio::test]
async fn ask_and_ask_raw_accept_byte_order_marks_and_lone_surrogates() {
    for (prefix, text, read) in
        [(BOM, "Hi", "Hi"), ("", r"a\ud83db", "a\u{fffd}b"), (BOM, r"\udc00", "\u{fffd}")]
    {
        let server = reply_server("200 OK", move |id| format!("{prefix}{}", task(id, text))).await;
        let client = client_with(config(&server.url));
        let reply = client.ask("…").await.unwrap();
        assert_eq!(reply.text(), read);
        let raw = client.ask_raw("…").await.unwrap();
        assert!(raw.as_str().starts_with('{'), "{raw}");
        assert!(raw.result().is_some_and(|result| result.get().contains(text)), "{raw}");
    }
}

#[tokio::test]
async fn a_token_reply_with_a_byte_order_mark_is_accepted() {
    let server = serve(move |request: RawRequest| {
        if request.path.starts_with(TOKEN) {
            return answer("200 OK", &format!("{BOM}{{\"accessToken\":\"a\",\"expiresIn\":3600}}"));
        }
        answer("200 OK", &task(request.task_id(), "Hi"))
    })
    .await;
    let client = Client::with_credentials(config(&server.url).client_secret("s")).unwrap();
    assert_eq!(client.ask("…").await.unwrap().text(), "Hi");
}

#[tokio::test]
async fn error_bodies_with_extra_fields_or_unusual_bytes_are_parsed() {
    let bodies = [
        concat!(
            r#"{"status":400,"timestamp":"2025-06-27","#,
            r#""errorCode":"insufficient_funds","message":"Too little"}"#
        ),
        "\u{feff}{\"errorCode\":\"insufficient_funds\",\"message\":\"Too little\"}",
        r#"{"errorCode":"insufficient_funds","message":"Too little","detail":"\ud83d"}"#,
    ];
    for body in bodies {
        let server = reply_server("400 Bad Request", move |_| body.to_owned()).await;
        let error = client_with(config(&server.url)).ask("…").await.unwrap_err();
        assert!(error.to_string().contains("Too little"), "{error} of {body}");
        assert_eq!(error.error_code(), Some("insufficient_funds"), "{body}");
    }
}

#[tokio::test]
async fn pings_and_notifications_are_skipped() {
    let skipped = [
        "event: ping\ndata: 2025-06-27T16:31:41Z",
        "event: ping\ndata: {\"time\":1}",
        "event:heartbeat\ndata: {\"status\":\"alive\"}",
        "data: 1\nevent: keep-alive",
        "data: {\"type\":\"ping\"}",
        "data: {\"type\":\"heartbeat\",\"timestamp\":\"2025-06-27T16:31:41Z\"}",
        "data: {\"event\":\"ping\"}",
        "data: {\"ping\":1751041901}",
        "data: {\"kind\":\"keep-alive\"}",
        "data: 1751041901",
        "data: \"2025-06-27T16:31:41Z\"",
        "data: 2025-06-27T16:31:41.5+00:00",
        "data: ping",
        "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"n\":1}}",
        "data: {\"jsonrpc\":\"2.0\",\"method\":\"ping\"}",
        "data: null",
        "data: [DONE]",
        "data:",
        "data: {}",
    ];
    let mut failed = Vec::new();
    for events in skipped {
        let server = stream_server(events).await;
        let client = client_with(config(&server.url));
        let typed = async { client.ask_stream("…").await?.into_reply().await }.await;
        if !typed.as_ref().is_ok_and(|reply| reply.text() == "Hi") {
            failed.push(format!("{events}: {:?}", typed.map_err(|error| error_chain(&error))));
        }
        let mut raw = client.ask_stream_raw("…").await.unwrap();
        let mut seen = 0;
        while let Some(item) = raw.next().await {
            match item {
                Ok(_) => seen += 1,
                Err(error) => failed.push(format!("{events}, raw: {}", error_chain(&error))),
            }
        }
        if seen != 2 {
            failed.push(format!("{events}: {seen} raw responses"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[tokio::test]
async fn data_of_unknown_meaning_is_an_error() {
    for events in [
        "data: {\"jsonrpc\":\"2.0\",\"id\":\"r\"}",
        "data: {\"jsonrpc\":\"2.0\",\"method\":\"x\",\"params\":{\"status\":{\"state\":\"failed\"}}}",
        "data: {\"unexpected\":true}",
        "data: [1]",
        "data: Payment sent",
        "data: {\"result\":{\"id\":\"$ID\",\"status\":\"paid\"}}",
    ] {
        let server = stream_server(events).await;
        let client = client_with(config(&server.url));
        let typed = async { client.ask_stream("…").await?.into_reply().await }.await;
        assert!(typed.is_err(), "{events}: {typed:?}");
    }
}

#[tokio::test]
async fn errors_report_nan_and_excessive_nesting() {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let cases = [
        (r#"{"result":{"status":{"state":"completed"},"metadata":{"a":NaN}}}"#.to_owned(), "NaN"),
        (
            r#"{"result":{"status":{"state":"completed"},"metadata":{"a":-Infinity}}}"#.to_owned(),
            "Infinity",
        ),
        (
            format!(
                r#"{{"result":{{"status":{{"state":"completed"}},"metadata":{{"a":{deep}}}}}}}"#
            ),
            "nested",
        ),
    ];
    for (body, expected) in cases {
        let server = reply_server("200 OK", move |_| body.clone()).await;
        let error = client_with(config(&server.url)).ask("…").await.unwrap_err();
        let text = error_chain(&error);
        assert!(text.contains(expected) && !text.contains("is not JSON"), "{text}");
    }
}

#[tokio::test]
async fn the_newer_dialect_is_parsed_and_other_tasks_are_ignored() {
    let server = stream_server_after(
        ": begun",
        concat!(
            r#"data: {"result":{"kind":"artifact-update","taskId":"$ID","contextId":"ctx-1","#,
            r#""append":false,"#,
            r#""artifact":{"artifactId":"a","parts":[{"kind":"text","text":"One"}]}}}"#,
            "\n\n",
            r#"data: {"result":{"kind":"artifact-update","taskId":"$ID","contextId":"ctx-1","#,
            r#""append":true,"lastChunk":true,"#,
            r#""artifact":{"artifactId":"a","parts":[{"kind":"text","text":" more"}]}}}"#,
            "\n\n",
            r#"data: {"result":{"kind":"artifact-update","taskId":"other","append":true,"#,
            r#""artifact":{"artifactId":"a","parts":[{"kind":"text","text":"secret"}]}}}"#,
            "\n\n",
            r#"data: {"result":{"kind":"artifact-update","taskId":"$ID","#,
            r#""artifact":{"artifactId":"b","parts":[{"kind":"text","text":"Two"}]}}}"#,
            "\n\n",
            r#"data: {"result":{"kind":"status-update","taskId":"$ID","contextId":"ctx-1","#,
            r#""status":{"state":"input-required"},"final":false}}"#,
        ),
    )
    .await;
    let client = client_with(config(&server.url));
    let reply = client.ask_stream("…").await.unwrap().into_reply().await.unwrap();
    assert_eq!(reply.text(), "One more\nTwo");
    assert_eq!(reply.state(), &TaskState::Completed);
    let text: Vec<_> = client.ask_stream("…").await.unwrap().text().collect().await;
    let text: String = text.into_iter().map(Result::unwrap).collect();
    assert_eq!(text, "One more\nTwo");
}
