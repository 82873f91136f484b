//! Finds a lost answer and waits for a running task.
//!
//! * **Reconcile**: an answer was lost, so the task is looked up until it proves that the ask was
//!   received.
//! * **Poll**: the task is running, so it is looked up until it no longer is. Events of a
//!   resubscribed stream bring a lookup forward. Their content is not used, since events before
//!   them may be missing.
//!
//! All of it is bounded by time: the deadline, the time without an answer
//! ([`RetryPolicy::recovery_timeout`](crate::RetryPolicy::recovery_timeout)) and the time without
//! progress (the idle limit). The last lookup is made at the end of that time.

mod hint;
mod order;
mod window;

use std::sync::Arc;
use std::time::Duration;

use async_stream::try_stream;
use futures::Stream;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::Platform;
use super::lookup::{LookupResult, last_start};
use super::response::{SnapshotSource, TaskSnapshot};
use crate::ask::{AskContext, TaskOrigin};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::escape::escape_line;
use crate::time::{instant_after, instant_of};
use crate::wire::state::TaskState;
use crate::wire::task::{Role, Task};

use hint::Hint;
use order::{Order, compare};
use window::{PollBackoff, Window};

/// The time for lookups of a stream's last state that is not known to be the task's last.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(3);

/// The shortest limit for the time without progress: an idle limit for bytes may be shorter than
/// the time between two lookups.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(1);

/// Looks one task up until its answer is found, or until it no longer runs.
pub(crate) struct Follower {
    platform: Arc<Platform>,
    ask: AskContext,
    deadline: Instant,
    receipt: Receipt,
    lookups: Lookups,
    last_lookup: Option<Instant>,
    /// The time of the last change of the state, the timestamp or the artifacts.
    progress_at: Instant,
    poll: PollBackoff,
    hint: Hint,
}

/// The state of the proof that the server received the ask.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Receipt {
    Unproven,
    Proven,
}

/// Tells a server that answers lookups of the task from one that may not offer them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lookups {
    NeverAnswered,
    Answered,
}

/// The result of looking for a lost answer.
#[expect(clippy::large_enum_variant, reason = "short-lived, one at a time")]
pub(super) enum Reconciled {
    Found(TaskSnapshot),
    /// The server said that it does not know the task.
    NotKnown,
    NotFound,
}

/// The result of one lookup, interpreted for the task that is followed.
#[expect(clippy::large_enum_variant, reason = "short-lived, one at a time")]
pub(crate) enum Observation {
    /// The task as of now.
    Seen(TaskSnapshot),
    /// A snapshot that does not prove that the ask was received.
    Stale,
    /// The server does not know the task.
    NotKnown(Error),
    /// The server does not offer lookups.
    Unsupported(Error),
    /// The lookup failed, and may be repeated.
    Failed(Error),
}

/// The result of waiting for a change of the task.
#[expect(clippy::large_enum_variant, reason = "short-lived, one at a time")]
enum Change {
    To(TaskSnapshot),
    /// The server does not offer lookups of the task.
    CannotFollow(Error),
}

/// The state in which following begins.
pub(crate) enum FollowStart {
    /// The answer was lost by this error.
    Lost(Error),
    /// The ask or a lookup returned this snapshot.
    Snapshot(TaskSnapshot),
    /// The stream ended with this task still running. It was shown already.
    StillRunning(Task),
    /// The stream ended with this task, whose state is not recognized or was never received.
    Unrecognized(Task),
}

impl Follower {
    pub(super) fn new(platform: Arc<Platform>, ask: AskContext, deadline: Instant) -> Self {
        Self {
            platform,
            ask,
            deadline,
            receipt: Receipt::Unproven,
            lookups: Lookups::NeverAnswered,
            last_lookup: None,
            progress_at: Instant::now(),
            poll: PollBackoff::new(),
            hint: Hint::Off,
        }
    }

    /// Marks the ask as received, because the server answered it: lookups need not prove it again.
    pub(crate) fn received(mut self) -> Self {
        self.receipt = Receipt::Proven;
        self
    }

    fn note(&mut self, found: &TaskSnapshot) {
        self.receipt = Receipt::Proven;
        self.progress_at = Instant::now();
        if found.source == SnapshotSource::Lookup {
            self.lookups = Lookups::Answered;
        }
    }

    /// Looks for the answer to an ask that may have been received; `error` is how it was lost.
    ///
    /// Returns the task in its present state, or the error with an unknown outcome where the task
    /// is not found.
    pub(crate) async fn reconcile(&mut self, error: Error) -> Result<TaskSnapshot> {
        let lost = error.with_outcome(Outcome::Unknown).with_task_id(&self.ask.task_id);
        match self.search(&lost, NotKnown::MayStillArrive).await {
            Reconciled::Found(found) => {
                let task_id = &self.ask.task_id;
                let state = escape_line(found.task.state().as_str());
                debug!(%task_id, %state, "found the lost answer");
                Ok(found)
            }
            Reconciled::NotKnown | Reconciled::NotFound => Err(lost),
        }
    }

    /// Looks the task up on a server that was busy, to learn whether it received the ask.
    pub(super) async fn check_receipt(&mut self, busy: &Error) -> Reconciled {
        self.search(busy, NotKnown::IsAnAnswer).await
    }

    async fn search(&mut self, lost: &Error, not_known: NotKnown) -> Reconciled {
        // A reply that is over the size limit would exceed it again.
        if !self.platform.policy.reconcile
            || lost.kind() == ErrorKind::TooLarge
            || Instant::now() >= self.deadline
        {
            return Reconciled::NotFound;
        }
        let mut window = Window::new(self);
        loop {
            let retry_after = match self.observe(&window).await {
                Observation::Seen(found) => return Reconciled::Found(found),
                Observation::NotKnown(_) if not_known == NotKnown::IsAnAnswer => {
                    return Reconciled::NotKnown;
                }
                Observation::Unsupported(error) if is_for_good(&error) => {
                    return Reconciled::NotFound;
                }
                // The ask may still be in transit, or not yet be in the history.
                Observation::NotKnown(_) | Observation::Stale => None,
                Observation::Unsupported(error) | Observation::Failed(error) => error.retry_after(),
            };
            match window.next_try(retry_after) {
                Some(at) => sleep_until(at).await,
                None => return Reconciled::NotFound,
            }
        }
    }

    /// Follows a task until it no longer runs. Returns `found` where the server does not offer
    /// lookups.
    pub(crate) async fn follow_to_end(mut self, mut found: TaskSnapshot) -> Result<TaskSnapshot> {
        self.note(&found);
        while self.is_to_be_followed(&found.task) {
            match self.next_change(&found, None).await? {
                Change::To(next) => {
                    check_whole(&found.task, &next)?;
                    found = next;
                }
                Change::CannotFollow(_) => break,
            }
        }
        Ok(found)
    }

    /// Returns true for a task that still runs. A task with another id than the ask's is returned
    /// as it is.
    pub(crate) fn is_to_be_followed(&self, task: &Task) -> bool {
        self.may_follow() && task.state().is_running() && task.id == self.ask.task_id
    }

    fn may_follow(&self) -> bool {
        self.platform.policy.follow || matches!(self.ask.origin(), TaskOrigin::Followed)
    }

    /// Converts into a stream of snapshots: one for each change of the task, until it no longer
    /// runs.
    pub(crate) fn into_snapshots(
        mut self,
        start: FollowStart,
    ) -> impl Stream<Item = Result<TaskSnapshot>> + Send {
        try_stream! {
            self.hint = Hint::Unopened;
            let mut cause = None;
            let is_cut = matches!(start, FollowStart::Lost(_) | FollowStart::StillRunning(_));
            let mut current = match start {
                FollowStart::Lost(error) => {
                    debug!(task_id = %self.ask.task_id, kind = ?error.kind(), "the stream was cut");
                    cause = error.rpc_error().is_some().then(|| error.clone());
                    let found = self.reconcile(error).await?;
                    yield found.clone();
                    found
                }
                FollowStart::Snapshot(found) => {
                    yield found.clone();
                    found
                }
                FollowStart::StillRunning(task) => TaskSnapshot::of(task),
                FollowStart::Unrecognized(task) => match self.find_state().await {
                    Some(found) => {
                        yield found.clone();
                        found
                    }
                    // The server ended the stream itself, so its unrecognized state is yielded as
                    // the last.
                    None if *task.state() != TaskState::Unknown => TaskSnapshot::of(task),
                    None => Err(Error::state_never_came(&self.ask.task_id))?,
                },
            };
            self.note(&current);
            // A state that is not recognized does not prove the end of an answer that was cut.
            while current.task.state().is_running()
                || (is_cut && is_unrecognized(current.task.state()))
            {
                if !self.may_follow() {
                    Err(self.not_ended(&current.task))?;
                }
                match self.next_change(&current, cause.as_ref()).await? {
                    Change::To(next) => current = next,
                    Change::CannotFollow(error) => Err(error.with_outcome(Outcome::Unknown))?,
                }
                yield current.clone();
            }
        }
    }

    /// Looks up a task whose stream sent a state that may be the last, and then no more events.
    ///
    /// Yields the task if a lookup shows that it has ended. Otherwise yields nothing, and the state
    /// that the stream sent stands.
    pub(crate) fn into_confirmation(mut self) -> impl Stream<Item = Result<TaskSnapshot>> + Send {
        try_stream! {
            if let Some(found) = self.find(may_be_last).await {
                yield found;
            }
        }
    }

    /// Looks up a task until its state is recognized.
    async fn find_state(&mut self) -> Option<TaskSnapshot> {
        self.find(|state| may_be_last(state) || state.is_running()).await
    }

    /// Looks up a task until `is_wanted` accepts its state. Returns `None` if no lookup shows such
    /// a state within a few seconds.
    async fn find(&mut self, is_wanted: fn(&TaskState) -> bool) -> Option<TaskSnapshot> {
        let ends = instant_after(CONFIRM_TIMEOUT).min(self.deadline);
        if !self.platform.policy.reconcile || Instant::now() >= ends {
            return None;
        }
        let mut window = Window::new(self).ending_at(ends);
        loop {
            match self.observe(&window).await {
                Observation::Seen(found) if is_wanted(found.task.state()) => return Some(found),
                Observation::Unsupported(error) if is_for_good(&error) => return None,
                _ => {}
            }
            sleep_until(window.next_try(None)?).await;
        }
    }

    /// Waits until a lookup shows that the task has changed.
    ///
    /// `cause` is an error that the stream sent. With one, or with a state that is not recognized
    /// (the task may have ended), the time without progress is limited further.
    async fn next_change(
        &mut self,
        before: &TaskSnapshot,
        cause: Option<&Error>,
    ) -> Result<Change> {
        let idle = self.ask.limits().idle_timeout.max(SHORTEST_PATIENCE);
        let patience = match cause.is_some() || is_unrecognized(before.task.state()) {
            true => self.platform.policy.recovery_timeout.min(idle),
            false => idle,
        };
        let mut failing: Option<(Window, Error)> = None;
        loop {
            let now = Instant::now();
            let stands_still_at = instant_of(self.progress_at, patience);
            let ends = last_start(stands_still_at, self.deadline);
            let next = match &mut failing {
                // Failing lookups are repeated in the same way as those for a lost answer.
                Some((window, error)) => match window.next_try(error.retry_after()) {
                    Some(at) => at,
                    None => return self.give_up(error.clone()),
                },
                None => instant_after(self.poll.next_wait()),
            };
            let is_last = next >= ends || now >= ends;
            if failing.is_some() {
                sleep_until(next.min(ends)).await;
            } else {
                self.wait_for_hint(next.min(ends), ends).await;
            }
            let until = failing.as_ref().map_or_else(|| Window::new(self), |(window, _)| *window);
            match self.observe(&until).await {
                Observation::Seen(found) if is_progress(&before.task, &found.task) => {
                    self.progress_at = Instant::now();
                    return Ok(Change::To(found));
                }
                // Other changes are yielded, but do not count as progress.
                Observation::Seen(found) if found.task != before.task && !is_last => {
                    return Ok(Change::To(found));
                }
                Observation::Seen(_) | Observation::Stale => failing = None,
                Observation::Unsupported(error) if is_for_good(&error) => {
                    return Ok(Change::CannotFollow(error));
                }
                Observation::Unsupported(error)
                | Observation::NotKnown(error)
                | Observation::Failed(error) => match &mut failing {
                    Some((_, last)) => *last = error,
                    none => *none = Some((Window::new(self), error)),
                },
            }
            if is_last {
                let id = &self.ask.task_id;
                let error = match stands_still_at <= self.deadline {
                    true if is_unrecognized(before.task.state()) => self.not_ended(&before.task),
                    true => Error::task_stands_still(id),
                    false => Error::task_still_running(id),
                };
                return Err(match cause {
                    Some(cause) => error.with_source(cause.clone()),
                    None => error,
                });
            }
        }
    }

    /// Returns the error for a task that is not followed further, and is not known to have ended.
    fn not_ended(&self, task: &Task) -> Error {
        match task.state() {
            TaskState::Other(_) => Error::state_not_recognized(&self.ask.task_id, task.state()),
            _ => Error::task_not_followed(&self.ask.task_id),
        }
    }

    /// Ends the lookups, which failed for too long. A server that refuses them as unsupported, and
    /// never answered one, does not offer them.
    fn give_up(&self, last: Error) -> Result<Change> {
        if last.is_unsupported() && self.lookups == Lookups::NeverAnswered {
            return Ok(Change::CannotFollow(last));
        }
        Err(Error::lookups_unanswered(&self.ask.task_id).with_source(last))
    }

    /// Looks the task up once.
    pub(crate) async fn look_up_once(&mut self) -> Observation {
        self.observe(&Window::new(self)).await
    }

    /// Looks the task up once, and interprets the answer.
    async fn observe(&mut self, window: &Window) -> Observation {
        self.last_lookup = Some(Instant::now());
        let until = window.one_lookup(self);
        match self.platform.lookup(&self.ask, until).await {
            LookupResult::Task(found) => {
                self.lookups = Lookups::Answered;
                if !self.proves_receipt(&found.task) {
                    return Observation::Stale;
                }
                self.receipt = Receipt::Proven;
                Observation::Seen(*found)
            }
            // The server has answered a lookup before, so this is a temporary failure.
            LookupResult::NotKnown(error) | LookupResult::Unsupported(error)
                if self.lookups == Lookups::Answered =>
            {
                Observation::Failed(error)
            }
            LookupResult::NotKnown(error) => Observation::NotKnown(error),
            LookupResult::Unsupported(error) => Observation::Unsupported(error),
            LookupResult::Failed(error) => Observation::Failed(error),
        }
    }

    /// Returns true where the task proves that the ask was received, and is not from before it.
    ///
    /// A new id proves it. A continued task proves it by a later timestamp than the one known
    /// before and the message just sent as the last in its history. Where the server answered the
    /// request itself, the receipt is proven already, and only a snapshot from before it is
    /// excluded.
    fn proves_receipt(&self, task: &Task) -> bool {
        if *task.state() == TaskState::Unknown {
            return false;
        }
        let TaskOrigin::Continued(before) = self.ask.origin() else {
            return true;
        };
        let order = compare(before.since.as_ref(), task.status.timestamp.as_ref());
        match (order, self.receipt) {
            (Order::Later, Receipt::Unproven) => {
                let said = task.history.iter().rev().find(|message| message.role == Role::User);
                said.is_some_and(|message| message.text() == before.text)
            }
            (Order::Later, Receipt::Proven) => true,
            // Without timestamps, a question may be the one that was answered already. Showing it
            // again could cause a second answer.
            (Order::Unclear, Receipt::Proven) => !task.state().is_waiting_for_user(),
            (Order::Unclear, Receipt::Unproven) | (Order::NotLater, _) => false,
        }
    }
}

/// The interpretation of a reply that the server does not know the task.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NotKnown {
    /// The ask may still be in transit.
    MayStillArrive,
    /// The server did not accept the ask.
    IsAnAnswer,
}

/// Returns true for a state with which a stream may end.
fn may_be_last(state: &TaskState) -> bool {
    state.is_terminal() || state.is_waiting_for_user()
}

fn is_unrecognized(state: &TaskState) -> bool {
    matches!(state, TaskState::Other(_))
}

/// Returns true where the state, the timestamp or the artifacts changed. Other fields may change
/// without progress of the agent.
fn is_progress(before: &Task, now: &Task) -> bool {
    before.status.state != now.status.state
        || before.status.timestamp != now.status.timestamp
        || before.artifacts != now.artifacts
}

/// Returns true where the server itself reports that it does not offer lookups. An HTTP 404 may
/// come from a gateway whose server restarts.
fn is_for_good(error: &Error) -> bool {
    error.is_unsupported() && (error.rpc_code().is_some() || error.status() != Some(404))
}

/// Refuses a task that ended without artifacts, omitted or none, although it had some while it ran:
/// its answer is not whole.
pub(crate) fn check_whole(before: &Task, now: &TaskSnapshot) -> Result<()> {
    let lost_some = now.task.artifacts.is_empty() && !before.artifacts.is_empty();
    if lost_some && !now.task.state().is_running() {
        return Err(Error::answer_not_whole(now.task.state()).with_task_id(&now.task.id));
    }
    Ok(())
}
