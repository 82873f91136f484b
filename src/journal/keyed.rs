//! An ask with an idempotency key: what happens before it is sent, and after.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::future::BoxFuture;
use serde_json::json;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::entry::JournalEntry;
use super::state::{self, AskAttempt, AttemptEnd, BeginDecision};
use super::stored_ask::StoredAsk;
use super::{Journal, JournalSaved, lookup, new_attempt, now};
use crate::ask::{Ask, AskContext, PreparedAsk};
use crate::delivery::{Platform, TaskSnapshot};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::ids::{MintedRequest, TaskId};
use crate::time::instant_after;
use crate::wire::task::Task;

/// How long one call of a failing journal is repeated. An ask that cannot be recorded is not sent;
/// a reply that cannot be recorded leaves the entry in `sending`, and the next caller finds it by a
/// lookup.
const REPEAT_LIMIT: Duration = Duration::from_secs(5);

/// A client's journal, and who the client is there.
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

/// The key of an ask, and whether a worker has begun its attempt already.
#[derive(Clone)]
pub(crate) enum JournalKey {
    Given(String),
    /// A worker took the entry: it is in `sending`.
    Claimed {
        entry: Box<JournalEntry>,
        max_attempts: u32,
    },
}

/// What is recorded of an ask with a key.
pub(crate) struct KeyedAsk {
    pub(crate) key: String,
    pub(crate) stored: StoredAsk,
    pub(crate) task_id: TaskId,
    pub(crate) claimed: Option<(Box<JournalEntry>, u32)>,
}

/// What an ask with a key may do.
pub(crate) enum Begun {
    /// Send; then tell how it ended.
    Send(Box<Sending>),
    /// The stored reply. The prepared ask has its ids.
    Stored(Box<TaskSnapshot>),
}

/// Checks an ask: `None` where it has no key.
pub(crate) fn keyed(
    ask: &Ask,
    journal: Option<&ClientJournal>,
    method: &'static str,
) -> Result<Option<KeyedCall>> {
    let Some(keyed) = ask.keyed()? else {
        return Ok(None);
    };
    let Some(journal) = journal else {
        return Err(Error::invalid_input("an idempotency key needs a journal: Config::journal"));
    };
    Ok(Some(KeyedCall { journal: journal.clone(), keyed, method }))
}

/// A call with a key, on a client with a journal.
pub(crate) struct KeyedCall {
    journal: ClientJournal,
    keyed: KeyedAsk,
    method: &'static str,
}

impl KeyedCall {
    /// Begins the ask: its entry is durable before this returns [`Begun::Send`].
    pub(crate) async fn begin(
        self,
        platform: &Arc<Platform>,
        ask: &mut PreparedAsk,
        deadline: Instant,
    ) -> Result<Begun> {
        let Self { journal, keyed, method } = self;
        begin(platform, &journal, keyed, method, ask, deadline).await
    }
}

async fn begin(
    platform: &Arc<Platform>,
    journal: &ClientJournal,
    keyed: KeyedAsk,
    method: &'static str,
    ask: &mut PreparedAsk,
    deadline: Instant,
) -> Result<Begun> {
    if let Some((entry, max_attempts)) = keyed.claimed {
        let mut entry = *entry;
        entry.request_id = Some(ask.context.request.id());
        return Ok(Begun::Send(Box::new(Sending::new(journal, entry, Some(max_attempts)))));
    }
    let mut attempt = AskAttempt {
        fingerprint: keyed.stored.fingerprint(&keyed.task_id),
        key: keyed.key,
        identity: journal.identity.as_ref().to_owned(),
        ask: keyed.stored,
        task_id: keyed.task_id,
        session_id: ask.context.session_id.clone(),
        request_id: ask.context.request.id(),
        attempt: new_attempt(),
    };
    // A token first: the less happens between the record and the first byte, the fewer
    // crashes leave an outcome for a person to look at.
    platform
        .request_token(deadline)
        .await
        .map_err(|error| error.with_task_id(&ask.context.task_id))?;
    let mut existing = None;
    loop {
        if existing.as_ref().is_some_and(|entry| was_given_up(entry, &attempt)) {
            renew_task(platform, &mut attempt, method, ask)?;
        }
        let entry = match state::begin(existing.take(), &attempt, now()) {
            BeginDecision::Send(entry) => *entry,
            BeginDecision::Resolve(entry) => {
                return lookup::resolve(platform, journal, *entry, &mut ask.context, deadline)
                    .await
                    .map(|found| Begun::Stored(Box::new(found)));
            }
            BeginDecision::OtherContent => return Err(Error::idempotency_other_content()),
            BeginDecision::OtherIdentity => return Err(Error::idempotency_other_identity()),
        };
        match journal.save(&entry, deadline).await? {
            JournalSaved::Written => {
                return Ok(Begun::Send(Box::new(Sending::new(journal, entry, None))));
            }
            JournalSaved::Stale => existing = journal.get(&attempt.key, deadline).await?,
        }
    }
}

/// True where the task of this very ask was given up by a release: sent again, it would be
/// continued.
fn was_given_up(entry: &JournalEntry, attempt: &AskAttempt) -> bool {
    let is_given_up = entry.releases.iter().any(|release| release.task_id == attempt.task_id);
    is_given_up && !attempt.ask.is_continuation()
}

/// Writes the ask out again, for a new task.
fn renew_task(
    platform: &Platform,
    attempt: &mut AskAttempt,
    method: &'static str,
    ask: &mut PreparedAsk,
) -> Result<()> {
    let renewed = Ask::from_stored(attempt.ask.clone(), TaskId::new())
        .session(attempt.session_id.clone())
        .prepare(method, &attempt.session_id, &platform.limits)?;
    attempt.task_id = renewed.context.task_id.clone();
    attempt.request_id = renewed.context.request.id();
    *ask = renewed;
    Ok(())
}

/// The right to send one attempt, and the duty to record its end.
pub(crate) struct Sending {
    journal: ClientJournal,
    entry: JournalEntry,
    /// Where a worker sends: after so many attempts it sends no more.
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
    /// A journal that fails for longer than the limit is a warning and no error: the reply is
    /// there, and the next caller looks it up.
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

    /// When a worker sends again what was surely not done; `None` for never.
    fn retry_at(&self, error: &Error) -> Option<SystemTime> {
        let attempts = self.entry.attempts;
        if self.max_attempts.is_some_and(|most| attempts >= most) || is_hopeless(error) {
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
                // A worker postponed its lookup, or a caller settled it by one.
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

/// No repetition would fare better: someone has to change something first.
fn is_hopeless(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidInput
            | ErrorKind::Rpc
            | ErrorKind::Http
            | ErrorKind::Unsupported
            | ErrorKind::ReauthorizationRequired
    )
}

/// The end that a task shows; `None` while it runs, or in a state that is not known to be an end.
pub(super) fn replied(
    task: &Task,
    response: Option<&Bytes>,
    entry: &JournalEntry,
) -> Option<AttemptEnd> {
    let awaits_input = task.state().is_waiting_for_user();
    if !awaits_input && !task.state().is_terminal() {
        return None;
    }
    let response = match response {
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        None => json!({"jsonrpc": "2.0", "id": entry.request_id, "result": task}).to_string(),
    };
    Some(AttemptEnd::Replied { response, awaits_input })
}

/// The stored reply as a snapshot; the prepared ask takes the ids that it was asked with.
pub(super) fn stored_reply(entry: &JournalEntry, ask: &mut AskContext) -> Result<TaskSnapshot> {
    adopt(entry, ask);
    match (entry.stored_task(), &entry.response) {
        (Some(task), Some(response)) => {
            let response = Bytes::from(response.clone());
            Ok(TaskSnapshot { response, ..TaskSnapshot::of(task) })
        }
        _ => Err(Error::stored_reply_unreadable(&entry.task_id)),
    }
}

/// Makes the ask stand for the entry's attempt.
pub(super) fn adopt(entry: &JournalEntry, ask: &mut AskContext) {
    ask.task_id = entry.task_id.clone();
    ask.origin = entry.ask.task_origin();
    if let Some(session) = &entry.session_id {
        ask.session_id = session.clone();
    }
    if let Some(request) = entry.request_id.as_ref().and_then(MintedRequest::parse) {
        ask.request = request;
    }
}

/// For `reserve`: the same ask may be reserved again.
pub(super) fn check_same(stored: &JournalEntry, fingerprint: &str) -> Result<()> {
    match stored.fingerprint == fingerprint {
        true => Ok(()),
        false => Err(Error::idempotency_other_content()),
    }
}

/// Calls of the journal, repeated for a while where it fails, such as during a restart of its
/// database.
///
/// Errors say that nothing was sent by this call.
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
