//! Reads JSON as servers write it: after a byte-order mark, and with halves of surrogate pairs.

use serde::de::DeserializeOwned;

/// Removes a byte-order mark, which some servers write before their JSON.
pub(crate) fn without_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body)
}

/// Deserializes a body that is not a JSON-RPC message: a token reply, or the body of an HTTP error.
///
/// The error contains text of the server and must not be shown.
pub(crate) fn from_body<T: DeserializeOwned>(body: &[u8]) -> serde_json::Result<T> {
    let body = without_bom(body);
    serde_json::from_slice(body).or_else(|error| {
        let text = std::str::from_utf8(body).ok();
        let repaired = text.and_then(replace_lone_surrogates);
        repaired.map_or(Err(error), |text| serde_json::from_str(&text))
    })
}

/// Replaces the escapes of lone surrogates, which are not Unicode text, by U+FFFD. Returns `None`
/// if there are none.
///
/// Servers that cut text in the middle of an emoji send them (RFC 8259, section 8.2).
pub(crate) fn replace_lone_surrogates(text: &str) -> Option<String> {
    const REPLACEMENT: &str = "\\ufffd";
    let mut repaired = String::new();
    let mut copied = 0;
    let mut rest = memchr::memchr_iter(b'\\', text.as_bytes()).peekable();
    while let Some(at) = rest.next() {
        let escape = text.get(at..).unwrap_or_default();
        let length = match unit_of(escape) {
            // Not a \u escape: the next byte belongs to this one.
            None => 2,
            Some(unit) if is_high(unit) && is_low_next(escape) => 12,
            Some(unit) if is_high(unit) || is_low(unit) => {
                repaired.push_str(text.get(copied..at)?);
                repaired.push_str(REPLACEMENT);
                copied = at + 6;
                6
            }
            Some(_) => 6,
        };
        while rest.next_if(|next| *next < at + length).is_some() {}
    }
    if copied == 0 {
        return None;
    }
    repaired.push_str(text.get(copied..)?);
    Some(repaired)
}

/// Returns the UTF-16 unit of a `\u` escape at the start of the text.
fn unit_of(escape: &str) -> Option<u16> {
    let digits = escape.strip_prefix("\\u")?.get(..4)?;
    u16::from_str_radix(digits, 16).ok()
}

fn is_high(unit: u16) -> bool {
    (0xD800..0xDC00).contains(&unit)
}

fn is_low(unit: u16) -> bool {
    (0xDC00..0xE000).contains(&unit)
}

fn is_low_next(escape: &str) -> bool {
    escape.get(6..).and_then(unit_of).is_some_and(is_low)
}
