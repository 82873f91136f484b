//! Records how a streamed ask with a key ended, before its last event is handed out.

use std::task::{Context, Poll, ready};

use futures::FutureExt;
use futures::future::BoxFuture;

use super::sending::Sending;
use crate::error::{Error, Result};
use crate::wire::task::Task;

/// The record that a stream has to make in the journal.
pub(crate) enum StreamRecorder<T> {
    /// The answer has not ended.
    Open(Box<Sending>),
    /// The end is being recorded; `next` waits for it.
    Recording {
        write: BoxFuture<'static, ()>,
        next: Option<Result<T>>,
    },
    Recorded,
}

/// The end of the answer that the stream's next item shows.
pub(crate) enum StreamEnd {
    /// The answer continues, or its outcome is unknown.
    None,
    Task(Box<Task>),
    Failed(Error),
}

impl<T> StreamRecorder<T> {
    pub(crate) fn new(sending: Box<Sending>) -> Self {
        Self::Open(sending)
    }

    /// Polls for the item that waits for its end to be recorded; `None` if none waits.
    pub(crate) fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Option<Option<Result<T>>>> {
        let Self::Recording { write, next } = self else {
            return Poll::Ready(None);
        };
        ready!(write.poll_unpin(cx));
        let next = next.take();
        *self = Self::Recorded;
        Poll::Ready(Some(next))
    }

    /// Records an end, and returns `next` once that is done; at once if there is nothing to record.
    pub(crate) fn poll_record(
        &mut self,
        cx: &mut Context<'_>,
        end: StreamEnd,
        next: Option<Result<T>>,
    ) -> Poll<Option<Result<T>>> {
        if matches!(end, StreamEnd::None) {
            return Poll::Ready(next);
        }
        let Self::Open(sending) = std::mem::replace(self, Self::Recorded) else {
            return Poll::Ready(next);
        };
        let write = async move {
            match end {
                StreamEnd::None => {}
                StreamEnd::Task(task) => sending.settle_task(&task, None).await,
                StreamEnd::Failed(error) => sending.settle_error(&error).await,
            }
        };
        *self = Self::Recording { write: Box::pin(write), next };
        self.poll_waiting(cx).map(Option::flatten)
    }
}
