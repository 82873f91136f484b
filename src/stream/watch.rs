//! A body that is given up when it is silent for too long.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::error::Source;

/// The bytes of a stream, pings and all, within its limits of time.
pub(super) struct Watched {
    body: BoxStream<'static, reqwest::Result<Bytes>>,
    idle: Duration,
    /// Since when the reader waits for the server: a reader that takes its time is no silence.
    waiting_since: Option<Instant>,
    deadline: Instant,
    /// Set when the body is waited for, and moved on only when it rings: a chunk costs no timer.
    alarm: Option<Pin<Box<Sleep>>>,
}

/// Why there are no more bytes.
#[derive(Debug)]
pub(super) enum Cut {
    Idle,
    Deadline,
    Broken(Source),
}

impl Watched {
    pub(super) fn new(body: BoxStream<'static, reqwest::Result<Bytes>>, idle: Duration, deadline: Instant) -> Self {
        Self { body, idle, waiting_since: None, deadline, alarm: None }
    }

    /// The reader is back: only from here on is the server's silence one.
    pub(super) fn wait_anew(&mut self) {
        self.waiting_since = None;
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<Cut> {
        let silent_until = *self.waiting_since.get_or_insert_with(Instant::now) + self.idle.min(FAR);
        loop {
            let until = silent_until.min(self.deadline);
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(until)));
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            if now >= self.deadline {
                return Poll::Ready(Cut::Deadline);
            }
            if now >= silent_until {
                return Poll::Ready(Cut::Idle);
            }
            alarm.as_mut().reset(until);
        }
    }
}

/// Added to any point in time without overflow.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

impl Stream for Watched {
    type Item = Result<Bytes, Cut>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.body.poll_next_unpin(cx) {
            Poll::Ready(Some(Ok(chunk))) => {
                self.waiting_since = None;
                // A server that never pauses for breath has to be stopped here.
                let is_late = Instant::now() >= self.deadline;
                Poll::Ready(Some(if is_late { Err(Cut::Deadline) } else { Ok(chunk) }))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(Cut::Broken(error.without_url().into())))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => self.poll_alarm(cx).map(|cut| Some(Err(cut))),
        }
    }
}
