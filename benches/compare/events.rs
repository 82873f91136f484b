//! Events to measure with.

use serde_json::json;

/// An event's JSON as the platform sends it: a piece of text, so long that the whole has this size.
pub fn event_of(size: usize) -> String {
    let json = |text: &str| {
        let part = json!({"type": "text", "text": text});
        let artifact = json!({"parts": [part], "index": 0, "append": true});
        json!({"jsonrpc": "2.0", "id": 1, "result": {"id": "tsk-7f3a9c", "artifact": artifact}})
            .to_string()
    };
    let words = "You have $1,204.33 in your main wallet. ";
    let room = size.saturating_sub(json("").len());
    json(&words.repeat(room / words.len() + 1)[..room])
}

/// An event's JSON in many lines, as a pretty-printer writes it: a list of payments as a part of data.
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
        let event = json!({"jsonrpc": "2.0", "id": 1, "result": {"id": "tsk-7f3a9c", "artifact": artifact}});
        serde_json::to_string_pretty(&event).expect("JSON is written")
    };
    let one = of(2).len() - of(1).len();
    of((size / one).max(1))
}

/// On one line: JSON's own white space takes the place of the line ends.
pub fn plain(data: &str) -> String {
    format!("data: {}\n\n", data.replace('\n', " "))
}

pub fn in_lines(data: &str) -> String {
    let lines: String = data.lines().map(|line| format!("data: {line}\n")).collect();
    lines + "\n"
}

/// A status update's JSON.
pub fn status() -> String {
    let status = json!({"state": "WORKING", "message": "Looking up your wallets", "timestamp": "2025-06-27T16:31:41.510422505Z"});
    json!({"jsonrpc": "2.0", "id": 1, "result": {"id": "tsk-7f3a9c", "status": status, "final": false}}).to_string()
}
