//! The streams that a client returns.

mod accumulator;
mod driver;
mod text;
mod timeouts;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use futures::{Stream, StreamExt};

use crate::error::{Error, Result};
use crate::event::Event;
use crate::ids::{RequestId, SessionId, TaskId};
use crate::reply::{RawReply, Reply};
use crate::wire::task::Task;
use accumulator::TaskAccumulator;
pub(crate) use driver::Driver;
pub use text::TextStream;

/// The answer to an ask, event by event: a [`Stream`] of [`Event`]s.
///
/// | what happens | what the stream does |
/// |---|---|
/// | a final event | ends with `None`; where the task is still running, the task is followed to its end |
/// | a state that may be the last, then the end of the body | ends with `None` |
/// | such a state, then no event for 5 s | looks the task up for up to 3 s, and ends with `None` |
/// | the connection breaks, or is silent for the idle limit | looks the task up, yields [`Event::Task`] snapshots until the task has ended, then `None` |
/// | the same, and the task cannot be found | one error, then `None` |
/// | the task has ended, but its artifacts are not sent again | one error of kind [`Interrupted`](crate::ErrorKind::Interrupted) whose outcome is not unknown: [`reply_so_far`](Self::reply_so_far) has the state and the text that came |
/// | the deadline passes | one error; events that had arrived before are still yielded |
///
/// So an answer that was cut never looks whole. No event is yielded twice, and events of other
/// tasks are never yielded.
///
/// A slow reader slows the server down (back pressure). Dropping the stream closes its connection
/// at once and **cancels nothing**: the agent goes on, and may pay. To stop it, use
/// [`cancel`](Self::cancel).
///
/// ```
/// # async fn f(client: payman_sdk::Client) -> payman_sdk::Result<()> {
/// use futures::StreamExt;
///
/// let mut events = client.ask_stream("List all payees").await?;
/// while let Some(event) = events.next().await {
///     println!("{:?}", event?.state());
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "a stream does nothing unless it is read"]
pub struct AskStream {
    /// Boxed, so that a stream is cheap to move and to store.
    driver: Box<Driver>,
}

/// The number of events after which [`AskStream::into_reply`] yields to the runtime.
const EVENTS_A_POLL: u32 = 256;

impl AskStream {
    pub(crate) fn new(driver: Driver) -> Self {
        Self { driver: Box::new(driver) }
    }

    /// Returns the task's id.
    ///
    /// ```
    /// use futures::StreamExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let mut events = client.ask_stream("List all wallets").await?;
    /// println!("{}", events.task_id()); // known before the first event
    /// while let Some(event) = events.next().await {
    ///     event?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn task_id(&self) -> &TaskId {
        &self.driver.ask.task_id
    }

    /// Returns the session's id.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let events = client.ask_stream("List all wallets").await?;
    /// assert_eq!(events.session_id(), &client.session_id());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn session_id(&self) -> &SessionId {
        &self.driver.ask.session_id
    }

    /// Returns the id of the JSON-RPC request.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let events = client.ask_stream("List all wallets").await?;
    /// assert!(events.request_id().as_str().starts_with("req-"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn request_id(&self) -> RequestId {
        self.driver.ask.request.id()
    }

    /// Returns the answer so far as a reply, with the last known state of the task.
    ///
    /// ```
    /// use futures::StreamExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let mut events = client.ask_stream("List all wallets").await?;
    /// while let Some(event) = events.next().await {
    ///     event?;
    ///     println!("{}", events.reply_so_far().text().len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn reply_so_far(&self) -> Reply {
        let task = self.driver.accumulated.to_task(self.task_id().clone());
        Reply::new(task, self.driver.ask.request, self.session_id())
    }

    /// Reads the stream to its end and returns the reply that [`Client::ask`](crate::Client::ask)
    /// would have returned.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let reply = client.ask_stream("List all wallets").await?.into_reply().await?;
    /// assert_eq!(reply.state(), &payman_sdk::TaskState::Completed);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As the stream itself; an answer that was cut is never a reply.
    pub async fn into_reply(mut self) -> Result<Reply> {
        let mut events: u32 = 0;
        while let Some(event) = self.next().await {
            event?;
            events = events.wrapping_add(1);
            // Yields, so that a server that never pauses does not starve other tasks of this
            // thread.
            if events.is_multiple_of(EVENTS_A_POLL) {
                tokio::task::yield_now().await;
            }
        }
        self.driver.into_reply()
    }

    /// Converts into a stream of the text only: its items, concatenated, are the reply's
    /// [`text`](Reply::text).
    ///
    /// The text of a second artifact waits until the first is complete. Where a task has no
    /// artifact, its status message comes at the end.
    ///
    /// ```
    /// use futures::StreamExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let mut text = client.ask_stream("List all wallets").await?.text();
    /// while let Some(chunk) = text.next().await {
    ///     print!("{}", chunk?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn text(self) -> TextStream {
        TextStream::new(self)
    }

    /// Cancels the task at the server. The stream can be read further, and yields the task's
    /// changes.
    ///
    /// The call has time limits of its own: the ask's `deadline` and `reply_timeout`, counted from
    /// its start.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let events = client.ask_stream("List all wallets").await?;
    /// match events.cancel().await {
    ///     Ok(task) => println!("{}", task.state()),
    ///     Err(error) => println!("{error}"), // it may have ended already
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Client::cancel_task`](crate::Client::cancel_task).
    pub fn cancel(&self) -> BoxFuture<'static, Result<Task>> {
        let platform = Arc::clone(&self.driver.platform);
        let ask = self.driver.ask.clone();
        Box::pin(async move { platform.cancel(&ask).await.map(|found| found.task) })
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
/// It ends as [`AskStream`] does; after a cut it yields the responses to the lookups of the task.
/// It does not keep what it has yielded, so `max_reply_bytes` does not apply.
#[must_use = "a stream does nothing unless it is read"]
pub struct RawStream {
    driver: Box<Driver>,
}

impl RawStream {
    pub(crate) fn new(driver: Driver) -> Self {
        Self { driver: Box::new(driver.without_content()) }
    }

    /// Returns the task's id.
    #[must_use]
    pub fn task_id(&self) -> &TaskId {
        &self.driver.ask.task_id
    }

    /// Returns the session's id.
    #[must_use]
    pub fn session_id(&self) -> &SessionId {
        &self.driver.ask.session_id
    }

    /// Returns the id of the JSON-RPC request.
    #[must_use]
    pub fn request_id(&self) -> RequestId {
        self.driver.ask.request.id()
    }
}

impl Stream for RawStream {
    type Item = Result<RawReply>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let delivery = ready!(self.driver.poll_delivery(cx));
        Poll::Ready(delivery.map(|delivery| {
            let raw = RawReply::read(&delivery?.raw);
            raw.ok_or_else(|| Error::protocol("an event is not JSON"))
        }))
    }
}

impl fmt::Debug for RawStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.driver.fmt_as("RawStream", f)
    }
}
