//! The journal of the asks that this process or another one sent, and of their outcomes.

use std::collections::HashSet;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use futures::future::BoxFuture;
use payman_sdk::{
    Error, Journal, JournalClaim, JournalEntry, JournalFilter, JournalSaved, JournalState, Result,
    TaskId,
};
use rmcp::model::RequestId;
use uuid::Uuid;

use super::order::AskOrder;

/// A journal that starts an attempt to send only under an allowed key.
///
/// The user confirms an ask before the SDK reads the journal again. An entry that changes in
/// between, such as one that is released, must not be sent without a confirmation.
pub(super) struct GuardedJournal {
    inner: Arc<dyn Journal>,
    allowed: Mutex<HashSet<String>>,
    /// The random id of this process, a part of its keys.
    process: String,
    /// The client id and the platform, a part of the keys of this account.
    account: String,
}

/// The decision on an order by the journal, before anything is sent.
pub(super) enum JournalPlan {
    /// The journal has no entry: the order may be sent under this key. `similar` is an ask with the
    /// same text under another key, whose outcome is unknown, for a warning.
    Send { key: String, similar: Option<TaskId> },
    /// The order was sent under this key, as this task, and is only looked up.
    LookUp(String, TaskId),
}

impl GuardedJournal {
    pub(super) fn new(inner: Arc<dyn Journal>, account: String) -> Arc<Self> {
        let process = Uuid::new_v4().simple().to_string();
        Arc::new(Self { inner, allowed: Mutex::default(), process, account })
    }

    /// Looks for the order's key, which is derived from the request if the order has none, then for
    /// an ask with the same text whose outcome is unknown, from this process or another.
    pub(super) async fn plan(&self, order: &AskOrder, request: &RequestId) -> Result<JournalPlan> {
        let key = self.key_of(order, request);
        let entry = self.inner.get(&key).await?;
        if let Some(entry) = entry.filter(|entry| entry.state() != JournalState::Reserved) {
            return Ok(JournalPlan::LookUp(key, entry.task_id().clone()));
        }
        let prefix = self.prefix(order);
        let filter = JournalFilter::from(JournalState::Sending);
        let unknown = self.inner.list(&filter).await?;
        let same = unknown.into_iter().find(|entry| entry.key().starts_with(&prefix));
        Ok(match same {
            Some(entry) if order.key().is_none() => {
                JournalPlan::LookUp(entry.key().to_owned(), entry.task_id().clone())
            }
            same => JournalPlan::Send { key, similar: same.map(|entry| entry.task_id().clone()) },
        })
    }

    /// Returns the order's own key, or a key derived from the content, the process and the request:
    /// a request that is repeated under its id is always the same ask.
    pub(super) fn key_of(&self, order: &AskOrder, request: &RequestId) -> String {
        if let Some(key) = order.key() {
            return key.to_owned();
        }
        let id = serde_json::to_string(request).unwrap_or_default();
        let mut key = format!("{}{}:", self.prefix(order), self.process);
        push_hex(&mut key, super::order::digest(&["request", &id]).iter().take(8));
        key
    }

    /// Returns true if nothing was sent under the key, or the ask was surely not done.
    pub(super) async fn is_free(&self, key: &str) -> bool {
        let entry = self.inner.get(key).await;
        entry.is_ok_and(|entry| entry.is_none_or(|entry| entry.state() == JournalState::Reserved))
    }

    /// Returns the common prefix of the keys of all asks with this text.
    fn prefix(&self, order: &AskOrder) -> String {
        let mut prefix = String::from("mcp:");
        push_hex(&mut prefix, order.digest_for(&self.account).iter());
        prefix.push(':');
        prefix
    }

    /// Allows one key to be sent, until the returned permission is dropped.
    pub(super) fn allow(self: &Arc<Self>, key: &str) -> SendPermission {
        self.lock().insert(key.to_owned());
        SendPermission { journal: Arc::clone(self), key: key.to_owned() }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.allowed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn push_hex<'a>(text: &mut String, bytes: impl Iterator<Item = &'a u8>) {
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
}

/// The right to send under a key.
pub(super) struct SendPermission {
    journal: Arc<GuardedJournal>,
    key: String,
}

impl Drop for SendPermission {
    fn drop(&mut self) {
        self.journal.lock().remove(&self.key);
    }
}

impl Journal for GuardedJournal {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<JournalEntry>>> {
        self.inner.get(key)
    }

    fn save<'a>(&'a self, entry: &'a JournalEntry) -> BoxFuture<'a, Result<JournalSaved>> {
        if entry.state() == JournalState::Sending && !self.lock().contains(entry.key()) {
            return Box::pin(async move {
                match self.inner.get(entry.key()).await? {
                    // The caller then reads the stored entry and looks its task up.
                    Some(stored) if stored.state() != JournalState::Reserved => {
                        Ok(JournalSaved::Stale)
                    }
                    _ => Err(Error::journal("it was not confirmed that this may be sent")),
                }
            });
        }
        self.inner.save(entry)
    }

    fn list<'a>(&'a self, filter: &'a JournalFilter) -> BoxFuture<'a, Result<Vec<JournalEntry>>> {
        self.inner.list(filter)
    }

    fn forget_before(&self, time: SystemTime) -> BoxFuture<'_, Result<u64>> {
        self.inner.forget_before(time)
    }

    fn release<'a>(&'a self, key: &'a str, reason: &'a str) -> BoxFuture<'a, Result<JournalEntry>> {
        self.inner.release(key, reason)
    }

    fn claim<'a>(&'a self, claim: &'a JournalClaim) -> BoxFuture<'a, Result<Option<JournalEntry>>> {
        self.inner.claim(claim)
    }

    fn reserved(&self) -> BoxFuture<'_, ()> {
        self.inner.reserved()
    }
}

#[cfg(test)]
mod tests {
    use payman_sdk::{Ask, Client, Config, Emulator, MemoryJournal};

    use super::*;

    fn request(id: i64) -> RequestId {
        RequestId::Number(id)
    }

    fn order(text: &str) -> AskOrder {
        AskOrder::new(text.to_owned(), None, None, None)
    }

    #[tokio::test]
    async fn only_allowed_keys_are_sent() -> Result<()> {
        let payman = Emulator::start().await?;
        let journal = GuardedJournal::new(Arc::new(MemoryJournal::new()), "app".to_owned());
        let config = Config::new("id").client_secret("s").base_url(payman.base_url());
        let config = config.deadline(std::time::Duration::from_secs(1));
        let client = Client::with_credentials(config.journal(Arc::clone(&journal)))?;
        let ask = || Ask::new("List all wallets").idempotency_key("k");
        let error = client.ask(ask()).await.unwrap_err();
        assert!(error.is_safe_to_ask_again(), "{error:?}");
        assert!(payman.state().tasks.is_empty());
        let permission = journal.allow("k");
        let first = client.ask(ask()).await?;
        drop(permission);
        assert_eq!(client.ask(ask()).await?.text(), first.text());
        assert_eq!(payman.state().tasks.len(), 1);
        Ok(())
    }

    #[tokio::test]
    async fn an_unknown_outcome_of_another_process_is_found_by_its_text() -> Result<()> {
        let shared: Arc<dyn Journal> = Arc::new(MemoryJournal::new());
        let payman = Emulator::start().await?;
        payman.fault(payman_sdk::emulator::Fault::close());
        let process = |account: &str| GuardedJournal::new(Arc::clone(&shared), account.to_owned());
        let first = process("app");
        let JournalPlan::Send { key, .. } = first.plan(&order("Pay Bob $50"), &request(1)).await?
        else {
            panic!("nothing was sent yet")
        };
        let config = Config::new("id").client_secret("s").base_url(payman.base_url());
        let config = config.retry(payman_sdk::RetryPolicy::none()).journal(Arc::clone(&first));
        let client = Client::with_token(
            config,
            payman_sdk::TokenInfo::access("t", std::time::Duration::from_secs(60)),
        )?;
        let permission = first.allow(&key);
        let error = client.ask(Ask::new("Pay Bob $50").idempotency_key(&key)).await.unwrap_err();
        drop(permission);
        assert!(error.is_outcome_unknown(), "{error:?}");

        let second = process("app");
        let plan = second.plan(&order("Pay Bob $50"), &request(1)).await?;
        assert!(matches!(plan, JournalPlan::LookUp(found, _) if found == key));
        assert!(matches!(
            second.plan(&order("Pay Bob $5"), &request(1)).await?,
            JournalPlan::Send { .. }
        ));
        // A key of its own does not hide that.
        let keyed = AskOrder::new("Pay Bob $50".to_owned(), None, None, Some("k-2".to_owned()));
        let plan = second.plan(&keyed, &request(1)).await?;
        assert!(matches!(plan, JournalPlan::Send { similar: Some(_), .. }));
        let other = process("another app");
        assert!(matches!(
            other.plan(&order("Pay Bob $50"), &request(1)).await?,
            JournalPlan::Send { .. }
        ));
        Ok(())
    }
}
