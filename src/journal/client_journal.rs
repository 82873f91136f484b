//! A client's journal, whose calls are repeated during a restart of its database.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::{Instant, sleep};

use super::entry::JournalEntry;
use super::{Journal, JournalSaved};
use crate::error::{ErrorKind, Outcome, Result};
use crate::time::instant_after;

/// The time for which one call of a failing journal is repeated. An ask that cannot be recorded is
/// not sent; a reply that cannot be recorded leaves the entry in `sending`, and the next caller
/// finds it by a lookup.
pub(super) const REPEAT_LIMIT: Duration = Duration::from_secs(5);

/// A client's journal, and the client's identity in it.
#[derive(Clone)]
pub(crate) struct ClientJournal {
    journal: Arc<dyn Journal>,
    identity: Arc<str>,
}

impl ClientJournal {
    pub(crate) fn new(
        journal: Arc<dyn Journal>,
        client_id: &str,
        base_url: &str,
        subject: Option<&str>,
    ) -> Self {
        let identity = serde_json::Value::from(vec![client_id, base_url, subject.unwrap_or("")]);
        Self { journal, identity: identity.to_string().into() }
    }

    pub(crate) fn journal(&self) -> &dyn Journal {
        &*self.journal
    }

    pub(crate) fn identity(&self) -> &Arc<str> {
        &self.identity
    }
}

impl fmt::Debug for ClientJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientJournal").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// Calls of the journal, repeated for a while where it fails, such as during a restart of its
/// database.
///
/// Their errors state that nothing was sent by this call.
impl ClientJournal {
    pub(super) async fn get(&self, key: &str, deadline: Instant) -> Result<Option<JournalEntry>> {
        repeat(deadline, || self.journal.get(key)).await
    }

    pub(super) async fn save(
        &self,
        entry: &JournalEntry,
        deadline: Instant,
    ) -> Result<JournalSaved> {
        repeat(deadline, || self.journal.save(entry)).await
    }
}

async fn repeat<'a, T: 'a>(
    deadline: Instant,
    call: impl Fn() -> BoxFuture<'a, Result<T>>,
) -> Result<T> {
    let until = deadline.min(instant_after(REPEAT_LIMIT));
    let mut wait = Duration::from_millis(50);
    loop {
        let error = match call().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if error.kind() != ErrorKind::Journal || instant_after(wait) >= until {
            return Err(error.with_outcome(Outcome::NotDone));
        }
        sleep(wait).await;
        wait = wait.saturating_mul(2);
    }
}
