//! A reply as a visitor's browser gets it: the answer without internal ids.

use std::collections::HashSet;

use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::reply::Reply;
use crate::wire::part::Part;
use crate::wire::task::Artifact;
use crate::wire::timestamp::Timestamp;

/// A [`Reply`] as a visitor's browser may see it.
///
/// It serializes like the reply, but without `sessionId` and without any `metadata` (of the reply,
/// its artifacts and their parts), in which the platform puts agent and organization ids. Anyone
/// with a session's id can read and continue that conversation. A handler that returns a `Reply`
/// sends this.
///
/// To send everything, return `axum::Json(reply)` or `actix_web::web::Json(reply)` instead.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use payman_sdk::web::VisitorReply;
///
/// # let payman = payman_sdk::Emulator::start().await?;
/// # let client = payman.client();
/// let reply = client.ask("List all payees").await?;
/// let json = serde_json::to_value(VisitorReply::from(reply))?;
/// assert_eq!(json["status"], "COMPLETED");
/// assert!(json.get("sessionId").is_none() && json.get("metadata").is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct VisitorReply(Reply);

impl VisitorReply {
    /// Returns the complete reply, with its session id and metadata.
    #[must_use]
    pub fn into_inner(self) -> Reply {
        self.0
    }
}

impl From<Reply> for VisitorReply {
    fn from(reply: Reply) -> Self {
        Self(reply)
    }
}

impl Serialize for VisitorReply {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let reply = &self.0;
        let artifacts: Vec<_> = reply
            .artifacts()
            .iter()
            .map(|artifact| ReplyArtifact { artifact, reply_time: reply.timestamp() })
            .collect();
        let mut out = serializer.serialize_struct("Reply", 6)?;
        out.serialize_field("taskId", reply.task_id())?;
        out.serialize_field("requestId", &reply.request_id())?;
        out.serialize_field("status", reply.state())?;
        out.serialize_field("statusMessage", &reply.status_message())?;
        out.serialize_field("timestamp", &reply.timestamp())?;
        out.serialize_field("artifacts", &artifacts)?;
        out.end()
    }
}

/// An artifact with the field names of the formatted reply.
struct ReplyArtifact<'a> {
    artifact: &'a Artifact,
    reply_time: Option<&'a Timestamp>,
}

impl Serialize for ReplyArtifact<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let artifact = self.artifact;
        let mut out = serializer.serialize_map(None)?;
        out.serialize_entry("name", artifact.name())?;
        out.serialize_entry("description", &artifact.description)?;
        out.serialize_entry("content", &artifact.content())?;
        out.serialize_entry("type", artifact.kind())?;
        out.serialize_entry("timestamp", &artifact.timestamp.as_ref().or(self.reply_time))?;
        if let Some(parts) = visible_parts(artifact) {
            out.serialize_entry("parts", &parts)?;
        }
        out.end()
    }
}

/// An artifact with the field names of the events.
#[derive(Serialize)]
pub(super) struct VisitorArtifact<'a> {
    name: &'a str,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parts: Option<Vec<VisitorPart<'a>>>,
}

impl<'a> VisitorArtifact<'a> {
    pub(super) fn of(artifact: &'a Artifact) -> Self {
        Self { name: artifact.name(), text: artifact.content(), parts: visible_parts(artifact) }
    }
}

/// Returns the artifact's parts, unless all are text and so in its text already.
pub(super) fn visible_parts(artifact: &Artifact) -> Option<Vec<VisitorPart<'_>>> {
    let only_text = artifact.parts.iter().all(|part| matches!(part, Part::Text(_)));
    (!only_text).then(|| artifact.parts.iter().map(VisitorPart).collect())
}

/// A part without its metadata.
pub(super) struct VisitorPart<'a>(&'a Part);

impl Serialize for VisitorPart<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(None)?;
        match self.0 {
            Part::Text(part) => {
                out.serialize_entry("type", "text")?;
                out.serialize_entry("text", &part.text)?;
            }
            Part::File(part) => {
                out.serialize_entry("type", "file")?;
                out.serialize_entry("file", &part.file)?;
            }
            Part::Data(part) => {
                out.serialize_entry("type", "data")?;
                out.serialize_entry("data", &part.data)?;
            }
            Part::Unknown(Value::Object(fields)) => {
                for (name, value) in fields.iter().filter(|(name, _)| *name != "metadata") {
                    out.serialize_entry(name, value)?;
                }
            }
            Part::Unknown(_) => out.serialize_entry("type", "unknown")?,
        }
        out.end()
    }
}

/// Returns the artifacts with their indices, or with their positions where two have the same index.
///
/// A page merges later chunks into an artifact by its index.
pub(super) fn numbered(artifacts: &[Artifact]) -> impl Iterator<Item = (i64, &Artifact)> {
    let mut seen = HashSet::new();
    let distinct = artifacts.iter().all(|artifact| seen.insert(artifact.index));
    (0..).zip(artifacts).map(move |(position, artifact)| {
        (if distinct { artifact.index } else { position }, artifact)
    })
}
