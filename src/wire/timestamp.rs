//! Timestamps, kept as servers write them.

use std::cmp::Ordering;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::inline_str::InlineStr;

/// A point in time, kept as the server wrote it.
///
/// The platform writes up to nine fractional digits, and at times no zone; the text is never
/// rounded, and is parsed only when asked.
///
/// ```
/// use payman_sdk::Timestamp;
///
/// let at = Timestamp::from("2025-06-27T16:31:41.510422505Z");
/// assert_eq!(at.as_str(), "2025-06-27T16:31:41.510422505Z");
/// assert!(at.to_system_time().is_some());
/// assert!(Timestamp::from("yesterday").to_system_time().is_none());
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Timestamp(InlineStr<LONGEST>);

/// The length in bytes up to which the text is stored inline; nine digits with a zone fit.
const LONGEST: usize = 32;

impl Timestamp {
    /// Returns the text, unchanged.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the point in time, if the text is an RFC 3339 timestamp. Without a zone it is read
    /// as UTC.
    #[must_use]
    pub fn to_system_time(&self) -> Option<SystemTime> {
        if let Ok(instant) = self.0.parse::<jiff::Timestamp>() {
            return instant.try_into().ok();
        }
        let local = self.0.parse::<jiff::civil::DateTime>().ok()?;
        jiff::tz::TimeZone::UTC.to_timestamp(local).ok()?.try_into().ok()
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Never fails: the text is kept, and parsed on request.
impl FromStr for Timestamp {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::from(text))
    }
}

/// Ordered by the point in time, then by the text.
impl Ord for Timestamp {
    fn cmp(&self, other: &Self) -> Ordering {
        let instants = self.to_system_time().cmp(&other.to_system_time());
        instants.then_with(|| self.as_str().cmp(other.as_str()))
    }
}

impl PartialOrd for Timestamp {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<&str> for Timestamp {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Timestamp {
    fn from(text: String) -> Self {
        Self(text.as_str().into())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn one_of_any_length_is_kept_as_it_is() -> Result<(), serde_json::Error> {
        for text in [
            "",
            "now",
            "2025-06-27T16:31:41.510422505Z",
            "2025-06-27T16:31:41.510422505+00:00",
            &"9".repeat(99),
        ] {
            let json = serde_json::to_string(text)?;
            assert_eq!(serde_json::from_str::<Timestamp>(&json)?, Timestamp::from(text));
            assert_eq!(serde_json::to_string(&Timestamp::from(text.to_owned()))?, json);
            assert_eq!(format!("{:?}", Timestamp::from(text)), format!("{text:?}"));
        }
        Ok(())
    }

    #[test]
    fn nine_digits_offsets_and_no_zone_are_read() {
        let second = UNIX_EPOCH + Duration::from_secs(1_751_041_901);
        let cases = [
            ("2025-06-27T16:31:41Z", second),
            ("2025-06-27T16:31:41", second),
            ("2025-06-27T18:31:41+02:00", second),
            ("2025-06-27T16:31:41.510422505Z", second + Duration::from_nanos(510_422_505)),
            ("2025-06-27T16:31:41.584123", second + Duration::from_micros(584_123)),
        ];
        for (text, expected) in cases {
            assert_eq!(Timestamp::from(text).to_system_time(), Some(expected), "{text}");
        }
    }
}
