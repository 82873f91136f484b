//! Timestamps as the platform writes them.

use crate::wire::timestamp::Timestamp;

/// Now, with nine fractional digits: `2025-06-27T16:31:41.510422505Z`.
pub(super) fn now() -> Timestamp {
    digits(9)
}

/// Now, with three: what the platform writes into a task's metadata.
pub(super) fn now_in_milliseconds() -> Timestamp {
    digits(3)
}

fn digits(count: usize) -> Timestamp {
    format!("{:.count$}", jiff::Timestamp::now()).into()
}

#[cfg(test)]
mod tests {
    #[test]
    fn there_are_always_nine_digits() {
        for _ in 0..20 {
            let now = super::now();
            assert_eq!(now.as_str().len(), "2025-06-27T16:31:41.510422505Z".len(), "{now}");
            assert!(now.to_system_time().is_some());
        }
    }
}
