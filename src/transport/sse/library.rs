//! The way of events with several `data` lines after other fields: through `eventsource-stream`, in whole lines.

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
    /// Lines that the library has not seen yet: it takes several at a time with less ado.
    waiting: Vec<u8>,
    /// Set by the first lines that are no UTF-8, which the library never sees.
    spoiled: bool,
}

/// The library moves all that it was fed once for each line, so this has to stay small.
const FED_AT_ONCE: usize = 512;

impl Assembly {
    pub(super) fn new() -> Self {
        let lines = Lines::default();
        // The library takes a byte-order mark off the first thing that it is fed, and panics on it: a comment first.
        Self {
            events: EventStream::new(lines.clone()),
            lines,
            waiting: b":\n".to_vec(),
            spoiled: false,
        }
    }

    /// Takes a line, without its end.
    pub(super) fn add(&mut self, line: &[u8]) {
        self.waiting.extend_from_slice(line);
        // The library waits after a CR, to see whether an LF follows; after an LF it knows.
        self.waiting.push(b'\n');
        if self.waiting.len() >= FED_AT_ONCE {
            self.feed();
        }
    }

    /// The blank line came: the event's data, where it has any.
    pub(super) fn finish(mut self) -> Result<Option<Bytes>, Refusal> {
        self.waiting.push(b'\n');
        let data = self.feed();
        if self.spoiled { Err(Refusal::Utf8) } else { Ok(data.map(Bytes::from)) }
    }

    fn feed(&mut self) -> Option<String> {
        self.spoiled = self.spoiled || std::str::from_utf8(&self.waiting).is_err();
        if self.spoiled {
            self.waiting.clear();
            return None;
        }
        self.lines.swap(&mut self.waiting);
        // These are whole lines of valid text: the library has no error to give.
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
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn swap(&self, lines: &mut Vec<u8>) {
        std::mem::swap(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), lines);
    }
}

impl Stream for Lines {
    type Item = Result<Vec<u8>, Infallible>;

    /// Pending without a waker: who puts lines in polls next.
    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let lines = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if lines.is_empty() { Poll::Pending } else { Poll::Ready(Some(Ok(lines))) }
    }
}
