//! The events that a page reads.

use std::fmt;

use serde::Serialize;

use super::problem::Problem;
use super::visitor::{VisitorArtifact, VisitorPart, numbered, visible_parts};
use crate::error::Error;
use crate::event::Event;
use crate::ids::TaskId;
use crate::reply::Reply;
use crate::wire::task::{Artifact, Task};
use crate::wire::update::ArtifactUpdate;

/// One server-sent event: a name and one line of JSON, or a comment.
///
/// The [table](crate::web#events) lists the data of each event. `Display` writes the event in its
/// wire format, with the empty line that ends it:
///
/// ```
/// use payman_sdk::web::ServerEvent;
///
/// let event = ServerEvent::new("greeting", &serde_json::json!({"text": "hi"}));
/// assert_eq!(event.to_string(), "event: greeting\ndata: {\"text\":\"hi\"}\n\n");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ServerEvent(EventContent);

#[derive(Clone, Debug, PartialEq)]
enum EventContent {
    Comment,
    Named { name: &'static str, data: String },
}

impl ServerEvent {
    /// Builds an event of your own.
    ///
    /// The name has to be one line. Data that JSON cannot represent (a map whose keys are not text)
    /// becomes `null`.
    #[must_use]
    pub fn new(name: &'static str, data: &impl Serialize) -> Self {
        let data = serde_json::to_string(data).unwrap_or_else(|_| "null".to_owned());
        Self(EventContent::Named { name, data })
    }

    /// Builds a comment, which pages ignore: it only shows that the connection is alive.
    #[must_use]
    pub fn comment() -> Self {
        Self(EventContent::Comment)
    }

    /// Builds the `status`, `artifact` or `task` event that shows an [`Event`] to a page.
    ///
    /// Returns `None` for an event that this version does not know.
    #[must_use]
    pub fn of(event: &Event) -> Option<Self> {
        match event {
            Event::Status(update) => Some(Self::new(
                "status",
                &StatusData {
                    task_id: &update.task_id,
                    state: update.state().as_str(),
                    text: &update.message(),
                },
            )),
            Event::Artifact(update) => Some(Self::new("artifact", &ArtifactData::of(update))),
            Event::Task(task) => Some(Self::task(task)),
            Event::Unknown(_) => None,
        }
    }

    /// Builds a `task` event: the whole task as of now, with its artifacts.
    #[must_use]
    pub fn task(task: &Task) -> Self {
        let artifacts = numbered(&task.artifacts)
            .map(|(index, artifact)| TaskArtifact {
                index,
                artifact: VisitorArtifact::of(artifact),
            })
            .collect();
        let message = task.status.message.as_ref().map(|message| message.text());
        Self::new(
            "task",
            &TaskData {
                task_id: &task.id,
                state: task.state().as_str(),
                text: &task.text(),
                message: message.as_deref().unwrap_or_default(),
                artifacts,
            },
        )
    }

    /// Builds a `done` event: the end of an answer that is complete.
    #[must_use]
    pub fn done(reply: &Reply) -> Self {
        Self::new(
            "done",
            &StatusData { task_id: reply.task_id(), state: reply.state().as_str(), text: "" },
        )
    }

    /// Builds an `error` event: the end of an answer that failed.
    #[must_use]
    pub fn error(error: &Error) -> Self {
        Self::problem(&Problem::from(error))
    }

    /// Builds an `error` event from a problem of your own.
    #[must_use]
    pub fn problem(problem: &Problem) -> Self {
        Self::new("error", problem)
    }

    /// Returns the event's name; empty for a comment.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match &self.0 {
            EventContent::Comment => "",
            EventContent::Named { name, .. } => name,
        }
    }

    /// Returns the event's data, one line of JSON; empty for a comment.
    #[must_use]
    pub fn data(&self) -> &str {
        match &self.0 {
            EventContent::Comment => "",
            EventContent::Named { data, .. } => data,
        }
    }

    /// Returns true for a comment.
    #[must_use]
    pub fn is_comment(&self) -> bool {
        self.0 == EventContent::Comment
    }
}

impl fmt::Display for ServerEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            EventContent::Comment => f.write_str(":\n\n"),
            EventContent::Named { name, data } => write!(f, "event: {name}\ndata: {data}\n\n"),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusData<'a> {
    task_id: &'a TaskId,
    state: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    text: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TaskData<'a> {
    task_id: &'a TaskId,
    state: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    text: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    artifacts: Vec<TaskArtifact<'a>>,
}

#[derive(Serialize)]
struct TaskArtifact<'a> {
    index: i64,
    #[serde(flatten)]
    artifact: VisitorArtifact<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ArtifactData<'a> {
    task_id: &'a TaskId,
    index: i64,
    append: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_chunk: Option<bool>,
    name: &'a str,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parts: Option<Vec<VisitorPart<'a>>>,
    /// The task's state, if the event includes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'a str>,
}

impl<'a> ArtifactData<'a> {
    fn of(update: &'a ArtifactUpdate) -> Self {
        let artifact: &Artifact = &update.artifact;
        Self {
            task_id: &update.task_id,
            index: artifact.index,
            append: artifact.append,
            last_chunk: artifact.last_chunk,
            name: artifact.name(),
            text: artifact.content(),
            parts: visible_parts(artifact),
            state: update.status.as_ref().map(|status| status.state.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::{MessageContent, decode_message};
    use serde_json::{Value, json};

    fn event(json: &str) -> Event {
        match decode_message(&bytes::Bytes::copy_from_slice(json.as_bytes())) {
            Ok(MessageContent::Result(payload, ..)) => {
                payload.into_update(&TaskId::from("tsk-1")).expect("an update").into()
            }
            _ => Event::Unknown(Value::Null),
        }
    }

    fn data_of(json: &str) -> Value {
        let event = ServerEvent::of(&event(json)).expect("an event");
        serde_json::from_str(event.data()).expect("JSON")
    }

    #[test]
    fn events_are_one_line_of_compact_json() {
        let wire = |json: &str| {
            ServerEvent::of(&event(json)).map(|event| event.to_string()).unwrap_or_default()
        };
        assert_eq!(
            wire(
                r#"{"id":"tsk-1","status":{"state":"INPUT_REQUIRED","message":"Which\none?"},
                    "final":true}"#
            ),
            "event: status\ndata: {\"taskId\":\"tsk-1\",\"state\":\"input-required\",\
             \"text\":\"Which\\none?\"}\n\n"
        );
        assert_eq!(
            wire(
                r#"{"id":"tsk-1",
                    "artifact":{"parts":[{"type":"text","text":"é\r\n"}],"append":true}}"#
            ),
            "event: artifact\ndata: {\"taskId\":\"tsk-1\",\"index\":0,\"append\":true,\
             \"name\":\"artifact\",\"text\":\"é\\r\\n\"}\n\n"
        );
        assert_eq!(
            wire(
                r#"{"id":"tsk-1","status":{"state":"WORKING"},
                    "artifacts":[{"parts":[{"type":"text","text":"so far"}]}]}"#
            ),
            "event: task\ndata: {\"taskId\":\"tsk-1\",\"state\":\"working\",\"text\":\"so far\",\
             \"artifacts\":[{\"index\":0,\"name\":\"artifact\",\"text\":\"so far\"}]}\n\n"
        );
        assert_eq!(ServerEvent::of(&Event::Unknown(json!({"x": 1}))), None);
        assert_eq!(ServerEvent::comment().to_string(), ":\n\n");
    }

    #[test]
    fn parts_other_than_text_are_sent_without_metadata() {
        let data = data_of(
            r#"{"id":"tsk-1","artifact":{"metadata":{"orgId":"org-1"},"parts":[
                {"type":"data","data":{"a":1},"metadata":{"agentId":"ai-1"}},
                {"type":"odd","metadata":{"sessionId":"ses-1"},"x":2}]}}"#,
        );
        assert_eq!(
            data["parts"],
            json!([{"type": "data", "data": {"a": 1}}, {"type": "odd", "x": 2}])
        );
        assert!(!data.to_string().contains("-1\"}"), "{data}");
    }

    #[test]
    fn a_task_has_its_artifacts_each_with_an_index_of_its_own() {
        let data = data_of(
            r#"{"id":"tsk-1","sessionId":"ses-1","status":{"state":"WORKING","message":"Busy"},
                "metadata":{"orgId":"org-1"},"artifacts":[
                {"name":"a","parts":[{"type":"text","text":"1"}],"metadata":{"agentId":"ai-1"}},
                {"name":"b","parts":[{"type":"text","text":"2"}]}]}"#,
        );
        assert_eq!(
            data["artifacts"],
            json!([{"index": 0, "name": "a", "text": "1"}, {"index": 1, "name": "b", "text": "2"}])
        );
        assert_eq!((&data["text"], &data["message"]), (&json!("1\n2"), &json!("Busy")));
        assert!(!data.to_string().contains("ses-1"), "{data}");
    }

    #[test]
    fn a_state_next_to_an_artifact_is_not_lost() {
        let data = data_of(
            r#"{"id":"tsk-1","status":{"state":"COMPLETED"},"final":true,
                "artifact":{"parts":[{"type":"text","text":"Paid."}]}}"#,
        );
        assert_eq!((&data["state"], &data["text"]), (&json!("completed"), &json!("Paid.")));
    }
}
