//! The fields of a task or an update, and their conversion to the public types.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::field::{Field, ResultField};
use crate::ids::{SessionId, TaskId};
use crate::wire::Metadata;
use crate::wire::lenient::{Loose, LooseFlag, LooseId, LooseObject};
use crate::wire::task::{Artifact, Message, Task, TaskStatus};
use crate::wire::update::{ArtifactUpdate, StatusUpdate, Update};

/// The fields of a task and of both updates, side by side.
#[derive(Debug, Default)]
pub(crate) struct Payload<'de> {
    /// The id of the task. Borrowed, since it nearly always equals the expected id, which exists
    /// already.
    pub(super) id: Option<Cow<'de, str>>,
    /// The id under its newer name, which has precedence.
    task_id: Option<Cow<'de, str>>,
    pub(super) session_id: Option<SessionId>,
    pub(crate) status: Option<TaskStatus>,
    pub(super) artifact: Option<Artifact>,
    artifacts: Option<Vec<Artifact>>,
    history: Option<Vec<Message>>,
    is_final: Option<bool>,
    /// The artifact's `append`, which the newer dialect writes on the event.
    append: Option<bool>,
    /// The artifact's `lastChunk`, which the newer dialect writes on the event.
    last_chunk: Option<bool>,
    metadata: Metadata,
}

impl<'de> Payload<'de> {
    pub(super) fn into_owned(self) -> Payload<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Payload {
            id: self.id.map(owned),
            task_id: self.task_id.map(owned),
            session_id: self.session_id,
            status: self.status,
            artifact: self.artifact,
            artifacts: self.artifacts,
            history: self.history,
            is_final: self.is_final,
            append: self.append,
            last_chunk: self.last_chunk,
            metadata: self.metadata,
        }
    }

    /// Returns the id of the task: `expected` where the message has none.
    fn task_id(&self, expected: &TaskId) -> TaskId {
        match self.task_id.as_deref().or(self.id.as_deref()) {
            Some(id) if *expected != *id => TaskId::from(id),
            _ => expected.clone(),
        }
    }

    /// Returns true where the message has one of the fields that identify a task or an update.
    pub(crate) fn is_known(&self) -> bool {
        self.status.is_some()
            || self.artifact.is_some()
            || self.artifacts.is_some()
            || self.history.is_some()
    }

    pub(crate) fn is_final(&self) -> bool {
        self.is_final.unwrap_or(false)
    }

    /// Returns true where the field `artifacts` is there and not null: a task without it is one
    /// whose artifacts were left out.
    pub(crate) fn includes_artifacts(&self) -> bool {
        self.artifacts.is_some()
    }

    /// Converts into a task: the reply to `send`, `get` and `cancel`.
    ///
    /// Returns `None` where there is no status: without one nothing is known of the task.
    pub(crate) fn into_task(self, asked_for: &TaskId) -> Option<Task> {
        Some(Task {
            id: self.task_id(asked_for),
            session_id: self.session_id,
            status: self.status?,
            artifacts: self.artifacts.unwrap_or_default(),
            history: self.history.unwrap_or_default(),
            metadata: self.metadata,
        })
    }

    /// Converts into an event of a stream. An event without a task id belongs to the stream's own
    /// task.
    ///
    /// Returns `None` for a task without status. The caller must treat it as an error: its place
    /// in the answer is not known.
    pub(crate) fn into_update(self, stream_of: &TaskId) -> Option<Update> {
        let is_final = self.is_final();
        let task_id = self.task_id(stream_of);
        if let Some(mut artifact) = self.artifact {
            artifact.append |= self.append.unwrap_or(false);
            artifact.last_chunk = artifact.last_chunk.or(self.last_chunk);
            return Some(Update::Artifact(ArtifactUpdate {
                task_id,
                artifact,
                status: self.status,
                is_final,
                metadata: self.metadata,
            }));
        }
        if self.artifacts.is_some() || self.history.is_some() {
            return self.into_task(stream_of).map(Update::Task);
        }
        Some(Update::Status(StatusUpdate {
            task_id,
            status: self.status?,
            is_final,
            metadata: self.metadata,
        }))
    }

    /// Reads the value of one field.
    ///
    /// A repeated part of the answer is an error, since one of the two would be lost. Of two
    /// spellings of another field, the first with a value is used.
    pub(super) fn read<A: MapAccess<'de>>(
        &mut self,
        field: &Field,
        map: &mut A,
    ) -> Result<(), A::Error> {
        match field {
            Field::Id => self.id = id_of(map.next_value()?).or(self.id.take()),
            Field::TaskId => self.task_id = id_of(map.next_value()?).or(self.task_id.take()),
            Field::Append => self.append = self.append.max(map.next_value::<LooseFlag>()?.0),
            Field::LastChunk => {
                self.last_chunk = self.last_chunk.max(map.next_value::<LooseFlag>()?.0);
            }
            Field::SessionId => {
                let id = map.next_value::<LooseId<_>>()?.0;
                self.session_id = self.session_id.take().or(id);
            }
            Field::Status => put(&mut self.status, map.next_value()?, "status")?,
            Field::Artifact => put(&mut self.artifact, map.next_value()?, "artifact")?,
            Field::Artifacts => put(&mut self.artifacts, map.next_value()?, "artifacts")?,
            Field::History => put(&mut self.history, map.next_value()?, "history")?,
            Field::Final => self.is_final = self.is_final.max(map.next_value::<LooseFlag>()?.0),
            Field::Metadata => self.metadata = map.next_value::<LooseObject>()?.0,
            Field::Result
            | Field::Error
            | Field::Method
            | Field::Type
            | Field::Ping
            | Field::Params
            | Field::Other => {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

pub(super) fn put<T, E: de::Error>(
    place: &mut Option<T>,
    value: Option<T>,
    name: &'static str,
) -> Result<(), E> {
    if place.is_some() {
        return Err(E::duplicate_field(name));
    }
    *place = value;
    Ok(())
}

pub(super) fn id_of(id: Loose<'_>) -> Option<Cow<'_, str>> {
    match id {
        Loose::Text(text) => Some(text),
        other => other.as_text().map(|text| Cow::Owned(text.into_owned())),
    }
}

/// The kind of JSON under `result`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum ResultKind {
    #[default]
    Absent,
    Object,
    /// JSON of any other kind than an object.
    Other,
}

/// Reads the fields of a result into the place where they stay.
pub(super) struct InPlace<'a, 'de>(pub(super) &'a mut Payload<'de>);

impl<'de> DeserializeSeed<'de> for InPlace<'_, 'de> {
    type Value = ResultKind;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ResultKind, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for InPlace<'_, 'de> {
    type Value = ResultKind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a result")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ResultKind, A::Error> {
        while let Some(name) = map.next_key::<ResultField>()? {
            match name {
                // A number, where serde_json reads numbers as maps.
                ResultField::Number => {
                    map.next_value::<IgnoredAny>()?;
                    return Ok(ResultKind::Other);
                }
                ResultField::Named(field) => self.0.read(&field, &mut map)?,
            }
        }
        Ok(ResultKind::Object)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ResultKind, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(ResultKind::Other)
    }

    fn visit_unit<E>(self) -> Result<ResultKind, E> {
        Ok(ResultKind::Absent)
    }

    fn visit_str<E>(self, _: &str) -> Result<ResultKind, E> {
        Ok(ResultKind::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<ResultKind, E> {
        Ok(ResultKind::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<ResultKind, E> {
        Ok(ResultKind::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<ResultKind, E> {
        Ok(ResultKind::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<ResultKind, E> {
        Ok(ResultKind::Other)
    }
}
