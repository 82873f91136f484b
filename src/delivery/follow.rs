//! Finds a lost answer and waits for a running task. The only place that does.
//!
//! * **Reconcile**: an answer was lost, so the task is looked up until it proves that the ask was
//!   received.
//! * **Poll**: the task is running, so it is looked up until it no longer is. A resubscribed stream
//!   may bring a lookup forward. What it says is not used: it may have missed something.
//!
//! All of it is bounded by time: the deadline, the time without an answer
//! ([`RetryPolicy::recovery_timeout`](crate::RetryPolicy::recovery_timeout)) and the time without
//! progress (the idle limit). The last lookup happens at the end of that time.

use std::sync::Arc;
use std::time::Duration;

use async_stream::try_stream;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, Stream, StreamExt};
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::debug;

use super::Platform;
use super::lookup::{LOOKUP_TIMEOUT, LookupResult, last_start, lookup_backoff};
use super::response::{SnapshotSource, TaskSnapshot};
use crate::ask::{AskContext, TaskOrigin};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::time::{instant_after, instant_of};
use crate::transport::backoff::Backoff;
use crate::wire::state::TaskState;
use crate::wire::task::{Role, Task};
use crate::wire::timestamp::Timestamp;

/// A resubscribed stream brings a lookup forward to no sooner than this after the last one.
const HINT_FLOOR: Duration = Duration::from_secs(1);
/// Between a hint and the lookup: events come in bursts.
const HINT_DELAY: Duration = Duration::from_millis(250);
/// How long a stream's last state is looked into, where it is not known to be the task's last.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(3);

/// A task is given at least this time without progress: an idle limit for bytes may be shorter than
/// the time between two lookups.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(1);

/// The waits between two lookups of a running task: growing, not random, since one caller polls one
/// task.
struct PollBackoff(Duration);

impl PollBackoff {
    fn new() -> Self {
        Self(Duration::from_millis(250))
    }

    fn next_wait(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 8 / 5).min(Duration::from_secs(5));
        wait
    }
}

/// Looks one task up until its answer is found, or until it no longer runs.
pub(crate) struct Follower {
    platform: Arc<Platform>,
    ask: AskContext,
    deadline: Instant,
    receipt: Receipt,
    lookups: Lookups,
    last_lookup: Option<Instant>,
    /// When the state, the timestamp or the artifacts changed last.
    progress_at: Instant,
    poll: PollBackoff,
    hint: Hint,
}

/// Whether it is proven that the server received the ask.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Receipt {
    Unproven,
    Proven,
}

/// Whether this server has answered a lookup of the task.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lookups {
    NeverAnswered,
    Answered,
}

/// What came of looking for a lost answer.
#[expect(clippy::large_enum_variant, reason = "short-lived, one at a time")]
pub(super) enum Reconciled {
    Found(TaskSnapshot),
    /// The server said that it does not know the task.
    NotKnown,
    NotFound,
}

/// What one lookup means for the task that is followed.
#[expect(clippy::large_enum_variant, reason = "short-lived, one at a time")]
pub(crate) enum Observation {
    /// The task as of now.
    Seen(TaskSnapshot),
    /// An answer that does not show that the ask was received.
    Stale,
    /// The server does not know the task.
    NotKnown(Error),
    /// The server cannot be asked.
    Unsupported(Error),
    /// No answer, for now.
    Failed(Error),
}

/// How following went on.
#[expect(clippy::large_enum_variant, reason = "short-lived, one at a time")]
enum Change {
    To(TaskSnapshot),
    /// The server cannot be asked about the task.
    CannotFollow(Error),
}

/// What following begins with.
pub(crate) enum FollowStart {
    /// The answer was lost in this way.
    Lost(Error),
    /// This snapshot came in reply to the ask, or was looked up.
    Snapshot(TaskSnapshot),
    /// The stream ended with this task still running. It was shown already.
    StillRunning(Task),
    /// The stream ended with this task, whose state is not recognized or never came.
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

    /// The server answered the ask itself: lookups need not prove the receipt again.
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

    /// Looks for the answer to an ask that may have been received: `error` says how it was lost.
    ///
    /// Returns the task in whatever state it is; the error, its outcome unknown, where it is not
    /// found.
    pub(crate) async fn reconcile(&mut self, error: Error) -> Result<TaskSnapshot> {
        let lost = error.with_outcome(Outcome::Unknown).with_task_id(&self.ask.task_id);
        match self.search(&lost, NotKnown::MayStillArrive).await {
            Reconciled::Found(found) => {
                let (task_id, state) = (&self.ask.task_id, found.task.state());
                debug!(%task_id, %state, "found the lost answer");
                Ok(found)
            }
            Reconciled::NotKnown | Reconciled::NotFound => Err(lost),
        }
    }

    /// Finds out whether a busy server knows the task.
    pub(super) async fn find_out(&mut self, busy: &Error) -> Reconciled {
        self.search(busy, NotKnown::IsAnAnswer).await
    }

    async fn search(&mut self, lost: &Error, not_known: NotKnown) -> Reconciled {
        // A reply that is over the limit would be so again.
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
                // The ask may still be on its way, or the continuation not yet in the history.
                Observation::NotKnown(_) | Observation::Stale => None,
                Observation::Unsupported(error) | Observation::Failed(error) => error.retry_after(),
            };
            match window.next_try(retry_after) {
                Some(at) => sleep_until(at).await,
                None => return Reconciled::NotFound,
            }
        }
    }

    /// Follows a task until it no longer runs. A server that cannot be asked leaves `found` as it
    /// is.
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

    /// Returns true for a task that still runs. One to which the server gave another id is what the
    /// server replied.
    pub(crate) fn is_to_be_followed(&self, task: &Task) -> bool {
        self.may_follow() && task.state().is_running() && task.id == self.ask.task_id
    }

    fn may_follow(&self) -> bool {
        self.platform.policy.follow || matches!(self.ask.origin, TaskOrigin::Followed)
    }

    /// Turns into a stream of snapshots: of the task whenever it changed, until it no longer runs.
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
                    // The server ended the stream itself: its own word for the state is shown.
                    None if *task.state() != TaskState::Unknown => TaskSnapshot::of(task),
                    None => Err(Error::state_never_came(&self.ask.task_id))?,
                },
            };
            self.note(&current);
            // Nothing says of a state that is not recognized that it ends an answer that was cut.
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

    /// Looks up a task whose stream brought a state that may be the last, and then nothing more.
    /// Yields the task where it was found to have ended. Where it cannot be found out, the stream
    /// is taken as it is.
    pub(crate) fn into_confirmation(mut self) -> impl Stream<Item = Result<TaskSnapshot>> + Send {
        try_stream! {
            if let Some(found) = self.find(may_be_last).await {
                yield found;
            }
        }
    }

    /// Looks up a task until its state is one that is recognized.
    async fn find_state(&mut self) -> Option<TaskSnapshot> {
        self.find(|state| may_be_last(state) || state.is_running()).await
    }

    /// Looks up a task until its state is one that is wanted. Returns `None` where no lookup shows
    /// one within a few seconds.
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

    /// Waits until a lookup shows the task otherwise than before.
    ///
    /// `cause` is an error that the stream brought: such a task is given less time without
    /// progress. So is one whose state is not recognized: it may have ended.
    async fn next_change(
        &mut self,
        before: &TaskSnapshot,
        cause: Option<&Error>,
    ) -> Result<Change> {
        let idle = self.ask.limits.idle_timeout.max(SHORTEST_PATIENCE);
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
                // The lookups fail: they are repeated as those for a lost answer are.
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
                // What else changed is shown, but does not prolong the time.
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

    /// The lookups failed for too long. A server that never answered one cannot be asked.
    fn give_up(&self, last: Error) -> Result<Change> {
        if last.is_unsupported() && self.lookups == Lookups::NeverAnswered {
            return Ok(Change::CannotFollow(last));
        }
        Err(Error::lookups_unanswered(&self.ask.task_id).with_source(last))
    }

    /// Looks the task up, once.
    pub(crate) async fn look_once(&mut self) -> Observation {
        self.observe(&Window::new(self)).await
    }

    /// Looks the task up, once, and judges what the answer means.
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
            // Of a server that has answered before, this is a failure of the moment.
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

    /// Returns true where the task shows that the ask was received, and is not from before it.
    ///
    /// A new id proves it. A continued task proves it with a later timestamp than the one known
    /// before and the message just sent as the last in its history. Where the server answered this
    /// very request, the receipt is proven already, and only a snapshot from before it has to be
    /// told apart.
    fn proves_receipt(&self, task: &Task) -> bool {
        if *task.state() == TaskState::Unknown {
            return false;
        }
        let TaskOrigin::Continued(before) = &self.ask.origin else {
            return true;
        };
        let order = compare(before.since.as_ref(), task.status.timestamp.as_ref());
        match (order, self.receipt) {
            (Order::Later, Receipt::Unproven) => {
                let said = task.history.iter().rev().find(|message| message.role == Role::User);
                said.is_some_and(|message| message.text() == before.text)
            }
            (Order::Later, Receipt::Proven) => true,
            // Without times, a question may be the one that was answered: to show it again would
            // invite a second answer.
            (Order::Unclear, Receipt::Proven) => !task.state().is_waiting_for_user(),
            (Order::Unclear, Receipt::Unproven) | (Order::NotLater, _) => false,
        }
    }

    /// Waits until `at`, or until shortly after a resubscribed stream said something; never past
    /// `latest`.
    async fn wait_for_hint(&mut self, at: Instant, latest: Instant) {
        if matches!(self.hint, Hint::Unopened) {
            self.hint = Hint::Open { events: self.resubscribe(), heard: Heard::Nothing };
        }
        let earliest = self.last_lookup.map_or(at, |last| last + HINT_FLOOR).min(latest);
        let Hint::Open { events, heard } = &mut self.hint else {
            return sleep_until(at).await;
        };
        // Where the stream says something, it decides when to look, and the clock is only a
        // fallback.
        let fallback = match heard {
            Heard::Something => at.max(earliest),
            Heard::Nothing => at,
        };
        match timeout_at(fallback, events.next()).await {
            Ok(Some(())) => {
                *heard = Heard::Something;
                let soon = instant_after(HINT_DELAY).max(earliest).min(latest);
                sleep_until(soon).await;
                // What came in the meantime is part of what the lookup will show.
                for _ in 0..MOST_HINTS {
                    if events.next().now_or_never().flatten().is_none() {
                        break;
                    }
                }
            }
            Ok(None) => {
                self.hint = Hint::Off;
                sleep_until(at).await;
            }
            Err(_) => {}
        }
    }

    /// Opens a stream of what comes from now on. What it appends cannot be trusted to follow what
    /// was received before: its bytes are a hint that something happened, no more.
    fn resubscribe(&self) -> BoxStream<'static, ()> {
        let (platform, ask) = (Arc::clone(&self.platform), self.ask.clone());
        let until = instant_after(ask.limits.reply_timeout).min(self.deadline);
        let opened = async move {
            let response = platform.resubscribe(&ask, until).await.ok()?;
            let chunks = response.bytes_stream();
            Some(chunks.take_while(|chunk| std::future::ready(chunk.is_ok())).map(drop))
        };
        stream::once(opened).filter_map(std::future::ready).flatten().boxed()
    }
}

/// How many hints are skipped at once.
const MOST_HINTS: usize = 1000;

/// A resubscribed stream, where the server has that.
enum Hint {
    Off,
    Unopened,
    Open { events: BoxStream<'static, ()>, heard: Heard },
}

#[derive(Clone, Copy)]
enum Heard {
    Nothing,
    Something,
}

/// What it means that the server does not know the task.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NotKnown {
    /// The ask may be on its way still.
    MayStillArrive,
    /// The ask was not taken up.
    IsAnAnswer,
}

/// The time in which lookups that fail are repeated. The last one happens at its end.
#[derive(Clone, Copy)]
struct Window {
    ends: Instant,
    deadline: Instant,
    /// How much longer `Retry-After` may make it.
    extension: Duration,
    backoff: Backoff,
    shortest: Duration,
    last: Last,
}

/// A lookup that would come so shortly before the last one is left out.
const LEAST_DISTANCE: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Ahead,
    Taken,
}

impl Window {
    fn new(follower: &Follower) -> Self {
        let timeout = follower.platform.policy.recovery_timeout;
        Self {
            ends: instant_after(timeout),
            deadline: follower.deadline,
            extension: follower.ask.limits.idle_timeout,
            backoff: lookup_backoff(),
            shortest: timeout.clamp(Duration::from_millis(250), Duration::from_secs(1)),
            last: Last::Ahead,
        }
    }

    /// Ends the time at `deadline`, if that comes first.
    fn ending_at(mut self, deadline: Instant) -> Self {
        self.deadline = self.deadline.min(deadline);
        self
    }

    /// Returns until when one lookup waits: at most half of the time that is left, so that a server
    /// which stalls once can be asked again.
    fn one_lookup(&self, follower: &Follower) -> Instant {
        let left = self.ends.min(self.deadline).saturating_duration_since(Instant::now());
        let longest = LOOKUP_TIMEOUT.min(follower.ask.limits.reply_timeout);
        instant_after(longest.min((left / 2).max(self.shortest))).min(self.deadline)
    }

    /// Returns when the next lookup begins; `None` after the last one.
    ///
    /// A wait that the server asked for does not count against the window. One that is over
    /// already, such as a date in the past, does not bring the next lookup forward.
    fn next_try(&mut self, retry_after: Option<Duration>) -> Option<Instant> {
        if self.last == Last::Taken {
            return None;
        }
        let now = Instant::now();
        let wait = self.backoff.next_wait().max(retry_after.unwrap_or_default());
        if let Some(asked) = retry_after
            && asked <= self.extension
            && now + asked < self.deadline
        {
            self.extension -= asked;
            self.ends += asked;
        }
        let last = last_start(self.ends, self.deadline);
        let left = last.saturating_duration_since(now);
        if wait + LEAST_DISTANCE < left {
            return Some(now + wait);
        }
        self.last = Last::Taken;
        Some(now + left)
    }
}

/// Returns true for a state with which a stream may end.
fn may_be_last(state: &TaskState) -> bool {
    state.is_terminal() || state.is_waiting_for_user()
}

fn is_unrecognized(state: &TaskState) -> bool {
    matches!(state, TaskState::Other(_))
}

/// Returns true where the task moved on. What else a server attaches may change by itself.
fn is_progress(before: &Task, now: &Task) -> bool {
    before.status.state != now.status.state
        || before.status.timestamp != now.status.timestamp
        || before.artifacts != now.artifacts
}

/// How two timestamps stand to each other.
enum Order {
    Later,
    NotLater,
    /// One of them is missing, or no point in time.
    Unclear,
}

/// Compares as points in time: servers write the same instant in several ways.
fn compare(before: Option<&Timestamp>, now: Option<&Timestamp>) -> Order {
    let (Some(before), Some(now)) = (before, now) else { return Order::Unclear };
    if before == now {
        return Order::NotLater;
    }
    match (before.to_system_time(), now.to_system_time()) {
        (Some(before), Some(now)) if now > before => Order::Later,
        (Some(_), Some(_)) => Order::NotLater,
        _ => Order::Unclear,
    }
}

/// Returns true where the server itself says that it does not offer lookups. An HTTP 404 may come
/// from a gateway whose server restarts.
fn is_for_good(error: &Error) -> bool {
    error.is_unsupported() && (error.rpc_code().is_some() || error.status() != Some(404))
}

/// A task that ended without artifacts, left out or none, though it had some while it ran: its
/// answer is not whole.
pub(crate) fn check_whole(before: &Task, now: &TaskSnapshot) -> Result<()> {
    let lost_some = now.task.artifacts.is_empty() && !before.artifacts.is_empty();
    if lost_some && !now.task.state().is_running() {
        return Err(Error::answer_not_whole(now.task.state()).with_task_id(&now.task.id));
    }
    Ok(())
}
