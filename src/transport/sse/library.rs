//! The way of events with several `data` lines: through `eventsource-stream`, line by line.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use eventsource_stream::EventStream;
use futures::{Stream, StreamExt};

use super::Refusal;

/// One event that is being put together.
pub(super) struct Assembly {
    events: EventStream<Lines>,
    lines: Lines,
    /// Set by the first line that is no UTF-8, which the library never sees.
    spoiled: bool,
}

impl Assembly {
    pub(super) fn new() -> Self {
        let lines = Lines::default();
        let mut assembly = Self { events: EventStream::new(lines.clone()), lines, spoiled: false };
        // The library takes a byte-order mark off the first thing that it is fed, and panics on it.
        assembly.feed(Bytes::from_static(b":\n"));
        assembly
    }

    /// Takes one or more whole lines, the last of them ended by LF.
    pub(super) fn add(&mut self, lines: Bytes) {
        self.spoiled = self.spoiled || std::str::from_utf8(&lines).is_err();
        if !self.spoiled {
            self.feed(lines);
        }
    }

    /// The blank line came: the event's data, where it has any.
    pub(super) fn finish(mut self) -> Result<Option<Bytes>, Refusal> {
        if self.spoiled {
            return Err(Refusal::Utf8);
        }
        Ok(self.feed(Bytes::from_static(b"\n")).map(Bytes::from))
    }

    fn feed(&mut self, lines: Bytes) -> Option<String> {
        self.lines.put(lines);
        // What is fed holds whole lines of valid text: the library has no error to give.
        match self.events.poll_next_unpin(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Ok(event))) => Some(event.data),
            _ => None,
        }
    }
}

impl fmt::Debug for Assembly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assembly").field("spoiled", &self.spoiled).finish_non_exhaustive()
    }
}

/// Where the library finds its next lines. It keeps its source to itself, so the two ends are shared.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Option<Bytes>>>);

impl Lines {
    fn put(&self, lines: Bytes) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(lines);
    }
}

impl Stream for Lines {
    type Item = Result<Bytes, Infallible>;

    /// Pending without a waker: who puts lines in polls next.
    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(lines) => Poll::Ready(Some(Ok(lines))),
            None => Poll::Pending,
        }
    }
}
