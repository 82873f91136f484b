//! A body is given up when it is silent for too long, and when the deadline passes.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use crate::alarm::Alarm;
use crate::delivery::instant_after;

/// Watches the clock while the reader waits for bytes.
#[derive(Default)]
pub(super) struct Watch {
    alarm: Alarm,
}

/// Why the body is given up.
#[derive(Debug)]
pub(super) enum Late {
    Idle,
    Deadline,
}

impl Watch {
    /// The reader is back, or bytes came: only from here on is the server's silence one.
    pub(super) fn begin_anew(&mut self) {
        self.alarm.set_anew();
    }

    /// To be asked while there is nothing to read.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, idle: Duration, deadline: Option<Instant>) -> Poll<Late> {
        let until = || {
            let silent = instant_after(idle);
            match deadline {
                Some(deadline) if deadline < silent => (deadline, Duration::ZERO),
                _ => (silent, idle / SLACK),
            }
        };
        ready!(self.alarm.poll(cx, until));
        Poll::Ready(if is_past(deadline) { Late::Deadline } else { Late::Idle })
    }
}

/// A stream may be silent for this part of its limit longer, so that thousands wake up a few times and not thousands
/// of times.
const SLACK: u32 = 64;

pub(super) fn is_past(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}
