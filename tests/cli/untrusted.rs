//! Text from a server never controls the terminal, and something is printed for every answer.

use serde_json::{Value, json};
use wiremock::ResponseTemplate;

use crate::stub::Stub;
use crate::support::BALANCE;

/// Clears the screen, C1 CSI, bidirectional override, BEL, DEL.
pub const HOSTILE: &str = "a\u{1b}[2J\u{9b}31m\u{202e}b\u{7}\u{7f}\u{2066}";

pub fn has_hostile(text: &str) -> bool {
    text.contains(|c: char| {
        (c.is_control() && !matches!(c, '\n' | '\t' | '\r'))
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    })
}

fn task(parts: Value) -> Value {
    json!({
        "status": {"state": "COMPLETED", "message": "Processing completed successfully"},
        "artifacts": [{"name": "response", "parts": parts}],
    })
}

#[test]
fn json_escapes_control_characters_and_keeps_its_meaning() {
    let stub = Stub::start();
    stub.answer_task(task(json!([{"type": "text", "text": HOSTILE}])));
    stub.answer_events(vec![
        json!({"artifact": {"parts": [{"type": "text", "text": HOSTILE}], "index": 0}}),
        json!({"status": {"state": "COMPLETED"}, "final": true}),
    ]);
    for args in [
        &["ask", BALANCE, "--output", "json"][..],
        &["ask", BALANCE, "--output", "json", "--stream"],
        &["ask", BALANCE, "--output", "events"],
        &["task", "get", "tsk-1", "--output", "json"],
        &["task", "get", "tsk-1", "--output", "task"],
    ] {
        let ran = stub.run(args);
        assert_eq!(ran.status, Some(0), "{args:?} {ran:?}");
        assert!(!has_hostile(&ran.out) && ran.out.contains("\\u009b"), "{args:?} {ran:?}");
    }
    let reply: Value =
        serde_json::from_str(&stub.run(&["ask", BALANCE, "--output", "json"]).out).unwrap();
    assert_eq!(reply["artifacts"][0]["content"], HOSTILE);
    // Output that is piped to a program is the text as it was received.
    assert_eq!(stub.run(&["ask", BALANCE]).out, format!("{HOSTILE}\n"));
}

#[test]
fn ids_states_and_error_texts_are_escaped_on_stderr() {
    let stub = Stub::start();
    stub.answer_task(json!({
        "sessionId": HOSTILE,
        "status": {"state": "INPUT_REQUIRED", "message": "Which one?"},
    }));
    let ran = stub.run(&["ask", BALANCE]);
    assert_eq!(ran.status, Some(4), "{ran:?}");
    assert!(!has_hostile(&ran.err) && ran.err.contains("--session $'"), "{ran:?}");

    let stub = Stub::start();
    stub.answer_task(json!({"status": {"state": HOSTILE}}));
    let ran = stub.run(&["task", "get", "tsk-\u{9b}1"]);
    assert_eq!(ran.status, Some(6), "{ran:?}");
    assert!(!has_hostile(&ran.err), "{ran:?}");

    let stub = Stub::start();
    stub.answer("/api/a2a/tasks/send", |_| {
        ResponseTemplate::new(403)
            .set_body_json(json!({"jsonrpc": "2.0", "error": {"code": -32000, "message": HOSTILE}}))
    });
    let ran = stub.run(&["ask", BALANCE]);
    assert!(!matches!(ran.status, Some(0) | None), "{ran:?}");
    assert!(!has_hostile(&ran.err) && ran.err.contains("\\u{9b}"), "{ran:?}");
}

#[test]
fn an_answer_without_text_is_printed_too() {
    for (parts, shown) in [
        (json!([{"type": "data", "data": {"balance": 12}}]), "\"balance\": 12"),
        (
            json!([{"type": "file", "file": {"name": "statement.pdf", "bytes": "aGk="}}]),
            "statement.pdf",
        ),
        (
            json!([{"type": "file", "file": {"uri": "https://x.test/a.csv"}}]),
            "https://x.test/a.csv",
        ),
        (json!([{"type": "text", "text": "words"}, {"type": "data", "data": []}]), "words"),
    ] {
        let stub = Stub::start();
        stub.answer_task(task(parts.clone()));
        stub.answer_events(vec![
            json!({"artifact": {"parts": parts, "index": 0}}),
            json!({"status": {"state": "COMPLETED"}, "final": true}),
        ]);
        for args in
            [&["ask", BALANCE][..], &["ask", BALANCE, "--stream"], &["task", "get", "tsk-1"]]
        {
            let ran = stub.run(args);
            assert_eq!(ran.status, Some(0), "{args:?} {ran:?}");
            assert!(ran.out.contains(shown), "{args:?} {ran:?}");
        }
    }
}

#[test]
fn an_answer_that_is_rewritten_starts_on_a_line_of_its_own() {
    let stub = Stub::start();
    let text =
        |text: &str| json!({"artifact": {"parts": [{"type": "text", "text": text}], "index": 0}});
    stub.answer_events(vec![
        text("You have $5"),
        text("You have $7."),
        json!({"status": {"state": "COMPLETED"}, "final": true}),
    ]);
    let ran = stub.run(&["ask", BALANCE, "--stream"]);
    assert_eq!((ran.status, ran.out.as_str()), (Some(0), "You have $5\nYou have $7.\n"), "{ran:?}");
    assert!(ran.err.contains("rewrote"), "{ran:?}");
}

#[test]
fn a_stream_that_fails_before_its_first_word_prints_nothing() {
    let stub = Stub::start();
    stub.answer_events(vec![json!({"status": {"state": "WORKING"}})]);
    let ran = stub.run(&["ask", BALANCE, "--stream", "--timeout", "2s"]);
    assert_eq!((ran.status, ran.out.as_str()), (Some(6), ""), "{ran:?}");
}
