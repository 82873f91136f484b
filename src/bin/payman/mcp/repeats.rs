//! Recognizes an ask that was made before, so that a repeated call does not send it again.
//!
//! A host whose call times out usually repeats it under another JSON-RPC id, and the server cannot
//! detect whether an answer that it wrote was read. So an ask is identified by its content, not by
//! the id of the request: see [`AskOrder::identity`](super::order::AskOrder::identity).
//!
//! | the earlier ask | a call with the same content |
//! |---|---|
//! | waits for its confirmation, or is in progress | waits for that one's result |
//! | outcome unknown | looks the task up, however much later |
//! | answered within the repeat window | gets that answer again, marked as repeated |
//! | answered earlier than that | is a new ask |
//! | surely not done, or declined | is a new ask |
//!
//! An ask with an idempotency key of its own is identified by that key instead, without a window.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use payman_sdk::{SessionId, TaskId};
use tokio::sync::watch;
use tokio::time::Instant;

use super::order::{AskOrder, Digest};
use super::result::TaskResult;

/// The maximum number of remembered asks.
const CAPACITY: usize = 1024;

/// The asks of this process.
pub(super) struct RepeatGuard {
    window: Duration,
    entries: Mutex<HashMap<Digest, Entry>>,
}

struct Entry {
    /// The digest of the content: another one under the same idempotency key is a conflict.
    content: Digest,
    is_keyed: bool,
    state: EntryState,
}

enum EntryState {
    Running(watch::Receiver<Option<TaskResult>>),
    Unresolved(Unresolved),
    Answered { result: TaskResult, at: Instant },
}

/// An ask whose outcome is not known.
#[derive(Clone)]
pub(super) struct Unresolved {
    pub(super) task: TaskId,
    pub(super) session: Option<SessionId>,
    /// The key in the journal. The ask is looked up by the key and its content.
    pub(super) key: String,
    pub(super) sent: AskOrder,
}

/// The decision on a call.
pub(super) enum Admission {
    /// No such ask is known: the holder of the guard may send it.
    New(PendingAsk),
    /// The same ask is in progress: `None` at the end means that it has no result.
    Running(watch::Receiver<Option<TaskResult>>),
    Unresolved(Unresolved),
    Answered(TaskResult, Duration),
    /// The idempotency key belongs to another ask.
    Conflict,
    /// There are too many asks without a known outcome.
    Full,
}

impl RepeatGuard {
    pub(super) fn new(window: Duration) -> Arc<Self> {
        Arc::new(Self { window, entries: Mutex::default() })
    }

    /// Looks for an earlier ask with the same identity; if there is none, registers this one.
    pub(super) fn admit(self: &Arc<Self>, order: &AskOrder) -> Admission {
        let mut entries = self.lock();
        let window = self.window;
        entries.retain(|_, entry| !entry.is_over(window));
        if let Some(entry) = entries.get(&order.identity()) {
            if entry.content != order.content() {
                return Admission::Conflict;
            }
            return match &entry.state {
                EntryState::Running(result) => Admission::Running(result.clone()),
                EntryState::Unresolved(unresolved) => Admission::Unresolved(unresolved.clone()),
                EntryState::Answered { result, at } => {
                    Admission::Answered(result.clone(), at.elapsed())
                }
            };
        }
        if entries.len() >= CAPACITY && !forget_oldest(&mut entries) {
            return Admission::Full;
        }
        let (sender, receiver) = watch::channel(None);
        entries.insert(
            order.identity(),
            Entry {
                content: order.content(),
                is_keyed: order.key().is_some(),
                state: EntryState::Running(receiver),
            },
        );
        Admission::New(PendingAsk {
            guard: Arc::clone(self),
            identity: order.identity(),
            result: sender,
            end: AskEnd::Forget,
        })
    }

    /// Returns an ask with the same content under another identity, for a warning.
    pub(super) fn similar(&self, order: &AskOrder) -> Option<Similar> {
        let entries = self.lock();
        let similar = |(identity, entry): (&Digest, &Entry)| {
            if *identity == order.identity() || entry.content != order.content() {
                return None;
            }
            match &entry.state {
                EntryState::Running(_) => Some(Similar::Running),
                EntryState::Unresolved(earlier) => Some(Similar::Unresolved(earlier.task.clone())),
                EntryState::Answered { at, .. } => Some(Similar::Answered(at.elapsed())),
            }
        };
        entries.iter().filter_map(similar).min_by_key(Similar::rank)
    }

    /// Records the result of a task for every ask that it answers.
    pub(super) fn settle(&self, task: &TaskId, result: &TaskResult) {
        if result.outcome_unknown {
            return;
        }
        for entry in self.lock().values_mut() {
            let is_same = match &entry.state {
                EntryState::Running(_) => false,
                EntryState::Unresolved(unresolved) => unresolved.task == *task,
                EntryState::Answered { result, .. } => {
                    result.task_id.as_deref() == Some(task.as_str())
                }
            };
            if is_same {
                entry.state = EntryState::Answered { result: result.to_kept(), at: Instant::now() };
            }
        }
    }

    /// Forgets an ask that turned out not to be done.
    pub(super) fn forget(&self, order: &AskOrder) {
        let mut entries = self.lock();
        let is_unresolved = entries
            .get(&order.identity())
            .is_some_and(|entry| matches!(entry.state, EntryState::Unresolved(_)));
        if is_unresolved {
            entries.remove(&order.identity());
        }
    }

    /// Returns the tasks whose outcome is not known.
    pub(super) fn unresolved(&self) -> Vec<TaskId> {
        let entries = self.lock();
        let task = |entry: &Entry| match &entry.state {
            EntryState::Unresolved(unresolved) => Some(unresolved.task.clone()),
            _ => None,
        };
        entries.values().filter_map(task).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An ask with the same content under another identity.
pub(super) enum Similar {
    /// The outcome of this task is not known.
    Unresolved(TaskId),
    Running,
    Answered(Duration),
}

impl Similar {
    fn rank(&self) -> (u8, Duration) {
        match self {
            Self::Unresolved(_) => (0, Duration::ZERO),
            Self::Running => (1, Duration::ZERO),
            Self::Answered(age) => (2, *age),
        }
    }
}

impl Entry {
    fn is_over(&self, window: Duration) -> bool {
        match &self.state {
            EntryState::Answered { at, .. } => !self.is_keyed && at.elapsed() >= window,
            EntryState::Running(_) | EntryState::Unresolved(_) => false,
        }
    }
}

/// Evicts the oldest answer to an ask without a key, or else the oldest answer.
fn forget_oldest(entries: &mut HashMap<Digest, Entry>) -> bool {
    let oldest = entries
        .iter()
        .filter_map(|(identity, entry)| match &entry.state {
            EntryState::Answered { at, .. } => Some((entry.is_keyed, *at, *identity)),
            _ => None,
        })
        .min_by_key(|(is_keyed, at, _)| (*is_keyed, *at));
    match oldest {
        Some((_, _, identity)) => entries.remove(&identity).is_some(),
        None => false,
    }
}

/// The right to send an ask. Its outcome is recorded at the latest when the guard is dropped.
pub(super) struct PendingAsk {
    guard: Arc<RepeatGuard>,
    identity: Digest,
    result: watch::Sender<Option<TaskResult>>,
    end: AskEnd,
}

/// The final state of a pending ask's entry.
enum AskEnd {
    Forget,
    Unresolved(Unresolved),
    Answered(TaskResult),
}

impl PendingAsk {
    /// Records that from here on the ask may have been sent.
    pub(super) fn sending(&mut self, unresolved: Unresolved) {
        self.end = AskEnd::Unresolved(unresolved);
    }

    /// Records a known result, which may still be replaced.
    pub(super) fn answered(&mut self, result: &TaskResult) {
        self.end = AskEnd::Answered(result.to_kept());
    }

    /// Records that nothing was done: the next call may send.
    pub(super) fn not_done(&mut self) {
        self.end = AskEnd::Forget;
    }

    /// Hands the result to the calls that wait for it.
    pub(super) fn finish(self, result: &TaskResult) {
        self.result.send_replace(Some(result.clone()));
    }
}

impl Drop for PendingAsk {
    fn drop(&mut self) {
        let mut entries = self.guard.lock();
        match std::mem::replace(&mut self.end, AskEnd::Forget) {
            AskEnd::Forget => {
                entries.remove(&self.identity);
            }
            AskEnd::Unresolved(unresolved) => {
                if let Some(entry) = entries.get_mut(&self.identity) {
                    entry.state = EntryState::Unresolved(unresolved);
                }
            }
            AskEnd::Answered(result) => {
                if let Some(entry) = entries.get_mut(&self.identity) {
                    entry.state = EntryState::Answered { result, at: Instant::now() };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(300);

    fn order(text: &str, key: Option<&str>) -> AskOrder {
        AskOrder::new(text.to_owned(), None, None, key.map(str::to_owned))
    }

    fn pending(guard: &Arc<RepeatGuard>, order: &AskOrder) -> PendingAsk {
        match guard.admit(order) {
            Admission::New(pending) => pending,
            _ => panic!("was asked before"),
        }
    }

    fn unresolved() -> Unresolved {
        let sent = order("Pay Bob $50", None);
        Unresolved { task: "tsk-1".into(), session: None, key: "k".to_owned(), sent }
    }

    fn completed() -> TaskResult {
        TaskResult {
            task_id: Some("tsk-1".to_owned()),
            state: "completed".to_owned(),
            ..TaskResult::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_repeated_within_the_window_only() {
        let guard = RepeatGuard::new(WINDOW);
        let pay = order("Pay Bob $50", None);
        let mut ask = pending(&guard, &pay);
        ask.sending(unresolved());
        ask.answered(&completed());
        ask.finish(&completed());
        tokio::time::advance(WINDOW - Duration::from_secs(1)).await;
        assert!(matches!(guard.admit(&pay), Admission::Answered(..)));
        assert!(matches!(guard.admit(&order("Pay Bob $51", None)), Admission::New(_)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(matches!(guard.admit(&pay), Admission::New(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_outcome_and_a_key_have_no_window() {
        let guard = RepeatGuard::new(WINDOW);
        let pay = order("Pay Bob $50", None);
        let mut ask = pending(&guard, &pay);
        ask.sending(unresolved());
        drop(ask);
        let keyed = order("Pay Ann $50", Some("order-1"));
        let mut ask = pending(&guard, &keyed);
        ask.answered(&completed());
        ask.finish(&completed());
        tokio::time::advance(WINDOW * 100).await;
        assert!(matches!(guard.admit(&pay), Admission::Unresolved(_)));
        assert!(matches!(guard.admit(&keyed), Admission::Answered(..)));
        let other = order("Pay Ann $60", Some("order-1"));
        assert!(matches!(guard.admit(&other), Admission::Conflict));
        // The same text under a new key is a new ask, and the earlier one is reported.
        let again = order("Pay Bob $50", Some("order-2"));
        assert!(matches!(guard.similar(&again), Some(Similar::Unresolved(_))));
        guard.settle(&"tsk-1".into(), &completed());
        assert!(matches!(guard.admit(&pay), Admission::Answered(..)));
        assert_eq!(guard.unresolved().len(), 0);
    }

    #[tokio::test]
    async fn concurrent_calls_share_one_result() {
        let guard = RepeatGuard::new(WINDOW);
        let pay = order("Pay Bob $50", None);
        let ask = pending(&guard, &pay);
        let Admission::Running(mut waiting) = guard.admit(&pay) else { panic!("not running") };
        ask.finish(&TaskResult::not_sent("declined"));
        let result = waiting.wait_for(Option::is_some).await.unwrap().clone();
        assert_eq!(result.map(|result| result.notice).as_deref(), Some("declined"));
        assert!(matches!(guard.admit(&pay), Admission::New(_)));
    }

    #[test]
    fn the_capacity_is_bounded_and_unresolved_asks_are_kept() {
        let guard = RepeatGuard::new(WINDOW);
        for n in 0..CAPACITY {
            let mut ask = pending(&guard, &order(&format!("a {n}"), None));
            if n == 0 { ask.sending(unresolved()) } else { ask.answered(&completed()) }
        }
        drop(pending(&guard, &order("one more", None)));
        assert!(guard.lock().len() <= CAPACITY);
        assert!(matches!(guard.admit(&order("a 0", None)), Admission::Unresolved(_)));
        let guard = RepeatGuard::new(WINDOW);
        for n in 0..CAPACITY {
            pending(&guard, &order(&format!("a {n}"), None)).sending(unresolved());
        }
        assert!(matches!(guard.admit(&order("one more", None)), Admission::Full));
    }
}
