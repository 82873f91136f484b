//! Escapes the characters of untrusted text that could control a terminal or hide and reorder the
//! text around them. Not part of the public API.

use std::borrow::Cow;
use std::fmt::Write;

/// Returns true for control characters (C0, DEL, C1), bidirectional overrides and isolates, line
/// and paragraph separators, and invisible tag characters.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{061c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Returns the text on one line: every unsafe character, line ends included, as `\n` or `\u{9b}`.
pub fn escape_line(text: &str) -> Cow<'_, str> {
    escape_with(text, is_unsafe, |out, c| out.extend(c.escape_default()))
}

/// Returns the text with its lines and tabs, and every other unsafe character escaped.
pub fn escape_text(text: &str) -> Cow<'_, str> {
    let text = match text.contains("\r\n") {
        true => Cow::Owned(text.replace("\r\n", "\n")),
        false => Cow::Borrowed(text),
    };
    let is_escaped = |c| is_unsafe(c) && !matches!(c, '\n' | '\t');
    let escape = |out: &mut String, c: char| out.extend(c.escape_default());
    match text {
        Cow::Borrowed(text) => escape_with(text, is_escaped, escape),
        Cow::Owned(text) => Cow::Owned(escape_with(&text, is_escaped, escape).into_owned()),
    }
}

/// Returns JSON with the same meaning, in which unsafe characters are written as `\u009b`.
///
/// White space between tokens stays, except that a carriage return becomes a space.
pub fn escape_json(json: &str) -> Cow<'_, str> {
    escape_with(
        json,
        |c| is_unsafe(c) && !matches!(c, '\n' | '\t'),
        |out, c| {
            if c == '\r' {
                out.push(' ');
                return;
            }
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String does not fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        },
    )
}

fn escape_with(
    text: &str,
    is_escaped: impl Fn(char) -> bool,
    escape: impl Fn(&mut String, char),
) -> Cow<'_, str> {
    if !text.chars().any(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_escaped(c) {
            escape(&mut out, c);
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;
    use crate::error::{Error, Outcome};
    use crate::wire::jsonrpc::RpcError;
    use crate::wire::state::TaskState;

    #[test]
    fn an_error_shows_no_unsafe_character_of_a_server() {
        let hostile = "Paid \u{202e}05$\u{2066}\u{9b}\n\u{2028}now";
        let rpc: RpcError =
            serde_json::from_value(serde_json::json!({"code": -32000, "message": hostile}))
                .unwrap();
        let state = TaskState::from(hostile);
        for (case, error) in [
            ("JSON-RPC", Error::from_rpc(rpc)),
            ("HTTP", Error::from_status(StatusCode::FORBIDDEN, Some(hostile))),
            ("not completed", Error::task_not_completed(&state, Outcome::Settled)),
            ("not whole", Error::answer_not_whole(&state)),
        ] {
            let shown = error.to_string();
            assert!(!shown.contains(is_unsafe) && shown.contains("05$"), "{case}: {shown:?}");
        }
    }

    #[test]
    fn unsafe_characters_are_shown_and_others_kept() {
        let untrusted = "a\u{1b}[2J\u{9b}\n\u{202e}é👩‍👧";
        assert_eq!(escape_line(untrusted), r"a\u{1b}[2J\u{9b}\n\u{202e}é👩‍👧");
        assert_eq!(escape_text("a\r\n\tb\u{7f}\r"), "a\n\tb\\u{7f}\\r");
        assert!(matches!(escape_text("plain\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn escaped_json_has_the_same_meaning() -> Result<(), serde_json::Error> {
        let json = "{\"a\":\r\n\"\u{9b}\u{202e}\u{e0041}\u{7f}\"}";
        let escaped = escape_json(json);
        assert_eq!(escaped, "{\"a\": \n\"\\u009b\\u202e\\udb40\\udc41\\u007f\"}");
        let same: serde_json::Value = serde_json::from_str(&escaped)?;
        assert_eq!(same, serde_json::from_str::<serde_json::Value>(json)?);
        Ok(())
    }
}
