//! Idempotency keys: one ask per key, across double clicks, crashes and replicas.
//!
//! The platform has no idempotency: an ask that is repeated pays again. A **journal** keeps one
//! entry per key, in a database that all processes share, and is written before the first byte of
//! an ask is sent. [`Ask::idempotency_key`](crate::Ask::idempotency_key) names the key,
//! [`Config::journal`](crate::Config::journal) the journal: [`SqlJournal`](crate::SqlJournal) on
//! SQLite or PostgreSQL (features `sqlite`, `postgres`), [`MemoryJournal`]
//! for tests, or an implementation of [`Journal`] of your own.
//!
//! # States
//!
//! | state | event | next state |
//! |---|---|---|
//! | no entry | an ask with a new key, or `reserve` in a transaction | `sending`, or `reserved` |
//! | `reserved` | a caller or a worker begins an attempt; the task id is durable | `sending` |
//! | `sending` | the task ended: completed, failed, canceled or rejected | `settled` |
//! | `sending` | the task waits for the user | `awaiting_input` |
//! | `sending` | surely not done ([`is_safe_to_ask_again`](crate::Error::is_safe_to_ask_again)) | `reserved` |
//! | `sending` | unknown, a crash included | `sending` |
//! | `awaiting_input` | a lookup shows that the task has ended | `settled` |
//! | any | [`release`](Journal::release): a person's decision, recorded with its reason | `reserved` |
//! | `settled` | [`forget_before`](Journal::forget_before) | no entry |
//!
//! Only the step from `reserved` (or no entry) to `sending` permits a caller to send, and a
//! compare-and-swap lets one caller take it. All callers only look up an entry in `sending`, so
//! that a process may die at any instruction. If it dies after that step and before the first byte,
//! the platform does not know the task; after
//! [`RetryPolicy::recovery_timeout`](crate::RetryPolicy::recovery_timeout) each call for that key
//! is an error of kind [`TaskNotFound`](crate::ErrorKind::TaskNotFound) whose [outcome is
//! unknown](crate::Error::is_outcome_unknown). A person then looks at the wallet's transactions and
//! decides with [`release`](Journal::release). Release a key only when no process can still be
//! sending it: an ask is sent no later than its [deadline](crate::Ask::deadline) after
//! [`JournalEntry::started_at`].
//!
//! # Later calls with the same key
//!
//! * The entry is `settled`: the stored reply, and nothing is sent. A stream yields it as one
//!   [`Event::Task`](crate::Event::Task).
//! * `awaiting_input`: the task is looked up once; the stored reply, or the newer one if the task
//!   has ended since.
//! * `sending`: the call waits and looks the task up, within its own deadline, and never sends.
//! * `reserved`: it is sent.
//!
//! A key is bound to the client id, the platform and the [subject](crate::Config::subject) of the
//! client that first sent it, and to the content of the ask: text, metadata, session choice, and
//! the task where one is continued. Headers, limits and the id of a new task may differ. Anything
//! else under the same key is
//! [`ErrorKind::IdempotencyConflict`](crate::ErrorKind::IdempotencyConflict), and nothing is sent.
//! Clients of several users who share a journal need a subject each.
//!
//! One ask makes two durable writes: one before its first byte, one with its reply.
#![cfg_attr(
    all(feature = "sqlite", feature = "axum", feature = "emulator"),
    doc = include_str!("handler.md")
)]

mod client_journal;
mod entry;
mod keyed;
mod lookup;
mod memory;
mod sending;
mod snapshot;
pub(crate) mod state;
mod stream;
mod worker;

#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) mod sql;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::future::{BoxFuture, pending};

pub(crate) use client_journal::ClientJournal;
pub use entry::{JournalEntry, JournalFilter, JournalRelease, JournalState};
pub(crate) use keyed::{Begun, KeyedCall, keyed};
pub use memory::MemoryJournal;
pub(crate) use sending::Sending;
pub(crate) use stream::{StreamEnd, StreamRecorder};
pub use worker::JournalWorker;

use crate::error::{Error, Result};
use crate::ids::{MintedRequest, SessionId, TaskId};
use crate::stored_ask::SessionChoice;
use state::AskAttempt;

/// A store of idempotency keys: one [`JournalEntry`] per key.
///
/// The SDK applies the rules of the [state machine](crate::journal#states); an implementation only
/// stores entries. It needs one guarantee: [`save`](Self::save) is an atomic compare-and-swap by
/// revision, and durable when it returns.
///
/// # Errors
///
/// Each method returns [`Error::journal`] with the cause if the store fails. A call may be
/// repeated.
pub trait Journal: Send + Sync + 'static {
    /// Returns the entry of a key.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<JournalEntry>>>;

    /// Stores `entry` if the stored one has the [revision](JournalEntry::revision) before its own;
    /// if there is no entry of its key, for revision 1. Durable when it returns.
    ///
    /// Repeated with the same entry, it returns [`JournalSaved::Written`] again.
    fn save<'a>(&'a self, entry: &'a JournalEntry) -> BoxFuture<'a, Result<JournalSaved>>;

    /// Returns the entries that match, the least recently written first.
    fn list<'a>(&'a self, filter: &'a JournalFilter) -> BoxFuture<'a, Result<Vec<JournalEntry>>>;

    /// Deletes the [settled](JournalState::Settled) entries that were last written before `time`,
    /// and returns how many.
    ///
    /// Their keys are new again: the next ask with such a key is sent.
    fn forget_before(&self, time: SystemTime) -> BoxFuture<'_, Result<u64>>;

    /// Records a person's decision that the key may be asked again, with the reason, and returns
    /// the entry.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): no such key, or a blank reason.
    fn release<'a>(&'a self, key: &'a str, reason: &'a str) -> BoxFuture<'a, Result<JournalEntry>> {
        Box::pin(async move {
            let reason = checked_reason(reason)?;
            loop {
                let Some(entry) = self.get(key).await? else {
                    return Err(Error::invalid_input("the journal has no such idempotency key"));
                };
                let released = state::release(entry, reason.clone(), now());
                if self.save(&released).await? == JournalSaved::Written {
                    return Ok(released);
                }
            }
        })
    }

    /// Takes the entry that is due longest, for a worker, and returns it as it is stored then.
    ///
    /// The default lists entries and saves the first that no other worker took.
    fn claim<'a>(&'a self, claim: &'a JournalClaim) -> BoxFuture<'a, Result<Option<JournalEntry>>> {
        Box::pin(async move {
            for entry in self.list(&JournalFilter::from(claim.state())).await? {
                if !claim.matches(&entry) {
                    continue;
                }
                let claimed = claim.apply(entry);
                if self.save(&claimed).await? == JournalSaved::Written {
                    return Ok(Some(claimed));
                }
            }
            Ok(None)
        })
    }

    /// Completes when an ask may have been reserved. Workers poll as well; the default never
    /// completes.
    fn reserved(&self) -> BoxFuture<'_, ()> {
        Box::pin(pending())
    }
}

impl<J: Journal + ?Sized> Journal for Arc<J> {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<JournalEntry>>> {
        (**self).get(key)
    }

    fn save<'a>(&'a self, entry: &'a JournalEntry) -> BoxFuture<'a, Result<JournalSaved>> {
        (**self).save(entry)
    }

    fn list<'a>(&'a self, filter: &'a JournalFilter) -> BoxFuture<'a, Result<Vec<JournalEntry>>> {
        (**self).list(filter)
    }

    fn forget_before(&self, time: SystemTime) -> BoxFuture<'_, Result<u64>> {
        (**self).forget_before(time)
    }

    fn release<'a>(&'a self, key: &'a str, reason: &'a str) -> BoxFuture<'a, Result<JournalEntry>> {
        (**self).release(key, reason)
    }

    fn claim<'a>(&'a self, claim: &'a JournalClaim) -> BoxFuture<'a, Result<Option<JournalEntry>>> {
        (**self).claim(claim)
    }

    fn reserved(&self) -> BoxFuture<'_, ()> {
        (**self).reserved()
    }
}

/// The result of [`Journal::save`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalSaved {
    /// The entry is stored.
    Written,
    /// Another entry is stored; nothing was changed.
    Stale,
}

/// A worker's claim: a reserved ask to send, or one in `sending` to look up.
#[derive(Clone, Debug)]
pub struct JournalClaim {
    purpose: ClaimPurpose,
    identity: Arc<str>,
    /// A random id of the claim.
    attempt: String,
    task_id: TaskId,
    session_id: SessionId,
    now: SystemTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClaimPurpose {
    Send,
    LookUp,
}

impl JournalClaim {
    pub(crate) fn new(purpose: ClaimPurpose, identity: Arc<str>) -> Self {
        Self {
            purpose,
            identity,
            attempt: new_attempt(),
            task_id: TaskId::new(),
            session_id: SessionId::new(),
            now: now(),
        }
    }

    /// Returns the state of the entries that match.
    #[must_use]
    pub fn state(&self) -> JournalState {
        match self.purpose {
            ClaimPurpose::Send => JournalState::Reserved,
            ClaimPurpose::LookUp => JournalState::Sending,
        }
    }

    /// Returns the worker's client id, platform and subject: entries that are bound to another
    /// identity do not match.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Returns the time of the claim: entries that are due later do not match.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.now
    }

    /// Returns true for an entry that the worker may take.
    #[must_use]
    pub fn matches(&self, entry: &JournalEntry) -> bool {
        entry.state == self.state()
            && entry.due_at.is_some_and(|due| due <= self.now)
            && entry.identity.as_deref().is_none_or(|identity| identity == self.identity())
    }

    /// Returns the entry to be stored when the worker takes it.
    #[must_use]
    pub fn apply(&self, entry: JournalEntry) -> JournalEntry {
        if self.purpose == ClaimPurpose::LookUp {
            let known = entry.started_at.and_then(|at| self.now.duration_since(at).ok());
            let wait = known.unwrap_or_default().clamp(state::FIRST_LOOKUP, LAST_LOOKUP);
            return state::postpone(entry, self.now + wait);
        }
        // The first attempt keeps the id that the ask was reserved with, because its owner may have
        // stored it. Later attempts need another id.
        let task_id = match entry.attempts == 0 || entry.ask.is_continuation() {
            true => entry.task_id.clone(),
            false => self.task_id.clone(),
        };
        let attempt = AskAttempt {
            key: entry.key.clone(),
            identity: self.identity().to_owned(),
            fingerprint: entry.fingerprint.clone(),
            ask: entry.ask.clone(),
            task_id,
            session_id: match &entry.ask.session {
                SessionChoice::Given(id) => id.clone(),
                SessionChoice::Client | SessionChoice::New => self.session_id.clone(),
            },
            request_id: MintedRequest::new().id(),
            attempt: self.attempt.clone(),
        };
        state::start(entry, &attempt, self.now)
    }
}

/// The longest wait between two lookups of an outcome that stays unknown.
const LAST_LOOKUP: Duration = Duration::from_secs(60 * 60);
const MAX_REASON: usize = 2000;

/// Returns the present time in whole milliseconds, so that it is equal after it was stored and
/// read.
pub(crate) fn now() -> SystemTime {
    entry::from_millis(entry::to_millis(SystemTime::now()))
}

fn new_attempt() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

fn checked_reason(reason: &str) -> Result<String> {
    let reason = reason.trim();
    if reason.is_empty() {
        return Err(Error::invalid_input("a release needs a reason"));
    }
    if reason.len() > MAX_REASON {
        return Err(Error::invalid_input("the reason is longer than 2000 bytes"));
    }
    Ok(reason.to_owned())
}
