//! The full answer, formatted or raw.

mod formatted;
mod raw;

use std::fmt;

use bytes::Bytes;

use crate::ask::Ask;
use crate::error::{Error, Outcome, Result};
use crate::ids::{MintedRequest, RequestId, SessionId, TaskId};
use crate::wire::Metadata;
use crate::wire::state::TaskState;
use crate::wire::task::{Artifact, Task};
use crate::wire::timestamp::Timestamp;

pub use raw::RawReply;

/// The agent's full answer to an ask.
///
/// `Display` prints the text for a person. Serialized, it is the formatted reply of the platform's
/// own SDKs, in camel case: `taskId`, `requestId`, `sessionId`, `status`, `statusMessage`,
/// `timestamp`,
/// `artifacts` (`name`, `description`, `content`, `type`, `timestamp`, `metadata`) and `metadata`.
///
/// A task that failed is a reply too: check [`state`](Self::state), or turn it into an error with
/// [`into_completed`](Self::into_completed). `Completed` means that the agent finished its answer,
/// not that a payment went through: it may be awaiting approval, which is stated only in the text.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    task: Task,
    request_id: Option<RequestId>,
    status_message: Option<String>,
}

impl Reply {
    pub(crate) fn new(mut task: Task, request: MintedRequest, session_id: &SessionId) -> Self {
        task.session_id.get_or_insert_with(|| session_id.clone());
        Self { request_id: Some(request.id()), ..Self::from(task) }
    }

    /// Returns the text for a person: that of the artifacts, or the status message if they have
    /// none.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let reply = client.ask("List all wallets").await?;
    /// assert!(reply.text().contains("1,000,000"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn text(&self) -> String {
        self.task.text()
    }

    /// Returns the state of the task.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let reply = client.ask("List all wallets").await?;
    /// assert_eq!(reply.state(), &payman_sdk::TaskState::Completed);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn state(&self) -> &TaskState {
        self.task.state()
    }

    /// Returns the session, to [resume](crate::Client::with_session) it later. `None` only for a
    /// task that was looked up on a server that does not send it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let reply = client.ask("List all wallets").await?;
    /// assert_eq!(reply.session_id(), Some(&client.session_id()));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn session_id(&self) -> Option<&SessionId> {
        self.task.session_id.as_ref()
    }

    /// Returns the id of the task.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let reply = client.ask("List all wallets").await?;
    /// let task = client.get_task(reply.task_id()).await?;
    /// # let _ = task;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn task_id(&self) -> &TaskId {
        &self.task.id
    }

    /// Returns the id of the ask's JSON-RPC request. `None` for a task that was looked up.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let reply = client.ask("List all wallets").await?;
    /// assert!(reply.request_id().is_some());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn request_id(&self) -> Option<&RequestId> {
        self.request_id.as_ref()
    }

    /// Returns the agent's message about the state.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let reply = client.ask("List all wallets").await?;
    /// println!("{}", reply.status_message().unwrap_or_default());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn status_message(&self) -> Option<&str> {
        self.status_message.as_deref()
    }

    /// Returns the time at which the task entered its state.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let reply = client.ask("List all wallets").await?;
    /// println!("{}", reply.timestamp().map_or("", |at| at.as_str()));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn timestamp(&self) -> Option<&Timestamp> {
        self.task.status.timestamp.as_ref()
    }

    /// Returns the results of the agent's work.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let reply = client.ask("List all wallets").await?;
    /// for artifact in reply.artifacts() {
    ///     println!("{}: {}", artifact.name(), artifact.content());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn artifacts(&self) -> &[Artifact] {
        &self.task.artifacts
    }

    /// Returns the data that the server attached.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let reply = client.ask("List all wallets").await?;
    /// println!("{:?}", reply.metadata().get("agentId"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.task.metadata
    }

    /// Returns the task behind the reply.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let reply = client.ask("List all wallets").await?;
    /// assert_eq!(reply.task().id, *reply.task_id());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Converts the reply into its task.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let reply = client.ask("List all wallets").await?;
    /// let task = reply.into_task();
    /// println!("{}", task.history.len());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn into_task(self) -> Task {
        self.task
    }

    /// Returns the reply if the task completed, and an error otherwise.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let reply = client.ask("List all wallets").await?;
    /// let reply = reply.into_completed()?; // an error if it failed, was canceled or rejected
    /// # let _ = reply;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::TaskNotCompleted`](crate::ErrorKind::TaskNotCompleted) with the task's
    /// id, and the reply's text as [`Error::body`]. Its
    /// [outcome is unknown](Error::is_outcome_unknown) where the task has not ended.
    pub fn into_completed(self) -> Result<Self> {
        let state = self.state();
        if *state == TaskState::Completed {
            return Ok(self);
        }
        let settled = state.is_terminal() || state.is_waiting_for_user();
        let outcome = if settled { Outcome::Settled } else { Outcome::Unknown };
        Err(Error::task_not_completed(state, outcome)
            .with_task_id(self.task_id())
            .with_body(Bytes::from(self.text())))
    }

    /// Creates an ask that answers the agent's question, in the same task and session.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// // The agent asks whether to create the payee.
    /// let question = client.ask("Pay Nobody $5").await?;
    /// let reply = client.ask(question.answer("no")).await?;
    /// assert_eq!(reply.task_id(), question.task_id());
    /// # Ok(())
    /// # }
    /// ```
    pub fn answer(&self, text: impl Into<String>) -> Ask {
        let ask =
            Ask::new(text).continue_since(self.task.id.clone(), self.task.status.timestamp.clone());
        match self.session_id() {
            Some(session) => ask.session(session),
            None => ask,
        }
    }
}

impl From<Task> for Reply {
    fn from(task: Task) -> Self {
        let status_message =
            task.status.message.as_ref().map(|message| message.text().into_owned());
        Self {
            status_message: status_message.filter(|text| !text.is_empty()),
            task,
            request_id: None,
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}
