//! The envelope of a message: a JSON-RPC response, or the fields of a bare event.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::MessageContent;
use super::field::Field;
use super::payload::{InPlace, Payload, ResultKind, id_of, put};
use super::ping::{holds_task, is_ping};
use crate::wire::jsonrpc::RpcError;
use crate::wire::lenient::Loose;

/// The fields of a JSON-RPC response, and those of an event without its envelope.
#[derive(Default)]
pub(super) struct ResponseEnvelope<'de> {
    /// The request's id in an envelope, the task's in a bare event: copied only for the latter.
    id: Option<Loose<'de>>,
    error: Option<RpcError>,
    result_kind: ResultKind,
    result: Payload<'de>,
    /// The fields of a bare event, where there are any.
    bare: Option<Box<Payload<'de>>>,
    notice: Notice,
}

/// Tells a notification or a ping from a part of an answer.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Notice {
    #[default]
    No,
    /// A JSON-RPC notification that holds no part of a task, or `{"type": "ping"}`.
    Ignorable,
    /// A notification with a part of a task: its place in the answer is not known.
    WithTask,
}

impl<'de> ResponseEnvelope<'de> {
    /// An unknown result comes without its JSON: see [`decode_message`](super::decode_message).
    pub(super) fn into_content(self) -> MessageContent<'de> {
        match (self.result_kind, self.error) {
            (_, Some(error)) if error.says_something() => {
                let bare_too = self.bare.is_some_and(|bare| bare.is_known());
                return MessageContent::Error(error, bare_too || self.result.is_known());
            }
            (ResultKind::Object, _) if self.result.is_known() => {
                return MessageContent::Result(self.result);
            }
            (_, Some(error)) => return MessageContent::Error(error, false),
            (ResultKind::Object | ResultKind::Other, None) => {
                return MessageContent::Unknown(Value::Null);
            }
            (ResultKind::Absent, None) => {}
        }
        match (self.bare, self.notice) {
            (Some(mut bare), _) if bare.is_known() => {
                bare.id = self.id.and_then(id_of);
                MessageContent::Result(*bare)
            }
            (_, Notice::Ignorable) => MessageContent::KeepAlive,
            _ => MessageContent::Nothing,
        }
    }

    fn note(&mut self, notice: Notice) {
        if self.notice != Notice::WithTask {
            self.notice = notice;
        }
    }
}

impl<'de> Deserialize<'de> for ResponseEnvelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ResponseEnvelopeVisitor)
    }
}

struct ResponseEnvelopeVisitor;

impl<'de> Visitor<'de> for ResponseEnvelopeVisitor {
    type Value = ResponseEnvelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON-RPC response or an event: an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ResponseEnvelope<'de>, A::Error> {
        let mut envelope = ResponseEnvelope::default();
        while let Some(field) = map.next_key::<Field>()? {
            match field {
                Field::Id => envelope.id = Some(map.next_value()?),
                Field::Error => put(&mut envelope.error, map.next_value()?, "error")?,
                Field::Result if envelope.result_kind == ResultKind::Absent => {
                    envelope.result_kind = map.next_value_seed(InPlace(&mut envelope.result))?;
                }
                Field::Result => return Err(de::Error::duplicate_field("result")),
                Field::Method => {
                    map.next_value::<IgnoredAny>()?;
                    envelope.note(Notice::Ignorable);
                }
                Field::Params => {
                    if holds_task(&map.next_value()?) {
                        envelope.note(Notice::WithTask);
                    }
                }
                Field::Type => {
                    if map.next_value::<Loose<'_>>()?.as_text().is_some_and(|name| is_ping(&name)) {
                        envelope.note(Notice::Ignorable);
                    }
                }
                Field::Ping => {
                    map.next_value::<IgnoredAny>()?;
                    envelope.note(Notice::Ignorable);
                }
                Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
                field => envelope.bare.get_or_insert_default().read(&field, &mut map)?,
            }
        }
        Ok(envelope)
    }
}
