//! The full answer, formatted or raw.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;

use crate::ask::Ask;
use crate::error::{Error, Outcome, Result};
use crate::ids::{MintedRequest, RequestId, SessionId, TaskId};
use crate::wire::part::Part;
use crate::wire::state::TaskState;
use crate::wire::task::{Artifact, StatusMessage, Task};
use crate::wire::timestamp::Timestamp;
use crate::wire::{Metadata, binary};

/// The agent's full answer to an ask.
///
/// `Display` prints the text for a person. Serialized, it is the formatted reply of the platform's
/// own SDKs, in camel case: `taskId`, `requestId`, `sessionId`, `status`, `statusMessage`,
/// `timestamp`,
/// `artifacts` (`name`, `description`, `content`, `type`, `timestamp`, `metadata`) and `metadata`.
///
/// A task that failed is a reply too: check [`state`](Self::state), or turn it into an error with
/// [`into_completed`](Self::into_completed). `Completed` means that the agent finished its answer,
/// not that a payment went through: it may be awaiting approval, and the text says so.
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

    /// Returns the text for a person: that of the artifacts, or the status message if there is
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

    /// Returns the id of the JSON-RPC request that asked. `None` for a task that was looked up.
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
    /// [`ErrorKind::TaskNotCompleted`](crate::ErrorKind::TaskNotCompleted) with the task's id, and the reply's text as [`Error::body`].
    /// Its
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

/// Writes the formatted reply; in formats that are not human-readable, the whole task and the
/// request id.
impl Serialize for Reply {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            let whole = WholeReply {
                task: Cow::Borrowed(&self.task),
                request_id: Cow::Borrowed(&self.request_id),
            };
            return binary::serialize(&whole, serializer);
        }
        let artifacts: Vec<_> = (0..)
            .zip(self.artifacts())
            .map(|(position, artifact)| Formatted { artifact, at: self.timestamp(), position })
            .collect();
        let mut out = serializer.serialize_struct("Reply", 8)?;
        out.serialize_field("taskId", self.task_id())?;
        out.serialize_field("requestId", &self.request_id)?;
        out.serialize_field("sessionId", &self.session_id())?;
        out.serialize_field("status", self.state())?;
        out.serialize_field("statusMessage", &self.status_message)?;
        out.serialize_field("timestamp", &self.timestamp())?;
        out.serialize_field("artifacts", &artifacts)?;
        out.serialize_field("metadata", self.metadata())?;
        out.end()
    }
}

/// Reads a serialized reply. The formatted reply has no history; serialized again, it is the same.
impl<'de> Deserialize<'de> for Reply {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            let whole: WholeReply<'static> = binary::deserialize(deserializer)?;
            let request_id = whole.request_id.into_owned();
            return Ok(Self { request_id, ..Self::from(whole.task.into_owned()) });
        }
        FormattedReply::deserialize(deserializer).map(Self::from)
    }
}

/// A reply with nothing left out.
#[derive(Serialize, Deserialize)]
struct WholeReply<'a> {
    task: Cow<'a, Task>,
    request_id: Cow<'a, Option<RequestId>>,
}

/// The formatted reply, for reading.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FormattedReply {
    task_id: TaskId,
    #[serde(default)]
    request_id: Option<RequestId>,
    #[serde(default)]
    session_id: Option<SessionId>,
    status: TaskState,
    #[serde(default)]
    status_message: Option<String>,
    #[serde(default)]
    timestamp: Option<Timestamp>,
    #[serde(default)]
    artifacts: Vec<FormattedArtifact>,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Deserialize)]
struct FormattedArtifact {
    #[serde(default, rename = "artifactId")]
    id: Option<String>,
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    content: String,
    #[serde(default)]
    timestamp: Option<Timestamp>,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    parts: Option<Vec<Part>>,
    #[serde(default)]
    index: Option<i64>,
}

impl From<FormattedReply> for Reply {
    fn from(reply: FormattedReply) -> Self {
        let mut task = Task::new(reply.task_id, reply.status);
        task.session_id = reply.session_id;
        task.status.message = reply.status_message.map(StatusMessage::Text);
        task.status.timestamp = reply.timestamp;
        task.artifacts = (0..).zip(reply.artifacts).map(Artifact::from).collect();
        for artifact in &mut task.artifacts {
            // An artifact without a time is written with that of the status.
            artifact.timestamp.take_if(|at| Some(&*at) == task.status.timestamp.as_ref());
        }
        task.metadata = reply.metadata;
        Self { request_id: reply.request_id, ..Self::from(task) }
    }
}

impl From<(i64, FormattedArtifact)> for Artifact {
    fn from((index, artifact): (i64, FormattedArtifact)) -> Self {
        let text = || vec![Part::text(artifact.content)];
        Self {
            id: artifact.id,
            // `artifact` is written where there is no name.
            name: Some(artifact.name).filter(|name| name != "artifact"),
            description: artifact.description,
            parts: artifact.parts.unwrap_or_else(text),
            index: artifact.index.unwrap_or(index),
            timestamp: artifact.timestamp,
            metadata: artifact.metadata,
            ..Self::default()
        }
    }
}

/// An artifact as the platform's SDKs format it.
struct Formatted<'a> {
    artifact: &'a Artifact,
    at: Option<&'a Timestamp>,
    position: i64,
}

impl Serialize for Formatted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let artifact = self.artifact;
        let mut out = serializer.serialize_struct("Artifact", 9)?;
        out.serialize_field("name", artifact.name())?;
        out.serialize_field("description", &artifact.description)?;
        out.serialize_field("content", &artifact.content())?;
        out.serialize_field("type", artifact.kind())?;
        out.serialize_field("timestamp", &artifact.timestamp.as_ref().or(self.at))?;
        out.serialize_field("metadata", &artifact.metadata)?;
        // What does not fit into `content` must not be lost.
        if !matches!(&*artifact.parts, [Part::Text(text)] if text.metadata.is_empty()) {
            out.serialize_field("parts", &artifact.parts)?;
        }
        if let Some(id) = &artifact.id {
            out.serialize_field("artifactId", id)?;
        }
        if artifact.index != self.position {
            out.serialize_field("index", &artifact.index)?;
        }
        out.end()
    }
}

/// A JSON-RPC response, exactly as the server wrote it.
#[derive(Clone)]
pub struct RawReply {
    json: Box<RawValue>,
}

#[derive(Deserialize)]
struct RawResult<'a> {
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
}

impl RawReply {
    /// Reads a response; `None` where the bytes are not JSON. A byte-order mark is not part of it.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        Some(Self { json: serde_json::from_slice(bytes).ok()? })
    }

    /// Returns the whole response: no number, order or field is changed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let raw = client.ask_raw("List all wallets").await?;
    /// assert!(raw.json().get().starts_with('{'));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn json(&self) -> &RawValue {
        &self.json
    }

    /// Returns the response's `result`, unchanged. `None` if it has none.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let raw = client.ask_raw("List all wallets").await?;
    /// assert!(raw.result().is_some());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn result(&self) -> Option<&RawValue> {
        serde_json::from_str::<RawResult<'_>>(self.json.get()).ok()?.result
    }

    /// Returns the whole response as text.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// println!("{}", client.ask_raw("List all wallets").await?.as_str());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.json.get()
    }
}

/// Prints only the size: an answer may be long, and does not belong into logs.
impl fmt::Debug for RawReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawReply").field("bytes", &self.json.get().len()).finish_non_exhaustive()
    }
}

impl fmt::Display for RawReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.json.get())
    }
}

/// Writes the JSON itself; in formats that are not human-readable, its text.
impl Serialize for RawReply {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return self.json.serialize(serializer);
        }
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for RawReply {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return Box::<RawValue>::deserialize(deserializer).map(|json| Self { json });
        }
        let json = String::deserialize(deserializer)?;
        RawValue::from_string(json).map(|json| Self { json }).map_err(de::Error::custom)
    }
}

/// Parses JSON, for fixtures and stored replies.
impl FromStr for RawReply {
    type Err = Error;

    fn from_str(json: &str) -> Result<Self> {
        Self::read(json.as_bytes()).ok_or_else(|| Error::invalid_input("the raw reply is not JSON"))
    }
}
