//! Tests unusual input that is accepted, and unusual input that is an error.

#![cfg(test)]

mod common;

use common::events::{result_event, status_event, text_event};
use common::raw::{RawRequest, Step, serve, stream_server};
use common::{client_with, config};
use futures::StreamExt;
use payman_sdk::{ErrorKind, Event, Result, TaskState};
use serde_json::json;

fn completed(id: &str) -> String {
    status_event(id, "COMPLETED", true)
}

async fn reply_of(bytes: impl Fn(&str) -> String + Send + Sync + 'static) -> Result<String> {
    let server = stream_server(bytes).await;
    let stream = client_with(config(&server.url)).ask_stream("hi").await?;
    stream.into_reply().await.map(|reply| reply.text())
}

#[tokio::test]
async fn keep_alive_events_with_data_are_skipped() {
    let pings = [
        ("a ping with a time", "event: ping\ndata: 2026-01-01T00:00:00Z\n\n"),
        ("a ping with JSON", "event: ping\ndata: {\"now\": 1}\n\n"),
        ("a heartbeat", "event: Heartbeat\ndata: alive\n\n"),
        ("a ping with an id after the data", "data: 17\nevent:ping\nid: 4\n\n"),
        ("a ping of several lines", "event: ping\ndata: a\ndata: b\n\n"),
        ("a ping by its type", "data: {\"type\":\"ping\"}\n\n"),
        ("a keep-alive by its type", "data: {\"type\": \"keep-alive\", \"seq\": 9}\n\n"),
        (
            "a notification",
            "data: {\"jsonrpc\":\"2.0\",\"method\":\"log\",\"params\":{\"a\":1}}\n\n",
        ),
        (
            "a notification without parameters",
            "data: {\"jsonrpc\":\"2.0\",\"method\":\"tick\"}\n\n",
        ),
        ("null", "data: null\n\n"),
        ("the end marker of other protocols", "data: [DONE]\n\n"),
    ];
    for (name, ping) in pings {
        let text = reply_of(move |id| {
            format!("{ping}{}{ping}{}", text_event(id, 0, "hi", false), completed(id))
        })
        .await;
        assert_eq!(text.expect(name), "hi", "{name}");
    }
}

#[tokio::test]
async fn data_of_unknown_meaning_is_an_error() {
    let unknown = [
        ("text", "data: hello\n\n"),
        ("an object without meaning", "data: {\"foo\":1}\n\n"),
        (
            "a notification with a status",
            "data: {\"method\":\"m\",\"params\":{\"status\":{\"state\":\"FAILED\"}}}\n\n",
        ),
        (
            "an error under the name of a ping",
            "event: ping\ndata: {\"error\":{\"code\":-32603}}\n\n",
        ),
        ("an event of another name", "event: message\ndata: 2026-01-01\n\n"),
    ];
    for (name, event) in unknown {
        let result = reply_of(move |id| {
            format!("{}{event}{}", text_event(id, 0, "hi", false), completed(id))
        })
        .await;
        assert!(result.is_err(), "{name}: {result:?}");
    }
}

/// The name `ping` does not matter if the data is a message of the task.
#[tokio::test]
async fn an_event_named_ping_with_an_artifact_is_parsed() {
    let text =
        reply_of(|id| format!("event: ping\n{}{}", text_event(id, 0, "hi", false), completed(id)))
            .await;
    assert_eq!(text.unwrap(), "hi");
}

#[tokio::test]
async fn a_lone_surrogate_becomes_the_replacement_character() {
    let text = reply_of(|id| {
        let cut = text_event(id, 0, "HALF", false).replace("HALF", "\\ud83d");
        format!("{cut}{}{}", text_event(id, 0, "!", true), completed(id))
    })
    .await;
    assert_eq!(text.unwrap(), "\u{FFFD}!");
}

#[tokio::test]
async fn a_byte_order_mark_before_a_reply_is_skipped() {
    let server = serve(|request: RawRequest| {
        let id = request.task_id();
        let body = json!({"jsonrpc": "2.0", "id": "r", "result": {"id": id,
            "status": {"state": "COMPLETED"},
            "artifacts": [{"parts": [{"type": "text", "text": "hi"}]}]}});
        let body = format!("\u{feff}{body}");
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        vec![Step::Send(format!("{head}{body}").into_bytes())]
    })
    .await;
    let client = client_with(config(&server.url));
    assert_eq!(client.ask("hi").await.unwrap().text(), "hi");
    assert!(client.ask_raw("hi").await.unwrap().as_str().starts_with('{'));
}

#[tokio::test]
async fn the_newer_dialect_is_parsed() {
    let server = stream_server(|id| {
        let artifact = |artifact_id: &str, text: &str, append: bool, last: bool| {
            result_event(json!({"kind": "artifact-update", "taskId": id, "contextId": "ses-9",
                "artifact": {"artifactId": artifact_id, "parts": [{"kind": "text", "text": text}]},
                "append": append, "lastChunk": last}))
        };
        [
            result_event(json!({"kind": "task", "id": id, "contextId": "ses-9",
                "status": {"state": "submitted"}})),
            artifact("b", "one", false, false),
            artifact("b", " two", true, true),
            artifact("a", "three", false, false),
            // An event of another task.
            result_event(
                json!({"kind": "artifact-update", "taskId": "other", "contextId": "ses-9",
                "artifact": {"artifactId": "b", "parts": [{"kind": "text", "text": "SECRET"}]},
                "append": true}),
            ),
            artifact("a", " four", true, true),
            result_event(json!({"kind": "status-update", "taskId": id, "contextId": "ses-9",
                "status": {"state": "completed"}, "final": true})),
        ]
        .concat()
    })
    .await;
    let client = client_with(config(&server.url));
    let mut events = client.ask_stream("hi").await.unwrap();
    let mut indexes = Vec::new();
    while let Some(event) = events.next().await {
        if let Event::Artifact(update) = event.unwrap() {
            indexes.push((update.artifact.index, update.artifact.append));
        }
    }
    assert_eq!(indexes, [(0, false), (0, true), (1, false), (1, true)]);
    let reply = events.reply_so_far();
    assert_eq!(reply.text(), "one two\nthree four");
    assert_eq!(reply.artifacts().len(), 2);

    let mut text = client.ask_stream("hi").await.unwrap().text();
    let mut chunks = Vec::new();
    while let Some(chunk) = text.next().await {
        chunks.push(chunk.unwrap());
    }
    assert_eq!(chunks, ["one", " two", "\nthree", " four"]);
}

#[tokio::test]
async fn text_of_many_chunks_is_concatenated() {
    const CHUNKS: usize = 20_000;
    let server = stream_server(|id| {
        let mut bytes = text_event(id, 0, "first", false)
            .replace("\"append\"", "\"lastChunk\":true,\"append\"");
        for number in 0..CHUNKS {
            bytes.push_str(&text_event(id, 1, &format!("{number},"), number > 0));
            bytes.push_str(&result_event(json!({"id": id, "status": {"state": "WORKING"}})));
        }
        bytes + &completed(id)
    })
    .await;
    let client = client_with(config(&server.url));
    let mut stream = client.ask_stream("hi").await.unwrap().text();
    let mut text = String::new();
    while let Some(chunk) = stream.next().await {
        text.push_str(&chunk.unwrap());
    }
    let wanted: String = (0..CHUNKS).map(|number| format!("{number},")).collect();
    assert!(text == format!("first\n{wanted}"));
    assert_eq!(stream.reply_so_far().state(), &TaskState::Completed);
}

#[tokio::test]
async fn rewritten_text_is_an_error() {
    let cases = [
        ("the open artifact is replaced", vec![(0, "one", false), (0, "other", false)]),
        ("a finished artifact grows", vec![(0, "one", false), (1, "two", false), (0, "!", true)]),
    ];
    for (name, chunks) in cases {
        let server = stream_server(move |id| {
            let mut bytes = String::new();
            for (at, (index, text, append)) in chunks.iter().enumerate() {
                let event = text_event(id, *index, text, *append);
                let is_last = at == 0 && chunks.len() == 3;
                bytes += &match is_last {
                    true => event.replace("\"append\"", "\"lastChunk\":true,\"append\""),
                    false => event,
                };
            }
            bytes + &completed(id)
        })
        .await;
        let text = client_with(config(&server.url)).ask_stream("hi").await.unwrap().text();
        let results: Vec<Result<String>> = text.collect().await;
        let last = results.last().and_then(|result| result.as_ref().err());
        assert_eq!(
            last.map(payman_sdk::Error::kind),
            Some(ErrorKind::Protocol),
            "{name}: {results:?}"
        );
    }
}

/// A replacement that starts with the previous text counts as an addition.
#[tokio::test]
async fn cumulative_text_is_yielded_once() {
    let server = stream_server(|id| {
        [
            text_event(id, 0, "a", false),
            text_event(id, 0, "ab", false),
            text_event(id, 0, "abc", false),
            completed(id),
        ]
        .concat()
    })
    .await;
    let text = client_with(config(&server.url)).ask_stream("hi").await.unwrap().text();
    let chunks: Vec<String> = text.map(Result::unwrap).collect().await;
    assert_eq!(chunks, ["a", "b", "c"]);
}
