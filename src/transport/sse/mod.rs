//! Parses server-sent events: from bytes to the data of whole events, bounded in size and in linear
//! time.
//!
//! | an event with | path |
//! |---|---|
//! | one `data` line, in a chunk of its own | handed out as a slice of the chunk |
//! | one `data` line, with other fields and comments around it | handed out as a slice of the buffer |
//! | several `data` lines, and no other field before the second | its lines are joined |
//! | several `data` lines after other fields | assembled by `eventsource-stream` |
//! | no `data` line, empty data, `{}`, or the name of a ping | skipped |
//!
//! `eventsource-stream` is fed whole lines that were validated and counted before. So it is linear,
//! and never sees invalid UTF-8 or a byte-order mark. It reads one character at a time, at a fifth
//! of the speed of the other paths, so the common shapes do not go through it. A property test
//! checks that all paths agree.

mod library;
mod parser;

use std::ops::Deref;
use std::pin::Pin;
use std::str::Utf8Error;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Stream, TryStream, TryStreamExt};

use parser::{LineBuffer, is_keep_alive, whole_event};

/// Ready chunks are collected up to this many bytes and then searched together, which halves the
/// cost of tiny chunks. A complete event never waits for more.
const BATCH_BYTES: usize = 4 * 1024;

/// A poll returns after this many batches, so that a source which sends comments without end cannot
/// keep its caller from checking the time.
const MAX_BATCHES_PER_POLL: usize = 1 << 14;

/// The data of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SseEvent(Bytes);

impl SseEvent {
    /// Returns the data as text, which is validated here.
    pub(crate) fn text(&self) -> Result<&str, Utf8Error> {
        std::str::from_utf8(&self.0)
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl Deref for SseEvent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// The reason that parsing ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SseError<E> {
    /// The source failed.
    #[error("the source of the events failed")]
    Source(E),
    /// An event has bytes that are not UTF-8.
    #[error("an event is not valid UTF-8")]
    Utf8,
    /// An event is larger than the limit.
    #[error("an event is over the limit of {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
}

/// Parses a stream of bytes into events. It ends after an error.
#[derive(Debug)]
pub(crate) struct SseParser<S: TryStream> {
    /// `None` after the end.
    source: Option<S>,
    /// `None` between events while the source is pending, so that a silent stream is small.
    reading: Option<Box<Reading<S::Error>>>,
    /// The size limit of an event. A limit over 4 GiB counts as 4 GiB.
    limit: u32,
    begun: bool,
    received: bool,
}

#[derive(Debug)]
struct Reading<E> {
    parser: LineBuffer,
    /// The source's error, held back until the events before it have been yielded.
    failure: Option<E>,
}

impl<S> SseParser<S>
where
    S: TryStream<Ok = Bytes> + Unpin,
{
    /// Creates a parser. The lines of an event, without comments, may have `max_event_bytes`
    /// together.
    pub(crate) fn new(source: S, max_event_bytes: usize) -> Self {
        Self {
            source: Some(source),
            reading: None,
            limit: u32::try_from(max_event_bytes).unwrap_or(u32::MAX),
            begun: false,
            received: false,
        }
    }

    /// Creates a parser that assembles every event by `eventsource-stream`, to compare with in
    /// tests.
    pub(crate) fn by_library(source: S, max_event_bytes: usize) -> Self {
        let reading = Reading { parser: LineBuffer::by_library(max_event_bytes), failure: None };
        Self { reading: Some(Box::new(reading)), ..Self::new(source, max_event_bytes) }
    }

    /// Returns true where bytes arrived since the last call, comments included.
    pub(crate) fn has_received(&mut self) -> bool {
        std::mem::take(&mut self.received)
    }

    /// Takes the chunks that are ready.
    fn take_chunks(&mut self, source: &mut S, cx: &mut Context<'_>) -> Chunks {
        match &mut self.reading {
            Some(reading) => reading.take_chunks(source, cx, &mut self.received),
            None => self.begin(source, cx),
        }
    }

    /// Takes the first chunk after a pause. It is usually one event.
    fn begin(&mut self, source: &mut S, cx: &mut Context<'_>) -> Chunks {
        let (chunk, failure) = match source.try_poll_next_unpin(cx) {
            Poll::Pending => return Chunks::Drained,
            Poll::Ready(None) => return Chunks::Ended,
            Poll::Ready(Some(Ok(chunk))) => (chunk, None),
            Poll::Ready(Some(Err(error))) => (Bytes::new(), Some(error)),
        };
        self.received |= failure.is_none();
        let begun = std::mem::replace(&mut self.begun, true);
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let chunk = match whole_event(chunk, limit) {
            Ok(data) => return Chunks::Event(SseEvent(data)),
            Err(chunk) => chunk,
        };
        let mut parser =
            if begun { LineBuffer::between_events(limit) } else { LineBuffer::new(limit) };
        parser.push(&chunk);
        let taken = if failure.is_some() { Chunks::Ended } else { Chunks::More };
        self.reading = Some(Box::new(Reading { parser, failure }));
        taken
    }

    fn rest(&mut self) {
        match &mut self.reading {
            Some(reading) if reading.parser.is_between_events() => self.reading = None,
            Some(reading) => reading.parser.rest(),
            None => {}
        }
    }

    /// Ends the stream. An event without a blank line after it is dropped.
    fn close(&mut self) -> Option<SseError<S::Error>> {
        self.source = None;
        self.reading.take()?.failure.map(SseError::Source)
    }
}

impl<E> Reading<E> {
    fn take_chunks<S>(
        &mut self,
        source: &mut S,
        cx: &mut Context<'_>,
        received: &mut bool,
    ) -> Chunks
    where
        S: TryStream<Ok = Bytes, Error = E> + Unpin,
    {
        let mut taken = 0;
        while taken < BATCH_BYTES && !self.parser.is_full() {
            match source.try_poll_next_unpin(cx) {
                Poll::Pending => return Chunks::Drained,
                Poll::Ready(Some(Ok(chunk))) => {
                    *received = true;
                    taken += chunk.len();
                    self.parser.push(&chunk);
                    // An event is complete and must not wait for more chunks.
                    if chunk.ends_with(b"\n\n") {
                        return Chunks::More;
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    self.failure = Some(error);
                    return Chunks::Ended;
                }
                Poll::Ready(None) => return Chunks::Ended,
            }
        }
        Chunks::More
    }
}

/// The result of taking chunks.
enum Chunks {
    /// Exactly one event.
    Event(SseEvent),
    /// Some chunks, and more may be ready.
    More,
    /// All chunks that are ready.
    Drained,
    /// The source has ended.
    Ended,
}

impl<S> Stream for SseParser<S>
where
    S: TryStream<Ok = Bytes> + Unpin,
    S::Error: Unpin,
{
    type Item = Result<SseEvent, SseError<S::Error>>;

    /// Implemented by hand, since a generator is measurably slower with tiny chunks.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let mut dry = false;
        for _ in 0..MAX_BATCHES_PER_POLL {
            match this.reading.as_mut().and_then(|reading| reading.parser.next_event()) {
                Some(Ok(data)) => return Poll::Ready(Some(Ok(SseEvent(data)))),
                Some(Err(error)) => {
                    this.close();
                    return Poll::Ready(Some(Err(error.into())));
                }
                None if dry => {
                    this.rest();
                    return Poll::Pending;
                }
                None => {}
            }
            let Some(mut source) = this.source.take() else {
                return Poll::Ready(this.close().map(Err));
            };
            let taken = this.take_chunks(&mut source, cx);
            if matches!(taken, Chunks::Ended) {
                continue;
            }
            this.source = Some(source);
            match taken {
                Chunks::Event(data) if !is_keep_alive(&data) => return Poll::Ready(Some(Ok(data))),
                taken => dry = matches!(taken, Chunks::Drained),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The reason that an event was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EventError {
    Utf8,
    TooLarge { limit: usize },
}

impl<E> From<EventError> for SseError<E> {
    fn from(error: EventError) -> Self {
        match error {
            EventError::Utf8 => Self::Utf8,
            EventError::TooLarge { limit } => Self::TooLarge { limit },
        }
    }
}
