//! A journal in memory, for tests.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use futures::future::BoxFuture;
use tokio::sync::Notify;

use super::entry::{JournalEntry, JournalFilter};
use super::{Journal, JournalSaved, now, state};
use crate::ask::Ask;
use crate::error::Result;

/// A [`Journal`] in memory, for tests. Its entries, and so its guarantee, end with the process.
///
/// Clones share their entries.
///
/// ```
/// # async fn f(config: payman_sdk::Config) -> payman_sdk::Result<()> {
/// use payman_sdk::{Ask, Client, JournalState, MemoryJournal};
///
/// let journal = MemoryJournal::new();
/// let client = Client::with_credentials(config.journal(journal.clone()))?;
/// let first = client.ask(Ask::new("Pay Tyllen $50").idempotency_key("order-4711")).await?;
/// let again = client.ask(Ask::new("Pay Tyllen $50").idempotency_key("order-4711")).await?;
/// assert_eq!(first, again);
/// let entry = journal.get("order-4711").await?;
/// assert_eq!(entry.map(|entry| entry.state()), Some(JournalState::Settled));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct MemoryJournal(Arc<MemoryJournalInner>);

#[derive(Default)]
struct MemoryJournalInner {
    entries: Mutex<BTreeMap<String, JournalEntry>>,
    reserved: Notify,
}

impl MemoryJournal {
    /// Creates an empty journal.
    ///
    /// ```
    /// let journal = payman_sdk::MemoryJournal::new();
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the entry of a key.
    ///
    /// ```
    /// # async fn f(journal: payman_sdk::MemoryJournal) -> payman_sdk::Result<()> {
    /// if let Some(entry) = journal.get("order-4711").await? {
    ///     println!("{:?}, task {}", entry.state(), entry.task_id());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// None; the signature is that of [`SqlJournal`](crate::SqlJournal).
    pub async fn get(&self, key: &str) -> Result<Option<JournalEntry>> {
        Journal::get(self, key).await
    }

    /// Returns the entries that match, the least recently written first.
    ///
    /// ```
    /// # async fn f(journal: payman_sdk::MemoryJournal) -> payman_sdk::Result<()> {
    /// use payman_sdk::JournalState;
    ///
    /// let unknown = journal.list(JournalState::Sending).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// None.
    pub async fn list(&self, filter: impl Into<JournalFilter>) -> Result<Vec<JournalEntry>> {
        Journal::list(self, &filter.into()).await
    }

    /// Records a person's decision that the key may be asked again.
    ///
    /// ```
    /// # async fn f(journal: payman_sdk::MemoryJournal) -> payman_sdk::Result<()> {
    /// let reason = "not among the transactions of 27 June";
    /// let entry = journal.release("order-4711", reason).await?;
    /// println!("{} may be asked again", entry.key());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): no such key, or a blank reason.
    pub async fn release(&self, key: &str, reason: &str) -> Result<JournalEntry> {
        Journal::release(self, key, reason).await
    }

    /// Deletes the settled entries that were last written before `time`, and returns how many.
    ///
    /// ```
    /// # async fn f(journal: payman_sdk::MemoryJournal) -> payman_sdk::Result<()> {
    /// use std::time::{Duration, SystemTime};
    ///
    /// let year = Duration::from_secs(365 * 24 * 60 * 60);
    /// let forgotten = journal.forget_before(SystemTime::now() - year).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// None.
    pub async fn forget_before(&self, time: SystemTime) -> Result<u64> {
        Journal::forget_before(self, time).await
    }

    /// Reserves an ask for a [`JournalWorker`](crate::JournalWorker).
    ///
    /// ```
    /// # async fn f(journal: payman_sdk::MemoryJournal) -> payman_sdk::Result<()> {
    /// use payman_sdk::Ask;
    ///
    /// journal.reserve(Ask::new("Pay Tyllen $50").idempotency_key("order-4711")).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an ask without a key, or one that
    /// cannot be sent; [`IdempotencyConflict`](crate::ErrorKind::IdempotencyConflict) if the key
    /// belongs to another ask.
    pub async fn reserve(&self, ask: impl Into<Ask>) -> Result<()> {
        let ask = ask.into().checked_for_reserve()?;
        let entry = state::reserve(ask.key, ask.stored, &ask.task_id, now());
        if let Some(stored) = self.entries().get(&entry.key) {
            return stored.check_content(&entry.fingerprint);
        }
        self.entries().entry(entry.key.clone()).or_insert(entry);
        self.0.reserved.notify_one();
        Ok(())
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, JournalEntry>> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Journal for MemoryJournal {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<JournalEntry>>> {
        Box::pin(async move { Ok(self.entries().get(key).cloned()) })
    }

    fn save<'a>(&'a self, entry: &'a JournalEntry) -> BoxFuture<'a, Result<JournalSaved>> {
        Box::pin(async move {
            let mut entries = self.entries();
            let stored = entries.get(&entry.key);
            if stored == Some(entry) {
                return Ok(JournalSaved::Written);
            }
            if stored.map_or(0, |stored| stored.revision).checked_add(1) != Some(entry.revision) {
                return Ok(JournalSaved::Stale);
            }
            entries.insert(entry.key.clone(), entry.clone());
            Ok(JournalSaved::Written)
        })
    }

    fn list<'a>(&'a self, filter: &'a JournalFilter) -> BoxFuture<'a, Result<Vec<JournalEntry>>> {
        Box::pin(async move {
            let entries = self.entries();
            let mut found: Vec<_> =
                entries.values().filter(|entry| filter.matches(entry)).collect();
            found.sort_by_key(|entry| entry.updated_at);
            let offset = usize::try_from(filter.offset).unwrap_or(usize::MAX);
            let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
            Ok(found.into_iter().skip(offset).take(limit).cloned().collect())
        })
    }

    fn forget_before(&self, time: SystemTime) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            let mut entries = self.entries();
            let before = entries.len();
            entries.retain(|_, entry| !state::is_forgettable(entry, time));
            Ok(u64::try_from(before.saturating_sub(entries.len())).unwrap_or(u64::MAX))
        })
    }

    fn reserved(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.0.reserved.notified())
    }
}

/// Omits the entries.
impl fmt::Debug for MemoryJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryJournal").field("entries", &self.entries().len()).finish()
    }
}
