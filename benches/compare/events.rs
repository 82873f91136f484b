//! Events to measure with.

use serde_json::json;

/// An event's JSON as the platform sends it: a piece of text, so long that the whole has this size.
pub fn event_of(size: usize) -> String {
    let json = |text: &str| {
        let part = json!({"type": "text", "text": text});
        let artifact = json!({"parts": [part], "index": 0, "append": true});
        json!({"jsonrpc": "2.0", "id": 1, "result": {"id": "tsk-7f3a9c", "artifact": artifact}}).to_string()
    };
    let words = "You have $1,204.33 in your main wallet. ";
    let room = size.saturating_sub(json("").len());
    json(&words.repeat(room / words.len() + 1)[..room])
}

/// An event's JSON in many lines: a whole task with a long history.
pub fn many_lines_of(size: usize) -> String {
    let message = |at: usize| {
        let text = format!("{at}: you have $1,204.33 in your main wallet, and three payments wait for approval.");
        json!({"role": "agent", "parts": [{"type": "text", "text": text}]})
    };
    let of = |messages: usize| {
        let history: Vec<_> = (0..messages).map(message).collect();
        let task = json!({"id": "tsk-7f3a9c", "status": {"state": "WORKING"}, "history": history});
        serde_json::to_string_pretty(&json!({"jsonrpc": "2.0", "id": 1, "result": task})).expect("JSON is written")
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
