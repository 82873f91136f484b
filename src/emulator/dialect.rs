//! How the emulator writes: the same facts in the spellings that servers of this kind use.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::spelling::spelling;
use crate::wire::state::TaskState;
use crate::wire::task::{Artifact, Message, Role, Task, TaskStatus};
use crate::wire::update::{ArtifactUpdate, StatusUpdate};

spelling! {
    /// What ends a line of an event stream.
    LineEnd {
        /// A line feed.
        #[default]
        Lf = "lf",
        /// A carriage return and a line feed.
        CrLf = "crlf",
        /// A carriage return.
        Cr = "cr",
    }
}

spelling! {
    /// How states are written.
    StateCase {
        /// `INPUT_REQUIRED`, as the platform does.
        #[default]
        Upper = "upper",
        /// `input-required`, as the specification does.
        Lower = "lower",
        /// `TASK_STATE_INPUT_REQUIRED`, as later versions of the specification do.
        Prefixed = "prefixed",
    }
}

spelling! {
    /// What the flag for "the stream ends here" is called.
    FinalFlag {
        /// `final`
        #[default]
        Final = "final",
        /// `isFinal`
        Camel = "isFinal",
        /// `is_final`
        Snake = "is_final",
        /// It is left out: a terminal state and the end of the body have to do.
        Absent = "absent",
    }
}

spelling! {
    /// What the flag for "this artifact's last chunk" is called.
    LastChunkFlag {
        /// `lastChunk`
        #[default]
        Camel = "lastChunk",
        /// `last_chunk`
        Snake = "last_chunk",
        /// It is left out.
        Absent = "absent",
    }
}

spelling! {
    /// What an event's data is.
    Envelope {
        /// A JSON-RPC response with the event as its result.
        #[default]
        JsonRpc = "json-rpc",
        /// The event itself.
        Bare = "bare",
    }
}

spelling! {
    /// What `status.message` is.
    StatusText {
        /// Plain text, as the platform writes it.
        #[default]
        Text = "text",
        /// A message with parts, as the specification has it.
        Message = "message",
        /// It is left out.
        Absent = "absent",
    }
}

spelling! {
    /// How the token endpoint names what it gives.
    TokenNames {
        /// `accessToken`, as the platform does.
        #[default]
        Camel = "camel",
        /// `access_token`, as RFC 6749 does.
        Snake = "snake",
    }
}

/// How the emulator writes what it says. The default is the platform's way.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dialect {
    /// What ends a line of an event stream.
    pub line_end: LineEnd,
    /// How states are written.
    pub states: StateCase,
    /// What the flag for "the stream ends here" is called.
    pub final_flag: FinalFlag,
    /// What the flag for "this artifact's last chunk" is called.
    pub last_chunk_flag: LastChunkFlag,
    /// What an event's data is.
    pub envelope: Envelope,
    /// What `status.message` is.
    pub status_text: StatusText,
    /// How the token endpoint names what it gives.
    pub token_names: TokenNames,
    /// Whether a stream starts with a byte-order mark.
    pub byte_order_mark: bool,
    /// Whether comments and fields of other names stand between events.
    pub comments: bool,
    /// Whether an event's JSON is spread over several `data:` lines.
    pub several_lines: bool,
    /// How often a silent stream is kept alive with a comment; never where `None`. 15 seconds unless set.
    pub ping: Option<Duration>,
}

impl Default for Dialect {
    fn default() -> Self {
        Self {
            line_end: LineEnd::default(),
            states: StateCase::default(),
            final_flag: FinalFlag::default(),
            last_chunk_flag: LastChunkFlag::default(),
            envelope: Envelope::default(),
            status_text: StatusText::default(),
            token_names: TokenNames::default(),
            byte_order_mark: false,
            comments: false,
            several_lines: false,
            ping: Some(Duration::from_secs(15)),
        }
    }
}

impl Dialect {
    /// A task, with so many messages of its history.
    pub(super) fn task(&self, task: &Task, history: usize) -> Value {
        let artifacts: Vec<Value> =
            task.artifacts.iter().map(|artifact| self.artifact(artifact)).collect();
        let mut out = json!({
            "id": task.id,
            "sessionId": task.session_id,
            "status": self.status(&task.status),
            "artifacts": artifacts,
            "metadata": task.metadata,
        });
        if history > 0 {
            let skipped = task.history.len().saturating_sub(history);
            insert(
                &mut out,
                "history",
                json!(task.history.iter().skip(skipped).collect::<Vec<_>>()),
            );
        }
        out
    }

    pub(super) fn status_update(&self, update: &StatusUpdate) -> Value {
        let mut out = json!({ "id": update.task_id, "status": self.status(&update.status) });
        let flag = match self.final_flag {
            FinalFlag::Final => "final",
            FinalFlag::Camel => "isFinal",
            FinalFlag::Snake => "is_final",
            FinalFlag::Absent => return out,
        };
        insert(&mut out, flag, update.is_final.into());
        out
    }

    pub(super) fn artifact_update(&self, update: &ArtifactUpdate) -> Value {
        let mut artifact = self.artifact(&update.artifact);
        insert(&mut artifact, "append", update.artifact.append.into());
        json!({ "id": update.task_id, "artifact": artifact })
    }

    fn artifact(&self, artifact: &Artifact) -> Value {
        let mut out = Map::new();
        out.extend(artifact.name.clone().map(|name| ("name".to_owned(), name.into())));
        out.extend(
            artifact.description.clone().map(|text| ("description".to_owned(), text.into())),
        );
        out.insert("parts".to_owned(), json!(artifact.parts));
        out.insert("index".to_owned(), artifact.index.into());
        let flag = match self.last_chunk_flag {
            LastChunkFlag::Camel => Some("lastChunk"),
            LastChunkFlag::Snake => Some("last_chunk"),
            LastChunkFlag::Absent => None,
        };
        if let (Some(flag), Some(last)) = (flag, artifact.last_chunk) {
            out.insert(flag.to_owned(), last.into());
        }
        Value::Object(out)
    }

    fn status(&self, status: &TaskStatus) -> Value {
        let mut out = json!({ "state": self.state(&status.state), "timestamp": status.timestamp });
        if let Some(message) = &status.message {
            let text = message.text();
            match self.status_text {
                StatusText::Text => insert(&mut out, "message", text.into()),
                StatusText::Message => {
                    insert(&mut out, "message", json!(Message::new(Role::Agent, text)))
                }
                StatusText::Absent => {}
            }
        }
        out
    }

    fn state(&self, state: &TaskState) -> String {
        match self.states {
            StateCase::Upper => state.upper_case().to_owned(),
            StateCase::Lower => state.as_str().to_owned(),
            StateCase::Prefixed => format!("TASK_STATE_{}", state.upper_case()),
        }
    }

    /// The frame of one event, up to and with the empty line.
    pub(super) fn frame(&self, request_id: &Value, result: Value) -> String {
        let data = match self.envelope {
            Envelope::JsonRpc => json!({ "jsonrpc": "2.0", "id": request_id, "result": result }),
            Envelope::Bare => result,
        };
        let json = if self.several_lines { format!("{data:#}") } else { data.to_string() };
        let end = self.end();
        let mut frame = String::with_capacity(json.len() + 16);
        if self.comments {
            for line in [": an event follows", "event: message", "retry: 3000", "colour: blue"] {
                frame.push_str(line);
                frame.push_str(end);
            }
        }
        for line in json.lines() {
            frame.push_str("data: ");
            frame.push_str(line);
            frame.push_str(end);
        }
        frame.push_str(end);
        frame
    }

    /// What keeps a silent stream alive.
    pub(super) fn ping_frame(&self) -> String {
        let end = self.end();
        format!(": ping{end}{end}")
    }

    fn end(&self) -> &'static str {
        match self.line_end {
            LineEnd::Lf => "\n",
            LineEnd::CrLf => "\r\n",
            LineEnd::Cr => "\r",
        }
    }
}

fn insert(object: &mut Value, key: &str, value: Value) {
    if let Value::Object(map) = object {
        map.insert(key.to_owned(), value);
    }
}
