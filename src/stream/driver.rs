//! What both kinds of streams are made of: reads events, and decides how the answer ended.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::time::Instant;
use tracing::Span;

use super::accumulator::TaskAccumulator;
use super::snapshots;
use super::timeouts::{StreamTimeouts, TimeoutKind, is_past};
use crate::ask::{Continuation, PreparedAsk};
use crate::conversation::Conversation;
use crate::delivery::classify::{Attempt, RetryDecision, classify};
use crate::delivery::{Delivered, TaskSnapshot, rpc_error};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::event::Event;
use crate::ids::{MintedRequest, TaskId};
use crate::policy::Limits;
use crate::reply::Reply;
use crate::time::{instant_after, millis_since};
use crate::transport::sse::{SseError, SseParser};
use crate::wire::state::TaskState;
use crate::wire::update::{MessageContent, decode_message};

/// One event, with the bytes that it was read from.
pub(super) struct Delivery {
    pub(super) raw: Bytes,
    pub(super) event: Event,
}

/// Ten thousand may be open and silent, so what few need is in a box.
pub(crate) struct Driver {
    pub(super) conversation: Arc<Conversation>,
    pub(super) task_id: TaskId,
    pub(super) request: MintedRequest,
    pub(super) accumulated: TaskAccumulator,
    phase: Phase,
    watch: StreamTimeouts,
    special: Option<Box<Special>>,
    /// After a state that may end the answer without a final event.
    over: bool,
    /// The final event was handed out; the connection may still be whole.
    is_final: bool,
    /// A result came: what a server refuses from then on was begun all the same.
    begun: bool,
    /// The reader waits; it is away from when it was given an event.
    waits: bool,
    /// A recovery happens at most once.
    recovers: bool,
}

/// What most streams do without.
#[derive(Default)]
struct Special {
    deadline: Option<Instant>,
    /// Where they are not the client's.
    limits: Option<Limits>,
    /// What was said, and to which task: only where one is continued does a recovery have to find it again.
    continues: Option<(String, Continuation)>,
    watcher: Option<Watcher>,
}

/// Whoever looks at the stream's span, if anyone does.
struct Watcher {
    span: Span,
    started: Instant,
}

enum Phase {
    /// Events come.
    Live(SseParser<Body>),
    /// The connection is gone; the task is looked at.
    Looking(BoxStream<'static, Result<TaskSnapshot>>),
    /// Over: well, or with an error that was handed out.
    Done { well: bool },
}

type Body = BoxStream<'static, reqwest::Result<Bytes>>;

impl Driver {
    pub(crate) fn new(
        conversation: Arc<Conversation>,
        ask: PreparedAsk,
        delivered: Delivered,
        deadline: Option<Instant>,
    ) -> Self {
        let conversation = match ask.session_id == conversation.session {
            true => conversation,
            false => Arc::new(conversation.in_session(ask.session_id.clone())),
        };
        let mut driver = Self {
            special: None,
            task_id: ask.task_id.clone(),
            request: ask.request,
            accumulated: TaskAccumulator::default(),
            phase: Phase::Done { well: false },
            watch: StreamTimeouts::default(),
            over: false,
            is_final: false,
            begun: false,
            waits: false,
            recovers: true,
            conversation,
        };
        let limits = ask.limits;
        let special = Special::new(ask, deadline, driver.usual_limits());
        driver.special = special.map(Box::new);
        driver.phase = match delivered {
            Delivered::Events(response) => {
                Phase::Live(SseParser::new(response.bytes_stream().boxed(), limits.max_event_bytes))
            }
            Delivered::Task(found) => {
                let platform = Arc::clone(&driver.conversation.platform);
                Phase::Looking(
                    snapshots::from(
                        platform,
                        driver.ask_to_recover(),
                        found,
                        driver.far_deadline(),
                    )
                    .boxed(),
                )
            }
        };
        driver
    }

    fn usual_limits(&self) -> &Limits {
        &self.conversation.platform.limits
    }

    fn limits(&self) -> &Limits {
        self.special
            .as_ref()
            .and_then(|special| special.limits.as_ref())
            .unwrap_or_else(|| self.usual_limits())
    }

    fn deadline(&self) -> Option<Instant> {
        self.special.as_ref()?.deadline
    }

    /// The deadline, or a time so far off that it never comes.
    fn far_deadline(&self) -> Instant {
        self.deadline().unwrap_or_else(|| instant_after(Duration::MAX))
    }

    fn watcher(&self) -> Option<&Watcher> {
        self.special.as_ref()?.watcher.as_ref()
    }

    /// The ask as it was, but for the body: it was sent, and will never be again.
    fn ask_to_recover(&mut self) -> PreparedAsk {
        let limits = *self.limits();
        let continued = self.special.as_mut().and_then(|special| special.continues.take());
        let (text, continues) =
            continued.map_or_else(Default::default, |(text, since)| (text, Some(since)));
        PreparedAsk {
            text,
            task_id: self.task_id.clone(),
            session_id: self.conversation.session.clone(),
            request: self.request,
            continues,
            limits,
            body: Bytes::new(),
        }
    }

    pub(super) fn fmt_as(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("task_id", &self.task_id)
            .field("session_id", &self.conversation.session)
            .field("request_id", &self.request.id())
            .finish_non_exhaustive()
    }

    pub(super) fn poll_delivery(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery>>> {
        loop {
            match &mut self.phase {
                Phase::Live(frames) if self.is_final => {
                    // Where the body's end is already here, reading it gives the connection back to the pool.
                    let _ = frames.poll_next_unpin(cx);
                    self.finish(true);
                }
                Phase::Live(_) => match ready!(self.poll_next_of_live(cx)) {
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
                },
                Phase::Looking(looking) => {
                    let watcher =
                        self.special.as_ref().and_then(|special| special.watcher.as_ref());
                    match ready!(in_span(watcher, || looking.poll_next_unpin(cx))) {
                        Some(Ok(found)) => {
                            self.accumulated.replace(found.task.clone());
                            let delivery =
                                Delivery { raw: found.response, event: Event::Task(found.task) };
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

    #[inline]
    fn poll_next_of_live(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let Phase::Live(frames) = &mut self.phase else {
            return Poll::Ready(Next::Skip);
        };
        let is_back = !std::mem::replace(&mut self.waits, true);
        let polled = frames.poll_next_unpin(cx);
        if frames.has_heard() || is_back {
            self.watch.restart_idle();
        }
        let next = match polled {
            // Also where bytes come all the time that are no event.
            Poll::Pending if is_past(self.deadline()) => Next::Lost(late(TimeoutKind::Deadline)),
            Poll::Pending => {
                let (idle, deadline) = (self.limits().idle_timeout, self.deadline());
                Next::Lost(late(ready!(self.watch.poll(cx, idle, deadline))))
            }
            // A server that never pauses for breath has to be stopped here.
            Poll::Ready(Some(Ok(_))) if is_past(self.deadline()) => {
                Next::Lost(late(TimeoutKind::Deadline))
            }
            Poll::Ready(Some(Ok(data))) => self.read(data.into_bytes()),
            Poll::Ready(Some(Err(error))) => Next::Lost(frame_error(error)),
            Poll::Ready(None) if self.over => Next::Over,
            Poll::Ready(None) => Next::Lost(cut("the stream ended before the answer did")),
        };
        Poll::Ready(next)
    }

    fn read(&mut self, data: Bytes) -> Next {
        let payload = match decode_message(&data) {
            Ok(MessageContent::Result(payload)) => payload,
            Ok(MessageContent::Unknown(value)) => {
                self.begun = true;
                return Next::Deliver(Delivery { raw: data, event: Event::Unknown(value) });
            }
            Ok(MessageContent::Error(rpc, beside_result)) => {
                self.begun |= beside_result;
                return self.refused_or_lost(rpc_error(rpc));
            }
            Ok(MessageContent::Nothing) => {
                return Next::Lost(garbled("an event is neither a result nor an error"));
            }
            Err(error) => {
                return Next::Lost(garbled("an event could not be understood").with_source(error));
            }
        };
        let is_final = payload.is_final();
        let Some(update) = payload.into_update(&self.task_id) else {
            return Next::Lost(garbled("an event has a state that could not be understood"));
        };
        self.apply(update.into(), is_final, data)
    }

    #[inline]
    fn apply(&mut self, event: Event, is_final: bool, data: Bytes) -> Next {
        // Whatever it is about: a server that says such things has taken something up.
        self.begun = true;
        if event.task_id() != Some(&self.task_id) {
            return Next::Skip;
        }
        let size = self.accumulated.apply(&event, data.len());
        if size > 0 && size > self.limits().max_reply_bytes {
            return Next::Fail(too_large("the answer", self.limits().max_reply_bytes));
        }
        if let Some(state) = event.state() {
            self.over = may_be_last(state);
        }
        self.is_final = is_final;
        Next::Deliver(Delivery { raw: data, event })
    }

    /// An error in the stream: a refusal only where nothing was begun.
    fn refused_or_lost(&self, error: Error) -> Next {
        let observed = Attempt::Answer {
            status: 200,
            has_task: self.begun,
            rpc: error.rpc_error(),
            asks_to_wait: false,
        };
        match classify(observed, self.conversation.platform.policy()) {
            RetryDecision::Refused => Next::Fail(error.with_outcome(Outcome::NotDone)),
            _ => Next::Lost(error),
        }
    }

    /// Closes the connection and looks at the task instead. Gives the error back where there is no looking.
    fn look_for_the_rest(&mut self, error: Error) -> Option<Error> {
        if !std::mem::take(&mut self.recovers) || is_past(self.deadline()) {
            return Some(self.fail(error));
        }
        self.watch = StreamTimeouts::default();
        let platform = Arc::clone(&self.conversation.platform);
        let looking = snapshots::after(platform, self.ask_to_recover(), error, self.far_deadline());
        self.phase = Phase::Looking(looking.boxed());
        None
    }

    fn fail(&mut self, error: Error) -> Error {
        self.finish(false);
        error.with_task_id(&self.task_id)
    }

    fn finish(&mut self, well: bool) {
        if let Some(Watcher { span, started }) = self.watcher() {
            span.record("state", self.accumulated.status().state.as_str());
            span.record("duration_ms", millis_since(*started));
        }
        self.watch = StreamTimeouts::default();
        self.phase = Phase::Done { well };
    }

    pub(super) fn into_reply(self) -> Result<Reply> {
        match self.phase {
            Phase::Done { well: true } => {
                let task = self.accumulated.into_task(self.task_id);
                Ok(Reply::new(task, self.request, &self.conversation.session))
            }
            _ => Err(cut("the stream had already failed").with_task_id(&self.task_id)),
        }
    }
}

impl Special {
    /// `None` where there is nothing special.
    fn new(ask: PreparedAsk, deadline: Option<Instant>, usual: &Limits) -> Option<Self> {
        let span = Span::current();
        let special = Self {
            deadline,
            limits: (ask.limits != *usual).then_some(ask.limits),
            continues: ask.continues.map(|since| (ask.text, since)),
            watcher: (!span.is_disabled()).then(|| Watcher { span, started: Instant::now() }),
        };
        let Self { deadline, limits, continues, watcher } = &special;
        let is_special =
            deadline.is_some() || limits.is_some() || continues.is_some() || watcher.is_some();
        is_special.then_some(special)
    }
}

fn in_span<T>(watcher: Option<&Watcher>, act: impl FnOnce() -> T) -> T {
    match watcher {
        Some(watcher) => watcher.span.in_scope(act),
        None => act(),
    }
}

/// What one look at the frames came to.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly always an event: a box would cost each of them"
)]
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

fn late(late: TimeoutKind) -> Error {
    let message = match late {
        TimeoutKind::Idle => "the stream was silent for too long",
        TimeoutKind::Deadline => "the deadline passed before the answer ended",
    };
    Error::new(ErrorKind::Timeout, Outcome::Unknown, message)
}

fn frame_error(error: SseError<reqwest::Error>) -> Error {
    match error {
        SseError::Source(error) => {
            cut("the connection broke before the answer ended").with_source(error.without_url())
        }
        SseError::Utf8 => garbled("an event is not UTF-8"),
        SseError::TooLarge { limit } => too_large("an event", limit),
    }
}

fn too_large(what: &str, limit: usize) -> Error {
    let message = format!("{what} is larger than the limit of {limit} bytes");
    Error::new(ErrorKind::TooLarge, Outcome::Unknown, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{AskStream, RawStream};

    /// What is added here is added for each of ten thousand open streams.
    #[test]
    fn an_open_stream_is_small() {
        assert_eq!(size_of::<AskStream>(), size_of::<usize>());
        assert_eq!(size_of::<RawStream>(), size_of::<usize>());
        assert!(size_of::<Driver>() <= size_of::<[usize; 30]>(), "{}", size_of::<Driver>());
    }
}
