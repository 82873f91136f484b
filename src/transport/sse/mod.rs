//! Server-sent events: bytes in, the data of whole events out. Bounded, linear, nothing copied that is handed on.
//!
//! | an event with | goes |
//! |---|---|
//! | one `data` line, and a chunk to itself | straight on, as a slice of the chunk |
//! | one `data` line, whatever other fields and comments stand around it | straight on, as a slice of the one buffer |
//! | several `data` lines, and no other field before the second | on, its lines joined |
//! | several `data` lines after other fields | in whole lines through `eventsource-stream`, which puts the data together |
//! | no `data` line, empty data, or the empty object | nowhere |
//!
//! Fed in whole lines, each checked and counted before, `eventsource-stream` is linear too, meets no invalid
//! UTF-8 and no byte-order mark, and knows at once that a line which ends in a bare CR is whole. It reads a
//! character at a time, at a fifth of the speed of the rest: that is why the two common shapes go before it. That all
//! ways agree is a property that the tests hold.

mod library;
mod parser;

use std::ops::Deref;
use std::pin::Pin;
use std::str::Utf8Error;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Stream, TryStream, TryStreamExt};

use parser::{LineBuffer, is_void, whole_event};

/// Chunks that are ready are taken until this many bytes wait, and then searched together: tiny chunks
/// cost half as much. What is whole never waits for more.
const GATHER: usize = 4 * 1024;

/// After so many, larger together than any event, whoever polls has a say: a source that never pauses may send comments
/// for ever.
const GATHERS_A_POLL: usize = 1 << 14;

/// The data of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Data(Bytes);

impl Data {
    /// The data as text. It is checked here and nowhere else: once.
    pub(crate) fn text(&self) -> Result<&str, Utf8Error> {
        std::str::from_utf8(&self.0)
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl Deref for Data {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Why no more events come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SseError<E> {
    /// The source failed.
    #[error("the source of the events failed")]
    Source(E),
    /// An event holds bytes that are no UTF-8.
    #[error("an event is not valid UTF-8")]
    Utf8,
    /// An event is over the limit.
    #[error("an event is over the limit of {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
}

/// The data of each event of a stream of bytes. After an error, nothing more comes.
#[derive(Debug)]
pub(crate) struct SseParser<S: TryStream> {
    /// None once it has ended.
    source: Option<S>,
    /// None before and between events, while the source has nothing: ten thousand streams may be silent.
    reading: Option<Box<Reading<S::Error>>>,
    limit: usize,
    begun: bool,
    heard: bool,
}

#[derive(Debug)]
struct Reading<E> {
    parser: LineBuffer,
    /// The source's error, held back until the events before it are out.
    failure: Option<E>,
}

impl<S> SseParser<S>
where
    S: TryStream<Ok = Bytes> + Unpin,
{
    /// An event's lines, without comments, may have `max_event_bytes` together.
    pub(crate) fn new(source: S, max_event_bytes: usize) -> Self {
        Self {
            source: Some(source),
            reading: None,
            limit: max_event_bytes,
            begun: false,
            heard: false,
        }
    }

    /// The same with every event put together by `eventsource-stream`: what tests hold the plain way against.
    pub(crate) fn by_library(source: S, max_event_bytes: usize) -> Self {
        let reading = Reading { parser: LineBuffer::by_library(max_event_bytes), failure: None };
        Self { reading: Some(Box::new(reading)), ..Self::new(source, max_event_bytes) }
    }

    /// True where bytes came since it was last asked, whatever they said.
    pub(crate) fn has_heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    /// Takes what the source has ready.
    fn gather(&mut self, source: &mut S, cx: &mut Context<'_>) -> Gathered {
        match &mut self.reading {
            Some(reading) => reading.gather(source, cx, &mut self.heard),
            None => self.begin(source, cx),
        }
    }

    /// Takes the first chunk after a rest. The usual one is an event, of a server that writes event by event.
    fn begin(&mut self, source: &mut S, cx: &mut Context<'_>) -> Gathered {
        let (chunk, failure) = match source.try_poll_next_unpin(cx) {
            Poll::Pending => return Gathered::All,
            Poll::Ready(None) => return Gathered::End,
            Poll::Ready(Some(Ok(chunk))) => (chunk, None),
            Poll::Ready(Some(Err(error))) => (Bytes::new(), Some(error)),
        };
        self.heard |= failure.is_none();
        let begun = std::mem::replace(&mut self.begun, true);
        let chunk = match whole_event(chunk, self.limit) {
            Ok(data) => return Gathered::Event(Data(data)),
            Err(chunk) => chunk,
        };
        let mut parser = if begun {
            LineBuffer::between_events(self.limit)
        } else {
            LineBuffer::new(self.limit)
        };
        parser.push(&chunk);
        let gathered = if failure.is_some() { Gathered::End } else { Gathered::Some };
        self.reading = Some(Box::new(Reading { parser, failure }));
        gathered
    }

    fn rest(&mut self) {
        match &mut self.reading {
            Some(reading) if reading.parser.is_between_events() => self.reading = None,
            Some(reading) => reading.parser.rest(),
            None => {}
        }
    }

    /// The end: of the bytes, or by the source's error. An event without the blank line after it is none.
    fn close(&mut self) -> Option<SseError<S::Error>> {
        self.source = None;
        self.reading.take()?.failure.map(SseError::Source)
    }
}

impl<E> Reading<E> {
    fn gather<S>(&mut self, source: &mut S, cx: &mut Context<'_>, heard: &mut bool) -> Gathered
    where
        S: TryStream<Ok = Bytes, Error = E> + Unpin,
    {
        let mut gathered = 0;
        while gathered < GATHER && !self.parser.is_full() {
            match source.try_poll_next_unpin(cx) {
                Poll::Pending => return Gathered::All,
                Poll::Ready(Some(Ok(chunk))) => {
                    *heard = true;
                    gathered += chunk.len();
                    self.parser.push(&chunk);
                    // An event has just become whole: it does not wait for a look at what may follow.
                    if chunk.ends_with(b"\n\n") {
                        return Gathered::Some;
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    self.failure = Some(error);
                    return Gathered::End;
                }
                Poll::Ready(None) => return Gathered::End,
            }
        }
        Gathered::Some
    }
}

/// What of the source is taken.
enum Gathered {
    /// An event, and nothing but that.
    Event(Data),
    /// There may be more.
    Some,
    /// There is no more for now.
    All,
    /// There will be no more.
    End,
}

impl<S> Stream for SseParser<S>
where
    S: TryStream<Ok = Bytes> + Unpin,
    S::Error: Unpin,
{
    type Item = Result<Data, SseError<S::Error>>;

    /// By hand, not by a generator: with tiny chunks this is most of the work.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let mut dry = false;
        for _ in 0..GATHERS_A_POLL {
            match this.reading.as_mut().and_then(|reading| reading.parser.next_event()) {
                Some(Ok(data)) => return Poll::Ready(Some(Ok(Data(data)))),
                Some(Err(refusal)) => {
                    this.close();
                    return Poll::Ready(Some(Err(refusal.into())));
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
            let gathered = this.gather(&mut source, cx);
            if matches!(gathered, Gathered::End) {
                continue;
            }
            this.source = Some(source);
            match gathered {
                Gathered::Event(data) if !is_void(&data) => return Poll::Ready(Some(Ok(data))),
                gathered => dry = matches!(gathered, Gathered::All),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// What the parser does not let pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Utf8,
    TooLarge { limit: usize },
}

impl<E> From<Refusal> for SseError<E> {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Utf8 => Self::Utf8,
            Refusal::TooLarge { limit } => Self::TooLarge { limit },
        }
    }
}
