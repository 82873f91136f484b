//! Tests that text from a server never controls the terminal, and that every answer is printed.

use serde_json::{Value, json};
use wiremock::ResponseTemplate;

use crate::scripted::ScriptedPlatform;
use crate::support::BALANCE;

/// Control characters: clear screen, C1 CSI, bidirectional override, BEL, DEL.
pub const CONTROL_CHARACTERS: &str = "a\u{1b}[2J\u{9b}31m\u{202e}b\u{7}\u{7f}\u{2066}";

pub fn has_control_characters(text: &str) -> bool {
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
    let platform = ScriptedPlatform::start();
    platform.answer_task(task(json!([{"type": "text", "text": CONTROL_CHARACTERS}])));
    platform.answer_events(vec![
        json!({"artifact": {"parts": [{"type": "text", "text": CONTROL_CHARACTERS}], "index": 0}}),
        json!({"status": {"state": "COMPLETED"}, "final": true}),
    ]);
    for args in [
        &["ask", BALANCE, "--output", "json"][..],
        &["ask", BALANCE, "--output", "json", "--stream"],
        &["ask", BALANCE, "--output", "events"],
        &["task", "get", "tsk-1", "--output", "json"],
        &["task", "get", "tsk-1", "--output", "task"],
    ] {
        let result = platform.run(args);
        assert_eq!(result.status, Some(0), "{args:?} {result:?}");
        assert!(
            !has_control_characters(&result.out) && result.out.contains("\\u009b"),
            "{args:?} {result:?}"
        );
    }
    let reply: Value =
        serde_json::from_str(&platform.run(&["ask", BALANCE, "--output", "json"]).out).unwrap();
    assert_eq!(reply["artifacts"][0]["content"], CONTROL_CHARACTERS);
    // Output to a pipe is the text as received.
    assert_eq!(platform.run(&["ask", BALANCE]).out, format!("{CONTROL_CHARACTERS}\n"));
}

#[test]
fn ids_states_and_error_texts_are_escaped_on_stderr() {
    let platform = ScriptedPlatform::start();
    platform.answer_task(json!({
        "sessionId": CONTROL_CHARACTERS,
        "status": {"state": "INPUT_REQUIRED", "message": "Which one?"},
    }));
    let result = platform.run(&["ask", BALANCE]);
    assert_eq!(result.status, Some(4), "{result:?}");
    assert!(
        !has_control_characters(&result.err) && result.err.contains("--session $'"),
        "{result:?}"
    );

    let platform = ScriptedPlatform::start();
    platform.answer_task(json!({"status": {"state": CONTROL_CHARACTERS}}));
    let result = platform.run(&["task", "get", "tsk-\u{9b}1"]);
    assert_eq!(result.status, Some(6), "{result:?}");
    assert!(!has_control_characters(&result.err), "{result:?}");

    let platform = ScriptedPlatform::start();
    platform.answer("/api/a2a/tasks/send", |_| {
        ResponseTemplate::new(403).set_body_json(
            json!({"jsonrpc": "2.0", "error": {"code": -32000, "message": CONTROL_CHARACTERS}}),
        )
    });
    let result = platform.run(&["ask", BALANCE]);
    assert!(!matches!(result.status, Some(0) | None), "{result:?}");
    assert!(!has_control_characters(&result.err) && result.err.contains("\\u{9b}"), "{result:?}");
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
        let platform = ScriptedPlatform::start();
        platform.answer_task(task(parts.clone()));
        platform.answer_events(vec![
            json!({"artifact": {"parts": parts, "index": 0}}),
            json!({"status": {"state": "COMPLETED"}, "final": true}),
        ]);
        for args in
            [&["ask", BALANCE][..], &["ask", BALANCE, "--stream"], &["task", "get", "tsk-1"]]
        {
            let result = platform.run(args);
            assert_eq!(result.status, Some(0), "{args:?} {result:?}");
            assert!(result.out.contains(shown), "{args:?} {result:?}");
        }
    }
}

#[test]
fn a_rewritten_answer_starts_on_a_new_line() {
    let platform = ScriptedPlatform::start();
    let text =
        |text: &str| json!({"artifact": {"parts": [{"type": "text", "text": text}], "index": 0}});
    platform.answer_events(vec![
        text("You have $5"),
        text("You have $7."),
        json!({"status": {"state": "COMPLETED"}, "final": true}),
    ]);
    let result = platform.run(&["ask", BALANCE, "--stream"]);
    assert_eq!(
        (result.status, result.out.as_str()),
        (Some(0), "You have $5\nYou have $7.\n"),
        "{result:?}"
    );
    assert!(result.err.contains("rewrote"), "{result:?}");
}

#[test]
fn a_stream_that_fails_before_its_first_text_prints_nothing() {
    let platform = ScriptedPlatform::start();
    platform.answer_events(vec![json!({"status": {"state": "WORKING"}})]);
    let result = platform.run(&["ask", BALANCE, "--stream", "--timeout", "2s"]);
    assert_eq!((result.status, result.out.as_str()), (Some(6), ""), "{result:?}");
}
