//! Tests the parsing of server-sent events, from bytes to typed events.

#![cfg(test)]

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt, stream};
use payman_sdk::{Error, ErrorKind, Event, TaskState, decode};
use serde_json::json;

const LIMIT: usize = 1 << 24;

fn chunks_of(bytes: &[u8], size: usize) -> Vec<Bytes> {
    bytes.chunks(size.max(1)).map(Bytes::copy_from_slice).collect()
}

fn source(chunks: Vec<Bytes>) -> impl Stream<Item = Result<Bytes, Infallible>> + Unpin {
    stream::iter(chunks.into_iter().map(Ok))
}

/// Returns a source of chunks that is pending before each of them.
fn with_pauses(chunks: Vec<Bytes>) -> impl Stream<Item = Result<Bytes, Infallible>> + Unpin {
    let mut chunks = chunks.into_iter();
    let mut pauses = false;
    stream::poll_fn(move |_| {
        pauses = !pauses;
        if pauses { Poll::Pending } else { Poll::Ready(chunks.next().map(Ok)) }
    })
}

/// Collects the data of each event, and the kind of the error that ended the stream.
fn collect_data(
    events: impl Stream<Item = Result<Bytes, Error>>,
) -> (Vec<String>, Option<ErrorKind>) {
    let mut collecting = events.collect::<Vec<_>>().boxed_local();
    let items =
        std::iter::repeat_with(|| (&mut collecting).now_or_never()).take(1 << 20).flatten().next();
    let items = items.expect("the source ends");
    let mut data = Vec::new();
    let mut end = None;
    for item in items {
        assert_eq!(end, None, "an item follows an error");
        match item {
            Ok(bytes) => data.push(String::from_utf8(bytes.to_vec()).expect("checked")),
            Err(error) => end = Some(error.kind()),
        }
    }
    (data, end)
}

fn event_data_in_chunks(
    bytes: &[u8],
    size: usize,
    limit: usize,
) -> (Vec<String>, Option<ErrorKind>) {
    collect_data(decode::event_data(source(chunks_of(bytes, size)), limit))
}

/// Returns the data of each event, and asserts that chunking and the fast path do not change it.
fn event_data(bytes: impl AsRef<[u8]>) -> (Vec<String>, Option<ErrorKind>) {
    let bytes = bytes.as_ref();
    let whole = event_data_in_chunks(bytes, usize::MAX, LIMIT);
    for size in [1, 2, 3, 5, 7, 64] {
        assert_eq!(event_data_in_chunks(bytes, size, LIMIT), whole, "in chunks of {size}");
        let paused = collect_data(decode::event_data(with_pauses(chunks_of(bytes, size)), LIMIT));
        assert_eq!(paused, whole, "with pauses between chunks of {size}");
        let by_library =
            collect_data(decode::event_data_by_library(source(chunks_of(bytes, size)), LIMIT));
        assert_eq!(by_library, whole, "by the library, in chunks of {size}");
    }
    whole
}

/// Yielding lets the caller check its time limits.
#[test]
fn endless_comments_yield_to_the_caller() {
    for chunk in [": ping\n", ": ping\n\n", ":", "data: {}\n\n", "id: 1\n\n"] {
        let comments =
            stream::repeat_with(move || Ok::<_, Infallible>(Bytes::from_static(chunk.as_bytes())));
        assert!(decode::event_data(comments, 64).next().now_or_never().is_none(), "{chunk:?}");
    }
}

/// A chunk that is exactly one event is yielded as a slice, but only between two events.
#[test]
fn the_fast_path_applies_only_between_two_events() {
    let event = "data: {\"a\":1}\n\n";
    let prefixes = [
        "",
        "\u{feff}",
        ": a comment",
        ": a comment\n",
        "data",
        "data:",
        "data: {\"b\":\n",
        "data: {}\r",
        "event: x\n",
        "id: 1\r\n",
        "\n",
        "\r",
        "data: {\"b\":2}\n\n",
        "data: {\"b\":2}\r\r",
        "retry",
        "data: 1\ndata: 2\n",
    ];
    let events = [
        event,
        "data:{}\n\n",
        "data:\n\n",
        "data: x\r\n\n",
        "data: x\n\r\n\n",
        "\n\n",
        "data: \u{e9}\n\n",
    ];
    for before in prefixes {
        for event in events {
            let chunks =
                [before, event, event].map(|chunk| Bytes::copy_from_slice(chunk.as_bytes()));
            let whole = event_data([before, event, event].concat());
            for parts in [
                chunks.to_vec(),
                chunks.iter().filter(|chunk| !chunk.is_empty()).cloned().collect(),
            ] {
                assert_eq!(
                    collect_data(decode::event_data(source(parts.clone()), LIMIT)),
                    whole,
                    "{before:?}, then {event:?}"
                );
                assert_eq!(
                    collect_data(decode::event_data(with_pauses(parts), LIMIT)),
                    whole,
                    "{before:?}, then {event:?}"
                );
            }
        }
    }
    let (data, end) =
        collect_data(decode::event_data(source(vec![Bytes::from("data: 1234\n\n")]), 9));
    assert_eq!((data.len(), end), (0, Some(ErrorKind::TooLarge)));
    assert_eq!(
        collect_data(decode::event_data(source(vec![Bytes::from("data: 1234\n\n")]), 10)).0,
        ["1234"]
    );
}

fn data(bytes: impl AsRef<[u8]>) -> Vec<String> {
    let (data, end) = event_data(bytes);
    assert_eq!(end, None);
    data
}

#[test]
fn all_line_endings_are_accepted_in_any_mix() {
    for end in ["\n", "\r", "\r\n"] {
        for other in ["\n", "\r", "\r\n"] {
            let text = format!(
                "data: 1{end}{end}data: 2{other}{other}data:3{end}id: 7{other}data: 4{end}{end}{end}data: 5{other}{other}"
            );
            assert_eq!(data(&text), ["1", "2", "3\n4", "5"], "{text:?}");
        }
    }
    assert_eq!(
        data("data: 1\r\n\ndata: 2\n\rdata: 3\r\n\rdata: 4\r\ndata: 5\r\r\n"),
        ["1", "2", "3", "4\n5"]
    );
}

#[test]
fn only_a_leading_byte_order_mark_is_removed() {
    assert_eq!(data("\u{feff}data: 1\n\n"), ["1"]);
    assert_eq!(data("\u{feff}data: 1\ndata: 2\n\n"), ["1\n2"]);
    assert_eq!(data("\u{feff}\u{feff}data: 1\n\ndata: 2\n\n"), ["2"]);
    assert_eq!(
        data("data: 1\n\n\u{feff}data: 2\ndata: 2\n\ndata: \u{feff}3\n\n"),
        ["1", "2", "\u{feff}3"]
    );
    assert_eq!(data(b"\xEF\xBB"), [""; 0]);
}

#[test]
fn other_fields_comments_and_pings_are_ignored() {
    let text = ": hello\n\nevent: ping\n\nevent: task\nid: 1\nretry: 10\ndata: 1\n\n:\n:\ndata: 2\n: between\nid: 2\n\n\
                data: 3\n: between\ndata: 4\nid\nfoo: bar\ndatabase: 5\ndata : 6\n\nid: \0\n\n";
    assert_eq!(data(text), ["1", "2", "3\n4"]);
}

#[test]
fn only_one_leading_space_is_removed() {
    assert_eq!(data("data:1\n\ndata: 2\n\ndata:  3\n\ndata:\t4\n\n"), ["1", "2", " 3", "\t4"]);
    assert_eq!(data("data:  a\ndata:b\ndata\ndata:\n\n"), [" a\nb\n\n"]);
}

#[test]
fn an_event_with_empty_data_is_skipped() {
    let nothing = "data:\n\ndata\n\ndata: \n\ndata:   \t\n\ndata\ndata\n\ndata: {}\n\ndata: { }\n\ndata: {\ndata:\ndata: }\n\n";
    assert_eq!(data(nothing), [""; 0]);
    assert_eq!(data("data: {} {}\n\ndata: {\"a\":1}\n\n"), ["{} {}", "{\"a\":1}"]);
}

#[test]
fn a_last_event_without_a_blank_line_is_discarded() {
    assert_eq!(data("data: 1\n\ndata: 2"), ["1"]);
    assert_eq!(data("data: 1\n\ndata: 2\n"), ["1"]);
    assert_eq!(data("data: 1\r\rdata: 2\r"), ["1"]);
    assert_eq!(data("data: 1\r\r"), ["1"]);
    assert_eq!(data("data: 1\rdata: 2\r\r"), ["1\n2"]);
    assert_eq!(data("data: 1\r\n\r"), ["1"]);
    assert_eq!(data(""), [""; 0]);
}

#[test]
fn a_character_split_over_chunks_is_decoded() {
    let text = "data: {\"a\":\"Grüße 👍 到\"}\n\ndata: é\ndata: 👍\n\n";
    assert_eq!(data(text), ["{\"a\":\"Grüße 👍 到\"}", "é\n👍"]);
}

#[test]
fn an_invalid_byte_is_an_error_after_the_events_before_it() {
    for bad in [&b"data: 3\xFF\n\n"[..], b"data: 3\ndata: \xC3\n\n", b"data: \xC3\ndata: 3\n\n"] {
        let bytes = [b"data: 1\n\ndata: 2\n\n".as_slice(), bad, b"data: 4\n\n"].concat();
        assert_eq!(event_data(bytes), (vec!["1".into(), "2".into()], Some(ErrorKind::Protocol)));
    }
    let elsewhere = b": \xFF\nid: \xFF\n\xFF: \xFF\ndata: 1\nevent: \xFF\n\nid: \xFF\ndata: 2\nid: \xFF\ndata: 3\n\n";
    assert_eq!(data(elsewhere), ["1", "2\n3"]);
    assert_eq!(data(b"data: 1\n\ndata: \xFF"), ["1"], "the event is incomplete");
}

#[test]
fn an_event_over_the_limit_is_an_error_after_the_events_before_it() {
    let fits = format!("data: {}\n\n", "x".repeat(94));
    let over = format!("data: {}\n\n", "x".repeat(95));
    let open = "id: ".to_owned() + &"x".repeat(97);
    let lines = format!("data: 1\n{}", "data: 2\n".repeat(12));
    let ids = "id: 12345\n".repeat(11);
    for size in [1, 3, 50, 1000] {
        assert_eq!(event_data_in_chunks(fits.as_bytes(), size, 100).1, None);
        for text in [&over, &open, &lines, &ids] {
            let text = format!("data: 0\n\n{text}");
            let refused = (vec!["0".to_owned()], Some(ErrorKind::TooLarge));
            assert_eq!(event_data_in_chunks(text.as_bytes(), size, 100), refused, "{text:?}");
        }
    }
    for limit in [0, 1, 2] {
        assert_eq!(
            event_data_in_chunks(b"\xEF\xBB\xBFdata: 1\n\n", 1, limit),
            (vec![], Some(ErrorKind::TooLarge))
        );
    }
}

#[test]
fn endless_comments_exceed_no_limit() {
    let line = format!(":{}\n", "x".repeat(10_000));
    let lines = ": ping\n".repeat(10_000);
    for text in [line, lines] {
        let text = format!("data: 1\n\ndata: 2\n{text}data: 3\n\n");
        assert_eq!(
            event_data_in_chunks(text.as_bytes(), 64, 100),
            (vec!["1".into(), "2\n3".into()], None)
        );
    }
}

/// A stream of chunks that counts how many were polled.
struct CountedChunks<I>(I, Arc<AtomicUsize>);

impl<I: Iterator<Item = Bytes> + Unpin> Stream for CountedChunks<I> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(self.0.next().map(Ok))
    }
}

#[test]
fn an_endless_event_is_an_error_soon_after_the_limit() {
    for line in ["x", "data: x", "data: x\n", "data\n", "id: 1\n", "event"] {
        let asked = Arc::new(AtomicUsize::new(0));
        let chunk = Bytes::from(line.repeat(1000 / line.len()));
        let endless = CountedChunks(std::iter::repeat(chunk), asked.clone());
        let (data, end) = collect_data(decode::event_data(endless, 100_000));
        assert_eq!((data, end), (vec![], Some(ErrorKind::TooLarge)), "{line:?}");
        let read = asked.load(Ordering::Relaxed);
        assert!((90..=106).contains(&read), "{line:?}: {read} chunks of about 1000 bytes");
    }
}

/// Returns a source that yields the text, and then stays pending.
fn pending_after(text: &str) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Unpin {
    stream::iter([Ok(Bytes::copy_from_slice(text.as_bytes()))]).chain(stream::pending())
}

#[test]
fn an_event_is_yielded_as_soon_as_it_is_complete() {
    for text in [
        "data: 1\n\n",
        "data: 1\r\r",
        "data: 1\r\n\r",
        "data: 1\n\r",
        "data: 1\ndata: 2\r\r",
        "data: 1\n\nda",
    ] {
        let mut events = decode::event_data(pending_after(text), LIMIT);
        assert!(
            events.next().now_or_never().flatten().is_some_and(|item| item.is_ok()),
            "{text:?}"
        );
        assert!(events.next().now_or_never().is_none(), "{text:?}: the source waits");
    }
    for text in ["data: 1\n", "data: 1\r\n", "data: 1\r", "\u{feff}"] {
        assert!(
            decode::event_data(pending_after(text), LIMIT).next().now_or_never().is_none(),
            "{text:?}"
        );
    }
}

#[test]
fn a_source_error_is_an_error_after_the_events_before_it() {
    let broken = stream::iter([
        Ok(Bytes::from_static(b"data: 1\n\nda")),
        Ok(Bytes::from_static(b"ta: 2\n\ndata: 3\n")),
        Err(std::io::Error::other("reset")),
        Ok(Bytes::from_static(b"\n")),
    ]);
    let (data, end) = collect_data(decode::event_data(broken, LIMIT));
    assert_eq!((data, end), (vec!["1".into(), "2".into()], Some(ErrorKind::Interrupted)));
}

#[test]
fn a_large_event_in_small_chunks_is_parsed() {
    let text = "Grüße ".repeat(600_000);
    let artifact = json!({"parts": [{"type": "text", "text": text}]});
    let event = json!({"jsonrpc": "2.0", "id": 1, "result": {"id": "t", "artifact": artifact}});
    let bytes = format!("data: {event}\n\ndata: {event}\n\n");
    assert!(bytes.len() > 8 << 20);
    let events = decode::events(source(chunks_of(bytes.as_bytes(), 1024)), LIMIT);
    let events: Vec<_> = events.map(Result::unwrap).collect().now_or_never().unwrap();
    assert_eq!(events.len(), 2);
    for event in events {
        let Event::Artifact(update) = event else { panic!("not an artifact") };
        assert!(update.text() == text);
    }
}

fn event(value: serde_json::Value) -> Event {
    decode::event(value.to_string().as_bytes()).unwrap()
}

fn error(text: &str) -> ErrorKind {
    decode::event(text.as_bytes()).expect_err(text).kind()
}

#[test]
fn events_are_classified_by_their_content() {
    let status = event(json!({"jsonrpc": "2.0", "id": "req-1", "result":
        {"id": "tsk-1", "status": {"state": "COMPLETED", "message": "done"}, "final": true}}));
    assert_eq!(status.task_id().map(|id| id.as_str()), Some("tsk-1"));
    assert_eq!(status.state(), Some(&TaskState::Completed));
    assert!(status.is_final());
    let artifact = event(
        json!({"id": "tsk-1", "artifact": {"parts": [{"text": "hi"}], "append": true, "index": 2}}),
    );
    let Event::Artifact(update) = &artifact else { panic!("not an artifact") };
    assert_eq!(
        (update.text().as_str(), update.artifact.index, update.artifact.append),
        ("hi", 2, true)
    );
    let task =
        event(json!({"result": {"id": "tsk-1", "status": {"state": "working"}, "history": []}}));
    assert!(matches!(&task, Event::Task(task) if task.state() == &TaskState::Working));
    for event in [status, artifact, task] {
        assert_eq!(
            self::event(serde_json::to_value(&event).unwrap()),
            event,
            "written and read back"
        );
    }
}

#[test]
fn a_result_of_unknown_shape_is_kept_unchanged() {
    let results = [
        json!("ok"),
        json!(1),
        json!(-1),
        json!(1.5),
        json!(true),
        json!([{"status": 1}]),
        json!({}),
        json!({"a": [1], "metadata": 3}),
    ];
    for result in results {
        let unknown = event(json!({"jsonrpc": "2.0", "id": 1, "result": result}));
        assert_eq!(unknown, Event::Unknown(result.clone()));
        assert_eq!(unknown.task_id(), None);
        assert_eq!(serde_json::to_value(&unknown).unwrap(), result);
    }
}

#[test]
fn an_incomplete_event_is_an_error() {
    for text in [
        r#"{"jsonrpc":"2.0","id":1}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":null}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":null,"error":null}"#,
        r#"{"foo":1}"#,
        r#"{"result":{"id":"t","artifact":{"parts":7}}}"#,
        r#"{"result":{"id":"t","artifact":"text"}}"#,
        r#"{"result":{"id":"t","status":5}}"#,
        r#"{"result":{"id":"t","artifacts":[{"parts":[]}]}}"#,
        r#"{"result":{"id":"t","artifact":{"parts":[]}"#,
        r#"{"result":1} {"result":2}"#,
        "[]",
        "7",
        "null",
        "hello",
        "",
    ] {
        assert_eq!(error(text), ErrorKind::Protocol, "{text}");
    }
    assert_eq!(decode::event(b"{\"result\":\"\xFF\"}").unwrap_err().kind(), ErrorKind::Protocol);
}

#[test]
fn an_error_event_is_an_error() {
    for text in [
        r#"{"error":{"code":-32603,"message":"boom"}}"#,
        r#"{"result":{"id":"t","status":{"state":"completed"}},"error":{"code":-32603}}"#,
        r#"{"error":{}}"#,
        r#"{"result":{},"error":"boom"}"#,
    ] {
        assert_eq!(error(text), ErrorKind::Rpc, "{text}");
    }
    let sloppy = event(json!({"result": {"id": "t", "status": {"state": "working"}}, "error": {}}));
    assert_eq!(sloppy.state(), Some(&TaskState::Working));
}

#[test]
fn errors_do_not_quote_the_input() {
    for text in
        [r#"{"result":{"status":"hush"}}"#, "hush", r#"{"result":{"artifact":{"parts":"hush"}}}"#]
    {
        let error = decode::event(text.as_bytes()).unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string);
        assert!(!format!("{error} {error:?} {source:?}").contains("hush"), "{error:?}");
        assert!(source.is_some());
    }
}
