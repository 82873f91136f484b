//! Server-sent events of a task.

use serde_json::{Value, json};

/// Returns an event with this JSON as its data.
pub fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

/// Returns an event with a JSON-RPC result.
pub fn result_event(result: Value) -> String {
    event(&json!({"jsonrpc": "2.0", "id": "r", "result": result}))
}

/// Returns a status event.
pub fn status_event(id: &str, state: &str, is_final: bool) -> String {
    result_event(json!({"id": id, "status": {"state": state}, "final": is_final}))
}

/// Returns an artifact event with a single text part.
pub fn text_event(id: &str, index: i64, text: &str, append: bool) -> String {
    let parts = json!([{"type": "text", "text": text}]);
    let artifact = json!({"parts": parts, "index": index, "append": append});
    result_event(json!({"id": id, "artifact": artifact}))
}
