//! Properties of whole answers: an answer does not depend on how its bytes are cut into chunks, and
//! it is what its events say.

#![cfg(test)]

mod common;

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use common::raw::{Asked, RawServer, Step, serve};
use common::{client_with, config};
use futures::StreamExt;
use payman_sdk::{Ask, Client, Error, Event, Reply, RetryPolicy};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const TASK: &str = "tsk-1";

/// Runs a property; `PAYMAN_SEED` repeats a run.
fn check<S: Strategy>(
    cases: u32,
    strategy: S,
    property: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let seed = std::env::var("PAYMAN_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| fastrand::u64(..));
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    println!("PAYMAN_SEED={seed}, {cases} cases");
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    if let Err(failure) = TestRunner::new_with_rng(config, rng).run(&strategy, property) {
        panic!("PAYMAN_SEED={seed}: {failure}");
    }
}

/// A server whose answer is set before each ask: a content type, and the chunks of a body.
struct Chunks {
    runtime: Runtime,
    client: Client,
    answer: Arc<Mutex<(&'static str, Vec<Vec<u8>>)>>,
    _server: RawServer,
}

impl Chunks {
    fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let answer: Arc<Mutex<(&'static str, Vec<Vec<u8>>)>> = Arc::default();
        let next = Arc::clone(&answer);
        let server = runtime.block_on(serve(move |_: Asked| {
            let (content_type, chunks) = &*next.lock().unwrap();
            vec![Step::Say(http_chunks(content_type, chunks))]
        }));
        // Nothing is looked up: what is wrong with an answer is an error at once.
        let client = client_with(config(&server.url).retry(RetryPolicy::none()));
        Self { runtime, client, answer, _server: server }
    }

    fn set(&self, content_type: &'static str, chunks: Vec<Vec<u8>>) {
        *self.answer.lock().unwrap() = (content_type, chunks);
    }

    /// Returns what a reader of these chunks sees of a stream.
    fn stream(&self, chunks: Vec<Vec<u8>>) -> Seen {
        self.set("text/event-stream", chunks);
        self.runtime.block_on(async {
            let ask = || Ask::new("hi").with_task_id(TASK);
            let mut seen = Seen::default();
            let mut events = match self.client.ask_stream(ask()).await {
                Ok(events) => events,
                Err(error) => return Seen { error: Some(Told::by(&error)), ..seen },
            };
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => seen.events.push(event),
                    Err(error) => seen.error = Some(Told::by(&error)),
                }
            }
            seen.so_far = Some(without_request(events.reply_so_far()));
            match events.into_reply().await {
                Ok(reply) => seen.reply = Some(without_request(reply)),
                Err(_) => assert!(seen.error.is_some(), "an error that no event showed"),
            }
            let mut texts = self.client.ask_stream(ask()).await.unwrap().text();
            while let Some(text) = texts.next().await {
                match text {
                    Ok(text) => seen.texts.push(text),
                    Err(error) => seen.text_error = Some(Told::by(&error)),
                }
            }
            let mut raw = self.client.ask_stream_raw(ask()).await.unwrap();
            while let Some(Ok(response)) = raw.next().await {
                seen.raw.push(response.as_str().to_owned());
            }
            seen
        })
    }

    /// Returns the reply whose JSON comes in these chunks.
    fn reply(&self, chunks: Vec<Vec<u8>>) -> Result<Reply, Told> {
        self.set("application/json", chunks);
        let ask = Ask::new("hi").with_task_id(TASK);
        let reply = self.runtime.block_on(self.client.ask(ask));
        reply.map(without_request).map_err(|error| Told::by(&error))
    }
}

/// What a reader sees of an answer.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    events: Vec<Event>,
    error: Option<Told>,
    so_far: Option<Reply>,
    reply: Option<Reply>,
    texts: Vec<String>,
    text_error: Option<Told>,
    raw: Vec<String>,
}

/// What an error tells.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    chain: String,
    outcome: (bool, bool),
    kind: payman_sdk::ErrorKind,
    code: Option<i64>,
}

impl Told {
    fn by(error: &Error) -> Self {
        let mut chain = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            write!(chain, ": {error}").unwrap();
            source = error.source();
        }
        let outcome = (error.is_outcome_unknown(), error.is_safe_to_ask_again());
        Self { chain, outcome, kind: error.kind(), code: error.rpc_code() }
    }
}

/// A reply as its JSON, without the ids that each ask has of its own.
fn without_request(reply: Reply) -> Reply {
    let mut json = serde_json::to_value(&reply).unwrap();
    json["requestId"] = Value::Null;
    json["sessionId"] = Value::Null;
    serde_json::from_value(json).unwrap()
}

/// One HTTP chunk for each chunk: the client is given each by itself, however TCP cuts them.
fn http_chunks(content_type: &str, chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut out = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\
         connection: close\r\n\r\n"
    )
    .into_bytes();
    for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

/// Cuts bytes at the given places, whatever they are.
fn cut(bytes: &[u8], places: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut places: Vec<usize> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
    places.sort_unstable();
    places.push(bytes.len());
    let mut from = 0;
    places.into_iter().map(|to| bytes[std::mem::replace(&mut from, to)..to].to_vec()).collect()
}

fn single_bytes(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.iter().map(|byte| vec![*byte]).collect()
}

fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 1..20)
}

/// Stands for half of a surrogate pair, which no `String` can hold.
const HALF: char = '\u{e000}';

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[a-z .,]{0,12}",
        4 => "[a-zé€\u{1f600}\n\"\\\\]{0,8}",
        1 => Just(format!("a{HALF}b")),
    ]
}

/// How a message is written: the layout of its JSON, and of the event around it.
#[derive(Clone, Debug)]
struct Layout {
    pretty: bool,
    escaped: bool,
    wrapped: bool,
    space: &'static str,
    line_end: &'static str,
    before: &'static str,
}

fn layout() -> impl Strategy<Value = Layout> {
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
    fn json(&self, result: &Value) -> String {
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
enum Item {
    /// An event of this task, or a task.
    Message(Value),
    /// An event of another task.
    Foreign(Value),
    /// What is no part of the answer.
    Ping(&'static str),
    /// What ends a stream with an error.
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

fn artifact() -> impl Strategy<Value = Value> {
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
struct Script {
    mark: bool,
    items: Vec<(Item, Layout)>,
    last: Option<(Value, Layout)>,
}

/// A stream that ends well, in most cases.
fn script() -> impl Strategy<Value = Script> {
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
    fn bytes(&self) -> Vec<u8> {
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
    fn messages(&self) -> Vec<&Value> {
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
    fn ends_well(&self) -> bool {
        let ends = |state: &Value| matches!(state.as_str(), Some("COMPLETED" | "input-required"));
        let states = self.messages().into_iter().map(|message| &message["status"]["state"]);
        !self.is_bad() && states.filter(|state| !state.is_null()).next_back().is_some_and(ends)
    }

    /// Returns true where the text only ever grows at its end: a reader can yield it as it comes.
    fn text_only_grows(&self) -> bool {
        let text_after = |messages| {
            let texts = self.artifact_texts(messages);
            texts.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
        };
        let texts: Vec<String> = (0..=self.messages().len()).map(text_after).collect();
        texts.windows(2).all(|pair| pair[1].starts_with(&pair[0]))
    }

    /// Returns the text of each artifact after so many messages, put together by the rules of the
    /// protocol alone.
    fn artifact_texts(&self, messages: usize) -> Vec<String> {
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

#[test]
fn a_stream_does_not_depend_on_its_chunks() {
    let server = Chunks::start();
    check(250, (script(), cuts(), cuts()), |(script, first, second)| {
        let bytes = script.bytes();
        let whole = server.stream(vec![bytes.clone()]);
        for chunks in [cut(&bytes, &first), cut(&bytes, &second), single_bytes(&bytes)] {
            prop_assert_eq!(&server.stream(chunks), &whole);
        }
        Ok(())
    });
}

/// Any bytes may be missing, changed or too many: an answer is still read in one way only.
#[test]
fn a_damaged_stream_does_not_depend_on_its_chunks() {
    let server = Chunks::start();
    let damage =
        (any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..3), 0..4usize);
    check(250, (script(), damage, cuts()), |(script, (at, more, less), cuts)| {
        let mut bytes = script.bytes();
        let at = at.index(bytes.len() + 1);
        bytes.splice(at..bytes.len().min(at + less), more);
        let whole = server.stream(vec![bytes.clone()]);
        for chunks in [cut(&bytes, &cuts), single_bytes(&bytes)] {
            prop_assert_eq!(&server.stream(chunks), &whole, "{}", bytes.escape_ascii());
        }
        Ok(())
    });
}

#[test]
fn a_stream_is_what_its_events_say() {
    let server = Chunks::start();
    check(250, (script(), cuts()), |(script, cuts)| {
        let seen = server.stream(cut(&script.bytes(), &cuts));
        prop_assert_eq!(seen.reply.is_some(), script.ends_well(), "{:?}", seen.error);
        prop_assert_eq!(seen.error.is_some(), !script.ends_well());
        prop_assert_eq!(seen.events.len(), script.messages().len());
        prop_assert_eq!(seen.raw.len(), script.messages().len());
        let so_far = seen.so_far.unwrap();
        let texts: Vec<String> =
            so_far.artifacts().iter().map(|artifact| artifact.content()).collect();
        prop_assert_eq!(texts, script.artifact_texts(usize::MAX));
        if let Some(reply) = seen.reply {
            prop_assert_eq!(&reply, &so_far);
            // Text that was yielded and then replaced is an error, nothing else is.
            match seen.text_error {
                None => prop_assert_eq!(seen.texts.concat(), reply.text()),
                Some(error) => {
                    prop_assert!(error.chain.contains("rewritten"), "{:?}", error);
                    prop_assert!(!script.text_only_grows(), "{:?}", seen.texts);
                    prop_assert!(!reply.text().starts_with(&seen.texts.concat()));
                }
            }
        }
        Ok(())
    });
}

/// A stream that is cut anywhere before its last event never looks complete.
#[test]
fn a_stream_that_is_cut_is_never_a_reply() {
    let server = Chunks::start();
    let running = prop::collection::vec((artifact(), layout()), 1..5);
    let last = json!({"id": TASK, "status": {"state": "COMPLETED"}, "final": true});
    check(150, (running, layout(), any::<prop::sample::Index>()), |(running, layout, at)| {
        let items = running.into_iter().map(|(artifact, layout)| {
            (Item::Message(json!({"id": TASK, "artifact": artifact})), layout)
        });
        let script =
            Script { mark: false, items: items.collect(), last: Some((last.clone(), layout)) };
        let bytes = script.bytes();
        prop_assert!(server.stream(vec![bytes.clone()]).reply.is_some());
        // The event ends with its blank line, of which a CRLF need not be whole.
        let blank = bytes.len() - 1;
        let seen = server.stream(vec![bytes[..at.index(blank)].to_vec()]);
        prop_assert!(seen.reply.is_none());
        prop_assert!(seen.error.is_some_and(|error| error.outcome == (true, false)));
        prop_assert!(seen.text_error.is_some());
        Ok(())
    });
}

#[test]
fn a_reply_does_not_depend_on_its_chunks() {
    let server = Chunks::start();
    let artifacts = prop::collection::vec(artifact(), 0..3);
    let damage = prop::option::of((any::<prop::sample::Index>(), any::<u8>()));
    let reply = (artifacts, text(), layout(), any::<bool>(), damage);
    check(250, (reply, cuts()), |((artifacts, message, layout, mark, damage), cuts)| {
        let status = json!({"state": "COMPLETED", "message": message});
        let task = json!({"id": TASK, "status": status, "artifacts": artifacts});
        let mark = if mark { "\u{feff}" } else { "" };
        let mut bytes = format!("{mark}{}", layout.json(&task)).into_bytes();
        if let Some((at, byte)) = damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let whole = server.reply(vec![bytes.clone()]);
        if damage.is_none() {
            prop_assert!(whole.is_ok(), "{:?}", whole);
        }
        prop_assert_eq!(&server.reply(cut(&bytes, &cuts)), &whole);
        prop_assert_eq!(&server.reply(single_bytes(&bytes)), &whole);
        Ok(())
    });
}
