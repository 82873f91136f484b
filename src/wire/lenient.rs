//! Readers that take what servers really send: nulls, numbers for text, odd metadata.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::Metadata;

/// `null` is as good as absent.
pub(super) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Text; a number or a truth value as its JSON text; anything else as absent.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    id(deserializer)
}

/// An id, or anything else that is made from text, as [`text`] reads it.
pub(super) fn id<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: for<'a> From<&'a str>,
{
    deserializer.deserialize_any(Scalar(|scalar: Json<'_>| match scalar {
        Json::Text(text) => Some(T::from(text)),
        Json::Bool(value) => Some(T::from(if value { "true" } else { "false" })),
        Json::Integer(value) => Some(T::from(value.to_string().as_str())),
        Json::Float(value) => Some(T::from(value.to_string().as_str())),
        Json::Other => None,
    }))
}

/// A truth value; `"true"`, `"false"`, 0 and 1 count; anything else as absent.
pub(super) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    deserializer.deserialize_any(Scalar(|scalar: Json<'_>| match scalar {
        Json::Bool(value) => Some(value),
        Json::Text("true" | "1") | Json::Integer(1) => Some(true),
        Json::Text("false" | "0") | Json::Integer(0) => Some(false),
        Json::Float(1.0) => Some(true),
        Json::Float(0.0) => Some(false),
        _ => None,
    }))
}

/// An integer, also written as text or with a fraction, which is cut off; what does not fit saturates; anything else
/// as absent.
pub(super) fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    deserializer.deserialize_any(Scalar(|scalar: Json<'_>| match scalar {
        Json::Integer(value) => Some(i64::try_from(value).unwrap_or(i64::MAX)),
        Json::Float(value) => whole(value),
        Json::Text(text) => integer_of(text.trim()),
        Json::Bool(_) | Json::Other => None,
    }))
}

pub(super) fn integer_of(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| whole(text.parse().ok()?))
}

/// Servers written in languages with one number type send 3600.0.
fn whole(number: f64) -> Option<i64> {
    number.is_finite().then(|| number.trunc() as i64)
}

/// One JSON value, as far as a scalar is wanted.
enum Json<'a> {
    Text(&'a str),
    Bool(bool),
    /// Wide enough for what JSON readers tell apart: i64 and u64.
    Integer(i128),
    Float(f64),
    /// Null, an array, an object.
    Other,
}

/// Reads any value, and makes of it what the function says: text is borrowed, not copied.
struct Scalar<F>(F);

impl<'de, F, T> Visitor<'de> for Scalar<F>
where
    F: FnOnce(Json<'_>) -> T,
{
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        Ok((self.0)(Json::Text(text)))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<T, E> {
        Ok((self.0)(Json::Bool(value)))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
        Ok((self.0)(Json::Integer(value.into())))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
        Ok((self.0)(Json::Integer(value.into())))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<T, E> {
        Ok((self.0)(Json::Float(value)))
    }

    fn visit_unit<E: de::Error>(self) -> Result<T, E> {
        Ok((self.0)(Json::Other))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok((self.0)(Json::Other))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<T, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok((self.0)(Json::Other))
    }
}

/// A type for each of the readers above, for visitors written by hand.
pub(super) struct Id<T>(pub(super) Option<T>);
pub(super) struct Flag(pub(super) Option<bool>);
pub(super) struct Object(pub(super) Metadata);

impl<'de, T: for<'a> From<&'a str>> Deserialize<'de> for Id<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        id(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        flag(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        metadata(deserializer).map(Self)
    }
}

/// A JSON object; anything else as an empty one.
pub(super) fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Metadata, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Object(object) => object,
        _ => Metadata::new(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_is_read_from_any_scalar() {
        let cases = [
            (json!("a"), Some("a")),
            (json!(""), Some("")),
            (json!(7), Some("7")),
            (json!(-7), Some("-7")),
            (json!(u64::MAX), Some("18446744073709551615")),
            (json!(1.5), Some("1.5")),
            (json!(true), Some("true")),
            (json!(null), None),
            (json!([1]), None),
            (json!({"a": 1}), None),
        ];
        for (value, wanted) in cases {
            assert_eq!(text(&value).unwrap().as_deref(), wanted, "{value}");
            assert_eq!(id::<_, String>(&value).unwrap().as_deref(), wanted, "{value}");
            let written = value.to_string();
            assert_eq!(
                text(&mut serde_json::Deserializer::from_str(&written)).unwrap().as_deref(),
                wanted,
                "{value}"
            );
        }
    }

    #[test]
    fn flags_and_integers_are_read_from_what_means_them() {
        let flags = [json!(true), json!("true"), json!(1), json!("1"), json!(1.0)];
        assert!(flags.iter().all(|value| flag(value).unwrap() == Some(true)));
        let flags = [json!(false), json!("false"), json!(0), json!("0"), json!(0.0)];
        assert!(flags.iter().all(|value| flag(value).unwrap() == Some(false)));
        let flags = [json!(null), json!("yes"), json!(2), json!([true]), json!({})];
        assert!(flags.iter().all(|value| flag(value).unwrap().is_none()));
        let cases = [
            (json!(3), Some(3)),
            (json!("3"), Some(3)),
            (json!(" 3 "), Some(3)),
            (json!(3.9), Some(3)),
            (json!("3.0"), Some(3)),
            (json!(-3), Some(-3)),
            (json!(u64::MAX), Some(i64::MAX)),
            (json!(1e300), Some(i64::MAX)),
            (json!("NaN"), None),
            (json!("three"), None),
            (json!(true), None),
            (json!(null), None),
            (json!([3]), None),
        ];
        for (value, wanted) in cases {
            assert_eq!(integer(&value).unwrap(), wanted, "{value}");
        }
    }

    #[test]
    fn metadata_is_an_object_or_nothing() {
        assert_eq!(metadata(json!({"a": [1]})).unwrap().len(), 1);
        for value in [json!(null), json!(1), json!("a"), json!([{"a": 1}])] {
            assert!(metadata(value).unwrap().is_empty());
        }
    }
}
