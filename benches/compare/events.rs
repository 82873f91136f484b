//! The events that the benchmarks decode.

use serde_json::json;

/// Returns an event's JSON in the platform's format, with text of such a length that it has this
/// size.
pub fn event_of(size: usize) -> String {
    let json = |text: &str| {
        let part = json!({"type": "text", "text": text});
        let artifact = json!({"parts": [part], "index": 0, "append": true});
        json!({"jsonrpc": "2.0", "id": 1, "result": {"id": "tsk-7f3a9c", "artifact": artifact}})
            .to_string()
    };
    let sentence = "You have $1,204.33 in your main wallet. ";
    let room = size.saturating_sub(json("").len());
    json(&sentence.repeat(room / sentence.len() + 1)[..room])
}

/// Returns an event's JSON on many lines, as a pretty-printer writes it, with a list of payments.
pub fn many_lines_of(size: usize) -> String {
    let payment = |at: usize| {
        json!({
            "id": format!("txn-{at:08}"),
            "payee": {"name": "Tyllen Bicakcic", "type": "US_ACH"},
            "amount": {"value": at * 5, "currency": "USD"},
            "status": "AWAITING_APPROVAL",
            "createdAt": "2025-06-27T16:31:41.584Z",
        })
    };
    let of = |payments: usize| {
        let list: Vec<_> = (0..payments).map(payment).collect();
        let artifact = json!({"parts": [{"type": "data", "data": {"payments": list}}], "index": 0});
        let result = json!({"id": "tsk-7f3a9c", "artifact": artifact});
        let event = json!({"jsonrpc": "2.0", "id": 1, "result": result});
        serde_json::to_string_pretty(&event).expect("the event serializes")
    };
    let one = of(2).len() - of(1).len();
    of((size / one).max(1))
}

/// Returns a server-sent event with its data on one line: spaces replace the line ends in the JSON.
pub fn on_one_line(data: &str) -> String {
    format!("data: {}\n\n", data.replace('\n', " "))
}

/// Returns a server-sent event with a `data:` line for each line of the JSON.
pub fn on_many_lines(data: &str) -> String {
    let lines: String = data.lines().map(|line| format!("data: {line}\n")).collect();
    lines + "\n"
}

/// Returns a status update's JSON.
pub fn status() -> String {
    let status = json!({
        "state": "WORKING",
        "message": "Looking up your wallets",
        "timestamp": "2025-06-27T16:31:41.510422505Z",
    });
    let result = json!({"id": "tsk-7f3a9c", "status": status, "final": false});
    json!({"jsonrpc": "2.0", "id": 1, "result": result}).to_string()
}
