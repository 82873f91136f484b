//! An ask: the message to the agent, with its metadata, headers and limits.

mod context;
mod stored;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::Value;

use crate::ids::{SessionId, TaskId};
use crate::wire::Metadata;
use crate::wire::timestamp::Timestamp;

pub(crate) use context::{AskContext, AskDetails, PreparedAsk, SentFlag, TaskOrigin};
pub(crate) use stored::{KeyedAsk, stored_task_origin};

///
/// The task id is chosen here and known before anything is sent: store it, and a program that
/// crashed can look the answer up later with [`Client::get_task`](crate::Client::get_task).
///
/// An `Ask` stands for one task and is sent once. Its clones are the same ask: to send a second one
/// would continue the task, the agent would run again and could pay again. So the second is refused
/// before it is sent, with an error of kind [`InvalidInput`](crate::ErrorKind::InvalidInput) and
/// the message "this ask was sent already". That error's outcome is unknown, since the first may
/// have been done. An ask whose error [is safe to ask again](crate::Error::is_safe_to_ask_again)
/// may be sent again.
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

/// Headers that frame the message or identify the SDK. Those of a caller are omitted.
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
    /// The session of the client.
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
    /// like), are never overridden: such a header is omitted. Values appear in no log and no error.
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

    /// Sets the time limit of one reply, instead of the client's limit.
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

    /// Sets the time for which the stream may be silent, instead of the client's limit.
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

    /// Sets the time limit of the whole ask, with its waits and lookups, instead of the client's
    /// limit. The time counts from the first poll of the ask's future.
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

    /// Sets the largest size of one event of the stream in bytes, at most 4 GiB, instead of the
    /// client's limit.
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

    /// Sets the idempotency key: another ask with the same key, in this or another process, gets
    /// the reply to the first ask, and nothing is sent. See [`journal`](crate::journal).
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
/// arrays stay, because their positions have a meaning.
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

/// Omits the text, the metadata and the headers: they are private.
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
