//! The streams that a client hands out: how they end, what they have accumulated, how they recover.

mod accumulator;
mod driver;
mod snapshots;
mod text;
mod timeouts;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::{Stream, StreamExt};

use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::event::Event;
use crate::ids::{RequestId, SessionId, TaskId};
use crate::reply::{RawReply, Reply};
use crate::wire::task::Task;
use accumulator::TaskAccumulator;
pub(crate) use driver::Driver;
pub use text::TextStream;

/// The answer to an ask, event by event, as it comes.
///
/// A [`Stream`] of [`Event`]s. It ends with `None` only after the server said that the answer is over; an answer that
/// was cut ends in an error, or is found again: after a cut the stream yields whole [`Event::Task`] snapshots
/// until the task has ended. Nothing is delivered twice.
///
/// Everything is pulled: a slow reader slows the server. Dropping the stream closes its connection at once and
/// **cancels nothing**: the agent goes on, and may pay. To stop it, use [`cancel`](Self::cancel).
#[must_use = "a stream does nothing unless it is read"]
pub struct AskStream {
    /// Boxed: a task that holds a stream, and whoever moves it, needs room for a pointer.
    driver: Box<Driver>,
}

impl AskStream {
    pub(crate) fn new(driver: Driver) -> Self {
        Self { driver: Box::new(driver) }
    }

    /// The task.
    #[must_use]
    pub fn task_id(&self) -> &TaskId {
        &self.driver.task_id
    }

    /// The session.
    #[must_use]
    pub fn session_id(&self) -> &SessionId {
        &self.driver.conversation.session
    }

    /// The JSON-RPC request.
    #[must_use]
    pub fn request_id(&self) -> RequestId {
        self.driver.request.id()
    }

    /// What has come so far, as a reply. Its state says how far it is.
    #[must_use]
    pub fn reply_so_far(&self) -> Reply {
        let task = self.driver.accumulated.to_task(self.driver.task_id.clone());
        Reply::new(task, self.driver.request, self.session_id())
    }

    /// Reads the stream to its end: the same reply that [`Client::ask`](crate::Client::ask) gives.
    ///
    /// # Errors
    ///
    /// As the stream itself; an answer that was cut is never a reply.
    pub async fn into_reply(mut self) -> Result<Reply> {
        while let Some(event) = self.next().await {
            event?;
        }
        self.driver.into_reply()
    }

    /// Only the words, as they come: put together they are the reply's [`text`](Reply::text).
    ///
    /// Words of a second artifact wait until the first is complete. Where a task has no artifact, its
    /// status message comes at the end.
    pub fn text(self) -> TextStream {
        TextStream::new(self)
    }

    /// Cancels the task at the server; the stream may be read on, and shows what becomes of it.
    ///
    /// # Errors
    ///
    /// As [`Client::cancel_task`](crate::Client::cancel_task).
    pub fn cancel(&self) -> impl Future<Output = Result<Task>> + Send + 'static + use<> {
        let platform = Arc::clone(&self.driver.conversation.platform);
        let task_id = self.driver.task_id.clone();
        async move { platform.cancel(&task_id).await.map(|found| found.task) }
    }

    fn accumulated(&self) -> &TaskAccumulator {
        &self.driver.accumulated
    }
}

impl Stream for AskStream {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let delivery = ready!(self.driver.poll_delivery(cx));
        Poll::Ready(delivery.map(|delivery| delivery.map(|delivery| delivery.event)))
    }
}

impl fmt::Debug for AskStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.driver.fmt_as("AskStream", f)
    }
}

/// The answer to an ask as raw JSON-RPC responses, exactly as the server wrote them.
///
/// Ends as [`AskStream`] does; after a cut it yields the responses to the looks at the task.
#[must_use = "a stream does nothing unless it is read"]
pub struct RawStream {
    driver: Box<Driver>,
}

impl RawStream {
    pub(crate) fn new(driver: Driver) -> Self {
        Self { driver: Box::new(driver) }
    }

    /// The task.
    #[must_use]
    pub fn task_id(&self) -> &TaskId {
        &self.driver.task_id
    }

    /// The session.
    #[must_use]
    pub fn session_id(&self) -> &SessionId {
        &self.driver.conversation.session
    }

    /// The JSON-RPC request.
    #[must_use]
    pub fn request_id(&self) -> RequestId {
        self.driver.request.id()
    }
}

impl Stream for RawStream {
    type Item = Result<RawReply>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let delivery = ready!(self.driver.poll_delivery(cx));
        Poll::Ready(delivery.map(|delivery| {
            let raw = RawReply::read(&delivery?.raw);
            raw.ok_or_else(|| {
                Error::new(ErrorKind::Protocol, Outcome::Unknown, "an event is not JSON")
            })
        }))
    }
}

impl fmt::Debug for RawStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.driver.fmt_as("RawStream", f)
    }
}
