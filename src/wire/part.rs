//! A part of a message or an artifact: text, a file, or data.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Unexpected, Visitor};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::Metadata;
use super::binary::serde_as_json_in_binary;
use super::lenient::{Loose, is_number_field};

/// One part of a message or an artifact.
///
/// The kind is read from `type` or, where a server leaves that out, from the content.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Part {
    /// Text.
    Text(TextPart),
    /// A file, with its bytes or a URI.
    File(FilePart),
    /// A JSON object or array.
    Data(DataPart),
    /// A part of a kind that this version does not know, as it was received.
    Unknown(Value),
}

/// The text of a [`Part::Text`].
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TextPart {
    /// The text.
    pub text: String,
    /// Data that the sender attached.
    pub metadata: Metadata,
}

/// The file of a [`Part::File`].
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct FilePart {
    /// The file as it was received: `name`, `mimeType`, and `bytes` (base64) or `uri`.
    pub file: Value,
    /// Data that the sender attached.
    pub metadata: Metadata,
}

impl FilePart {
    /// Returns the file's name.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.field("name")
    }

    /// Returns the file's media type.
    #[must_use]
    pub fn mime_type(&self) -> Option<&str> {
        self.field("mimeType").or_else(|| self.field("mime_type"))
    }

    /// Returns the URI of the file, if it was sent by reference.
    #[must_use]
    pub fn uri(&self) -> Option<&str> {
        self.field("uri")
    }

    /// Returns the file's content, if it was sent along and is valid base64.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.decode(self.field("bytes")?).ok()
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.file.get(name)?.as_str()
    }
}

/// The data of a [`Part::Data`].
///
/// Integers from -2^63 to 2^64-1 are exact, other numbers to 15 significant digits;
/// [`Client::ask_raw`](crate::Client::ask_raw) keeps every digit.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct DataPart {
    /// A JSON object or array.
    pub data: Value,
    /// Data that the sender attached.
    pub metadata: Metadata,
}

impl Part {
    /// Creates a data part, for fixtures: `data` should be an object or an array.
    #[must_use]
    pub fn data(data: Value) -> Self {
        Self::Data(DataPart { data, metadata: Metadata::new() })
    }

    /// Creates a file part from its JSON, for fixtures: `name`, `mimeType`, and `bytes` or `uri`.
    #[must_use]
    pub fn file(file: Value) -> Self {
        Self::File(FilePart { file, metadata: Metadata::new() })
    }

    /// Creates a text part.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(TextPart { text: text.into(), metadata: Metadata::new() })
    }

    /// Returns the text, if this is a text part.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(part) => Some(&part.text),
            _ => None,
        }
    }

    /// Returns the part's kind on the wire: `text`, `file`, `data`, or what the server wrote.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::Text(_) => "text",
            Self::File(_) => "file",
            Self::Data(_) => "data",
            Self::Unknown(value) => value.get("type").and_then(Value::as_str).unwrap_or("unknown"),
        }
    }
}

/// Joins the text parts with newlines: they arrived together.
pub(crate) fn joined_text<'a>(parts: impl IntoIterator<Item = &'a Part>) -> String {
    let mut text = String::new();
    for (index, part) in parts.into_iter().filter_map(Part::as_text).enumerate() {
        if index > 0 {
            text.push('\n');
        }
        text.push_str(part);
    }
    text
}

impl Part {
    fn serialize<S: Serializer>(this: &Self, serializer: S) -> Result<S::Ok, S::Error> {
        let (name, metadata) = match this {
            Self::Text(part) => ("text", &part.metadata),
            Self::File(part) => ("file", &part.metadata),
            Self::Data(part) => ("data", &part.metadata),
            Self::Unknown(value) => return Serialize::serialize(value, serializer),
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", name)?;
        match this {
            Self::Text(part) => map.serialize_entry(name, &part.text)?,
            Self::File(part) => map.serialize_entry(name, &part.file)?,
            Self::Data(part) => map.serialize_entry(name, &part.data)?,
            Self::Unknown(_) => {}
        }
        if !metadata.is_empty() {
            map.serialize_entry("metadata", metadata)?;
        }
        map.end()
    }
}

impl Part {
    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PartVisitor)
    }
}

serde_as_json_in_binary!(Part);

#[derive(Default)]
struct PartFields<'de> {
    kind: Option<Loose<'de>>,
    text: Option<Loose<'de>>,
    file: Option<Value>,
    data: Option<Value>,
    metadata: Option<Value>,
    others: Metadata,
}

enum PartField {
    Type,
    Kind,
    Text,
    File,
    Data,
    Metadata,
    Other(String),
}

struct PartFieldVisitor;

impl<'de> Deserialize<'de> for PartField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(PartFieldVisitor)
    }
}

impl Visitor<'_> for PartFieldVisitor {
    type Value = PartField;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<PartField, E> {
        if is_number_field(name) {
            return Err(E::invalid_type(Unexpected::Other("number"), &"a part: an object"));
        }
        Ok(match name {
            "type" => PartField::Type,
            "kind" => PartField::Kind,
            "text" => PartField::Text,
            "file" => PartField::File,
            "data" => PartField::Data,
            "metadata" => PartField::Metadata,
            other => PartField::Other(other.to_owned()),
        })
    }
}

struct PartVisitor;

impl<'de> Visitor<'de> for PartVisitor {
    type Value = Part;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a part: an object")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Part, E> {
        Ok(Part::text(text))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Part, A::Error> {
        let mut fields = PartFields::default();
        while let Some(key) = map.next_key::<PartField>()? {
            match key {
                PartField::Type | PartField::Kind => fields.kind = Some(map.next_value()?),
                PartField::Text => fields.text = Some(map.next_value()?),
                PartField::File => fields.file = Some(map.next_value()?),
                PartField::Data => fields.data = Some(map.next_value()?),
                PartField::Metadata => fields.metadata = Some(map.next_value()?),
                PartField::Other(name) => {
                    fields.others.insert(name, map.next_value()?);
                }
            }
        }
        Ok(fields.into_part())
    }
}

impl PartFields<'_> {
    fn into_part(mut self) -> Part {
        if self.is("text", matches!(self.text, Some(Loose::Text(_)))) {
            let Some(Loose::Text(text)) = self.text.take() else {
                return self.into_unknown();
            };
            return Part::Text(TextPart {
                text: text.into_owned(),
                metadata: self.take_metadata(),
            });
        }
        let has = |value: &Option<Value>| value.as_ref().is_some_and(|value| !value.is_null());
        if self.is("file", has(&self.file)) {
            let file = self.file.take().unwrap_or_default();
            return Part::File(FilePart { file, metadata: self.take_metadata() });
        }
        if self.is("data", has(&self.data)) {
            let data = self.data.take().unwrap_or_default();
            return Part::Data(DataPart { data, metadata: self.take_metadata() });
        }
        self.into_unknown()
    }

    /// Returns true for a part of this kind: it has the content, and no other kind is stated.
    fn is(&self, kind: &str, holds: bool) -> bool {
        holds
            && match &self.kind {
                Some(Loose::Text(text)) => text.eq_ignore_ascii_case(kind),
                Some(Loose::Other(_)) | None => true,
            }
    }

    fn take_metadata(&mut self) -> Metadata {
        match self.metadata.take() {
            Some(Value::Object(metadata)) => metadata,
            _ => Metadata::new(),
        }
    }

    fn into_unknown(self) -> Part {
        let mut object = self.others;
        let known = [
            ("type", self.kind.map(Value::from)),
            ("text", self.text.map(Value::from)),
            ("file", self.file),
            ("data", self.data),
            ("metadata", self.metadata),
        ];
        for (name, value) in known {
            if let Some(value) = value {
                object.insert(name.to_owned(), value);
            }
        }
        Part::Unknown(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Part {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn each_kind_is_read_and_written_back() {
        let parts = [
            json!({"type": "text", "text": "hi", "metadata": {"a": 1}}),
            json!({"type": "file", "file": {"name": "a", "bytes": "aGk="}}),
            json!({"type": "data", "data": [1, 2]}),
            json!({"type": "video", "text": 5, "frames": [1]}),
            json!({"type": "text", "text": null}),
        ];
        for part in parts {
            assert_eq!(serde_json::to_value(read(part.clone())).unwrap(), part);
        }
    }

    #[test]
    fn a_part_without_type_is_what_it_holds() {
        assert_eq!(read(json!({"text": "hi"})).as_text(), Some("hi"));
        assert_eq!(read(json!({"type": null, "text": "hi", "new": {}})).as_text(), Some("hi"));
        assert_eq!(read(json!({"kind": "text", "text": "hi"})).as_text(), Some("hi"));
        assert_eq!(read(json!({"data": {"n": 1}, "text": null})).kind(), "data");
        assert_eq!(read(json!({"file": {"uri": "x"}})).kind(), "file");
        assert_eq!(read(json!({})).kind(), "unknown");
    }

    #[test]
    fn a_files_bytes_are_decoded() {
        let Part::File(file) = read(json!({"file": {"mimeType": "text/plain", "bytes": "aGk="}}))
        else {
            panic!("not a file");
        };
        assert_eq!(file.bytes().as_deref(), Some(b"hi".as_slice()));
        assert_eq!(file.mime_type(), Some("text/plain"));
    }
}
