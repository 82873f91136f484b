//! Generated streams: their events, how each is written, and what they say by the rules of the
//! protocol alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::{Value, json};

pub const TASK: &str = "tsk-1";

/// Stands for half of a surrogate pair, which no `String` can hold.
const HALF: char = '\u{e000}';

pub fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[a-z .,]{0,12}",
        4 => "[a-zé€\u{1f600}\n\"\\\\]{0,8}",
        1 => Just(format!("a{HALF}b")),
    ]
}

/// The form of a message: the layout of its JSON, and of the event around it.
#[derive(Clone, Debug)]
pub struct Layout {
    pretty: bool,
    escaped: bool,
    wrapped: bool,
    space: &'static str,
    line_end: &'static str,
    before: &'static str,
}

pub fn layout() -> impl Strategy<Value = Layout> {
    let before = prop::sample::select(vec!["", "", "event: message", "id: 7", "retry: 9", ": hi"]);
    (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        prop::sample::select(vec!["", " "]),
        prop::sample::select(vec!["\n", "\r\n", "\r"]),
        before,
    )
        .prop_map(|(pretty, escaped, wrapped, space, line_end, before)| Layout {
            pretty,
            escaped,
            wrapped,
            space,
            line_end,
            before,
        })
}

impl Layout {
    pub fn json(&self, result: &Value) -> String {
        let message = match self.wrapped {
            true => json!({"jsonrpc": "2.0", "id": 1, "result": result}),
            false => result.clone(),
        };
        let json = match self.pretty {
            true => serde_json::to_string_pretty(&message).unwrap(),
            false => message.to_string(),
        };
        let mut out = String::new();
        let mut units = [0; 2];
        for char in json.chars() {
            if char == HALF {
                out.push_str("\\ud83d");
            } else if self.escaped && !char.is_ascii() {
                for unit in char.encode_utf16(&mut units) {
                    write!(out, "\\u{unit:04x}").unwrap();
                }
            } else {
                out.push(char);
            }
        }
        out
    }

    fn event(&self, data: &str) -> Vec<u8> {
        let (end, space) = (self.line_end, self.space);
        let mut out = String::new();
        if !self.before.is_empty() {
            out.push_str(self.before);
            out.push_str(end);
        }
        for line in data.split('\n') {
            write!(out, "data:{space}{line}{end}").unwrap();
        }
        out.push_str(end);
        out.into_bytes()
    }
}

/// One event of a stream.
#[derive(Clone, Debug)]
pub enum Item {
    /// An event of this task, or a task.
    Message(Value),
    /// An event of another task.
    Foreign(Value),
    /// An event that is no part of the answer.
    Ping(&'static str),
    /// An event that ends the stream with an error.
    Bad(&'static str),
}

fn part() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => text().prop_map(|text| json!({"type": "text", "text": text})),
        1 => (any::<i32>(), text()).prop_map(|(number, text)| {
            json!({"type": "data", "data": {"n": number, "x": f64::from(number) / 8.0, "t": text}})
        }),
        1 => text().prop_map(|name| json!({"type": "file", "file": {"name": name, "bytes": "aGk="}})),
    ]
}

pub fn artifact() -> impl Strategy<Value = Value> {
    let parts = prop::collection::vec(part(), 0..3);
    (parts, 0..3i64, any::<bool>(), prop::option::of(any::<bool>())).prop_map(
        |(parts, index, append, last)| {
            let mut artifact = json!({"parts": parts, "index": index, "append": append});
            if let Some(last) = last {
                artifact["lastChunk"] = json!(last);
            }
            artifact
        },
    )
}

fn message(id: &'static str) -> impl Strategy<Value = Value> {
    let state = prop::sample::select(vec!["WORKING", "working", "SUBMITTED", "COMPLETED"]);
    let whole = prop::collection::vec(prop::collection::vec(part(), 0..3), 0..3);
    prop_oneof![
        8 => artifact().prop_map(move |artifact| json!({"id": id, "artifact": artifact})),
        3 => (state.clone(), prop::option::of(text())).prop_map(move |(state, message)| {
            json!({"id": id, "status": {"state": state, "message": message}})
        }),
        1 => (state.clone(), whole).prop_map(move |(state, artifacts)| {
            let artifacts: Vec<Value> =
                artifacts.into_iter().map(|parts| json!({"parts": parts})).collect();
            json!({"id": id, "status": {"state": state}, "artifacts": artifacts})
        }),
        1 => state.prop_map(move |state| {
            json!({"id": id, "status": {"state": state}, "history": []})
        }),
    ]
}

fn item() -> impl Strategy<Value = Item> {
    prop_oneof![
        12 => message(TASK).prop_map(Item::Message),
        1 => message("tsk-2").prop_map(Item::Foreign),
        2 => prop::sample::select(vec![
            "[DONE]", "null", "{}", "{\"type\":\"ping\"}", "1764064000",
            "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}",
        ])
        .prop_map(Item::Ping),
    ]
}

/// The events of a stream, each with its layout, and the bytes before the first.
#[derive(Clone, Debug)]
pub struct Script {
    pub mark: bool,
    pub items: Vec<(Item, Layout)>,
    pub last: Option<(Value, Layout)>,
}

/// Generates a stream that ends well in most cases.
pub fn script() -> impl Strategy<Value = Script> {
    let bad = prop::sample::select(vec![
        "{\"result\":{\"id\":\"tsk-1\",",
        "{\"x\":NaN}",
        "{\"error\":{\"code\":-32603,\"message\":\"é\"}}",
        "{\"error\":{\"code\":-32602,\"message\":\"no\"}}",
        "{\"jsonrpc\":\"2.0\",\"id\":1}",
    ])
    .prop_map(Item::Bad);
    let item = prop_oneof![40 => item(), 1 => bad];
    let last = prop_oneof![
        4 => Just(json!({"id": TASK, "status": {"state": "COMPLETED"}, "final": true})),
        1 => Just(json!({"id": TASK, "status": {"state": "input-required"}, "isFinal": true})),
        1 => message(TASK),
    ];
    (
        any::<bool>(),
        prop::collection::vec((item, layout()), 0..10),
        prop::option::of((last, layout())),
    )
        .prop_map(|(mark, items, last)| Script { mark, items, last })
}

impl Script {
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = if self.mark { "\u{feff}".as_bytes().to_vec() } else { Vec::new() };
        for (item, layout) in &self.items {
            out.extend(match item {
                Item::Message(result) | Item::Foreign(result) => layout.event(&layout.json(result)),
                Item::Ping(data) | Item::Bad(data) => layout.event(data),
            });
        }
        if let Some((last, layout)) = &self.last {
            out.extend(layout.event(&layout.json(last)));
        }
        out
    }

    /// Returns the messages of the task up to the first error, the last one included.
    pub fn messages(&self) -> Vec<&Value> {
        let items = self.items.iter().map(|(item, _)| item);
        let good = items.take_while(|item| !matches!(item, Item::Bad(_)));
        let mut messages: Vec<_> = good
            .filter_map(|item| match item {
                Item::Message(result) => Some(result),
                _ => None,
            })
            .collect();
        if !self.is_bad() {
            messages.extend(self.last.iter().map(|(last, _)| last));
        }
        messages
    }

    fn is_bad(&self) -> bool {
        self.items.iter().any(|(item, _)| matches!(item, Item::Bad(_)))
    }

    /// Returns true where the stream proves its own end.
    pub fn ends_well(&self) -> bool {
        let ends = |state: &Value| matches!(state.as_str(), Some("COMPLETED" | "input-required"));
        let mut states = self.messages().into_iter().map(|message| &message["status"]["state"]);
        !self.is_bad() && states.rfind(|state| !state.is_null()).is_some_and(ends)
    }

    /// Returns true where the text only ever grows at its end: a reader can yield it as it comes.
    pub fn text_only_grows(&self) -> bool {
        let text_after = |messages| {
            let texts = self.artifact_texts(messages);
            texts.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
        };
        let texts: Vec<String> = (0..=self.messages().len()).map(text_after).collect();
        texts.windows(2).all(|pair| pair[1].starts_with(&pair[0]))
    }

    /// Returns the text of each artifact after so many messages, put together by the rules of the
    /// protocol alone.
    pub fn artifact_texts(&self, messages: usize) -> Vec<String> {
        let mut order: Vec<i64> = Vec::new();
        let mut artifacts: BTreeMap<i64, Vec<Value>> = BTreeMap::new();
        for message in self.messages().into_iter().take(messages) {
            if let Some(whole) = message["artifacts"].as_array() {
                order = (0..).take(whole.len()).collect();
                artifacts = (0..).zip(whole.iter().map(parts_of)).collect();
            }
            let Some(artifact) = message.get("artifact") else { continue };
            let index = artifact["index"].as_i64().unwrap();
            if !order.contains(&index) {
                order.push(index);
            }
            let parts = artifacts.entry(index).or_default();
            if artifact["append"] == false {
                parts.clear();
            }
            for (position, part) in parts_of(artifact).into_iter().enumerate() {
                match (position, parts.last_mut(), part.get("text")) {
                    (0, Some(last), Some(more)) if last.get("text").is_some() => {
                        let text = last["text"].as_str().unwrap().to_owned();
                        last["text"] = json!(text + more.as_str().unwrap());
                    }
                    _ => parts.push(part),
                }
            }
        }
        order
            .into_iter()
            .map(|index| {
                let texts = artifacts[&index].iter().filter_map(|part| part["text"].as_str());
                texts.collect::<Vec<_>>().join("\n").replace(HALF, "\u{fffd}")
            })
            .collect()
    }
}

fn parts_of(artifact: &Value) -> Vec<Value> {
    artifact["parts"].as_array().unwrap().clone()
}
