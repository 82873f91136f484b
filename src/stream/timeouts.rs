//! The time limits of a stream's body: idle and deadline.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::time::instant_after;

/// Waits for the idle limit or the deadline while the reader waits for bytes.
///
/// The timer is created when it is first needed, and lives on the runtime that polls the stream.
#[derive(Debug, Default)]
pub(super) struct StreamTimeouts {
    timer: Option<Pin<Box<Sleep>>>,
    idle_restarted: bool,
}

/// Which limit passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeoutKind {
    Idle,
    Deadline,
}

impl StreamTimeouts {
    /// Restarts the idle limit: bytes arrived, or the reader was away.
    pub(super) fn restart_idle(&mut self) {
        self.idle_restarted = true;
    }

    /// Polls the limits. To be called while there is nothing to read.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        idle: Duration,
        deadline: Option<Instant>,
    ) -> Poll<TimeoutKind> {
        let restarted = std::mem::take(&mut self.idle_restarted);
        let until = || {
            let idle_until = instant_after(idle);
            deadline.map_or(idle_until, |deadline| deadline.min(idle_until))
        };
        let timer = match &mut self.timer {
            Some(timer) => {
                if restarted {
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
