//! What to say.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::ids::{MintedRequest, SessionId, TaskId};
use crate::wire::Metadata;
use crate::wire::jsonrpc::Request;
use crate::wire::request::{SendParams, UserMessage, UserText};
use crate::wire::timestamp::Timestamp;

/// One thing to say to the agent, with what goes along.
///
/// Its task id is minted here and known before anything is sent: keep it, and a program that crashed
/// can look for the answer later with [`Client::get_task`](crate::Client::get_task).
///
/// An `Ask` stands for one task. Asking a clone of it again after the first was received **continues that
/// task: the agent runs again**, and may pay again.
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
    continues: Option<Continuation>,
    session: Session,
    metadata: Metadata,
    message_metadata: Metadata,
    part_metadata: Metadata,
    reply_timeout: Option<Duration>,
    idle_timeout: Option<Duration>,
    deadline: Option<Duration>,
    max_event_bytes: Option<usize>,
    max_reply_bytes: Option<usize>,
    problem: Option<String>,
}

/// What is known of a task that is continued.
#[derive(Clone, Debug, Default)]
pub(crate) struct Continuation {
    /// When it came to stand where it stood: if it still stands there, nothing happened since.
    pub(crate) since: Option<Timestamp>,
}

#[derive(Clone, Debug)]
enum Session {
    /// The client's.
    Client,
    New,
    Given(SessionId),
}

impl Ask {
    /// An ask for a new task, in the client's session.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            task_id: TaskId::new(),
            continues: None,
            session: Session::Client,
            metadata: Metadata::new(),
            message_metadata: Metadata::new(),
            part_metadata: Metadata::new(),
            reply_timeout: None,
            idle_timeout: None,
            deadline: None,
            max_event_bytes: None,
            max_reply_bytes: None,
            problem: None,
        }
    }

    /// Continues a task that waits for input. [`Reply::answer`](crate::Reply::answer) does this and the session in one.
    pub fn continue_task(mut self, id: impl Into<TaskId>) -> Self {
        self.task_id = id.into();
        self.continues = Some(Continuation::default());
        self
    }

    pub(crate) fn continue_since(mut self, id: TaskId, since: Option<Timestamp>) -> Self {
        self.task_id = id;
        self.continues = Some(Continuation { since });
        self
    }

    /// Attaches a value to the request.
    ///
    /// A value that JSON cannot hold is an error when it is asked, before anything is sent; so it is for
    /// the other two.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Serialize) -> Self {
        attach(&mut self.metadata, key.into(), value, &mut self.problem);
        self
    }

    /// Attaches a value to the message.
    pub fn message_metadata(mut self, key: impl Into<String>, value: impl Serialize) -> Self {
        attach(&mut self.message_metadata, key.into(), value, &mut self.problem);
        self
    }

    /// Attaches a value to the message's text part.
    pub fn part_metadata(mut self, key: impl Into<String>, value: impl Serialize) -> Self {
        attach(&mut self.part_metadata, key.into(), value, &mut self.problem);
        self
    }

    /// Asks in this session instead of the client's. The client's does not change.
    pub fn session(mut self, id: impl Into<SessionId>) -> Self {
        self.session = Session::Given(id.into());
        self
    }

    /// Asks in a session of its own. The client's does not change.
    pub fn new_session(mut self) -> Self {
        self.session = Session::New;
        self
    }

    /// How long one reply may take, instead of the client's limit.
    pub fn reply_timeout(mut self, limit: Duration) -> Self {
        self.reply_timeout = Some(limit);
        self
    }

    /// How long its stream may be silent, instead of the client's limit.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = Some(limit);
        self
    }

    /// How long the whole ask may take, with its waiting and looking, instead of the client's limit.
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = Some(limit);
        self
    }

    /// The size of one event of its stream in bytes, instead of the client's limit.
    pub fn max_event_bytes(mut self, bytes: usize) -> Self {
        self.max_event_bytes = Some(bytes);
        self
    }

    /// The size of its reply in bytes, instead of the client's limit.
    pub fn max_reply_bytes(mut self, bytes: usize) -> Self {
        self.max_reply_bytes = Some(bytes);
        self
    }

    /// The task that this will be.
    #[must_use]
    pub fn task_id(&self) -> &TaskId {
        &self.task_id
    }

    /// What will be said.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

fn attach(to: &mut Metadata, key: String, value: impl Serialize, problem: &mut Option<String>) {
    match serde_json::to_value(value) {
        Ok(value) => {
            to.insert(key, value);
        }
        Err(_) => {
            problem.get_or_insert_with(|| {
                format!("the metadata {key:?} has a value that JSON cannot hold")
            });
        }
    }
}

/// By hand: what is asked is nobody else's business.
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

/// An ask that was checked and written out, ready to be sent.
pub(crate) struct PreparedAsk {
    pub(crate) text: String,
    pub(crate) task_id: TaskId,
    pub(crate) session_id: SessionId,
    pub(crate) request: MintedRequest,
    pub(crate) continues: Option<Continuation>,
    pub(crate) limits: crate::policy::Limits,
    pub(crate) body: bytes::Bytes,
}

impl Ask {
    pub(crate) fn prepare(
        self,
        method: &str,
        own_session: &SessionId,
        limits: crate::policy::Limits,
    ) -> Result<PreparedAsk> {
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
        let limits = crate::policy::Limits {
            reply_timeout: self.reply_timeout.unwrap_or(limits.reply_timeout),
            idle_timeout: self.idle_timeout.unwrap_or(limits.idle_timeout),
            deadline: self.deadline.or(limits.deadline),
            max_event_bytes: self.max_event_bytes.unwrap_or(limits.max_event_bytes),
            max_reply_bytes: self.max_reply_bytes.unwrap_or(limits.max_reply_bytes),
            ..limits
        };
        Ok(PreparedAsk {
            text: self.text,
            task_id: self.task_id,
            session_id,
            request,
            continues: self.continues,
            limits,
            body: body.into(),
        })
    }
}
