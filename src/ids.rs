//! The ids of a task, a session and a request.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use arrayvec::ArrayString;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Serialize, Serializer};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use crate::inline_str::InlineStr;

/// The length of the ids that are created here, in bytes.
const MINTED: usize = "tsk-".len() + Hyphenated::LENGTH;

fn minted(prefix: &str, uuid: Uuid) -> InlineStr<MINTED> {
    let mut buffer = [0; Hyphenated::LENGTH];
    let uuid = uuid.hyphenated().encode_lower(&mut buffer);
    let mut text = ArrayString::new();
    match text.try_push_str(prefix).and_then(|()| text.try_push_str(uuid)) {
        Ok(()) => InlineStr::Short(text),
        Err(_) => InlineStr::Long(format!("{prefix}{uuid}").into()),
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $visitor:ident) => {
        $(#[$doc])*
        ///
        /// Cheap to clone. Any text is accepted: servers and other SDKs write ids of other
        /// forms, and an id that was received is sent unchanged.
        #[derive(Clone, PartialEq, Eq, Hash)]
        pub struct $name(InlineStr<MINTED>);

        impl $name {
            #[doc = concat!("Creates a new id: `", $prefix, "` and a random (version 4) UUID.")]
            #[must_use]
            pub fn new() -> Self {
                Self(minted($prefix, Uuid::new_v4()))
            }

            /// Returns the id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        /// Creates a new id.
        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                self.0.cmp(&*other.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.as_str().into())
            }
        }

        /// Never fails: any text is an id.
        impl FromStr for $name {
            type Err = Infallible;

            fn from_str(text: &str) -> Result<Self, Infallible> {
                Ok(Self::from(text))
            }
        }

        impl From<&$name> for $name {
            fn from(id: &$name) -> Self {
                id.clone()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.as_str().to_owned()
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                &*self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                &*self.0 == *other
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                // Formats such as postcard do not encode the type of a value.
                match deserializer.is_human_readable() {
                    true => deserializer.deserialize_any($visitor),
                    false => deserializer.deserialize_str($visitor),
                }
            }
        }

        struct $visitor;

        impl<'de> Visitor<'de> for $visitor {
            type Value = $name;

            /// Visits a number, where `serde_json` was built with `arbitrary_precision`.
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<$name, A::Error> {
                let number = serde_json::Number::deserialize(MapAccessDeserializer::new(map))?;
                match (number.as_i64(), number.as_u64(), number.as_f64()) {
                    (Some(number), _, _) => self.visit_i64(number),
                    (None, Some(number), _) => self.visit_u64(number),
                    (None, None, Some(number)) => self.visit_f64(number),
                    (None, None, None) => Ok($name::from(number.to_string())),
                }
            }

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an id: a string or a number")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                Ok($name::from(text))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<$name, E> {
                Ok($name::from(number.to_string()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<$name, E> {
                Ok($name::from(number.to_string()))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<$name, E> {
                Ok($name::from(number.to_string()))
            }
        }
    };
}

id! {
    /// The id of a task: the agent's work on one ask, and on its continuations.
    ///
    /// An [`Ask`](crate::Ask) has it before anything is sent, so that a program that lost the
    /// answer, or crashed, can look the task up later with
    /// [`Client::get_task`](crate::Client::get_task).
    TaskId, "tsk-", TaskIdVisitor
}

id! {
    /// The id of a session: the conversation that the agent remembers.
    SessionId, "ses-", SessionIdVisitor
}

id! {
    /// The id of one JSON-RPC request. A request that is sent again keeps it.
    RequestId, "req-", RequestIdVisitor
}

impl TaskId {
    /// Returns true for an id that names nothing: empty, or only white space.
    pub(crate) fn is_blank(&self) -> bool {
        self.as_str().trim().is_empty()
    }
}

impl SessionId {
    /// Returns true for an id that names nothing: empty, or only white space.
    pub(crate) fn is_blank(&self) -> bool {
        self.as_str().trim().is_empty()
    }
}

/// The id of a request as a UUID, a third of the size of its text. Each open stream holds one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MintedRequest(Uuid);

impl MintedRequest {
    pub(crate) fn new() -> Self {
        Self(Uuid::new_v4())
    }

    pub(crate) fn id(self) -> RequestId {
        RequestId(minted("req-", self.0))
    }

    /// Parses an id that was generated by this type.
    pub(crate) fn parse(id: &RequestId) -> Option<Self> {
        Uuid::parse_str(id.as_str().strip_prefix("req-")?).ok().map(Self)
    }
}

impl fmt::Display for MintedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use super::*;

    #[test]
    fn an_id_of_any_length_is_the_text_that_it_was() {
        for length in [0, 1, 39, 40, 41, 500] {
            let text = "é".repeat(length / 2) + &"x".repeat(length % 2);
            let (id, same) = (TaskId::from(text.as_str()), TaskId::from(text.clone()));
            assert_eq!((id.as_str(), id.as_str().len()), (text.as_str(), length));
            assert_eq!(id, same);
            let found = HashMap::from([(id.clone(), length)]);
            assert_eq!(
                (found.get(&same), found.get(text.as_str())),
                (Some(&length), Some(&length))
            );
        }
        let ordered: Vec<_> =
            BTreeSet::from(["b".repeat(50), "a".into(), "c".into()].map(TaskId::from))
                .into_iter()
                .collect();
        assert_eq!(ordered, ["a".into(), TaskId::from("b".repeat(50)), "c".into()]);
    }

    #[test]
    fn a_minted_requests_id_is_one_of_version_4_and_stays_the_same() {
        let minted = MintedRequest::new();
        assert_eq!(minted.id(), minted.id());
        assert_eq!(minted.to_string(), minted.id().as_str());
        let uuid =
            minted.id().as_str().strip_prefix("req-").and_then(|text| Uuid::parse_str(text).ok());
        assert_eq!(uuid.map(|uuid| uuid.get_version_num()), Some(4));
    }

    #[test]
    fn minted_ids_have_their_prefix_and_a_uuid_of_version_4() {
        let id = TaskId::new();
        let uuid =
            id.as_str().strip_prefix("tsk-").and_then(|text| uuid::Uuid::parse_str(text).ok());
        assert_eq!(uuid.map(|uuid| uuid.get_version_num()), Some(4), "{id}");
        assert!(SessionId::new().as_str().starts_with("ses-"));
        assert!(RequestId::new().as_str().starts_with("req-"));
        assert_ne!(TaskId::new(), TaskId::new());
    }

    #[test]
    fn foreign_ids_are_read_and_written_unchanged() -> Result<(), serde_json::Error> {
        for (json, text) in [("\"x\"", "x"), ("7", "7"), ("-1", "-1"), ("\"é\\n\"", "é\n")] {
            assert_eq!(serde_json::from_str::<RequestId>(json)?, text);
        }
        assert_eq!(serde_json::to_string(&TaskId::from("a\"b"))?, r#""a\"b""#);
        assert!(serde_json::from_str::<TaskId>("{}").is_err());
        Ok(())
    }
}
