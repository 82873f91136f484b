//! Drives a stream: reads events, and detects the end of the answer.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::time::Instant;

use super::accumulator::{Keeps, TaskAccumulator};
use super::timeouts::{StreamTimeouts, TimeoutKind, is_past};
use crate::ask::{AskContext, SentFlag};
use crate::delivery::classify::{Attempt, ErrorAnswer, IdAtServer, RetryDecision, classify};
use crate::delivery::follow::{FollowStart, Follower};
use crate::delivery::{ArtifactsField, Platform, Response, TaskSnapshot};
use crate::error::{Error, Outcome, Result};
use crate::event::Event;
use crate::journal::{Sending, StreamEnd, StreamRecorder};
use crate::observe::AskObserver;
use crate::reply::Reply;
use crate::time::instant_after;
use crate::transport::sse::{SseError, SseEvent, SseParser};
use crate::wire::message::{MessageContent, decode_message};
use crate::wire::state::TaskState;

/// One event, with the bytes that it was read from.
pub(super) struct Delivery {
    pub(super) raw: Bytes,
    pub(super) event: Event,
}

/// Its size matters, since a process may hold ten thousand open, silent streams.
pub(crate) struct Driver {
    pub(super) platform: Arc<Platform>,
    pub(super) ask: AskContext,
    pub(super) accumulated: TaskAccumulator,
    state: StreamState,
    timeouts: StreamTimeouts,
    deadline: Option<Instant>,
    /// `None` once a result was received, since the ask then counts as sent for good.
    sent: Option<SentFlag>,
    observer: AskObserver,
    /// Records the end of the answer in the journal, for an ask with an idempotency key.
    recorder: Option<Box<StreamRecorder<Delivery>>>,
}

/// The state of a stream.
enum StreamState {
    /// Events come over the connection.
    Live { events: SseParser<Body>, progress: StreamProgress },
    /// The last event was yielded. The rest of the body is read, so that the connection can be
    /// reused.
    Draining(SseParser<Body>),
    /// The connection was closed, and the task is looked up.
    Following(BoxStream<'static, Result<TaskSnapshot>>),
    /// The answer is whole.
    Completed,
    /// An error was yielded.
    Failed,
}

/// The progress of the answer on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamProgress {
    /// No result was received: an error event may still be a refusal.
    Opened,
    /// A result was received: the server has begun, and a later error event is not a refusal.
    Begun,
    /// A state that may be the last was received, without a final event.
    Settling,
}

type Body = BoxStream<'static, reqwest::Result<Bytes>>;

/// The time without an event, comments excluded, after a state that may be the last.
const SETTLING_TIME: Duration = Duration::from_secs(5);

/// The number of skipped events of other tasks after which a poll yields to the runtime.
const SKIPS_A_POLL: usize = 256;

impl Driver {
    pub(crate) fn new(
        platform: Arc<Platform>,
        ask: AskContext,
        response: Response,
        deadline: Option<Instant>,
        observer: AskObserver,
    ) -> Self {
        let max_event_bytes = ask.limits().max_event_bytes;
        let mut driver = Self {
            platform,
            ask,
            accumulated: TaskAccumulator::new(Keeps::Task),
            state: StreamState::Failed,
            timeouts: StreamTimeouts::default(),
            deadline,
            sent: None,
            observer,
            recorder: None,
        };
        driver.state = match response {
            Response::Events(response) => StreamState::Live {
                events: SseParser::new(response.bytes_stream().boxed(), max_event_bytes),
                progress: StreamProgress::Opened,
            },
            Response::Task(found) => driver.follow(FollowStart::Snapshot(found)),
        };
        driver
    }

    /// Sets the flag to clear where the first event is a refusal.
    pub(crate) fn with_sent_flag(mut self, sent: SentFlag) -> Self {
        self.sent = Some(sent);
        self
    }

    pub(crate) fn recorded_by(mut self, sending: Option<Box<Sending>>) -> Self {
        self.recorder = sending.map(|sending| Box::new(StreamRecorder::new(sending)));
        self
    }

    /// Keeps only the status of the events, unless the journal needs the rest.
    pub(super) fn without_content(mut self) -> Self {
        if self.recorder.is_some() {
            return self;
        }
        self.accumulated = TaskAccumulator::new(Keeps::Status);
        self
    }

    fn follower(&self) -> Follower {
        let deadline = self.deadline.unwrap_or_else(|| instant_after(Duration::MAX));
        self.platform.follower(&self.ask, deadline)
    }

    fn follow(&self, start: FollowStart) -> StreamState {
        StreamState::Following(self.follower().into_snapshots(start).boxed())
    }

    pub(super) fn fmt_as(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("task_id", &self.ask.task_id)
            .field("session_id", &self.ask.session_id)
            .field("request_id", &self.ask.request.id())
            .finish_non_exhaustive()
    }

    /// Polls for the next event. The end of an ask with a key is recorded before the event that
    /// shows it is yielded.
    pub(super) fn poll_delivery(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery>>> {
        let Some(mut recorder) = self.recorder.take() else {
            return self.poll_unrecorded(cx);
        };
        let polled = match recorder.poll_waiting(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(next)) => Poll::Ready(next),
            Poll::Ready(None) => match self.poll_unrecorded(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(next) => {
                    let end = self.end_shown_by(next.as_ref());
                    recorder.poll_record(cx, end, next)
                }
            },
        };
        self.recorder = Some(recorder);
        polled
    }

    /// Returns the end of the answer that the next item shows, for the journal.
    fn end_shown_by(&self, next: Option<&Result<Delivery>>) -> StreamEnd {
        let has_ended = match next {
            Some(Err(error)) => return StreamEnd::Failed(error.clone()),
            Some(Ok(_)) => {
                matches!(self.state, StreamState::Draining(_) | StreamState::Following(_))
            }
            None => matches!(self.state, StreamState::Completed),
        };
        let state = self.accumulated.state();
        match has_ended && (state.is_terminal() || state.is_waiting_for_user()) {
            true => {
                let task = self.accumulated.to_task(self.ask.task_id.clone());
                StreamEnd::Task(Box::new(task))
            }
            false => StreamEnd::None,
        }
    }

    fn poll_unrecorded(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery>>> {
        for _ in 0..SKIPS_A_POLL {
            let next = match &mut self.state {
                StreamState::Live { events, progress } => {
                    self.timeouts.reader_waits();
                    let polled = events.poll_next_unpin(cx).map_ok(SseEvent::into_bytes);
                    let (received, progress) = (events.has_received(), *progress);
                    ready!(self.process(cx, polled, received, progress))
                }
                StreamState::Draining(events) => {
                    // If the end of the body has already arrived, reading it returns the connection
                    // to the pool.
                    let _ = events.poll_next_unpin(cx);
                    StepResult::Complete
                }
                StreamState::Following(snapshots) => {
                    match ready!(self.observer.in_scope(|| snapshots.poll_next_unpin(cx))) {
                        Some(Ok(found)) => self.apply_snapshot(found),
                        Some(Err(error)) => StepResult::Fail(error),
                        None => StepResult::Complete,
                    }
                }
                StreamState::Completed | StreamState::Failed => return Poll::Ready(None),
            };
            match next {
                StepResult::Deliver(delivery) => {
                    self.timeouts.reader_leaves();
                    return Poll::Ready(Some(Ok(delivery)));
                }
                StepResult::Skip => {}
                StepResult::Complete => self.complete(),
                StepResult::Fail(error) => return Poll::Ready(Some(Err(self.fail(error)))),
                StepResult::Lost(error) => {
                    if let Some(error) = self.recover(error) {
                        return Poll::Ready(Some(Err(error)));
                    }
                }
                StepResult::Confirm => self.confirm(),
            }
        }
        // Yields to the runtime, because the server sends many events of other tasks.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Processes the result of polling the connection.
    #[inline]
    fn process(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<Option<Result<Bytes, SseError<reqwest::Error>>>>,
        received: bool,
        progress: StreamProgress,
    ) -> Poll<StepResult> {
        let is_settling = progress == StreamProgress::Settling;
        if received && !is_settling {
            self.timeouts.restart_idle();
        }
        Poll::Ready(match polled {
            Poll::Pending => {
                let idle = self.ask.limits().idle_timeout;
                let idle = if is_settling { idle.min(SETTLING_TIME) } else { idle };
                // Checked first, since bytes that are not events may keep arriving.
                let passed = if is_past(self.deadline) {
                    TimeoutKind::Deadline
                } else {
                    ready!(self.timeouts.poll(cx, idle, self.deadline))
                };
                match passed {
                    _ if is_settling => StepResult::Confirm,
                    TimeoutKind::Idle => StepResult::Lost(Error::stream_idle()),
                    TimeoutKind::Deadline => StepResult::Lost(Error::stream_deadline_passed()),
                }
            }
            Poll::Ready(Some(Ok(data))) => {
                if self.timeouts.admits(data.len(), self.deadline) {
                    self.read(data, progress)
                } else {
                    StepResult::Lost(Error::stream_deadline_passed())
                }
            }
            Poll::Ready(Some(Err(error))) => StepResult::Lost(lost(error)),
            Poll::Ready(None) if is_settling => StepResult::Complete,
            Poll::Ready(None) => {
                StepResult::Lost(Error::stream_cut("the stream ended before the answer did"))
            }
        })
    }

    fn read(&mut self, data: Bytes, progress: StreamProgress) -> StepResult {
        let payload = match decode_message(&data) {
            Ok(MessageContent::Result(payload)) => payload,
            Ok(MessageContent::Unknown(value)) => {
                self.begin(progress);
                return StepResult::Deliver(Delivery { raw: data, event: Event::Unknown(value) });
            }
            Ok(MessageContent::Error(rpc, beside_result)) => {
                let has_task = beside_result || progress != StreamProgress::Opened;
                return self.refused_or_lost(Error::from_rpc(rpc), has_task);
            }
            Ok(MessageContent::KeepAlive) => return StepResult::Skip,
            Ok(MessageContent::Nothing) => {
                return StepResult::Lost(Error::protocol(
                    "an event is neither a result nor an error",
                ));
            }
            Err(error) => {
                let lost = Error::protocol("an event could not be understood");
                return StepResult::Lost(lost.with_source(error));
            }
        };
        let is_final = payload.is_final();
        let artifacts = match payload.includes_artifacts() {
            true => ArtifactsField::Included,
            false => ArtifactsField::LeftOut,
        };
        let Some(update) = payload.into_update(&self.ask.task_id) else {
            return StepResult::Lost(Error::protocol(
                "an event has a state that could not be understood",
            ));
        };
        // This holds for an event of any task: a server that sends events has begun to act.
        self.begin(progress);
        self.apply(update.into(), artifacts, is_final, data)
    }

    fn begin(&mut self, progress: StreamProgress) {
        if progress == StreamProgress::Opened {
            self.sent = None;
            self.set_progress(StreamProgress::Begun);
        }
    }

    fn set_progress(&mut self, next: StreamProgress) {
        if let StreamState::Live { progress, .. } = &mut self.state {
            *progress = next;
        }
    }

    #[inline]
    fn apply(
        &mut self,
        mut event: Event,
        artifacts: ArtifactsField,
        is_final: bool,
        data: Bytes,
    ) -> StepResult {
        if event.task_id() != Some(&self.ask.task_id) {
            return StepResult::Skip;
        }
        let size = self.accumulated.apply(&mut event, artifacts, data.len());
        let limit = self.ask.limits().max_reply_bytes;
        if size > 0 && size > limit {
            return StepResult::Fail(Error::too_large("the answer", limit));
        }
        // An event restarts the idle limit at any time, unlike a comment.
        self.timeouts.restart_idle();
        if let Some(state) = event.state() {
            self.observer.note_state(state);
            let may_be_last = state.is_terminal() || state.is_waiting_for_user();
            self.set_progress(if may_be_last {
                StreamProgress::Settling
            } else {
                StreamProgress::Begun
            });
        }
        if is_final {
            self.end_live();
        }
        StepResult::Deliver(Delivery { raw: data, event })
    }

    /// Ends the connection after a final event or the end of the body. Follows a task that is still
    /// running; looks a task up whose state is not recognized or was never received.
    fn end_live(&mut self) {
        let state = std::mem::replace(&mut self.state, StreamState::Failed);
        let known = self.accumulated.state();
        self.state = match state {
            StreamState::Live { .. } if known.is_running() => {
                let task = self.accumulated.to_task(self.ask.task_id.clone());
                self.follow(FollowStart::StillRunning(task))
            }
            StreamState::Live { .. }
                if matches!(known, TaskState::Unknown | TaskState::Other(_)) =>
            {
                self.accumulated.end_artifacts();
                let task = self.accumulated.to_task(self.ask.task_id.clone());
                let follower = self.follower().received();
                let snapshots = follower.into_snapshots(FollowStart::Unrecognized(task));
                StreamState::Following(snapshots.boxed())
            }
            StreamState::Live { events, .. } => StreamState::Draining(events),
            other => other,
        };
    }

    /// Interprets an error event: it is a refusal only if no result was received before.
    fn refused_or_lost(&self, error: Error, has_task: bool) -> StepResult {
        let answer = ErrorAnswer {
            status: 200,
            has_task,
            rpc: error.rpc_error(),
            asks_to_wait: false,
            id: IdAtServer::AsExpected,
        };
        match classify(Attempt::Answer(answer), self.platform.policy()) {
            RetryDecision::Refused => StepResult::Fail(error.with_outcome(Outcome::NotDone)),
            _ => StepResult::Lost(error),
        }
    }

    fn apply_snapshot(&mut self, mut found: TaskSnapshot) -> StepResult {
        let is_whole = self.accumulated.apply_snapshot(&mut found);
        self.observer.note_state(self.accumulated.state());
        if !is_whole {
            return StepResult::Fail(Error::answer_not_whole(self.accumulated.state()));
        }
        StepResult::Deliver(Delivery { raw: found.response, event: Event::Task(found.task) })
    }

    /// Closes the connection and looks the task up instead. Returns the error if it cannot be
    /// looked up.
    fn recover(&mut self, error: Error) -> Option<Error> {
        let progress = match &self.state {
            StreamState::Live { progress, .. } => *progress,
            _ => return Some(self.fail(error)),
        };
        if is_past(self.deadline) {
            return Some(self.fail(error));
        }
        if error.is_timeout() {
            self.leave_pool();
        }
        self.timeouts = StreamTimeouts::default();
        let follower = match progress {
            StreamProgress::Opened => self.follower(),
            StreamProgress::Begun | StreamProgress::Settling => self.follower().received(),
        };
        let snapshots = follower.into_snapshots(FollowStart::Lost(error)).boxed();
        self.state = StreamState::Following(snapshots);
        None
    }

    /// Leaves the pool of this stream's connection, which may be dead. A pool that was opened while
    /// the stream was already silent is kept: another stream of the same connection has left it.
    fn leave_pool(&self) {
        let now = Instant::now();
        let silent_since = now.checked_sub(self.ask.limits().idle_timeout).unwrap_or(now);
        self.platform.http.leave_pool_of(silent_since);
    }

    /// Closes the connection after a state that may be the last, and looks the task up once more.
    fn confirm(&mut self) {
        self.timeouts = StreamTimeouts::default();
        self.state = self.confirmation();
    }

    fn confirmation(&self) -> StreamState {
        StreamState::Following(self.follower().received().into_confirmation().boxed())
    }

    fn fail(&mut self, error: Error) -> Error {
        self.state = StreamState::Failed;
        self.timeouts = StreamTimeouts::default();
        if let Some(sent) = self.sent.take()
            && error.is_safe_to_ask_again()
        {
            sent.clear();
        }
        let error = error.with_task_id(&self.ask.task_id);
        self.observer.end_failed(&error);
        error
    }

    fn complete(&mut self) {
        self.state = StreamState::Completed;
        self.timeouts = StreamTimeouts::default();
        self.observer.end_answered(self.accumulated.state());
    }

    pub(super) fn into_reply(self) -> Result<Reply> {
        match self.state {
            StreamState::Completed => {
                let task = self.accumulated.into_task(self.ask.task_id);
                Ok(Reply::new(task, self.ask.request, &self.ask.session_id))
            }
            _ => {
                let error = Error::stream_cut("the stream had already failed");
                Err(error.with_task_id(&self.ask.task_id))
            }
        }
    }
}

/// The result of one step.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly always an event: a box would cost each of them"
)]
enum StepResult {
    Deliver(Delivery),
    Skip,
    /// The answer is whole.
    Complete,
    Fail(Error),
    /// The rest of the answer has to be looked up.
    Lost(Error),
    /// The stream stays silent after a state that may be the last.
    Confirm,
}

fn lost(error: SseError<reqwest::Error>) -> Error {
    match error {
        SseError::Source(error) => {
            Error::stream_cut("the connection broke before the answer ended")
                .with_source(error.without_url())
        }
        SseError::Utf8 => Error::protocol("an event is not UTF-8"),
        SseError::TooLarge { limit } => Error::too_large("an event", limit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{AskStream, RawStream};

    /// A limit for the size of a stream, of which a process may hold ten thousand.
    #[test]
    fn an_open_stream_is_small() {
        assert_eq!(size_of::<AskStream>(), size_of::<usize>());
        assert_eq!(size_of::<RawStream>(), size_of::<usize>());
        assert!(size_of::<Driver>() <= size_of::<[usize; 41]>(), "{}", size_of::<Driver>());
    }
}
