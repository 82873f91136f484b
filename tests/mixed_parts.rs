//! Artifacts of mixed parts: text, data and files in one artifact, and text that is appended after
//! another kind of part.

#![cfg(test)]

mod common;

use common::raw::{RawRequest, Step, events_head, json_reply, not_found, serve};
use common::{SEND, STREAM, client_with, config};
use futures::TryStreamExt;
use payman_sdk::{Part, Reply};
use serde_json::{Value, json};

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn data() -> Value {
    json!({"type": "data", "data": {"n": 1}})
}

fn file() -> Value {
    json!({"type": "file", "file": {"name": "a.txt", "mimeType": "text/plain", "bytes": "aGk="}})
}

fn replace(parts: &[Value]) -> Value {
    json!({"parts": parts, "index": 0})
}

fn append(parts: &[Value]) -> Value {
    json!({"parts": parts, "index": 0, "append": true})
}

struct Case {
    name: &'static str,
    events: Vec<Value>,
    kinds: &'static [&'static str],
    text: &'static str,
}

fn cases() -> Vec<Case> {
    let case = |name, events, kinds, text| Case { name, events, kinds, text };
    vec![
        case(
            "all kinds at once",
            vec![replace(&[text("A"), data(), file()])],
            &["text", "data", "file"],
            "A",
        ),
        case(
            "text around data",
            vec![replace(&[text("A"), data(), text("B")])],
            &["text", "data", "text"],
            "A\nB",
        ),
        case("no text at all", vec![replace(&[data(), file()])], &["data", "file"], ""),
        case("text to text", vec![replace(&[text("A")]), append(&[text("B")])], &["text"], "AB"),
        case(
            "text to data",
            vec![replace(&[data()]), append(&[text("A")]), append(&[text("B")])],
            &["data", "text"],
            "AB",
        ),
        case(
            "text to text and data",
            vec![replace(&[text("A"), data()]), append(&[text("B")])],
            &["text", "data", "text"],
            "A\nB",
        ),
        case(
            "data between text",
            vec![
                replace(&[text("A")]),
                append(&[data()]),
                append(&[text("B")]),
                append(&[text("C")]),
            ],
            &["text", "data", "text"],
            "A\nBC",
        ),
        case(
            "data before text in one append",
            vec![replace(&[text("A")]), append(&[file(), text("B")]), append(&[text("C")])],
            &["text", "file", "text"],
            "A\nBC",
        ),
        case(
            "two texts in one append",
            vec![replace(&[text("A")]), append(&[text("B"), text("C")])],
            &["text", "text"],
            "AB\nC",
        ),
        case(
            "nothing to nothing, then text",
            vec![append(&[]), append(&[text("A")]), append(&[])],
            &["text"],
            "A",
        ),
        case(
            "replaced by data",
            vec![replace(&[data()]), append(&[file()]), replace(&[file(), text("A")])],
            &["file", "text"],
            "A",
        ),
        case(
            "empty text before data",
            vec![replace(&[text("")]), append(&[data()]), append(&[text("A")])],
            &["text", "data", "text"],
            "\nA",
        ),
    ]
}

fn check(what: &str, case: &Case, reply: &Reply) {
    let name = case.name;
    assert_eq!(reply.artifacts().len(), 1, "{what}, {name}");
    let kinds: Vec<_> = reply.artifacts()[0].parts.iter().map(Part::kind).collect();
    assert_eq!(kinds, case.kinds, "{what}, {name}");
    assert_eq!(reply.text(), case.text, "{what}, {name}");
    assert_eq!(reply.artifacts()[0].content(), case.text, "{what}, {name}");
    for part in &reply.artifacts()[0].parts {
        match part {
            Part::Data(part) => assert_eq!(part.data, json!({"n": 1}), "{what}, {name}"),
            Part::File(file) => {
                assert_eq!(file.bytes().unwrap(), b"hi", "{what}, {name}");
                assert_eq!(file.mime_type(), Some("text/plain"), "{what}, {name}");
            }
            Part::Text(_) => {}
            _ => panic!("{what}, {name}: {part:?}"),
        }
    }
}

/// The artifact is the same whether it is streamed, read as text, or part of a whole task.
#[tokio::test]
async fn an_artifact_of_mixed_parts_is_the_same_however_it_comes() {
    for case in cases() {
        let events = case.events.clone();
        let server = serve(move |asked: RawRequest| match asked.path.as_str() {
            STREAM => {
                let id = asked.task_id();
                let mut steps = vec![events_head()];
                let last = json!({"id": id, "status": {"state": "COMPLETED"}, "final": true});
                let artifacts =
                    events.iter().map(|artifact| json!({"id": id, "artifact": artifact}));
                for result in artifacts.chain([last]) {
                    let event = format!("data: {}\n\n", json!({"result": result}));
                    steps.push(Step::Send(event.into_bytes()));
                }
                steps
            }
            _ => not_found(),
        })
        .await;
        let client = client_with(config(&server.url));
        let reply = client.ask_stream("hi").await.unwrap().into_reply().await.unwrap();
        check("streamed", &case, &reply);
        let texts: Vec<String> =
            client.ask_stream("hi").await.unwrap().text().try_collect().await.unwrap();
        assert_eq!(texts.concat(), case.text, "text, {}", case.name);

        let artifacts = serde_json::to_value(reply.artifacts()).unwrap();
        let server = serve(move |asked: RawRequest| match asked.path.as_str() {
            SEND | STREAM => {
                let status = json!({"state": "COMPLETED"});
                let task = json!({"id": asked.task_id(), "status": status, "artifacts": artifacts});
                vec![json_reply(&json!({"result": task}))]
            }
            _ => not_found(),
        })
        .await;
        let client = client_with(config(&server.url));
        check("whole", &case, &client.ask("hi").await.unwrap());
        let whole = client.ask_stream("hi").await.unwrap().into_reply().await.unwrap();
        check("whole, streamed", &case, &whole);
        let texts: Vec<String> =
            client.ask_stream("hi").await.unwrap().text().try_collect().await.unwrap();
        assert_eq!(texts.concat(), case.text, "whole text, {}", case.name);
    }
}
