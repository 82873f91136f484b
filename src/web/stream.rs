//! An answer as a stream of server-sent events.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};

use super::event::ServerEvent;
use super::problem::{self, Problem};
use crate::error::{Error, Result};
use crate::ids::TaskId;
use crate::reply::Reply;
use crate::stream::AskStream;

/// An answer as server-sent events. It ends with `done` where the answer is complete, and with
/// `error` where it is not.
///
/// It is a stream of [`ServerEvent`]s: pass it to [`sse`](super::sse), return it from a handler, or
/// inspect its events. Dropping it closes the connection to the platform, and does not cancel the
/// task.
///
/// Create it from an [`AskStream`], from a [`Reply`], or with [`from_future`](Self::from_future)
/// from an ask that is still in progress, so that the response begins at once.
#[must_use = "a stream does nothing unless it is read"]
pub struct ServerEvents {
    state: AnswerState,
    task_id: Option<TaskId>,
    shutdown: Option<BoxFuture<'static, ()>>,
}

enum AnswerState {
    /// The state before anything was sent to the visitor.
    New(BoxFuture<'static, Result<ServerEvents>>),
    /// The state after the first comment, before the answer begins.
    Starting(BoxFuture<'static, Result<ServerEvents>>),
    Streaming(AskStream),
    /// A whole reply: as a `task` event, then as `done`.
    Replied(Box<Reply>),
    Ending(ServerEvent),
    Ended,
}

enum EventStep {
    Event(ServerEvent),
    Last(ServerEvent),
}

impl ServerEvents {
    /// Starts a response at once, while the ask is still in progress.
    ///
    /// Works for `client.ask(…)` and for `client.ask_stream(…)`. The agent may need a long
    /// time before its first byte, and browsers and proxies time out on a response that does not
    /// begin. This one begins with a comment at once, and [`SseBody`](super::SseBody) sends further
    /// ones. Because the status 200 is already sent, an ask that fails is an `error` event.
    ///
    /// If the answer must be completed even after the visitor disconnects, pass the future through
    /// [`detach`](super::detach) first.
    ///
    /// ```
    /// use payman_sdk::web::{ServerEvents, detach};
    /// use payman_sdk::{Ask, Client};
    ///
    /// fn stream(client: &Client, text: String) -> ServerEvents {
    ///     let ask = Ask::new(text);
    ///     let task_id = ask.task_id().clone();
    ///     ServerEvents::from_future(client.ask_stream(ask)).with_task_id(task_id)
    /// }
    ///
    /// fn pay(client: &Client, text: String) -> ServerEvents {
    ///     ServerEvents::from_future(detach(client.ask(text)))
    /// }
    /// ```
    pub fn from_future<T: Into<Self>>(
        answer: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Self {
        let answer = async move { answer.await.map(Into::into) };
        Self { state: AnswerState::New(answer.boxed()), task_id: None, shutdown: None }
    }

    /// Sets the task's id, so that an `error` event carries it even if the answer never begins.
    pub fn with_task_id(mut self, id: TaskId) -> Self {
        self.task_id = Some(id);
        self
    }

    /// Ends the stream when `shutdown` completes, with an `error` event whose `code` is
    /// `shutting-down`.
    ///
    /// Servers wait for open responses when they shut down gracefully, and a stream may be open for
    /// minutes. The task continues on the platform; its outcome is unknown to the page, which has
    /// to look it up. See [`Shutdown`](super::Shutdown).
    pub fn until(mut self, shutdown: impl Future<Output = ()> + Send + 'static) -> Self {
        self.shutdown = Some(shutdown.boxed());
        self
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Option<EventStep>> {
        loop {
            match &mut self.state {
                AnswerState::New(answer) => match answer.poll_unpin(cx) {
                    Poll::Ready(answer) => self.start(answer),
                    Poll::Pending => {
                        if let AnswerState::New(answer) =
                            std::mem::replace(&mut self.state, AnswerState::Ended)
                        {
                            self.state = AnswerState::Starting(answer);
                        }
                        return Poll::Ready(Some(EventStep::Event(ServerEvent::comment())));
                    }
                },
                AnswerState::Starting(answer) => {
                    let answer = ready!(answer.poll_unpin(cx));
                    self.start(answer);
                }
                AnswerState::Streaming(events) => {
                    let step = match ready!(events.poll_next_unpin(cx)) {
                        Some(Ok(event)) => match ServerEvent::of(&event) {
                            Some(event) => EventStep::Event(event),
                            None => continue,
                        },
                        Some(Err(error)) => {
                            problem::log_stream(&error, events.task_id());
                            EventStep::Last(ServerEvent::error(&error))
                        }
                        None => EventStep::Last(ServerEvent::done(&events.reply_so_far())),
                    };
                    return Poll::Ready(Some(step));
                }
                AnswerState::Replied(reply) => {
                    let task = ServerEvent::task(reply.task());
                    self.state = AnswerState::Ending(ServerEvent::done(reply));
                    return Poll::Ready(Some(EventStep::Event(task)));
                }
                AnswerState::Ending(event) => {
                    return Poll::Ready(Some(EventStep::Last(event.clone())));
                }
                AnswerState::Ended => return Poll::Ready(None),
            }
        }
    }

    fn start(&mut self, answer: Result<Self>) {
        match answer {
            Ok(answer) => {
                self.state = answer.state;
                self.task_id = answer.task_id.or_else(|| self.task_id.take());
                self.shutdown = self.shutdown.take().or(answer.shutdown);
            }
            Err(error) => {
                let problem = Problem::from(error).or_task_id(self.task_id.as_ref());
                self.state = AnswerState::Ending(ServerEvent::problem(&problem));
            }
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(shutdown) = &mut self.shutdown else {
            return Poll::Pending;
        };
        ready!(shutdown.poll_unpin(cx));
        self.shutdown = None; // it must not be polled again
        Poll::Ready(())
    }

    fn shutting_down(&self) -> ServerEvent {
        let task_id = match &self.state {
            AnswerState::Streaming(events) => Some(events.task_id()),
            _ => self.task_id.as_ref(),
        };
        ServerEvent::problem(&Problem::shutting_down().or_task_id(task_id))
    }
}

impl From<AskStream> for ServerEvents {
    fn from(events: AskStream) -> Self {
        let task_id = Some(events.task_id().clone());
        Self { state: AnswerState::Streaming(events), task_id, shutdown: None }
    }
}

impl From<Reply> for ServerEvents {
    fn from(reply: Reply) -> Self {
        let task_id = Some(reply.task_id().clone());
        Self { state: AnswerState::Replied(Box::new(reply)), task_id, shutdown: None }
    }
}

impl Stream for ServerEvents {
    type Item = ServerEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ServerEvent>> {
        if matches!(self.state, AnswerState::Ended) {
            return Poll::Ready(None);
        }
        let is_over = self.poll_shutdown(cx).is_ready();
        match self.poll_step(cx) {
            Poll::Ready(None) => Poll::Ready(None),
            // An answer that is already complete takes precedence over the shutdown.
            Poll::Ready(Some(EventStep::Last(event))) => {
                self.state = AnswerState::Ended;
                Poll::Ready(Some(event))
            }
            // A whole reply takes no more time.
            _ if is_over && !matches!(self.state, AnswerState::Ending(_)) => {
                let event = self.shutting_down();
                self.state = AnswerState::Ended;
                Poll::Ready(Some(event))
            }
            Poll::Ready(Some(EventStep::Event(event))) => Poll::Ready(Some(event)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl fmt::Debug for ServerEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerEvents").field("task_id", &self.task_id).finish_non_exhaustive()
    }
}

/// Runs an ask in a task of its own, so that it continues when the handler that waits for it is
/// dropped.
///
/// Web frameworks drop a handler when its visitor leaves, and an ask that is dropped has an unknown
/// outcome. The returned future may be dropped without effect on the ask.
///
/// ```
/// use payman_sdk::web::detach;
/// use payman_sdk::{Client, Reply, Result};
///
/// async fn handler(client: Client, text: String) -> Result<Reply> {
///     detach(client.ask(text)).await
/// }
/// ```
///
/// # Errors
///
/// Returns the errors of the ask, and [`Interrupted`](crate::ErrorKind::Interrupted) with an
/// unknown outcome if the runtime ends first.
///
/// # Panics
///
/// Panics outside a tokio runtime.
pub fn detach<T: Send + 'static>(
    answer: impl Future<Output = Result<T>> + Send + 'static,
) -> impl Future<Output = Result<T>> + Send + 'static {
    let running = tokio::spawn(answer);
    async move { running.await.unwrap_or_else(|ended| Err(Error::ask_task_ended(ended))) }
}
