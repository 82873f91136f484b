//! Lenient readers: they accept null for an absent field, numbers for text, and metadata that is
//! not an object.
//!
//! All of them read through one visitor, [`Loose`], which works with any number representation:
//! with the feature `arbitrary_precision` of `serde_json`, which any crate of a program can turn
//! on, numbers reach a visitor as maps.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Number, Value};

use super::Metadata;

/// Any JSON value. Text is borrowed where possible, so that the usual field is read without a copy.
pub(super) enum Loose<'de> {
    Text(Cow<'de, str>),
    Other(Value),
}

impl From<Loose<'_>> for Value {
    fn from(loose: Loose<'_>) -> Self {
        match loose {
            Loose::Text(text) => Self::String(text.into_owned()),
            Loose::Other(value) => value,
        }
    }
}

impl Loose<'_> {
    /// Returns text as it is, and a number or a boolean as its JSON text; `None` for anything else.
    pub(super) fn as_text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::Other(Value::Bool(value)) => {
                Some(Cow::Borrowed(if *value { "true" } else { "false" }))
            }
            Self::Other(Value::Number(number)) => Some(Cow::Owned(number_text(number))),
            Self::Other(_) => None,
        }
    }
}

/// Writes a number the same way whatever representation `serde_json` was built with.
fn number_text(number: &Number) -> String {
    match (number.as_i64(), number.as_u64(), number.as_f64()) {
        (Some(value), _, _) => value.to_string(),
        (None, Some(value), _) => value.to_string(),
        (None, None, Some(value)) => value.to_string(),
        (None, None, None) => number.to_string(),
    }
}

struct LooseVisitor;

impl<'de> Deserialize<'de> for Loose<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LooseVisitor)
    }
}

impl<'de> Visitor<'de> for LooseVisitor {
    type Value = Loose<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Loose<'de>, E> {
        Ok(Loose::Text(text.into()))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Loose<'de>, E> {
        Ok(Loose::Text(text.to_owned().into()))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Loose<'de>, E> {
        Ok(Loose::Text(text.into()))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Loose<'de>, E> {
        Ok(Loose::Other(value.into()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Loose<'de>, E> {
        Ok(Loose::Other(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Loose<'de>, E> {
        Ok(Loose::Other(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Loose<'de>, E> {
        Ok(Loose::Other(value.into()))
    }

    fn visit_none<E: de::Error>(self) -> Result<Loose<'de>, E> {
        Ok(Loose::Other(Value::Null))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Loose<'de>, E> {
        Ok(Loose::Other(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Loose<'de>, D::Error> {
        Loose::deserialize(deserializer)
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<Loose<'de>, A::Error> {
        Value::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(Loose::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Loose<'de>, A::Error> {
        Value::deserialize(de::value::MapAccessDeserializer::new(map)).map(Loose::Other)
    }
}

/// Returns true for the name of the one field of the map by which `serde_json` represents a number
/// if it was built with `arbitrary_precision`.
pub(super) fn is_number_field(name: &str) -> bool {
    name == "$serde_json::private::Number"
}

/// Reads `null` as the default, like an absent field.
pub(super) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads text; a number or a boolean as its JSON text; anything else as absent.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Loose::deserialize(deserializer)?.as_text().map(Cow::into_owned))
}

/// Reads an id, or anything else that is made from text, as [`text`] does.
pub(super) fn id<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: for<'a> From<&'a str>,
{
    Ok(Loose::deserialize(deserializer)?.as_text().map(|text| T::from(&text)))
}

/// Reads a boolean, also from `"true"`, `"false"`, 0 and 1; anything else as absent.
pub(super) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    Ok(match Loose::deserialize(deserializer)? {
        Loose::Other(Value::Bool(value)) => Some(value),
        Loose::Text(text) => match &*text {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        },
        Loose::Other(Value::Number(number)) => match number.as_f64() {
            Some(1.0) => Some(true),
            Some(0.0) => Some(false),
            _ => None,
        },
        Loose::Other(_) => None,
    })
}

/// Reads an integer, also written as text or with a fraction, which is cut off. A number that does
/// not fit saturates; anything else is absent.
pub(super) fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Ok(match Loose::deserialize(deserializer)? {
        Loose::Text(text) => parse_integer(text.trim()),
        Loose::Other(Value::Number(number)) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Some(value),
            (None, Some(_)) => Some(i64::MAX),
            (None, None) => number.as_f64().and_then(truncate),
        },
        Loose::Other(_) => None,
    })
}

/// Parses an integer from text, also one with a fraction.
pub(super) fn parse_integer(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| truncate(text.parse().ok()?))
}

/// Cuts the fraction off: servers written in languages with one number type send 3600.0.
fn truncate(number: f64) -> Option<i64> {
    number.is_finite().then(|| number.trunc() as i64)
}

/// Reads a JSON object; anything else as an empty one.
pub(super) fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Metadata, D::Error> {
    Ok(match Loose::deserialize(deserializer)? {
        Loose::Other(Value::Object(object)) => object,
        Loose::Text(_) | Loose::Other(_) => Metadata::new(),
    })
}

/// An optional field that is read by [`id`], [`flag`] or [`metadata`], for visitors written by
/// hand.
pub(super) struct LooseId<T>(pub(super) Option<T>);
pub(super) struct LooseFlag(pub(super) Option<bool>);
pub(super) struct LooseObject(pub(super) Metadata);

impl<'de, T: for<'a> From<&'a str>> Deserialize<'de> for LooseId<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        id(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for LooseFlag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        flag(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for LooseObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        metadata(deserializer).map(Self)
    }
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
