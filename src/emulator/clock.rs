//! Timestamps in the platform's formats.

use crate::wire::timestamp::Timestamp;

/// Returns the current time with nine fractional digits: `2025-06-27T16:31:41.510422505Z`.
pub(super) fn now() -> Timestamp {
    now_with_digits(9)
}

/// Returns the current time with three fractional digits, as in a task's metadata.
pub(super) fn now_in_milliseconds() -> Timestamp {
    now_with_digits(3)
}

fn now_with_digits(count: usize) -> Timestamp {
    format!("{:.count$}", jiff::Timestamp::now()).into()
}

#[cfg(test)]
mod tests {
    #[test]
    fn timestamps_have_nine_fractional_digits() {
        for _ in 0..20 {
            let now = super::now();
            assert_eq!(now.as_str().len(), "2025-06-27T16:31:41.510422505Z".len(), "{now}");
            assert!(now.to_system_time().is_some());
        }
    }
}
