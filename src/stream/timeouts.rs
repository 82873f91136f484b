//! The time limits of a stream's body: idle and deadline.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::time::instant_after;

/// Waits for the idle limit or the deadline while the reader waits for bytes.
///
/// The timer is created when it is first needed, on the runtime that polls the stream.
#[derive(Debug, Default)]
pub(super) struct StreamTimeouts {
    timer: Option<Pin<Box<Sleep>>>,
    idle: IdleClock,
    reader: Reader,
    /// Bytes of events that were taken after the deadline.
    late_bytes: u32,
}

/// The limit that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeoutKind {
    Idle,
    Deadline,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum IdleClock {
    #[default]
    Running,
    Restarted,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reader {
    #[default]
    Away,
    Waiting,
}

/// The number of bytes that a slow reader may still read after the deadline: about the size of the
/// buffers between the server and the reader. It stops a server that never pauses.
const MAX_LATE_BYTES: u32 = 8 * 1024 * 1024;

impl StreamTimeouts {
    /// Records that the reader polls. The time since its last poll does not count as silence.
    pub(super) fn reader_waits(&mut self) {
        if std::mem::replace(&mut self.reader, Reader::Waiting) == Reader::Away {
            self.restart_idle();
        }
    }

    /// Records that an event was yielded to the reader.
    pub(super) fn reader_leaves(&mut self) {
        self.reader = Reader::Away;
    }

    /// Restarts the idle limit.
    pub(super) fn restart_idle(&mut self) {
        self.idle = IdleClock::Restarted;
    }

    /// Returns true where an event that has arrived may be yielded: always before the deadline, and
    /// after it as long as the event may have arrived before.
    pub(super) fn admits(&mut self, bytes: usize, deadline: Option<Instant>) -> bool {
        if !is_past(deadline) {
            return true;
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.late_bytes = self.late_bytes.saturating_add(bytes.max(1024));
        self.late_bytes <= MAX_LATE_BYTES
    }

    /// Polls the limits. Call this while there is nothing to read.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        idle: Duration,
        deadline: Option<Instant>,
    ) -> Poll<TimeoutKind> {
        let idle_clock = std::mem::take(&mut self.idle);
        let until = || {
            let idle_until = instant_after(idle);
            deadline.map_or(idle_until, |deadline| deadline.min(idle_until))
        };
        let timer = match &mut self.timer {
            Some(timer) => {
                if idle_clock == IdleClock::Restarted {
                    timer.as_mut().reset(until());
                }
                timer
            }
            none => none.insert(Box::pin(sleep_until(until()))),
        };
        ready!(timer.as_mut().poll(cx));
        self.timer = None;
        Poll::Ready(if is_past(deadline) { TimeoutKind::Deadline } else { TimeoutKind::Idle })
    }
}

pub(super) fn is_past(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}
