//! Points in time as servers write them.

use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

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
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(Box<str>);

impl Timestamp {
    /// The text, exactly as it came.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The point in time, where the text is an RFC 3339 one. Without a zone it is read as UTC.
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
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<&str> for Timestamp {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Timestamp {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

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
