//! The streams that a client hands out: how they end, what they have gathered, how they recover.

mod gather;
mod recover;
mod watch;
mod words;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use tokio::time::Instant;
use tracing::Span;

use crate::ask::{Continued, Prepared};
use crate::config::Limits;
use crate::delivery::{Delivered, Found, Platform, millis_since, rpc_error};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::event::Event;
use crate::ids::{RequestId, SessionId, TaskId};
use crate::reply::{RawReply, Reply};
use crate::transport::retry::{Observed, Verdict, verdict};
use crate::transport::sse::{FrameError, Frames};
use crate::wire::state::TaskState;
use crate::wire::task::Task;
use crate::wire::update::{Content, Update, decode_frame};
use gather::Gathered;
use watch::{Cut, Watched};
pub use words::TextStream;

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
    driver: Driver,
}

impl AskStream {
    pub(crate) fn new(driver: Driver) -> Self {
        Self { driver }
    }

    /// The task.
    #[must_use]
    pub fn task_id(&self) -> &TaskId {
        &self.driver.ids.task
    }

    /// The session.
    #[must_use]
    pub fn session_id(&self) -> &SessionId {
        &self.driver.ids.session
    }

    /// The JSON-RPC request.
    #[must_use]
    pub fn request_id(&self) -> &RequestId {
        &self.driver.ids.request
    }

    /// What has come so far, as a reply. Its state says how far it is.
    #[must_use]
    pub fn reply_so_far(&self) -> Reply {
        Reply::new(self.driver.gathered.task().clone(), &self.driver.ids.request, &self.driver.ids.session)
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
    /// As [`Client::cancel`](crate::Client::cancel).
    pub fn cancel(&self) -> impl Future<Output = Result<Task>> + Send + 'static + use<> {
        let platform = Arc::clone(&self.driver.platform);
        let task_id = self.driver.ids.task.clone();
        async move { platform.cancel(&task_id).await.map(|found| found.task) }
    }

    pub(crate) fn gathered(&self) -> &Task {
        self.driver.gathered.task()
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
        f.debug_struct("AskStream").field("ids", &self.driver.ids).finish_non_exhaustive()
    }
}

/// The answer to an ask as raw JSON-RPC responses, exactly as the server wrote them.
///
/// Ends as [`AskStream`] does; after a cut it yields the responses to the looks at the task.
#[must_use = "a stream does nothing unless it is read"]
pub struct RawStream {
    driver: Driver,
}

impl RawStream {
    pub(crate) fn new(driver: Driver) -> Self {
        Self { driver }
    }

    /// The task.
    #[must_use]
    pub fn task_id(&self) -> &TaskId {
        &self.driver.ids.task
    }

    /// The session.
    #[must_use]
    pub fn session_id(&self) -> &SessionId {
        &self.driver.ids.session
    }

    /// The JSON-RPC request.
    #[must_use]
    pub fn request_id(&self) -> &RequestId {
        &self.driver.ids.request
    }
}

impl Stream for RawStream {
    type Item = Result<RawReply>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let delivery = ready!(self.driver.poll_delivery(cx));
        Poll::Ready(delivery.map(|delivery| {
            let raw = RawReply::read(&delivery?.raw);
            raw.ok_or_else(|| Error::new(ErrorKind::Protocol, Outcome::Unknown, "an event is not JSON"))
        }))
    }
}

impl fmt::Debug for RawStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawStream").field("ids", &self.driver.ids).finish_non_exhaustive()
    }
}

/// Whose answer it is.
#[derive(Clone, Debug)]
struct Ids {
    task: TaskId,
    session: SessionId,
    request: RequestId,
}

/// One event, with the bytes that it was read from.
pub(crate) struct Delivery {
    raw: Bytes,
    event: Event,
}

/// What both streams are made of.
pub(crate) struct Driver {
    platform: Arc<Platform>,
    ids: Ids,
    /// Taken by the recovery, which happens at most once.
    ask: Option<Sent>,
    deadline: Instant,
    gathered: Gathered,
    phase: Phase,
    watched_by: Option<Box<Watcher>>,
    /// A result came: what a server refuses from then on was begun all the same.
    begun: bool,
    /// The reader waits; it is away from when it was given an event.
    waits: bool,
}

/// What is kept of an ask for the recovery: ten thousand streams may be open, and few are ever cut.
struct Sent {
    text: Box<str>,
    continues: Option<Box<Continued>>,
    /// `None` where they are the client's.
    limits: Option<Box<Limits>>,
}

impl Sent {
    fn new(ask: Prepared, usual: &Limits) -> Self {
        Self {
            text: ask.text.into(),
            continues: ask.continues.map(Box::new),
            limits: (ask.limits != *usual).then(|| Box::new(ask.limits)),
        }
    }

    /// As it was, but for the body: it was sent, and will never be again.
    fn into_ask(self, ids: &Ids, usual: &Limits) -> Prepared {
        Prepared {
            text: self.text.into(),
            task_id: ids.task.clone(),
            session_id: ids.session.clone(),
            request_id: ids.request.clone(),
            continues: self.continues.map(|continues| *continues),
            limits: self.limits.map_or(*usual, |limits| *limits),
            body: Bytes::new(),
        }
    }
}

/// Whoever looks at the stream's span, if anyone does.
struct Watcher {
    span: Span,
    started: Instant,
}

enum Phase {
    /// Events come. `over` after a state that may end the answer without a final event.
    Live { frames: Frames<Watched>, over: bool },
    /// The final event was handed out; the connection may still be whole.
    Closing(Frames<Watched>),
    /// The connection is gone; the task is looked at.
    Looking(BoxStream<'static, Result<Found>>),
    /// Over: well, or with an error that was handed out.
    Done { well: bool },
}

impl Driver {
    pub(crate) fn new(platform: Arc<Platform>, ask: Prepared, delivered: Delivered, deadline: Instant) -> Self {
        let ids = Ids { task: ask.task_id.clone(), session: ask.session_id.clone(), request: ask.request_id.clone() };
        let gathered = Gathered::new(ids.task.clone(), ask.limits.max_reply_bytes);
        let mut driver = Self {
            platform,
            ids,
            ask: None,
            deadline,
            gathered,
            phase: Phase::Done { well: false },
            watched_by: None,
            begun: false,
            waits: false,
        };
        let span = Span::current();
        if !span.is_disabled() {
            driver.watched_by = Some(Box::new(Watcher { span, started: Instant::now() }));
        }
        match delivered {
            Delivered::Events(response) => {
                let body = Watched::new(response.bytes_stream().boxed(), ask.limits.idle_timeout, deadline);
                driver.phase = Phase::Live { frames: Frames::new(body, ask.limits.max_event_bytes), over: false };
                driver.ask = Some(Sent::new(ask, &driver.platform.limits));
            }
            Delivered::Task(found) => {
                let ask = Prepared { body: Bytes::new(), ..ask };
                let looking = recover::from(Arc::clone(&driver.platform), ask, found, deadline);
                driver.phase = Phase::Looking(looking.boxed());
            }
        }
        driver
    }

    fn poll_delivery(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery>>> {
        loop {
            match &mut self.phase {
                Phase::Live { frames, over } => {
                    let over = *over;
                    if !std::mem::replace(&mut self.waits, true)
                        && let Some(body) = frames.source_mut()
                    {
                        body.wait_anew();
                    }
                    let next = match ready!(frames.poll_next_unpin(cx)) {
                        Some(Ok(data)) => self.read(data.into_bytes()),
                        Some(Err(error)) => Next::Lost(frame_error(error)),
                        None if over => Next::Over,
                        None => Next::Lost(cut("the stream ended before the answer did")),
                    };
                    match next {
                        Next::Deliver(delivery) => {
                            self.waits = false;
                            return Poll::Ready(Some(Ok(delivery)));
                        }
                        Next::Skip => {}
                        Next::Over => self.finish(true),
                        Next::Fail(error) => return Poll::Ready(Some(Err(self.fail(error)))),
                        Next::Lost(error) => {
                            if let Some(error) = self.look_for_the_rest(error) {
                                return Poll::Ready(Some(Err(error)));
                            }
                        }
                    }
                }
                Phase::Closing(frames) => {
                    // Where the body's end is already here, reading it gives the connection back to the pool.
                    let _ = frames.poll_next_unpin(cx);
                    self.finish(true);
                }
                Phase::Looking(looking) => {
                    match ready!(in_span(self.watched_by.as_deref(), || looking.poll_next_unpin(cx))) {
                        Some(Ok(found)) => {
                            self.gathered.replace(found.task.clone());
                            let delivery = Delivery { raw: found.response, event: Event::Task(found.task) };
                            return Poll::Ready(Some(Ok(delivery)));
                        }
                        Some(Err(error)) => return Poll::Ready(Some(Err(self.fail(error)))),
                        None => self.finish(true),
                    }
                }
                Phase::Done { .. } => return Poll::Ready(None),
            }
        }
    }

    fn read(&mut self, data: Bytes) -> Next {
        let payload = match decode_frame(&data) {
            Ok(Content::Result(payload)) => payload,
            Ok(Content::Unknown(value)) => {
                self.begun = true;
                return Next::Deliver(Delivery { raw: data, event: Event::Unknown(value) });
            }
            Ok(Content::Error(rpc, beside_result)) => {
                self.begun |= beside_result;
                return self.refused_or_lost(rpc_error(rpc));
            }
            Ok(Content::Nothing) => return Next::Lost(garbled("an event is neither a result nor an error")),
            Err(error) => return Next::Lost(garbled("an event could not be understood").with_source(error)),
        };
        let is_final = payload.is_final();
        let Some(update) = payload.into_update(&self.ids.task) else {
            return Next::Lost(garbled("an event has a state that could not be understood"));
        };
        // Whatever it is about: a server that says such things has taken something up.
        self.begun = true;
        if *update.task_id() != self.ids.task {
            return Next::Skip;
        }
        if let Err(error) = self.gathered.take_in(&update, data.len()) {
            return Next::Fail(error);
        }
        self.note_end(&update, is_final);
        Next::Deliver(Delivery { raw: data, event: update.into() })
    }

    fn note_end(&mut self, update: &Update, is_final: bool) {
        let state = match update {
            Update::Status(update) => Some(update.state()),
            Update::Task(task) => Some(task.state()),
            Update::Artifact(_) => None,
        };
        let Phase::Live { over, .. } = &mut self.phase else {
            return;
        };
        if let Some(state) = state {
            *over = may_be_last(state);
        }
        if is_final && let Phase::Live { frames, .. } = std::mem::replace(&mut self.phase, Phase::Done { well: true }) {
            self.phase = Phase::Closing(frames);
        }
    }

    /// An error in the stream: a refusal only where nothing was begun.
    fn refused_or_lost(&self, error: Error) -> Next {
        let observed =
            Observed::Answer { status: 200, has_task: self.begun, rpc: error.rpc_error(), asks_to_wait: false };
        match verdict(observed, self.platform.policy()) {
            Verdict::Refused => Next::Fail(error.with_outcome(Outcome::NotDone)),
            _ => Next::Lost(error),
        }
    }

    /// Closes the connection and looks at the task instead. Gives the error back where there is no looking.
    fn look_for_the_rest(&mut self, error: Error) -> Option<Error> {
        let Some(ask) = self.ask.take().filter(|_| Instant::now() < self.deadline) else {
            return Some(self.fail(error));
        };
        let ask = ask.into_ask(&self.ids, &self.platform.limits);
        let looking = recover::after(Arc::clone(&self.platform), ask, error, self.deadline);
        self.phase = Phase::Looking(looking.boxed());
        None
    }

    fn fail(&mut self, error: Error) -> Error {
        self.finish(false);
        error.with_task_id(&self.ids.task)
    }

    fn finish(&mut self, well: bool) {
        if let Some(Watcher { span, started }) = self.watched_by.as_deref() {
            span.record("state", self.gathered.task().state().as_str());
            span.record("duration_ms", millis_since(*started));
        }
        self.phase = Phase::Done { well };
    }

    fn into_reply(self) -> Result<Reply> {
        match self.phase {
            Phase::Done { well: true } => {
                Ok(Reply::new(self.gathered.into_task(), &self.ids.request, &self.ids.session))
            }
            _ => Err(cut("the stream had already failed").with_task_id(&self.ids.task)),
        }
    }
}

fn in_span<T>(watcher: Option<&Watcher>, act: impl FnOnce() -> T) -> T {
    match watcher {
        Some(watcher) => watcher.span.in_scope(act),
        None => act(),
    }
}

/// What one look at the frames came to.
#[allow(clippy::large_enum_variant)] // nearly always an event: a box would cost each of them
enum Next {
    Deliver(Delivery),
    Skip,
    Over,
    Fail(Error),
    Lost(Error),
}

/// A state after which the end of the body is the end of the answer.
fn may_be_last(state: &TaskState) -> bool {
    state.is_terminal() || state.is_waiting_for_user()
}

fn cut(message: &'static str) -> Error {
    Error::new(ErrorKind::Interrupted, Outcome::Unknown, message)
}

fn garbled(message: &'static str) -> Error {
    Error::new(ErrorKind::Protocol, Outcome::Unknown, message)
}

fn frame_error(error: FrameError<Cut>) -> Error {
    match error {
        FrameError::Source(Cut::Idle) => {
            Error::new(ErrorKind::Timeout, Outcome::Unknown, "the stream was silent for too long")
        }
        FrameError::Source(Cut::Deadline) => {
            Error::new(ErrorKind::Timeout, Outcome::Unknown, "the deadline passed before the answer ended")
        }
        FrameError::Source(Cut::Broken(source)) => {
            cut("the connection broke before the answer ended").with_source(source)
        }
        FrameError::Utf8 => garbled("an event is not UTF-8"),
        FrameError::TooLarge { limit } => {
            let message = format!("an event is larger than the limit of {limit} bytes");
            Error::new(ErrorKind::TooLarge, Outcome::Unknown, message)
        }
    }
}
