//! Messages that are not part of an answer: pings, end markers and notifications.

use serde_json::Value;

use crate::wire::json;
use crate::wire::state::TaskState;
use crate::wire::timestamp::Timestamp;

/// Returns true for text that is not part of an answer: the end marker of other protocols, `null`,
/// the name of a ping, and a timestamp.
pub(super) fn is_end_marker_or_ping(text: &str) -> bool {
    let text = text.trim();
    if matches!(text, "[DONE]" | "null") {
        return true;
    }
    let bare = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    is_ping(bare) || is_timestamp(bare)
}

/// Returns true for a date with a time, and for seconds or milliseconds since 1970.
fn is_timestamp(text: &str) -> bool {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return matches!(text.len(), 10 | 13);
    }
    text.contains(':') && Timestamp::from(text).to_system_time().is_some()
}

/// Returns true for the names that servers give to keep-alive messages.
pub(crate) fn is_ping(name: &str) -> bool {
    ["ping", "heartbeat", "keepalive", "keep-alive", "keep_alive"]
        .iter()
        .any(|known| name.trim().eq_ignore_ascii_case(known))
}

/// Returns true where the data of an event with the name of a ping holds a part of a task.
pub(crate) fn may_be_answer(data: &[u8]) -> bool {
    match json::from_body(data) {
        Ok(value) => holds_task(&value),
        Err(_) => [&b"\"result\""[..], b"\"error\"", b"\"status\"", b"\"artifact"]
            .iter()
            .any(|part| memchr::memmem::find(data, part).is_some()),
    }
}

/// Returns true where the JSON, such as the parameters of a notification, holds a part of a task.
pub(super) fn holds_task(params: &Value) -> bool {
    const PARTS: [&str; 4] = ["artifact", "artifacts", "result", "error"];
    let has_status = match params.get("status") {
        Some(Value::Object(_)) => true,
        // A ping may have the status `"alive"`, which is not a state of a task.
        Some(Value::String(text)) => !matches!(TaskState::from(&**text), TaskState::Other(_)),
        _ => false,
    };
    has_status || PARTS.iter().any(|part| params.get(part).is_some_and(|value| !value.is_null()))
}
