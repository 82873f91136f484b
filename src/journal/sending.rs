//! The permission to send one attempt, and the record of its end.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tracing::warn;

use super::client_journal::{ClientJournal, REPEAT_LIMIT};
use super::entry::JournalEntry;
use super::snapshot::replied;
use super::state::{self, AttemptEnd};
use super::{JournalSaved, now};
use crate::delivery::TaskSnapshot;
use crate::error::{Error, ErrorKind};
use crate::time::instant_after;
use crate::wire::task::Task;

/// The permission to send one attempt, whose end must be recorded.
pub(crate) struct Sending {
    journal: ClientJournal,
    entry: JournalEntry,
    /// The number of attempts after which a worker sends no more; `None` for a caller.
    max_attempts: Option<u32>,
}

impl Sending {
    pub(super) fn new(
        journal: &ClientJournal,
        entry: JournalEntry,
        max_attempts: Option<u32>,
    ) -> Self {
        Self { journal: journal.clone(), entry, max_attempts }
    }

    /// Records how the attempt ended. An unknown outcome changes nothing.
    ///
    /// If the journal fails for longer than the limit, this logs a warning and returns no error:
    /// the reply is known, and the next caller looks it up.
    pub(crate) async fn settle(self, result: Result<&TaskSnapshot, &Error>) {
        match result {
            Ok(found) => self.settle_task(&found.task, Some(&found.response)).await,
            Err(error) => self.settle_error(error).await,
        }
    }

    /// Records the task, if it ended or waits for the user.
    pub(crate) async fn settle_task(self, task: &Task, response: Option<&Bytes>) {
        if let Some(end) = replied(task, response, &self.entry) {
            self.write(end).await;
        }
    }

    pub(crate) async fn settle_error(self, error: &Error) {
        // A clone of the ask was sent under another key: this attempt was refused before it was
        // sent.
        let refused_here = error.kind() == ErrorKind::InvalidInput;
        if error.is_safe_to_ask_again() || refused_here {
            let retry_at = self.retry_at(error);
            self.write(AttemptEnd::NotDone { error: error.to_string(), retry_at }).await;
        }
    }

    /// Makes an entry that was taken and not sent available to others.
    pub(super) async fn give_back(self) {
        let error = "the worker was stopped before it was sent".to_owned();
        self.write(AttemptEnd::NotDone { error, retry_at: Some(now()) }).await;
    }

    /// Returns the time at which a worker sends an ask again that was surely not done; `None` for
    /// never.
    fn retry_at(&self, error: &Error) -> Option<SystemTime> {
        let attempts = self.entry.attempts;
        if self.max_attempts.is_some_and(|most| attempts >= most) || is_permanent(error) {
            return None;
        }
        let doubled = FIRST_RETRY.saturating_mul(1 << attempts.saturating_sub(1).min(10));
        let wait = error.retry_after().unwrap_or(doubled).min(LAST_RETRY);
        Some(now() + wait.mul_f64(0.75 + fastrand::f64() / 2.0))
    }

    async fn write(self, end: AttemptEnd) {
        let Self { journal, mut entry, .. } = self;
        let attempt = entry.attempt.clone();
        let until = instant_after(REPEAT_LIMIT);
        loop {
            let Some(ended) = state::settle(entry.clone(), &attempt, end.clone(), now()) else {
                return;
            };
            let result = match journal.save(&ended, until).await {
                Ok(JournalSaved::Written) => return,
                // A worker postponed its lookup, or another caller settled it by a lookup.
                Ok(JournalSaved::Stale) => journal.get(&entry.key, until).await,
                Err(error) => Err(error),
            };
            match result {
                Ok(Some(now)) => entry = now,
                Ok(None) => return,
                Err(error) => {
                    warn!(task_id = %entry.task_id, %error, "the end of an ask was not recorded");
                    return;
                }
            }
        }
    }
}

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(5 * 60);

/// Returns true for an error that a repetition cannot resolve.
fn is_permanent(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidInput
            | ErrorKind::Rpc
            | ErrorKind::Http
            | ErrorKind::Unsupported
            | ErrorKind::ReauthorizationRequired
    )
}
