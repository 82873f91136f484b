//! Serializes tasks and events in the variants of the protocol that servers of this kind use.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::error_format::ErrorFormat;
use super::named_enum::named_enum;
use super::negotiation::JsonMediaType;
use crate::wire::state::TaskState;
use crate::wire::task::{Artifact, Message, Role, Task, TaskStatus};
use crate::wire::update::{ArtifactUpdate, StatusUpdate};

named_enum! {
    /// The line terminator of an event stream.
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

named_enum! {
    /// The spelling of task states.
    StateCase {
        /// `INPUT_REQUIRED`, as on the platform.
        #[default]
        Upper = "upper",
        /// `input-required`, as in the specification.
        Lower = "lower",
        /// `TASK_STATE_INPUT_REQUIRED`, as in later versions of the specification.
        Prefixed = "prefixed",
    }
}

named_enum! {
    /// The name of the flag on the last event of a stream.
    FinalFlag {
        /// `final`
        #[default]
        Final = "final",
        /// `isFinal`
        Camel = "isFinal",
        /// `is_final`
        Snake = "is_final",
        /// The flag is left out: only a terminal state and the end of the body mark the end.
        Absent = "absent",
    }
}

named_enum! {
    /// The name of the flag on an artifact's last chunk.
    LastChunkFlag {
        /// `lastChunk`
        #[default]
        Camel = "lastChunk",
        /// `last_chunk`
        Snake = "last_chunk",
        /// The flag is left out.
        Absent = "absent",
    }
}

named_enum! {
    /// The envelope of an event's data.
    Envelope {
        /// A JSON-RPC response with the event as its result.
        #[default]
        JsonRpc = "json-rpc",
        /// The event itself.
        Bare = "bare",
    }
}

named_enum! {
    /// The type of `status.message`.
    StatusText {
        /// Plain text, as on the platform.
        #[default]
        Text = "text",
        /// A message with parts, as in the specification.
        Message = "message",
        /// The field is left out.
        Absent = "absent",
    }
}

named_enum! {
    /// The field names of a token reply.
    TokenNames {
        /// `accessToken`, as on the platform.
        #[default]
        Camel = "camel",
        /// `access_token`, as in RFC 6749.
        Snake = "snake",
    }
}

/// The format of the emulator's responses. The default is the platform's, as far as it is known.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> payman_sdk::Result<()> {
/// use payman_sdk::Emulator;
/// use payman_sdk::emulator::{FinalFlag, LineEnd};
///
/// let payman = Emulator::builder()
///     .dialect(|dialect| {
///         dialect.line_end = LineEnd::CrLf;
///         dialect.final_flag = FinalFlag::Absent;
///     })
///     .start()
///     .await?;
/// let reply = payman.client().ask_stream("List all payees").await?.into_reply().await?;
/// assert_eq!(reply.text(), "You have no payees yet.");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dialect {
    /// The line terminator of an event stream.
    pub line_end: LineEnd,
    /// The spelling of task states.
    pub states: StateCase,
    /// The name of the flag on the last event of a stream.
    pub final_flag: FinalFlag,
    /// The name of the flag on an artifact's last chunk.
    pub last_chunk_flag: LastChunkFlag,
    /// The envelope of an event's data.
    pub envelope: Envelope,
    /// The type of `status.message`.
    pub status_text: StatusText,
    /// The field names of a token reply.
    pub token_names: TokenNames,
    /// True to start a stream with a byte-order mark.
    pub byte_order_mark: bool,
    /// True to write comments and unknown fields between events.
    pub comments: bool,
    /// True to spread an event's JSON over several `data:` lines.
    pub several_lines: bool,
    /// The interval of the comments that keep a silent stream alive; `None` disables them.
    /// Default: 15 seconds.
    pub ping: Option<Duration>,
    /// The `Content-Type` of JSON responses.
    pub json_media_type: JsonMediaType,
    /// The body of HTTP errors that are not JSON-RPC errors.
    pub error_format: ErrorFormat,
    /// True to replace a response with 406 if the request's `Accept` header does not admit its
    /// media type. The operation is performed nevertheless. Default: false.
    pub strict_accept: bool,
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
            json_media_type: JsonMediaType::default(),
            error_format: ErrorFormat::default(),
            strict_accept: false,
        }
    }
}

impl Dialect {
    /// Serializes a task with the last `history` messages of its history.
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

    /// Serializes a status event.
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

    /// Serializes an artifact event.
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

    /// Serializes a server-sent event, including the empty line that ends it.
    pub(super) fn event(&self, request_id: &Value, result: Value) -> String {
        let data = match self.envelope {
            Envelope::JsonRpc => json!({ "jsonrpc": "2.0", "id": request_id, "result": result }),
            Envelope::Bare => result,
        };
        let json = if self.several_lines { format!("{data:#}") } else { data.to_string() };
        let end = self.end();
        let mut text = String::with_capacity(json.len() + 16);
        if self.comments {
            for line in [": an event follows", "event: message", "retry: 3000", "color: blue"] {
                text.push_str(line);
                text.push_str(end);
            }
        }
        for line in json.lines() {
            text.push_str("data: ");
            text.push_str(line);
            text.push_str(end);
        }
        text.push_str(end);
        text
    }

    /// Returns the comment that keeps a silent stream alive.
    pub(super) fn ping_comment(&self) -> String {
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
