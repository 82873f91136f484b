//! Decoding bytes to typed events. The baseline is a simple loop that fills the same structs.

use std::convert::Infallible;
use std::hint::black_box;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::{Stream, stream};
use memchr::memchr;
use payman_sdk::{Result, decode};

use super::events::{event_of, many_lines_of, on_many_lines, on_one_line};
use super::row::{Measured, Row, time_alternately};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const LIMIT: usize = 16 * MIB;
/// The length of a stream in bytes; it has at least four events.
const STREAM: usize = 512 * KIB;
const LONG_STREAM: usize = 16 * MIB;

pub const EVENTS: [(&str, usize); 5] =
    [("150B", 150), ("2KiB", 2 * KIB), ("64KiB", 64 * KIB), ("1MiB", MIB), ("4MiB", 4 * MIB)];
/// The name and size of a chunk, and the goal of its rows.
pub const CHUNKS: [(&str, usize, f64); 4] =
    [("64B", 64, 1.5), ("1KiB", KIB, 1.25), ("16KiB", 16 * KIB, 1.15), ("64KiB", 64 * KIB, 1.15)];

pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (event_name, event) in EVENTS {
        for (chunk_name, chunk, goal) in CHUNKS {
            let name = format!("decode/{event_name}/{chunk_name}");
            rows.push(Row::new(name, goal, move || {
                let stream = Input::new(&on_one_line(&event_of(event)), STREAM, chunk);
                Measured {
                    pairs: time_alternately(|| stream.decode(), || stream.decode_simply()),
                    bytes: Some(stream.bytes),
                }
            }));
        }
    }
    let event_id = |data: &str| format!("event: message\nid: 7\ndata: {data}\n\n");
    let crlf = |data: &str| format!("data: {data}\r\n\r\n");
    rows.push(Row::new("decode-event-id/2KiB", 2.0, move || variant(&event_of(2 * KIB), event_id)));
    rows.push(Row::new("decode-crlf/2KiB", 2.0, move || variant(&event_of(2 * KIB), crlf)));
    rows.push(Row::new("decode-many-lines/1MiB", 2.0, || {
        variant(&many_lines_of(MIB), on_many_lines)
    }));
    // These go through `eventsource-stream`, for which there is no goal.
    let mixed = |data: &str| format!("event: message\nid: 7\n{}", on_many_lines(data));
    rows.push(Row::without_goal("decode-many-lines-event-id/1MiB", move || {
        variant(&many_lines_of(MIB), mixed)
    }));
    rows.push(Row::new("growth/decode", 1.3, || growth(event_of, on_one_line, Input::decode)));
    rows.push(Row::new("growth-beside-baseline/decode", 1.3, growth_beside_baseline));
    // Without JSON, since the cost of a large tree of values does not depend on its framing.
    rows.push(Row::new("growth/event-data-many-lines", 1.3, || {
        growth(many_lines_of, on_many_lines, Input::split_events)
    }));
    rows.push(Row::new("growth/event-data-many-lines-event-id", 1.3, move || {
        growth(many_lines_of, mixed, Input::split_events)
    }));
    rows
}

/// Compares another form of the same events with the simplest, both decoded by this crate.
fn variant(data: &str, form: impl Fn(&str) -> String) -> Measured {
    let other_form = Input::new(&form(data), STREAM, 16 * KIB);
    let simple = Input::new(&on_one_line(data), STREAM, 16 * KIB);
    Measured {
        pairs: time_alternately(|| other_form.decode(), || simple.decode()),
        bytes: Some(simple.bytes),
    }
}

/// Compares the cost per byte of large events with that of small ones.
fn growth(data: fn(usize) -> String, form: impl Fn(&str) -> String, run: fn(&Input)) -> Measured {
    let (large, small) = large_and_small(data, form);
    let pairs = time_alternately(|| run(&large), || run(&small));
    let per_byte = |(ours, baseline): (f64, f64)| (ours / large.bytes, baseline / small.bytes);
    Measured { pairs: pairs.into_iter().map(per_byte).collect(), bytes: Some(1.0) }
}

/// Compares the growth of the cost per byte with that of the simple loop: large events do not fit
/// into the caches that small ones fit into, so that even a copy costs more per byte.
fn growth_beside_baseline() -> Measured {
    let (large, small) = large_and_small(event_of, on_one_line);
    let of = |input: &Input| time_alternately(|| input.decode(), || input.decode_simply());
    let longer = large.bytes / small.bytes;
    let growth = |(large, small): ((f64, f64), (f64, f64))| {
        (large.0 / small.0 / longer, large.1 / small.1 / longer)
    };
    Measured { pairs: of(&large).into_iter().zip(of(&small)).map(growth).collect(), bytes: None }
}

fn large_and_small(data: fn(usize) -> String, form: impl Fn(&str) -> String) -> (Input, Input) {
    let of = |size: usize| Input::new(&form(&data(size)), LONG_STREAM, 16 * KIB);
    (of(4 * MIB), of(64 * KIB))
}

/// A stream of several events, in separately allocated chunks.
pub struct Input {
    chunks: Rc<[Bytes]>,
    events: usize,
    pub bytes: f64,
}

impl Input {
    pub fn new(event: &str, length: usize, chunk: usize) -> Self {
        let events = (length / event.len()).max(4);
        let bytes = event.repeat(events).into_bytes();
        let chunks = bytes.chunks(chunk).map(Bytes::copy_from_slice).collect();
        Self { chunks, events, bytes: bytes.len() as f64 }
    }

    /// Returns owned chunks, as a connection would.
    fn chunks(&self) -> impl Iterator<Item = Bytes> {
        self.chunks.iter().cloned()
    }

    /// Decodes with this crate.
    pub fn decode(&self) {
        self.drain(decode::events(stream::iter(self.chunks().map(Ok::<_, Infallible>)), LIMIT));
    }

    /// Splits into the data of events, without decoding it.
    pub fn split_events(&self) {
        self.drain(decode::event_data(stream::iter(self.chunks().map(Ok::<_, Infallible>)), LIMIT));
    }

    fn drain<T>(&self, mut events: impl Stream<Item = Result<T>> + Unpin) {
        let mut context = Context::from_waker(Waker::noop());
        let mut seen = 0;
        while let Poll::Ready(Some(event)) = Pin::new(&mut events).poll_next(&mut context) {
            black_box(&event.expect("a valid event"));
            seen += 1;
        }
        assert_eq!(seen, self.events);
    }

    /// Decodes with a loop that searches line ends.
    pub fn decode_simply(&self) {
        let mut buffer: Vec<u8> = Vec::new();
        let mut searched = 0;
        let mut seen = 0;
        for chunk in self.chunks() {
            buffer.extend_from_slice(&chunk);
            let mut line = 0;
            while let Some(found) = memchr(b'\n', &buffer[searched..]) {
                let end = searched + found;
                if let Some(data) = buffer[line..end].strip_prefix(b"data: ") {
                    black_box(&decode::event(data).expect("a valid event"));
                    seen += 1;
                }
                line = end + 1;
                searched = line;
            }
            buffer.drain(..line);
            searched = buffer.len();
        }
        assert_eq!(seen, self.events);
    }
}
