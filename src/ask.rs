//! An ask: the message to the agent, and what is sent along.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::ids::{MintedRequest, SessionId, TaskId};
use crate::policy::Limits;
use crate::stored_ask::{SessionChoice, StoredAsk, StoredLimits, StoredOrigin};
use crate::wire::Metadata;
use crate::wire::jsonrpc::Request;
use crate::wire::request::{SendParams, UserMessage, UserText};
use crate::wire::timestamp::Timestamp;

/// One message to the agent, with its metadata, headers and limits.
///
/// The task id is chosen here and known before anything is sent: store it, and a program that
/// crashed can look the answer up later with [`Client::get_task`](crate::Client::get_task).
///
/// An `Ask` stands for one task and is sent once. Its clones are the same ask: to send a second one
/// would continue the task, the agent would run again and could pay again. So the second is refused
/// before it is sent, with an error of kind [`InvalidInput`](crate::ErrorKind::InvalidInput) that
/// says "was sent already". That error's outcome is unknown, since the first may have been done. An
/// ask whose error [is safe to ask again](crate::Error::is_safe_to_ask_again) may be sent again.
///
/// ```
/// use payman_sdk::Ask;
/// use std::time::Duration;
///
/// let ask = Ask::new("Pay Tyllen $50")
///     .metadata("source", "mobile-app")
///     .message_metadata("priority", "high")
///     .part_metadata("currency", "USD")
///     .deadline(Duration::from_secs(60));
/// assert!(ask.task_id().as_str().starts_with("tsk-"));
/// ```
#[derive(Clone)]
#[must_use = "an ask does nothing until a client asks it"]
pub struct Ask {
    text: String,
    task_id: TaskId,
    origin: Origin,
    session: Session,
    metadata: Metadata,
    message_metadata: Metadata,
    part_metadata: Metadata,
    reply_timeout: Option<Duration>,
    idle_timeout: Option<Duration>,
    deadline: Option<Duration>,
    max_event_bytes: Option<usize>,
    max_reply_bytes: Option<usize>,
    headers: HeaderMap,
    sent: SentFlag,
    /// The first bad input, reported when the ask is sent.
    problem: Option<String>,
    key: Option<String>,
}

/// Where the task id of an ask comes from, and so what a lookup of that id proves.
#[derive(Clone, Debug)]
pub(crate) enum TaskOrigin {
    /// A random id: nobody else can have used it.
    Minted,
    /// An id that the caller chose for a new task.
    Chosen,
    /// A task that nothing is sent to: it is followed because the caller said so.
    Followed,
    /// A task that existed before. A lookup may show it as it was before this ask.
    Continued(Box<Continuation>),
}

/// What is known of a task that is continued.
#[derive(Clone, Debug)]
pub(crate) struct Continuation {
    /// What is said now: a lookup proves receipt only with this in the task's history.
    pub(crate) text: String,
    /// The timestamp of the last status known before: a later one shows that something happened.
    pub(crate) since: Option<Timestamp>,
}

/// Whether an ask was sent: shared by its clones.
#[derive(Clone, Debug, Default)]
pub(crate) struct SentFlag(Arc<AtomicBool>);

impl SentFlag {
    /// Marks the ask as sent.
    ///
    /// # Errors
    ///
    /// It was sent before, and the first is not known to have had no effect.
    pub(crate) fn set(&self) -> Result<()> {
        if self.0.swap(true, Ordering::SeqCst) { Err(Error::ask_already_sent()) } else { Ok(()) }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Takes the mark off: nothing was done.
    pub(crate) fn clear(&self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// Headers that frame the message or identify the SDK: a caller's are left out.
const RESERVED_HEADERS: [&str; 16] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    crate::wire::ACCESS_TOKEN_HEADER,
];

#[derive(Clone, Debug)]
enum Origin {
    Minted,
    Chosen,
    Continued { since: Option<Timestamp> },
}

#[derive(Clone, Debug)]
enum Session {
    /// The client's.
    Client,
    New,
    Given(SessionId),
}

impl Ask {
    /// Creates an ask for a new task, in the client's session.
    ///
    /// ```
    /// use payman_sdk::Ask;
    ///
    /// let ask = Ask::new("How much money do I have in my wallet?");
    /// assert!(ask.task_id().as_str().starts_with("tsk-"));
    /// ```
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            task_id: TaskId::new(),
            origin: Origin::Minted,
            session: Session::Client,
            metadata: Metadata::new(),
            message_metadata: Metadata::new(),
            part_metadata: Metadata::new(),
            reply_timeout: None,
            idle_timeout: None,
            deadline: None,
            max_event_bytes: None,
            max_reply_bytes: None,
            headers: HeaderMap::new(),
            sent: SentFlag::default(),
            problem: None,
            key: None,
        }
    }

    /// Chooses the id of a new task, instead of the random one: a program that stored an id before
    /// it made the ask uses it here.
    ///
    /// The id must be new. With the id of an existing task the agent runs again in that task, and a
    /// lookup may find the older answer; to answer a question, use
    /// [`continue_task`](Self::continue_task).
    ///
    /// ```
    /// use payman_sdk::{Ask, TaskId};
    ///
    /// let id = TaskId::new();
    /// // Store the id, then:
    /// let ask = Ask::new("Pay Tyllen $50").with_task_id(&id);
    /// assert_eq!(ask.task_id(), &id);
    /// ```
    pub fn with_task_id(mut self, id: impl Into<TaskId>) -> Self {
        self.task_id = id.into();
        self.origin = Origin::Chosen;
        self.sent = SentFlag::default();
        self
    }

    /// Continues a task that waits for input. [`Reply::answer`](crate::Reply::answer) sets the task
    /// and the session in one call, and knows the task's last timestamp, which is needed to find an
    /// answer that was lost.
    ///
    /// ```
    /// use payman_sdk::Ask;
    ///
    /// let ask = Ask::new("the second one").continue_task("tsk-1").session("ses-1");
    /// ```
    pub fn continue_task(self, id: impl Into<TaskId>) -> Self {
        self.continue_since(id.into(), None)
    }

    pub(crate) fn continue_since(mut self, id: TaskId, since: Option<Timestamp>) -> Self {
        self.task_id = id;
        self.origin = Origin::Continued { since };
        self.sent = SentFlag::default();
        self
    }

    /// Adds an HTTP header to the ask and to the lookups of its answer: trace context, or the key
    /// of a gateway. A name that is given twice is sent twice.
    ///
    /// The headers that the SDK sets itself, and those that frame the message (`accept`,
    /// `content-type`, `content-length`, `host`, `user-agent`, `x-payman-access-token` and the
    /// like), are never overridden: such a header is left out. Values appear in no log and no
    /// error.
    ///
    /// An invalid name or value is an error of kind
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when the ask is made, before anything is
    /// sent.
    ///
    /// ```
    /// use payman_sdk::Ask;
    ///
    /// let ask = Ask::new("List all payees")
    ///     .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    /// ```
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        let name = HeaderName::from_bytes(name.as_ref().as_bytes());
        let value = HeaderValue::from_str(value.as_ref());
        match (name, value) {
            (Ok(name), Ok(_)) if RESERVED_HEADERS.contains(&name.as_str()) => {}
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                if self.headers.try_append(name, value).is_err() {
                    self.problem.get_or_insert_with(|| "too many headers".to_owned());
                }
            }
            (Ok(name), Err(_)) => {
                self.problem.get_or_insert_with(|| {
                    format!("the header {name} has a value that HTTP cannot carry")
                });
            }
            (Err(_), _) => {
                self.problem.get_or_insert_with(|| "a header has an invalid name".to_owned());
            }
        }
        self
    }

    /// Attaches a value to the request.
    ///
    /// A value that JSON cannot hold is an error of kind
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when the ask is made, before anything is
    /// sent.
    ///
    /// ```
    /// use payman_sdk::Ask;
    ///
    /// let ask = Ask::new("Pay Tyllen $50").metadata("source", "app").metadata("userId", 17);
    /// ```
    pub fn metadata(mut self, key: impl Into<String>, value: impl Serialize) -> Self {
        attach(&mut self.metadata, key.into(), value, &mut self.problem);
        self
    }

    /// Attaches a value to the message.
    ///
    /// ```
    /// use payman_sdk::Ask;
    ///
    /// let ask = Ask::new("Pay Tyllen $50").message_metadata("priority", "high");
    /// ```
    pub fn message_metadata(mut self, key: impl Into<String>, value: impl Serialize) -> Self {
        attach(&mut self.message_metadata, key.into(), value, &mut self.problem);
        self
    }

    /// Attaches a value to the message's text part.
    ///
    /// ```
    /// use payman_sdk::Ask;
    ///
    /// let ask = Ask::new("List all wallets").part_metadata("currency", "USD");
    /// ```
    pub fn part_metadata(mut self, key: impl Into<String>, value: impl Serialize) -> Self {
        attach(&mut self.part_metadata, key.into(), value, &mut self.problem);
        self
    }

    /// Asks in this session instead of the client's. The client's session does not change.
    ///
    /// ```
    /// use payman_sdk::Ask;
    ///
    /// let ask = Ask::new("What did we talk about earlier?").session("ses-1");
    /// ```
    pub fn session(mut self, id: impl Into<SessionId>) -> Self {
        self.session = Session::Given(id.into());
        self
    }

    /// Asks in a new session. The client's session does not change.
    ///
    /// ```
    /// use payman_sdk::Ask;
    ///
    /// let ask = Ask::new("List all payees").new_session();
    /// ```
    pub fn new_session(mut self) -> Self {
        self.session = Session::New;
        self
    }

    /// Sets how long one reply may take, instead of the client's limit.
    ///
    /// ```
    /// use std::time::Duration;
    /// use payman_sdk::Ask;
    ///
    /// let ask = Ask::new("List all payees").reply_timeout(Duration::from_secs(30));
    /// ```
    pub fn reply_timeout(mut self, limit: Duration) -> Self {
        self.reply_timeout = Some(limit);
        self
    }

    /// Sets how long the stream may be silent, instead of the client's limit.
    ///
    /// ```
    /// use std::time::Duration;
    /// use payman_sdk::Ask;
    ///
    /// let ask = Ask::new("List all payees").idle_timeout(Duration::from_secs(30));
    /// ```
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = Some(limit);
        self
    }

    /// Sets how long the whole ask may take, with its waits and lookups, instead of the client's
    /// limit. The time counts from when the ask's future is first polled.
    ///
    /// ```
    /// use std::time::Duration;
    /// use payman_sdk::Ask;
    ///
    /// let ask = Ask::new("Pay Tyllen $50").deadline(Duration::from_secs(60));
    /// ```
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = Some(limit);
        self
    }

    /// Sets the largest size of one event of the stream in bytes, instead of the client's limit.
    ///
    /// ```
    /// use payman_sdk::Ask;
    ///
    /// let ask = Ask::new("List all payees").max_event_bytes(1024 * 1024);
    /// ```
    pub fn max_event_bytes(mut self, bytes: usize) -> Self {
        self.max_event_bytes = Some(bytes);
        self
    }

    /// Sets the largest size of the reply in bytes, instead of the client's limit.
    ///
    /// ```
    /// use payman_sdk::Ask;
    ///
    /// let ask = Ask::new("List all payees").max_reply_bytes(1024 * 1024);
    /// ```
    pub fn max_reply_bytes(mut self, bytes: usize) -> Self {
        self.max_reply_bytes = Some(bytes);
        self
    }

    /// Names the ask by an idempotency key: whoever asks with the same key again, in this or
    /// another process, gets the reply to the first ask, and nothing is sent. See
    /// [`journal`](crate::journal).
    ///
    /// The client needs a [`Config::journal`](crate::Config::journal). A key has 1 to 255 bytes and
    /// no control characters, which is checked when the ask is sent.
    ///
    /// ```
    /// use payman_sdk::Ask;
    ///
    /// let ask = Ask::new("Pay Tyllen $50").idempotency_key("order-4711");
    /// ```
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Returns the id of the task that the ask starts or continues.
    ///
    /// ```
    /// use payman_sdk::Ask;
    ///
    /// let ask = Ask::new("Pay Tyllen $50");
    /// let task_id = ask.task_id().clone(); // store it with the order, before asking
    /// ```
    #[must_use]
    pub fn task_id(&self) -> &TaskId {
        &self.task_id
    }

    /// Returns the text of the message.
    ///
    /// ```
    /// use payman_sdk::Ask;
    ///
    /// assert_eq!(Ask::new("List all payees").text(), "List all payees");
    /// ```
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

fn attach(to: &mut Metadata, key: String, value: impl Serialize, problem: &mut Option<String>) {
    match serde_json::to_value(value) {
        Ok(value) => {
            if let Some(value) = without_nulls(value) {
                to.insert(key, value);
            }
        }
        Err(_) => {
            problem.get_or_insert_with(|| {
                format!("the metadata {key:?} has a value that JSON cannot hold")
            });
        }
    }
}

/// Removes the nulls that stand for `None` and NaN: some servers answer 500 to a null. Elements of
/// arrays stay, because their positions count.
fn without_nulls(value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(fields) => {
            let kept =
                fields.into_iter().filter_map(|(name, value)| Some((name, without_nulls(value)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(items) => {
            let kept = items.into_iter().map(|item| without_nulls(item).unwrap_or_default());
            Some(Value::Array(kept.collect()))
        }
        scalar => Some(scalar),
    }
}

/// Leaves the text, the metadata and the headers out: they are private.
impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask")
            .field("task_id", &self.task_id)
            .field("session", &self.session)
            .field("text_bytes", &self.text.len())
            .finish_non_exhaustive()
    }
}

impl From<&str> for Ask {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Ask {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&String> for Ask {
    fn from(text: &String) -> Self {
        Self::new(text)
    }
}

impl From<Cow<'_, str>> for Ask {
    fn from(text: Cow<'_, str>) -> Self {
        Self::new(text)
    }
}

/// What is known of an ask once it is written out: all that sending it, looking its answer up and
/// reading its stream need, but for the body.
#[derive(Clone)]
pub(crate) struct AskContext {
    pub(crate) task_id: TaskId,
    pub(crate) session_id: SessionId,
    pub(crate) request: MintedRequest,
    pub(crate) origin: TaskOrigin,
    pub(crate) limits: Arc<Limits>,
    /// The caller's headers.
    pub(crate) headers: Option<Arc<HeaderMap>>,
    pub(crate) sent: SentFlag,
}

impl AskContext {
    /// Describes an existing task that is followed, not asked.
    pub(crate) fn of_task(task_id: TaskId, session_id: SessionId, limits: Arc<Limits>) -> Self {
        Self {
            task_id,
            session_id,
            request: MintedRequest::new(),
            origin: TaskOrigin::Followed,
            limits,
            headers: None,
            sent: SentFlag::default(),
        }
    }
}

/// An ask that was checked and written out, ready to be sent.
pub(crate) struct PreparedAsk {
    pub(crate) context: AskContext,
    pub(crate) body: Bytes,
}

impl Ask {
    pub(crate) fn prepare(
        self,
        method: &str,
        own_session: &SessionId,
        limits: &Arc<Limits>,
    ) -> Result<PreparedAsk> {
        let limits = self.limits(limits);
        let session_id = match self.session {
            Session::Client => own_session.clone(),
            Session::New => SessionId::new(),
            Session::Given(id) => id,
        };
        if self.text.trim().is_empty() {
            return Err(Error::invalid_input("there is nothing to ask: the text is blank"));
        }
        if session_id.is_blank() {
            return Err(Error::invalid_input(
                "the session id is blank; use Ask::new_session to start one",
            ));
        }
        if self.task_id.is_blank() {
            return Err(Error::invalid_input("the task id is blank; leave it out to start a task"));
        }
        if let Some(problem) = self.problem {
            return Err(Error::invalid_input(problem));
        }
        let request = MintedRequest::new();
        let params = SendParams {
            id: &self.task_id,
            session_id: &session_id,
            metadata: &self.metadata,
            message: UserMessage {
                role: "user",
                metadata: &self.message_metadata,
                parts: [UserText { kind: "text", text: &self.text, metadata: &self.part_metadata }],
            },
        };
        let body =
            serde_json::to_vec(&Request::new(&request.id(), method, params)).map_err(|error| {
                Error::invalid_input("the ask cannot be written as JSON").with_source(error)
            })?;
        let origin = match self.origin {
            Origin::Minted => TaskOrigin::Minted,
            Origin::Chosen => TaskOrigin::Chosen,
            Origin::Continued { since } => {
                TaskOrigin::Continued(Box::new(Continuation { text: self.text, since }))
            }
        };
        let context = AskContext {
            task_id: self.task_id,
            session_id,
            request,
            origin,
            limits,
            headers: (!self.headers.is_empty()).then(|| Arc::new(self.headers)),
            sent: self.sent,
        };
        Ok(PreparedAsk { context, body: body.into() })
    }

    /// Returns the client's limits, or limits of the ask's own where it sets any.
    fn limits(&self, limits: &Arc<Limits>) -> Arc<Limits> {
        let own = Limits {
            reply_timeout: self.reply_timeout.unwrap_or(limits.reply_timeout),
            idle_timeout: self.idle_timeout.unwrap_or(limits.idle_timeout),
            deadline: self.deadline.or(limits.deadline),
            max_event_bytes: self.max_event_bytes.unwrap_or(limits.max_event_bytes),
            max_reply_bytes: self.max_reply_bytes.unwrap_or(limits.max_reply_bytes),
            ..**limits
        };
        if own == **limits { Arc::clone(limits) } else { Arc::new(own) }
    }
}

/// An ask with an idempotency key, as a journal records it.
pub(crate) struct KeyedAsk {
    pub(crate) key: String,
    pub(crate) stored: StoredAsk,
    pub(crate) task_id: TaskId,
}

/// The longest idempotency key, in bytes.
const MAX_KEY: usize = 255;

fn check_key(key: &str) -> Result<()> {
    if key.trim().is_empty() {
        return Err(Error::invalid_input("the idempotency key is blank"));
    }
    if key.len() > MAX_KEY {
        return Err(Error::invalid_input("the idempotency key is longer than 255 bytes"));
    }
    if key.chars().any(char::is_control) {
        return Err(Error::invalid_input("the idempotency key has a control character"));
    }
    Ok(())
}

/// An ask in a journal.
impl Ask {
    /// Returns what a journal records of the ask; `None` without a key.
    pub(crate) fn keyed(&self) -> Result<Option<KeyedAsk>> {
        let Some(key) = &self.key else {
            return Ok(None);
        };
        check_key(key)?;
        let (key, stored) = (key.clone(), self.to_stored());
        Ok(Some(KeyedAsk { key, stored, task_id: self.task_id.clone() }))
    }

    /// Returns what `reserve` records, checked as when it is sent.
    pub(crate) fn checked_for_reserve(self) -> Result<KeyedAsk> {
        let Some(keyed) = self.keyed()? else {
            return Err(Error::invalid_input(
                "only an ask with an idempotency key can be reserved: Ask::idempotency_key",
            ));
        };
        let limits = Arc::new(Limits::default());
        self.prepare(crate::wire::request::method::SEND, &SessionId::new(), &limits)?;
        Ok(keyed)
    }

    pub(crate) fn to_stored(&self) -> StoredAsk {
        let header = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        StoredAsk {
            text: self.text.clone(),
            origin: match &self.origin {
                Origin::Minted => StoredOrigin::Minted,
                Origin::Chosen => StoredOrigin::Chosen,
                Origin::Continued { since } => StoredOrigin::Continued { since: since.clone() },
            },
            session: match &self.session {
                Session::Client => SessionChoice::Client,
                Session::New => SessionChoice::New,
                Session::Given(id) => SessionChoice::Given(id.clone()),
            },
            metadata: self.metadata.clone(),
            message_metadata: self.message_metadata.clone(),
            part_metadata: self.part_metadata.clone(),
            headers: self.headers.iter().map(header).collect(),
            limits: StoredLimits {
                reply_timeout: StoredLimits::millis(self.reply_timeout),
                idle_timeout: StoredLimits::millis(self.idle_timeout),
                deadline: StoredLimits::millis(self.deadline),
                max_event_bytes: self.max_event_bytes,
                max_reply_bytes: self.max_reply_bytes,
            },
        }
    }

    pub(crate) fn from_stored(stored: StoredAsk, task_id: TaskId) -> Self {
        let mut ask = Self::new(stored.text);
        ask.task_id = task_id;
        ask.origin = match stored.origin {
            StoredOrigin::Minted => Origin::Minted,
            StoredOrigin::Chosen => Origin::Chosen,
            StoredOrigin::Continued { since } => Origin::Continued { since },
        };
        ask.session = match stored.session {
            SessionChoice::Client => Session::Client,
            SessionChoice::New => Session::New,
            SessionChoice::Given(id) => Session::Given(id),
        };
        ask.metadata = stored.metadata;
        ask.message_metadata = stored.message_metadata;
        ask.part_metadata = stored.part_metadata;
        ask.reply_timeout = stored.limits.reply_timeout.map(Duration::from_millis);
        ask.idle_timeout = stored.limits.idle_timeout.map(Duration::from_millis);
        ask.deadline = stored.limits.deadline.map(Duration::from_millis);
        ask.max_event_bytes = stored.limits.max_event_bytes;
        ask.max_reply_bytes = stored.limits.max_reply_bytes;
        for (name, value) in stored.headers {
            ask = ask.header(name, value);
        }
        ask
    }
}

/// Returns where the task id of a stored ask comes from.
pub(crate) fn stored_task_origin(stored: &StoredAsk) -> TaskOrigin {
    match &stored.origin {
        StoredOrigin::Minted => TaskOrigin::Minted,
        StoredOrigin::Chosen => TaskOrigin::Chosen,
        StoredOrigin::Continued { since } => {
            let (text, since) = (stored.text.clone(), since.clone());
            TaskOrigin::Continued(Box::new(Continuation { text, since }))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fingerprint(ask: &Ask) -> String {
        ask.to_stored().fingerprint(ask.task_id())
    }

    #[test]
    fn the_hash_covers_content_and_nothing_else() {
        let ask =
            || Ask::new("Pay Tyllen $50").metadata("b", 1).metadata("a", json!({"y":1,"x":2}));
        let same = [
            ask(),
            Ask::new("Pay Tyllen $50").metadata("a", json!({"x":2,"y":1})).metadata("b", 1),
            ask().deadline(Duration::from_secs(1)),
            ask().idempotency_key("another"),
        ];
        for other in &same {
            assert_eq!(fingerprint(&ask()), fingerprint(other));
        }
        let different = [
            Ask::new("Pay Tyllen $50"),
            Ask::new("Pay Tyllen $60").metadata("b", 1).metadata("a", json!({"y":1,"x":2})),
            ask().new_session(),
            ask().session("ses-1"),
            ask().message_metadata("c", 1),
            ask().part_metadata("c", 1),
            ask().continue_task("tsk-1"),
        ];
        for (position, other) in different.iter().enumerate() {
            assert_ne!(fingerprint(&ask()), fingerprint(other), "{position}");
        }
    }

    #[test]
    fn an_ask_survives_storage() -> Result<(), serde_json::Error> {
        let ask = Ask::new("yes")
            .continue_task("tsk-1")
            .session("ses-1")
            .metadata("a", 1)
            .deadline(Duration::from_secs(3));
        let stored = ask.to_stored();
        let read: StoredAsk = serde_json::from_str(&serde_json::to_string(&stored)?)?;
        assert_eq!(read, stored);
        let again = Ask::from_stored(read, TaskId::from("tsk-1"));
        assert_eq!(again.to_stored(), stored);
        assert_eq!(again.task_id(), "tsk-1");
        Ok(())
    }
}
