//! Assembles events with several `data` lines after other fields by `eventsource-stream`, fed whole
//! lines.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use eventsource_stream::EventStream;
use futures::{Stream, StreamExt};

use super::EventError;

/// One event that is being assembled.
pub(super) struct Assembly {
    events: EventStream<Lines>,
    lines: Lines,
    /// Lines that were not fed yet. Feeding several at a time is cheaper.
    waiting: Vec<u8>,
    /// Set by the first lines that are not UTF-8, which the library never sees.
    spoiled: bool,
}

/// The number of bytes to feed at once. Small, since the library moves its whole buffer for each
/// line.
const FED_AT_ONCE: usize = 512;

impl Assembly {
    pub(super) fn new() -> Self {
        let lines = Lines::default();
        // The library panics on a byte-order mark in the first bytes, so a comment comes first.
        Self {
            events: EventStream::new(lines.clone()),
            lines,
            waiting: b":\n".to_vec(),
            spoiled: false,
        }
    }

    /// Adds a line, without its end.
    pub(super) fn add(&mut self, line: &[u8]) {
        self.waiting.extend_from_slice(line);
        // Lines end in LF here, since after a CR the library waits for a possible LF.
        self.waiting.push(b'\n');
        if self.waiting.len() >= FED_AT_ONCE {
            self.feed();
        }
    }

    /// Ends the event, and returns its data if it has any.
    pub(super) fn finish(mut self) -> Result<Option<Bytes>, EventError> {
        self.waiting.push(b'\n');
        let data = self.feed();
        if self.spoiled { Err(EventError::Utf8) } else { Ok(data.map(Bytes::from)) }
    }

    fn feed(&mut self) -> Option<String> {
        self.spoiled = self.spoiled || std::str::from_utf8(&self.waiting).is_err();
        if self.spoiled {
            self.waiting.clear();
            return None;
        }
        self.lines.swap(&mut self.waiting);
        // These are whole lines of valid text, so the library cannot fail.
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

/// The source of the library's lines. It is shared with the assembly, because the library owns its
/// source.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn swap(&self, lines: &mut Vec<u8>) {
        std::mem::swap(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), lines);
    }
}

impl Stream for Lines {
    type Item = Result<Vec<u8>, Infallible>;

    /// Returns pending without registering a waker: the assembly polls after it has added lines.
    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let lines = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if lines.is_empty() { Poll::Pending } else { Poll::Ready(Some(Ok(lines))) }
    }
}
