//! An ask that is ready to be sent: checked, serialized, and its context for lookups.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use reqwest::header::HeaderMap;

use super::{Ask, Origin, Session};
use crate::error::{Error, Result};
use crate::ids::{MintedRequest, SessionId, TaskId};
use crate::policy::Limits;
use crate::wire::jsonrpc::Request;
use crate::wire::request::{SendParams, UserMessage, UserText};
use crate::wire::timestamp::Timestamp;

/// The origin of an ask's task id, which decides what a lookup of that id proves.
#[derive(Clone, Debug, Default)]
pub(crate) enum TaskOrigin {
    /// A random id, which no other ask has used.
    #[default]
    Minted,
    /// An id that the caller chose for a new task.
    Chosen,
    /// An existing task that is only looked up or followed.
    Followed,
    /// A task that existed before. A lookup may return its state from before this ask.
    Continued(Box<Continuation>),
}

/// The known facts about a task that is continued.
#[derive(Clone, Debug)]
pub(crate) struct Continuation {
    /// The text of this ask: a lookup proves receipt only if it is in the task's history.
    pub(crate) text: String,
    /// The timestamp of the last status known before: a later one shows that something happened.
    pub(crate) since: Option<Timestamp>,
}

/// A flag that records that an ask was sent, shared by its clones.
#[derive(Clone, Debug, Default)]
pub(crate) struct SentFlag(Arc<AtomicBool>);

impl SentFlag {
    /// Marks the ask as sent.
    ///
    /// # Errors
    ///
    /// The ask was sent before, and it is not certain that the first send had no effect.
    pub(crate) fn set(&self) -> Result<()> {
        if self.0.swap(true, Ordering::SeqCst) { Err(Error::ask_already_sent()) } else { Ok(()) }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Clears the mark, because nothing was done.
    pub(crate) fn clear(&self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// The context of a prepared ask: everything that sending it, looking its answer up and reading its
/// stream need, except the body.
#[derive(Clone)]
pub(crate) struct AskContext {
    pub(crate) task_id: TaskId,
    pub(crate) session_id: SessionId,
    pub(crate) request: MintedRequest,
    pub(crate) details: Arc<AskDetails>,
}

/// The details of an ask. Most asks share those of their client, which keeps an open stream small.
#[derive(Clone, Default)]
pub(crate) struct AskDetails {
    pub(crate) origin: TaskOrigin,
    pub(crate) limits: Limits,
    /// The caller's headers.
    pub(crate) headers: HeaderMap,
}

impl AskContext {
    /// Creates the context of an existing task that is looked up or followed.
    pub(crate) fn of_task(task_id: TaskId, session_id: SessionId, limits: Limits) -> Self {
        let origin = TaskOrigin::Followed;
        let details = Arc::new(AskDetails { origin, ..AskDetails::new(limits) });
        Self { task_id, session_id, request: MintedRequest::new(), details }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.details.limits
    }

    pub(crate) fn origin(&self) -> &TaskOrigin {
        &self.details.origin
    }

    pub(crate) fn set_origin(&mut self, origin: TaskOrigin) {
        Arc::make_mut(&mut self.details).origin = origin;
    }
}

impl AskDetails {
    /// Creates the details of an ask for a new task that has no options of its own.
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }
}

/// An ask that was checked and serialized, ready to be sent.
pub(crate) struct PreparedAsk {
    pub(crate) context: AskContext,
    pub(crate) sent: SentFlag,
    pub(crate) body: Bytes,
}

impl Ask {
    pub(crate) fn prepare(
        self,
        method: &str,
        own_session: &SessionId,
        defaults: &Arc<AskDetails>,
    ) -> Result<PreparedAsk> {
        let limits = self.limits(&defaults.limits);
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
        let details = match self.origin {
            Origin::Minted if limits == defaults.limits && self.headers.is_empty() => {
                Arc::clone(defaults)
            }
            origin => {
                let origin = origin.of_task(self.text);
                Arc::new(AskDetails { origin, limits, headers: self.headers })
            }
        };
        let context = AskContext { task_id: self.task_id, session_id, request, details };
        Ok(PreparedAsk { context, sent: self.sent, body: body.into() })
    }

    /// Returns the client's limits, overridden by those that the ask sets.
    fn limits(&self, limits: &Limits) -> Limits {
        Limits {
            reply_timeout: self.reply_timeout.unwrap_or(limits.reply_timeout),
            idle_timeout: self.idle_timeout.unwrap_or(limits.idle_timeout),
            deadline: self.deadline.or(limits.deadline),
            max_event_bytes: self.max_event_bytes.unwrap_or(limits.max_event_bytes),
            max_reply_bytes: self.max_reply_bytes.unwrap_or(limits.max_reply_bytes),
            ..*limits
        }
    }
}

impl Origin {
    /// Returns the origin of the task id of an ask with this text.
    pub(super) fn of_task(self, text: String) -> TaskOrigin {
        match self {
            Self::Minted => TaskOrigin::Minted,
            Self::Chosen => TaskOrigin::Chosen,
            Self::Continued { since } => {
                TaskOrigin::Continued(Box::new(Continuation { text, since }))
            }
        }
    }
}
