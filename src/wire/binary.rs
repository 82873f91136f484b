//! Output types in formats that are not human-readable.
//!
//! Tasks hold JSON values of any shape, and leave unset fields out. Formats such as postcard can
//! represent neither, so there each type is one string with its JSON.

use serde::de::{self, Deserialize, DeserializeOwned, Deserializer};
use serde::ser::{self, Serialize, Serializer};

pub(crate) fn serialize<T: Serialize, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let json = serde_json::to_string(value).map_err(ser::Error::custom)?;
    serializer.serialize_str(&json)
}

pub(crate) fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let json = String::deserialize(deserializer)?;
    serde_json::from_str(&json).map_err(de::Error::custom)
}

/// Implements `Serialize` and `Deserialize` for a type with inherent functions of these names,
/// which are used in human-readable formats; in others it is written as its JSON.
macro_rules! serde_as_json_in_binary {
    ($($name:ty),+) => {
        $(
            impl serde::Serialize for $name {
                fn serialize<S>(&self, serializer: S) -> Result<S::Ok, S::Error>
                where
                    S: serde::Serializer,
                {
                    if serializer.is_human_readable() {
                        return <$name>::serialize(self, serializer);
                    }
                    $crate::wire::binary::serialize(self, serializer)
                }
            }

            impl<'de> serde::Deserialize<'de> for $name {
                fn deserialize<D>(deserializer: D) -> Result<Self, D::Error>
                where
                    D: serde::Deserializer<'de>,
                {
                    if deserializer.is_human_readable() {
                        return <$name>::deserialize(deserializer);
                    }
                    $crate::wire::binary::deserialize(deserializer)
                }
            }
        )+
    };
}

pub(crate) use serde_as_json_in_binary;
