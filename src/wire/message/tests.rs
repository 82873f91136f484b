use serde_json::json;

use super::*;
use crate::wire::task::TaskStatus;

fn read(value: &Value) -> Payload<'static> {
    match decode_message(value.to_string().leak().as_bytes()) {
        Ok(MessageContent::Result(payload)) => payload,
        other => panic!("{value}: {other:?}"),
    }
}

fn id_in(value: &Value) -> Option<TaskId> {
    read(value).id.as_deref().map(TaskId::from)
}

#[test]
fn an_id_may_be_missing_null_a_number_or_foreign() {
    let status = json!({"state": "working"});
    for id in [json!("req-1"), json!(1), json!(null), json!({"a": 1}), json!([1]), json!("foreign")]
    {
        assert_eq!(
            id_in(&json!({"jsonrpc": "2.0", "id": id, "result": {"id": "t", "status": status}})),
            Some("t".into())
        );
        assert_eq!(
            id_in(&json!({"result": {"id": "t", "status": status}, "id": id})),
            Some("t".into())
        );
    }
    assert_eq!(
        id_in(&json!({"result": {"status": status}, "id": "req-1"})),
        None,
        "the request's is not the task's"
    );
    for (id, wanted) in
        [(json!("t"), Some("t")), (json!(7), Some("7")), (json!(null), None), (json!([7]), None)]
    {
        assert_eq!(
            id_in(&json!({"id": id, "status": status})),
            wanted.map(TaskId::from),
            "bare, {id}"
        );
        assert_eq!(
            id_in(&json!({"result": {"id": id, "status": status}})),
            wanted.map(TaskId::from),
            "{id}"
        );
    }
}

#[test]
fn every_spelling_is_read_and_both_at_once() {
    let status = json!({"state": "working"});
    for name in ["final", "isFinal", "is_final"] {
        assert!(read(&json!({"result": {"status": status, name: true}})).is_final(), "{name}");
        assert!(read(&json!({"status": status, name: "true"})).is_final(), "{name}");
        assert!(!read(&json!({"result": {"status": status, name: null}})).is_final(), "{name}");
    }
    assert!(
        read(
            &json!({"result": {"status": status, "final": true, "isFinal": true, "is_final": true}})
        )
        .is_final()
    );
    assert!(
        read(&json!({"result": {"status": status, "final": false, "is_final": true}})).is_final()
    );
    assert!(!read(&json!({"result": {"status": status}})).is_final());
    for session in [
        json!({"sessionId": "s"}),
        json!({"session_id": "s"}),
        json!({"sessionId": null, "session_id": "s"}),
    ] {
        let mut result = json!({"status": status});
        result.as_object_mut().unwrap().extend(session.as_object().unwrap().clone());
        assert_eq!(read(&json!({"result": result})).session_id, Some("s".into()), "{result}");
    }
    let artifact = json!({"lastChunk": true, "last_chunk": true, "index": "2", "append": 1, "name": 5, "parts": null});
    let artifact = read(&json!({"artifact": artifact})).artifact.unwrap();
    assert_eq!((artifact.last_chunk, artifact.index, artifact.append), (Some(true), 2, true));
    assert_eq!(artifact.name.as_deref(), Some("5"));
}

#[test]
fn nulls_and_unknown_fields_change_nothing() {
    let value = json!({"jsonrpc": null, "id": null, "error": null, "new": {"a": [1]}, "metadata": 7, "status": null,
        "result": {"id": "t", "artifact": null, "artifacts": null, "history": null, "metadata": null, "error": 1,
            "result": 2, "status": {"state": null, "message": null, "timestamp": null, "new": 1}, "kind": "status-update"}});
    let payload = read(&value);
    assert_eq!(payload.status, Some(TaskStatus::default()));
    assert!(matches!(
        payload.into_update(&"x".into()),
        Some(Update::Status(update)) if update.task_id == "t"
    ));
}

#[test]
fn a_piece_that_comes_twice_is_an_error() {
    let twice = [
        r#"{"result":{"artifact":{"parts":[]},"artifact":{"parts":[]}}}"#,
        r#"{"result":{"status":{},"status":{}}}"#,
        r#"{"result":{"artifact":{"parts":[],"parts":[]}}}"#,
        r#"{"result":{"status":{}},"result":{"status":{}}}"#,
        r#"{"error":{"code":1},"error":{"code":1}}"#,
    ];
    for text in twice {
        assert!(
            matches!(decode_message(text.as_bytes()), Err(DecodeError::Shape { .. })),
            "{text}"
        );
    }
}

#[test]
fn a_message_is_an_object() {
    for text in ["[]", r#"["2.0",1,{"status":{}}]"#, "1", "\"a\""] {
        assert!(
            matches!(decode_message(text.as_bytes()), Err(DecodeError::Shape { .. })),
            "{text}"
        );
    }
    assert!(matches!(decode_message(b"{"), Err(DecodeError::NotJson { .. })));
}

#[test]
fn lone_surrogates_are_replaced_and_pairs_are_kept() {
    let cases = [
        (r#"\ud83d\ude00"#, "\u{1F600}"),
        (r#"a\ud83d"#, "a\u{FFFD}"),
        (r#"\ude00b"#, "\u{FFFD}b"),
        (r#"\ud83d\ud83d\ude00"#, "\u{FFFD}\u{1F600}"),
        (r#"\ud83d\n\ude00"#, "\u{FFFD}\n\u{FFFD}"),
        (r#"\\ud83d \uD83D"#, "\\ud83d \u{FFFD}"),
    ];
    for (escaped, wanted) in cases {
        let json = format!(r#"{{"id":"t","artifact":{{"parts":[{{"text":"{escaped}"}}]}}}}"#);
        let Ok(MessageContent::Result(payload)) = decode_message(json.as_bytes()) else {
            panic!("{json}");
        };
        let Some(Update::Artifact(update)) = payload.into_update(&"t".into()) else {
            panic!("{json}");
        };
        assert_eq!(update.text(), wanted, "{escaped}");
    }
}

#[test]
fn what_is_not_json_says_why() {
    let deep = format!(r#"{{"result":{}1{}}}"#, "[".repeat(500), "]".repeat(500));
    let cases = [
        (r#"{"result":{"status":{"n":NaN}}}"#, "NaN or Infinity"),
        (r#"{"result":{"status":{"n":-Infinity}}}"#, "NaN or Infinity"),
        (r#"{"result":{"status":{"n":Infinity}}}"#, "NaN or Infinity"),
        (deep.as_str(), "nested deeper"),
        (r#"{"result":{"status":{"n":nope}}}"#, "not JSON"),
        (r#"{"result":{"status":7}}"#, "shape"),
    ];
    for (text, wanted) in cases {
        let error = decode_message(text.as_bytes()).expect_err(text);
        assert!(error.to_string().contains(wanted), "{text:.60}: {error}");
    }
}
