//! Events as a page reads them.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{Stream, StreamExt};
use serde::Serialize;

use super::problem::Problem;
use crate::error::Error;
use crate::event::Event;
use crate::ids::TaskId;
use crate::reply::Reply;
use crate::stream::AskStream;
use crate::wire::part::Part;
use crate::wire::task::{Artifact, Task};

/// One server-sent event: a name, and a line of JSON. What is in which is in the [table](crate::web#events).
///
/// `Display` writes it as it goes over the wire, with its empty line:
///
/// ```
/// use payman_sdk::web::ServerEvent;
///
/// let event = ServerEvent::new("greeting", &serde_json::json!({"text": "hi"}));
/// assert_eq!(event.to_string(), "event: greeting\ndata: {\"text\":\"hi\"}\n\n");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ServerEvent {
    name: &'static str,
    data: String,
}

impl ServerEvent {
    /// An event of your own. Data that JSON cannot hold (a map whose keys are no text) becomes `null`.
    ///
    /// The name is one line.
    #[must_use]
    pub fn new(name: &'static str, data: &impl Serialize) -> Self {
        Self { name, data: serde_json::to_string(data).unwrap_or_else(|_| "null".to_owned()) }
    }

    /// What a page gets to see of an event: `status`, `artifact` or `task`. `None` for one that this version does not know.
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
            Event::Artifact(update) => {
                Some(Self::new("artifact", &ArtifactData::of(&update.task_id, &update.artifact)))
            }
            Event::Task(task) => Some(Self::task(task)),
            Event::Unknown(_) => None,
        }
    }

    /// The whole task as of now: `task`.
    #[must_use]
    pub fn task(task: &Task) -> Self {
        Self::new(
            "task",
            &StatusData { task_id: &task.id, state: task.state().as_str(), text: &task.text() },
        )
    }

    /// The end of an answer that is whole: `done`.
    #[must_use]
    pub fn done(reply: &Reply) -> Self {
        Self::new(
            "done",
            &StatusData { task_id: reply.task_id(), state: reply.state().as_str(), text: "" },
        )
    }

    /// The end of an answer that failed: `error`.
    #[must_use]
    pub fn error(error: &Error) -> Self {
        Self::new("error", &Problem::from(error))
    }

    /// The event's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The event's data: one line of JSON.
    #[must_use]
    pub fn data(&self) -> &str {
        &self.data
    }
}

impl fmt::Display for ServerEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event: {}\ndata: {}\n\n", self.name, self.data)
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
struct ArtifactData<'a> {
    task_id: &'a TaskId,
    index: i64,
    append: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_chunk: Option<bool>,
    name: &'a str,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parts: Option<&'a [Part]>,
}

impl<'a> ArtifactData<'a> {
    fn of(task_id: &'a TaskId, artifact: &'a Artifact) -> Self {
        let only_text = artifact.parts.iter().all(|part| matches!(part, Part::Text(_)));
        Self {
            task_id,
            index: artifact.index,
            append: artifact.append,
            last_chunk: artifact.last_chunk,
            name: artifact.name(),
            text: artifact.content(),
            parts: (!only_text).then_some(artifact.parts.as_slice()),
        }
    }
}

/// An [`AskStream`] as server-sent events: ends with `done` where the answer is whole, with `error` where it is not.
///
/// A stream of [`ServerEvent`]s: hand it to [`sse`](super::sse), return it from a handler, or look at the events as they pass.
/// Dropping it closes the connection to the platform, and cancels nothing.
#[must_use = "a stream does nothing unless it is read"]
pub struct ServerEvents {
    /// `None` after the last event.
    events: Option<AskStream>,
}

impl From<AskStream> for ServerEvents {
    fn from(events: AskStream) -> Self {
        Self { events: Some(events) }
    }
}

impl Stream for ServerEvents {
    type Item = ServerEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ServerEvent>> {
        loop {
            let Some(events) = &mut self.events else {
                return Poll::Ready(None);
            };
            let last = match ready!(events.poll_next_unpin(cx)) {
                Some(Ok(event)) => match ServerEvent::of(&event) {
                    Some(event) => return Poll::Ready(Some(event)),
                    None => continue,
                },
                Some(Err(error)) => {
                    tracing::warn!(task_id = %events.task_id(), ?error, "a stream to a visitor failed");
                    ServerEvent::error(&error)
                }
                None => ServerEvent::done(&events.reply_so_far()),
            };
            self.events = None;
            return Poll::Ready(Some(last));
        }
    }
}

impl fmt::Debug for ServerEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerEvents").field("events", &self.events).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::update::{MessageContent, decode_message};

    fn event(json: &str) -> Event {
        match decode_message(&bytes::Bytes::copy_from_slice(json.as_bytes())) {
            Ok(MessageContent::Result(payload, ..)) => {
                payload.into_update(&TaskId::from("tsk-1")).expect("an update").into()
            }
            _ => Event::Unknown(serde_json::Value::Null),
        }
    }

    #[test]
    fn events_are_one_line_of_compact_json() {
        let wire = |json: &str| {
            ServerEvent::of(&event(json)).map(|event| event.to_string()).unwrap_or_default()
        };
        assert_eq!(
            wire(
                r#"{"id":"tsk-1","status":{"state":"INPUT_REQUIRED","message":"Which\none?"},"final":true}"#
            ),
            "event: status\ndata: {\"taskId\":\"tsk-1\",\"state\":\"input-required\",\"text\":\"Which\\none?\"}\n\n"
        );
        assert_eq!(
            wire(
                r#"{"id":"tsk-1","artifact":{"parts":[{"type":"text","text":"é\r\n"}],"append":true}}"#
            ),
            "event: artifact\ndata: {\"taskId\":\"tsk-1\",\"index\":0,\"append\":true,\"name\":\"artifact\",\"text\":\"é\\r\\n\"}\n\n"
        );
        assert_eq!(
            wire(
                r#"{"id":"tsk-1","status":{"state":"WORKING"},"artifacts":[{"parts":[{"type":"text","text":"so far"}]}]}"#
            ),
            "event: task\ndata: {\"taskId\":\"tsk-1\",\"state\":\"working\",\"text\":\"so far\"}\n\n"
        );
        assert_eq!(ServerEvent::of(&Event::Unknown(serde_json::json!({"x": 1}))), None);
    }

    #[test]
    fn parts_that_are_no_text_go_along() {
        let json = r#"{"id":"tsk-1","artifact":{"parts":[{"type":"data","data":{"a":1}}]}}"#;
        let event = ServerEvent::of(&event(json)).expect("an event");
        let data: serde_json::Value = serde_json::from_str(event.data()).expect("JSON");
        assert_eq!(data["parts"][0]["data"]["a"], 1);
    }
}
