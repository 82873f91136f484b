//! Property tests of the parsing of server-sent events.

#![cfg(test)]

use std::convert::Infallible;

use bytes::Bytes;
use eventsource_stream::Eventsource;
use futures::{FutureExt, Stream, StreamExt, stream};
use payman_sdk::{Error, ErrorKind, decode};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use sse_stream::SseByteStream;

/// The data of the events, and the kind of the error that ended the stream.
type Decoded = (Vec<Bytes>, Option<ErrorKind>);

fn source(chunks: Vec<Bytes>) -> impl Stream<Item = Result<Bytes, Infallible>> + Unpin {
    stream::iter(chunks.into_iter().map(Ok))
}

fn collect(events: impl Stream<Item = Result<Bytes, Error>>) -> Decoded {
    let mut outcome = (Vec::new(), None);
    for item in events.collect::<Vec<_>>().now_or_never().expect("the source never waits") {
        assert_eq!(outcome.1, None, "an item follows an error");
        match item {
            Ok(data) => outcome.0.push(data),
            Err(error) => outcome.1 = Some(error.kind()),
        }
    }
    outcome
}

fn event_data(chunks: Vec<Bytes>, limit: usize) -> Decoded {
    collect(decode::event_data(source(chunks), limit))
}

fn event_data_by_library(chunks: Vec<Bytes>, limit: usize) -> Decoded {
    collect(decode::event_data_by_library(source(chunks), limit))
}

/// Splits bytes at the given places.
fn cut(bytes: &[u8], places: &[prop::sample::Index]) -> Vec<Bytes> {
    let mut places: Vec<usize> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
    places.sort_unstable();
    places.push(bytes.len());
    let mut from = 0;
    let cuts = places
        .into_iter()
        .map(|to| Bytes::copy_from_slice(&bytes[std::mem::replace(&mut from, to)..to]));
    cuts.collect()
}

/// Generates bytes: mostly pieces of event streams, sometimes arbitrary bytes.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        12 => prop::sample::select(vec![
            "\n", "\r", "\r\n", "\n\n", "\r\r", "\r\n\r\n", "data: ", "data:", "data", ":", ": ping", "event: a", "id: 1",
            "id", "retry: 1", "foo", "{}", "{", "}", " ", "x", "é", "\u{feff}", "\0", "data: {\"a\":1}\n\n",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..20)
}

/// Generates a valid event stream with arbitrary fields and line endings.
fn valid_stream() -> impl Strategy<Value = String> {
    let field = prop_oneof![
        Just(": comment".to_owned()),
        "event: [a-z]{0,5}",
        "id: [0-9]{0,5}",
        "retry: [0-9]{1,5}",
        "data: [a-z{}\" é👍:]{0,20}",
        "data:[a-z]{0,20}",
        Just("data".to_owned()),
    ];
    let end = prop::sample::select(vec!["\n", "\r\n", "\r"]);
    let event = (prop::collection::vec(field, 0..6), end).prop_map(|(fields, end)| {
        let lines: String = fields.into_iter().map(|field| field + end).collect();
        // The comment keeps a final CR from joining the LF of the next event into one line ending.
        format!("{lines}{end}:{end}")
    });
    (any::<bool>(), prop::collection::vec(event, 0..8)).prop_map(|(mark, events)| {
        format!("{}{}", if mark { "\u{feff}" } else { "" }, events.concat())
    })
}

/// Runs a property test and prints its seed.
///
/// `SSE_SEED=<hex> cargo test --test sse_any` repeats a run.
fn check<S: Strategy>(
    cases: u32,
    strategy: S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let seed = match std::env::var("SSE_SEED") {
        Ok(text) => u64::from_str_radix(&text, 16).expect("SSE_SEED is a hexadecimal number"),
        Err(_) => std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0),
    };
    println!("SSE_SEED={seed:x}, {cases} cases");
    let mut full = [0; 32];
    full[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &full);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, rng)
        .run(&strategy, test)
        .unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn chunking_does_not_change_the_result() {
    check(
        2000,
        (bytes(), cuts(), prop::sample::select(vec![0, 5, 20, 100, 1 << 20])),
        |(bytes, cuts, limit)| {
            let whole = event_data(vec![Bytes::from(bytes.clone())], limit);
            prop_assert_eq!(&event_data(cut(&bytes, &cuts), limit), &whole);
            Ok(())
        },
    );
}

#[test]
fn the_fast_path_agrees_with_the_library() {
    check(
        2000,
        (bytes(), cuts(), prop::sample::select(vec![5, 20, 100, 1 << 20])),
        |(bytes, cuts, limit)| {
            prop_assert_eq!(
                event_data_by_library(cut(&bytes, &cuts), limit),
                event_data(cut(&bytes, &cuts), limit)
            );
            Ok(())
        },
    );
}

/// Returns whether the data is not empty; this crate skips empty data.
fn has_content(data: &str) -> bool {
    let text: String = data.split_ascii_whitespace().collect();
    !text.is_empty() && text != "{}"
}

#[test]
fn independent_parsers_agree_on_valid_streams() {
    check(1000, (valid_stream(), cuts()), |(text, cuts)| {
        let (ours, end) = event_data(cut(text.as_bytes(), &cuts), 1 << 20);
        prop_assert_eq!(end, None);
        let ours: Vec<_> =
            ours.into_iter().map(|data| String::from_utf8(data.to_vec()).unwrap()).collect();

        let read = SseByteStream::new(source(cut(text.as_bytes(), &cuts)))
            .collect::<Vec<_>>()
            .now_or_never()
            .unwrap();
        let theirs = read
            .into_iter()
            .filter_map(|event| event.unwrap().data)
            .filter(|data| has_content(data));
        prop_assert_eq!(&ours, &theirs.collect::<Vec<_>>(), "sse-stream");

        // `eventsource-stream` panics on a byte-order mark, and does not end a line at a final CR.
        let bare = format!("{}\n", text.trim_start_matches('\u{feff}'));
        let read = source(vec![Bytes::from(bare)])
            .eventsource()
            .collect::<Vec<_>>()
            .now_or_never()
            .unwrap();
        let theirs =
            read.into_iter().map(|event| event.unwrap().data).filter(|data| has_content(data));
        prop_assert_eq!(&ours, &theirs.collect::<Vec<_>>(), "eventsource-stream");
        Ok(())
    });
}

/// Generates JSON objects of known field names with arbitrary values.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 8.0)),
        prop::sample::select(vec!["", "text", "COMPLETED", "true", "-32603", "é\n"])
            .prop_map(Value::from),
    ];
    let name = prop::sample::select(vec![
        "id",
        "result",
        "error",
        "status",
        "artifact",
        "artifacts",
        "history",
        "parts",
        "text",
        "state",
        "metadata",
        "data",
        "code",
        "message",
        "final",
        "isFinal",
        "type",
        "file",
        "index",
        "append",
        "lastChunk",
        "timestamp",
        "role",
        "new",
    ]);
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            4 => prop::collection::vec((name.clone(), inner), 0..6)
                .prop_map(|fields| {
                    let named = |(name, value): (&str, Value)| (name.to_owned(), value);
                    fields.into_iter().map(named).collect::<Value>()
                }),
        ]
    })
}

#[test]
fn any_json_is_parsed_as_event_and_reply_without_a_panic() {
    check(4000, json(), |value| {
        for text in
            [value.to_string(), json!({"jsonrpc": "2.0", "id": 1, "result": value}).to_string()]
        {
            let event = decode::event(text.as_bytes());
            if decode::response(text.as_bytes()).is_ok() {
                prop_assert!(event.is_ok(), "a reply that is not an event");
            }
            if let Ok(event) = event {
                let written = serde_json::to_string(&event).unwrap();
                if event.task_id().is_some() {
                    prop_assert_eq!(
                        decode::event(written.as_bytes()).unwrap(),
                        event,
                        "a round trip changes the event"
                    );
                }
            }
        }
        Ok(())
    });
}
