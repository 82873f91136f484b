//! One key's entry in a journal, and the filter of lists of entries.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ids::{MintedRequest, RequestId, SessionId, TaskId};
use crate::reply::Reply;
use crate::stored_ask::StoredAsk;
use crate::wire::message::{MessageContent, decode_message};
use crate::wire::state::TaskState;
use crate::wire::task::Task;

/// The state of an entry; the [module's table](crate::journal#states) lists the transitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum JournalState {
    /// Recorded and not sent, or surely not done: it may be sent.
    Reserved,
    /// It may have been sent: it is only looked up, never sent.
    Sending,
    /// The task ended, in whatever state; the reply is stored.
    Settled,
    /// The task waits for the user; the reply with the question is stored.
    AwaitingInput,
}

impl JournalState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Reserved, Self::Sending, Self::Settled, Self::AwaitingInput];

    /// Returns the state's name, as [`Display`](fmt::Display), JSON and the SQL column have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Sending => "sending",
            Self::Settled => "settled",
            Self::AwaitingInput => "awaiting_input",
        }
    }
}

impl fmt::Display for JournalState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for JournalState {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
            Error::invalid_input(
                "unknown journal state; there are reserved, sending, settled and awaiting_input",
            )
        })
    }
}

/// A person's decision that a key may be asked again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct JournalRelease {
    /// The reason given.
    pub reason: String,
    /// The time of the release.
    #[serde(with = "unix_millis")]
    pub at: SystemTime,
    /// The state that the entry was in.
    pub from: JournalState,
    /// The task of the attempt that was given up.
    pub task_id: TaskId,
}

/// An idempotency key and what is known of its ask.
///
/// An entry holds the text that was asked and the reply; `Debug` shows neither. To store one, use
/// its JSON: `JournalEntry` implements [`Serialize`] and [`Deserialize`] for
/// [`Journal`](crate::Journal) implementations, and unknown fields are skipped.
///
/// ```
/// use payman_sdk::{JournalEntry, JournalState};
///
/// /// Describes an entry to the person who looks after payments.
/// fn describe(entry: &JournalEntry) -> String {
///     let (key, task) = (entry.key(), entry.task_id());
///     match (entry.state(), entry.reply()) {
///         (JournalState::Sending, _) => format!("{key}: look for {task}, which may have paid"),
///         (_, Some(reply)) => format!("{key}: {reply}"),
///         _ => format!("{key}: not sent, {}", entry.last_error().unwrap_or("waiting")),
///     }
/// }
/// ```
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalEntry {
    pub(crate) key: String,
    pub(crate) revision: u64,
    pub(crate) state: JournalState,
    /// Client id, platform and subject; `None` until the first attempt of a reserved ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) identity: Option<String>,
    pub(crate) fingerprint: String,
    pub(crate) ask: StoredAsk,
    pub(crate) task_id: TaskId,
    /// A random id of the call that began the present attempt; blank before the first one.
    #[serde(default)]
    pub(crate) attempt: String,
    #[serde(default)]
    pub(crate) attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) session_id: Option<SessionId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request_id: Option<RequestId>,
    /// The JSON-RPC response with the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) response: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_error: Option<String>,
    /// Written by `reserve`: workers may send it.
    #[serde(default)]
    pub(crate) outbox: bool,
    /// The time from which a worker sends it or looks it up.
    #[serde(default, with = "opt_unix_millis", skip_serializing_if = "Option::is_none")]
    pub(crate) due_at: Option<SystemTime>,
    #[serde(default)]
    pub(crate) releases: Vec<JournalRelease>,
    #[serde(with = "unix_millis")]
    pub(crate) created_at: SystemTime,
    #[serde(default, with = "opt_unix_millis", skip_serializing_if = "Option::is_none")]
    pub(crate) started_at: Option<SystemTime>,
    #[serde(with = "unix_millis")]
    pub(crate) updated_at: SystemTime,
}

impl JournalEntry {
    /// Returns the idempotency key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns the number of writes to the entry.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Returns the state.
    #[must_use]
    pub fn state(&self) -> JournalState {
        self.state
    }

    /// Returns the task of the latest attempt; for a reserved ask, the id that it will be sent
    /// with.
    #[must_use]
    pub fn task_id(&self) -> &TaskId {
        &self.task_id
    }

    /// Returns the number of attempts to send that were begun.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Returns the text of the ask.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.ask.text
    }

    /// Returns the stored reply, if the state is [`Settled`](JournalState::Settled) or
    /// [`AwaitingInput`](JournalState::AwaitingInput).
    #[must_use]
    pub fn reply(&self) -> Option<Reply> {
        let task = self.stored_task()?;
        let session = self.session_id.clone().unwrap_or_default();
        Some(match self.request_id.as_ref().and_then(MintedRequest::parse) {
            Some(request) => Reply::new(task, request, &session),
            None => Reply::from(task),
        })
    }

    /// Returns the state of the task in the stored reply.
    #[must_use]
    pub fn task_state(&self) -> Option<TaskState> {
        self.stored_task().map(|task| task.state().clone())
    }

    /// Returns the reason that the latest attempt was surely not done.
    #[must_use]
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// Returns the releases of the key, the oldest first.
    ///
    /// ```
    /// use payman_sdk::JournalEntry;
    ///
    /// fn print_decisions(entry: &JournalEntry) {
    ///     for release in entry.releases() {
    ///         println!("{:?}: {}, instead of {}", release.at, release.reason, release.task_id);
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn releases(&self) -> &[JournalRelease] {
        &self.releases
    }

    /// Returns the time at which the key was first recorded.
    #[must_use]
    pub fn created_at(&self) -> SystemTime {
        self.created_at
    }

    /// Returns the time at which the latest attempt began.
    #[must_use]
    pub fn started_at(&self) -> Option<SystemTime> {
        self.started_at
    }

    /// Returns the time at which the entry was last written.
    #[must_use]
    pub fn updated_at(&self) -> SystemTime {
        self.updated_at
    }

    /// Returns the time at which a worker will send it or look it up; `None` if none will.
    ///
    /// ```
    /// use payman_sdk::JournalEntry;
    /// use std::time::{Duration, SystemTime};
    ///
    /// /// An entry that should have been sent an hour ago means that no worker runs.
    /// fn is_overdue(entry: &JournalEntry) -> bool {
    ///     let hour_ago = SystemTime::now().checked_sub(Duration::from_secs(3600));
    ///     entry.due_at().zip(hour_ago).is_some_and(|(due, hour_ago)| due < hour_ago)
    /// }
    /// ```
    #[must_use]
    pub fn due_at(&self) -> Option<SystemTime> {
        self.due_at
    }

    /// Checks the content of a reserved ask: only the same ask may be reserved again.
    pub(crate) fn check_content(&self, fingerprint: &str) -> Result<()> {
        match self.fingerprint == fingerprint {
            true => Ok(()),
            false => Err(Error::idempotency_other_content()),
        }
    }

    pub(crate) fn stored_task(&self) -> Option<Task> {
        match decode_message(self.response.as_ref()?.as_bytes()) {
            Ok(MessageContent::Result(payload)) => payload.into_task(&self.task_id),
            _ => None,
        }
    }
}

/// Omits the text of the ask and the reply.
impl fmt::Debug for JournalEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalEntry")
            .field("key", &self.key)
            .field("revision", &self.revision)
            .field("state", &self.state)
            .field("task_id", &self.task_id)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

/// Selects the entries that [`Journal::list`](crate::Journal::list) returns, the least recently
/// written first.
///
/// ```
/// use payman_sdk::{JournalFilter, JournalState};
/// use std::time::Duration;
///
/// // Outcomes that are unknown for ten minutes or longer.
/// let filter = JournalFilter::new()
///     .state(JournalState::Sending)
///     .older_than(Duration::from_secs(600));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct JournalFilter {
    pub(crate) states: Vec<JournalState>,
    pub(crate) before: Option<SystemTime>,
    pub(crate) limit: u32,
    pub(crate) offset: u64,
}

impl JournalFilter {
    /// Selects all entries, 1,000 at most.
    pub fn new() -> Self {
        Self { states: Vec::new(), before: None, limit: 1000, offset: 0 }
    }

    /// Selects only entries in this state. Call it again to add another state.
    ///
    /// ```
    /// use payman_sdk::{JournalFilter, JournalState};
    ///
    /// let open = JournalFilter::new().state(JournalState::Reserved).state(JournalState::Sending);
    /// ```
    pub fn state(mut self, state: JournalState) -> Self {
        self.states.push(state);
        self
    }

    /// Selects only entries that were last written at least this long ago.
    pub fn older_than(mut self, age: Duration) -> Self {
        self.before = SystemTime::now().checked_sub(age);
        self
    }

    /// Selects only entries that were last written before this time.
    ///
    /// ```
    /// use payman_sdk::JournalFilter;
    /// use std::time::SystemTime;
    ///
    /// let until_now = JournalFilter::new().before(SystemTime::now());
    /// ```
    pub fn before(mut self, time: SystemTime) -> Self {
        self.before = Some(time);
        self
    }

    /// Sets the largest number of entries.
    pub fn limit(mut self, entries: u32) -> Self {
        self.limit = entries;
        self
    }

    /// Skips the first entries, to read the list by pages.
    ///
    /// ```
    /// use payman_sdk::JournalFilter;
    ///
    /// let third_page = JournalFilter::new().limit(100).skip(200);
    /// ```
    pub fn skip(mut self, entries: u64) -> Self {
        self.offset = entries;
        self
    }

    /// Returns true for an entry that the filter selects.
    #[must_use]
    pub fn matches(&self, entry: &JournalEntry) -> bool {
        (self.states.is_empty() || self.states.contains(&entry.state))
            && self.before.is_none_or(|before| entry.updated_at < before)
    }
}

impl Default for JournalFilter {
    fn default() -> Self {
        Self::new()
    }
}

impl From<JournalState> for JournalFilter {
    fn from(state: JournalState) -> Self {
        Self::new().state(state)
    }
}

/// Converts a time to milliseconds since 1970, the unit of the journal.
pub(crate) fn to_millis(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

pub(crate) fn from_millis(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_millis(millis))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

mod unix_millis {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(at: &SystemTime, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(super::to_millis(*at))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<SystemTime, D::Error> {
        u64::deserialize(d).map(super::from_millis)
    }
}

mod opt_unix_millis {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        at: &Option<SystemTime>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        at.map(super::to_millis).serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        Ok(Option::<u64>::deserialize(d)?.map(super::from_millis))
    }
}
