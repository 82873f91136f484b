//! The order of two timestamps of a task.

use crate::wire::timestamp::Timestamp;

/// The order of a later snapshot's timestamp relative to an earlier one's.
pub(super) enum Order {
    Later,
    NotLater,
    /// One of them is missing, or is not a valid timestamp.
    Unclear,
}

/// Compares as points in time: servers write the same instant in several ways.
pub(super) fn compare(before: Option<&Timestamp>, now: Option<&Timestamp>) -> Order {
    let (Some(before), Some(now)) = (before, now) else { return Order::Unclear };
    if before == now {
        return Order::NotLater;
    }
    match (before.to_system_time(), now.to_system_time()) {
        (Some(before), Some(now)) if now > before => Order::Later,
        (Some(_), Some(_)) => Order::NotLater,
        _ => Order::Unclear,
    }
}
