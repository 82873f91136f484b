//! The state machine of an entry. Pure: it reads and returns entries, and stores nothing.

use std::time::{Duration, SystemTime};

use super::entry::{JournalEntry, JournalRelease, JournalState};
use crate::ids::{RequestId, SessionId, TaskId};
use crate::stored_ask::StoredAsk;

/// The time after the start of an attempt at which a worker looks it up, unless it is settled by
/// then.
pub(crate) const FIRST_LOOKUP: Duration = Duration::from_secs(10);

/// An attempt to send: the key, the identity and the ask.
#[derive(Clone, Debug)]
pub(crate) struct AskAttempt {
    pub(crate) key: String,
    pub(crate) identity: String,
    pub(crate) fingerprint: String,
    pub(crate) ask: StoredAsk,
    pub(crate) task_id: TaskId,
    pub(crate) session_id: SessionId,
    pub(crate) request_id: RequestId,
    /// A random id of this call, which tells its own write from another caller's.
    pub(crate) attempt: String,
}

/// The permitted next step of a caller with a key.
#[derive(Debug, PartialEq)]
pub(crate) enum BeginDecision {
    /// Send, once this entry is stored.
    Send(Box<JournalEntry>),
    /// Return the stored reply, or look up what another caller sent. Never send.
    Resolve(Box<JournalEntry>),
    /// The key belongs to another ask.
    OtherContent,
    /// The key belongs to another client id, platform or subject.
    OtherIdentity,
}

/// The end of an attempt.
#[derive(Clone, Debug)]
pub(crate) enum AttemptEnd {
    /// The task ended, or waits for the user.
    Replied { response: String, awaits_input: bool },
    /// Surely not done. `retry_at` is the time at which a worker may send it again; `None` for
    /// never.
    NotDone { error: String, retry_at: Option<SystemTime> },
}

/// Decides the next step of a caller that found `existing` under its key.
pub(crate) fn begin(
    existing: Option<JournalEntry>,
    attempt: &AskAttempt,
    now: SystemTime,
) -> BeginDecision {
    let Some(entry) = existing else {
        let mut entry = reserve(attempt.key.clone(), attempt.ask.clone(), &attempt.task_id, now);
        entry.outbox = false;
        entry.revision = 0;
        return BeginDecision::Send(Box::new(start(entry, attempt, now)));
    };
    if entry.identity.as_ref().is_some_and(|identity| *identity != attempt.identity) {
        return BeginDecision::OtherIdentity;
    }
    if entry.fingerprint != attempt.fingerprint {
        return BeginDecision::OtherContent;
    }
    match entry.state {
        JournalState::Reserved => BeginDecision::Send(Box::new(start(entry, attempt, now))),
        JournalState::Settled | JournalState::AwaitingInput | JournalState::Sending => {
            BeginDecision::Resolve(Box::new(entry))
        }
    }
}

/// Returns the entry of an ask that is to be sent later.
pub(crate) fn reserve(
    key: String,
    ask: StoredAsk,
    task_id: &TaskId,
    now: SystemTime,
) -> JournalEntry {
    JournalEntry {
        key,
        revision: 1,
        state: JournalState::Reserved,
        identity: None,
        fingerprint: ask.fingerprint(task_id),
        ask,
        task_id: task_id.clone(),
        attempt: String::new(),
        attempts: 0,
        session_id: None,
        request_id: None,
        response: None,
        last_error: None,
        outbox: true,
        due_at: Some(now),
        releases: Vec::new(),
        created_at: now,
        started_at: None,
        updated_at: now,
    }
}

/// Moves an entry from reserved to sending. It must be stored before the first byte is sent.
pub(crate) fn start(
    mut entry: JournalEntry,
    attempt: &AskAttempt,
    now: SystemTime,
) -> JournalEntry {
    entry.state = JournalState::Sending;
    entry.identity = Some(attempt.identity.clone());
    entry.task_id = attempt.task_id.clone();
    entry.session_id = Some(attempt.session_id.clone());
    entry.request_id = Some(attempt.request_id.clone());
    entry.attempt.clone_from(&attempt.attempt);
    entry.attempts = entry.attempts.saturating_add(1);
    entry.started_at = Some(now);
    entry.due_at = Some(now + FIRST_LOOKUP);
    written(entry, now)
}

/// Records the end of an attempt. Returns `None` if it changes nothing: the entry was settled by
/// another caller, or is at a later attempt.
///
/// A reply also settles an entry that was released while its attempt was still running: it must not
/// be sent again then.
pub(crate) fn settle(
    mut entry: JournalEntry,
    attempt: &str,
    end: AttemptEnd,
    now: SystemTime,
) -> Option<JournalEntry> {
    if entry.attempt != attempt || entry.attempts == 0 {
        return None;
    }
    match (entry.state, end) {
        (
            JournalState::Sending | JournalState::Reserved,
            AttemptEnd::Replied { response, awaits_input },
        ) => {
            entry.state =
                if awaits_input { JournalState::AwaitingInput } else { JournalState::Settled };
            entry.response = Some(response);
            entry.last_error = None;
            entry.due_at = None;
        }
        // The question was answered under another key, or without one.
        (JournalState::AwaitingInput, AttemptEnd::Replied { response, awaits_input: false }) => {
            entry.state = JournalState::Settled;
            entry.response = Some(response);
        }
        (JournalState::Sending, AttemptEnd::NotDone { error, retry_at }) => {
            entry.state = JournalState::Reserved;
            entry.last_error = Some(error);
            entry.due_at = retry_at.filter(|_| entry.outbox);
        }
        _ => return None,
    }
    Some(written(entry, now))
}

/// Releases a key: a person decided that it may be asked again.
pub(crate) fn release(mut entry: JournalEntry, reason: String, now: SystemTime) -> JournalEntry {
    entry.releases.push(JournalRelease {
        reason,
        at: now,
        from: entry.state,
        task_id: entry.task_id.clone(),
    });
    entry.state = JournalState::Reserved;
    entry.response = None;
    entry.due_at = entry.outbox.then_some(now);
    written(entry, now)
}

/// Postpones a worker's next lookup. Does not count as a change of the entry for its age.
pub(crate) fn postpone(mut entry: JournalEntry, until: SystemTime) -> JournalEntry {
    entry.due_at = Some(until);
    entry.revision = entry.revision.saturating_add(1);
    entry
}

/// Returns true for an entry that may be deleted: its task ended before `time`.
pub(crate) fn is_forgettable(entry: &JournalEntry, time: SystemTime) -> bool {
    entry.state == JournalState::Settled && entry.updated_at < time
}

fn written(mut entry: JournalEntry, now: SystemTime) -> JournalEntry {
    entry.revision = entry.revision.saturating_add(1);
    entry.updated_at = now;
    entry
}
