//! Properties of JSON-RPC replies: any bytes, and replies that are cut or changed.

#![cfg(test)]

mod common;

use common::property::check;
use payman_sdk::{ErrorKind, TaskState, decode};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Reads bytes as a reply, and tells whether they are an event.
fn read(bytes: &[u8]) -> (Result<payman_sdk::Task, payman_sdk::Error>, bool) {
    let (task, event) = (decode::response(bytes), decode::event(bytes));
    (task, event.is_ok())
}

/// Generates JSON of any kind, with the names that are looked for in likely and unlikely places.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        prop::sample::select(vec![
            "COMPLETED",
            "working",
            "input-required",
            "TASK_STATE_FAILED",
            "text",
            "data",
            "user"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 8, |inner| {
        let name = prop_oneof![
            8 => prop::sample::select(vec![
                "jsonrpc", "id", "result", "error", "status", "state", "message", "timestamp", "artifact", "artifacts",
                "parts", "type", "text", "data", "file", "bytes", "uri", "index", "append", "lastChunk", "last_chunk",
                "final", "isFinal", "history", "role", "metadata", "code", "sessionId", "session_id", "name",
            ])
            .prop_map(str::to_owned),
            1 => ".{0,6}",
        ];
        prop_oneof![
            3 => prop::collection::vec((name, inner.clone()), 0..8)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            1 => prop::collection::vec(inner, 0..4).prop_map(Value::Array),
        ]
    })
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![".{0,30}", "[a-z \"\\\\{}\n\u{1f600}é]{0,40}"]
}

/// Generates a whole reply, as a server may write it.
fn reply() -> impl Strategy<Value = Value> {
    let part = prop_oneof![
        4 => text().prop_map(|text| json!({"type": "text", "text": text})),
        1 => text().prop_map(|text| json!({"text": text, "metadata": {"a": [1, {"b": null}]}})),
        1 => any_json().prop_map(|data| json!({"type": "data", "data": {"it": data}})),
        1 => text().prop_map(|name| json!({"type": "file", "file": {"name": name, "bytes": "aGk="}})),
    ];
    let artifact = (prop::collection::vec(part, 0..4), 0..4i64, any::<bool>()).prop_map(
        |(parts, index, named)| {
            let mut artifact = json!({"parts": parts, "index": index});
            if named {
                artifact["name"] = json!("response");
            }
            artifact
        },
    );
    let state = prop::sample::select(vec![
        "SUBMITTED",
        "WORKING",
        "COMPLETED",
        "failed",
        "input-required",
        "new-state",
    ]);
    let id = prop_oneof![Just(json!("req-1")), Just(json!(7)), Just(Value::Null)];
    let artifacts = prop::collection::vec(artifact, 0..4);
    (id, state, prop::option::of(text()), artifacts, any::<bool>()).prop_map(
        |(id, state, message, artifacts, wrapped)| {
            let task = json!({
                "id": "tsk-1", "sessionId": "ses-1", "artifacts": artifacts, "metadata": {"agentId": "ai-1"},
                "status": {"state": state, "message": message, "timestamp": "2025-06-27T16:31:41.510422505Z"},
            });
            if wrapped { json!({"jsonrpc": "2.0", "id": id, "result": task}) } else { task }
        },
    )
}

#[test]
fn any_bytes_are_read_without_a_panic() {
    check(5000, prop::collection::vec(any::<u8>(), 0..200), |bytes| {
        let _ = read(&bytes);
        Ok(())
    });
}

#[test]
fn any_json_is_read_without_a_panic() {
    check(1000, (any_json(), any_json()), |(bare, inner)| {
        for value in
            [&bare, &json!({"jsonrpc": "2.0", "id": 1, "result": inner}), &json!({"error": inner})]
        {
            let (task, _) = read(value.to_string().as_bytes());
            if let Err(error) = task {
                prop_assert!(!error.is_safe_to_ask_again(), "{value}");
                prop_assert!(
                    matches!(error.kind(), ErrorKind::Rpc | ErrorKind::Protocol),
                    "{value}"
                );
            }
        }
        Ok(())
    });
}

#[test]
fn a_reply_that_is_cut_is_never_a_reply() {
    check(100, reply(), |reply| {
        for text in [reply.to_string(), serde_json::to_string_pretty(&reply).unwrap()] {
            let bytes = text.as_bytes();
            prop_assert!(decode::response(bytes).is_ok(), "{text}");
            for end in 0..bytes.len() {
                let (task, event) = read(&bytes[..end]);
                let kind = task.err().map(|error| error.kind());
                prop_assert_eq!(kind, Some(ErrorKind::Protocol), "cut at {} of {}", end, text);
                prop_assert!(!event, "cut at {} of {}", end, text);
            }
        }
        Ok(())
    });
}

#[test]
fn a_reply_with_something_after_it_is_no_reply() {
    check(1000, (reply(), "[^ \t\r\n]{1,10}"), |(reply, more)| {
        let (trailed, twice) = (format!("{reply}{more}"), format!("{reply}{reply}"));
        prop_assert!(decode::response(trailed.as_bytes()).is_err(), "{}", trailed);
        prop_assert!(decode::response(twice.as_bytes()).is_err(), "{}", twice);
        let spaced = format!(" \r\n{reply}\n\t ");
        prop_assert!(decode::response(spaced.as_bytes()).is_ok(), "{}", spaced);
        Ok(())
    });
}

/// A reply with one byte changed is still read, or is an error.
#[test]
fn a_reply_with_a_wrong_byte_is_read_without_a_panic() {
    check(1000, (reply(), any::<prop::sample::Index>(), any::<u8>()), |(reply, place, byte)| {
        let mut bytes = reply.to_string().into_bytes();
        let at = place.index(bytes.len());
        bytes[at] = byte;
        let _ = read(&bytes);
        bytes.remove(at);
        let _ = read(&bytes);
        Ok(())
    });
}

/// Unknown fields and the layout of the JSON change nothing.
#[test]
fn layout_and_unknown_fields_change_nothing() {
    check(1000, (reply(), any_json()), |(reply, foreign)| {
        let task = decode::response(reply.to_string().as_bytes()).unwrap();
        let mut strewn = reply;
        strew(&mut strewn, &foreign);
        for text in [strewn.to_string(), serde_json::to_string_pretty(&strewn).unwrap()] {
            prop_assert_eq!(&decode::response(text.as_bytes()).unwrap(), &task, "{}", text);
        }
        Ok(())
    });
}

/// Puts a foreign field into the message, the task, the status and the artifacts.
fn strew(value: &mut Value, foreign: &Value) {
    let put = |object: Option<&mut Map<String, Value>>| {
        if let Some(object) = object {
            object.insert("x-foreign".to_owned(), foreign.clone());
        }
    };
    put(value.as_object_mut());
    let task = if value.get("result").is_some() { &mut value["result"] } else { value };
    put(task.as_object_mut());
    put(task["status"].as_object_mut());
    for artifact in task["artifacts"].as_array_mut().unwrap() {
        put(artifact.as_object_mut());
    }
}

#[test]
fn a_task_written_and_read_again_is_the_same() {
    check(1000, reply(), |reply| {
        let task = decode::response(reply.to_string().as_bytes()).unwrap();
        let again = decode::response(&serde_json::to_vec(&task).unwrap()).unwrap();
        prop_assert_eq!(again.text(), task.text());
        prop_assert_eq!(again.state(), task.state());
        prop_assert_eq!(again.artifacts.len(), task.artifacts.len());
        Ok(())
    });
}

#[test]
fn an_error_is_an_error_whatever_its_shape() {
    check(1000, (any::<i64>(), text(), any_json()), |(code, message, data)| {
        prop_assume!(data.get("code").is_none() && data.get("error").is_none());
        let reply = json!({"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": message, "data": data}});
        let error = decode::response(reply.to_string().as_bytes()).unwrap_err();
        prop_assert_eq!(error.rpc_code(), Some(code));
        prop_assert!(!error.is_safe_to_ask_again());
        Ok(())
    });
}

#[test]
fn a_state_of_any_name_is_kept() {
    check(1000, "[a-zA-Z_-]{1,20}", |name| {
        let reply = json!({"result": {"id": "t", "status": {"state": name}}});
        let task = decode::response(reply.to_string().as_bytes()).unwrap();
        if let TaskState::Other(kept) = task.state() {
            prop_assert_eq!(kept.as_str(), name.as_str());
        }
        Ok(())
    });
}

#[test]
fn what_is_nested_deeply_is_an_error_and_no_overflow() {
    for (open, inner, close) in [
        ("[", "", "]"),
        ("{\"result\":", "1", "}"),
        ("{\"data\":[", "", "]}"),
        ("{\"error\":", "1", "}"),
    ] {
        for wrap in [
            "",
            "{\"result\":{\"status\":{\"state\":\"COMPLETED\"},\"artifacts\":[{\"parts\":[{\"type\":\"data\",\"data\":",
        ] {
            let deep = format!("{wrap}{}{inner}{}", open.repeat(200_000), close.repeat(200_000));
            assert!(decode::response(deep.as_bytes()).is_err());
            assert!(decode::event(deep.as_bytes()).is_err());
        }
    }
}
