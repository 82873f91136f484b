//! Wall-clock time next to the monotonic clock.
//!
//! Neither clock is enough: the monotonic clock may stop while the machine sleeps, and the wall
//! clock may be set. A token or a lease is valid only until the first of the two passes its end.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Returns the wall-clock time, which tests can set.
pub(crate) fn wall_now() -> SystemTime {
    #[cfg(test)]
    return test_clock::wall_now();
    #[cfg(not(test))]
    SystemTime::now()
}

/// A point in time that has passed as soon as one of the two clocks has passed it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    pub(crate) monotonic: Instant,
    wall: SystemTime,
}

impl Deadline {
    /// Returns the deadline `wait` after a moment that is known on both clocks.
    pub(crate) fn after(start: Moment, wait: Duration) -> Self {
        Self {
            monotonic: start.monotonic + wait,
            wall: start.wall.checked_add(wait).unwrap_or(start.wall),
        }
    }

    /// Returns the deadline that is stored as wall-clock time.
    pub(crate) fn of_wall(wall: SystemTime, now: Moment, longest: Duration) -> Self {
        let monotonic = match wall.duration_since(now.wall) {
            Ok(ahead) => now.monotonic + ahead.min(longest),
            Err(past) => now.monotonic.checked_sub(past.duration()).unwrap_or(now.monotonic),
        };
        Self { monotonic, wall }
    }

    /// Returns how long it is until the deadline passes; zero once it has.
    pub(crate) fn left(self, now: Moment) -> Duration {
        let wall = self.wall.duration_since(now.wall).unwrap_or_default();
        self.monotonic.saturating_duration_since(now.monotonic).min(wall)
    }

    pub(crate) fn has_passed(self, now: Moment) -> bool {
        now.monotonic >= self.monotonic || now.wall >= self.wall
    }

    /// Returns the deadline as wall-clock time.
    pub(crate) fn wall(self) -> SystemTime {
        self.wall
    }
}

/// One moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) monotonic: Instant,
    pub(crate) wall: SystemTime,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { monotonic: Instant::now(), wall: wall_now() }
    }
}

/// The time at which a store grants or refuses a lease.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeaseTime {
    /// The time by which new leases are dated: all processes read the same wall clock.
    pub(crate) wall: SystemTime,
    /// The time by which leases from before a step of the wall clock are judged; else the same.
    pub(crate) steady: SystemTime,
}

/// The clock by which a store on this machine judges leases: wall-clock time, but no faster than
/// the monotonic clock.
///
/// A step of the wall clock, or a sleep of the machine, would end every lease at once. So after a
/// step forward the steady time continues from its earlier value, until every lease that was
/// granted before the step has ended. New leases are dated by the wall clock all the same: to a
/// process that starts after the step, a lease that is dated before it has ended.
#[derive(Debug)]
pub(crate) struct LeaseClock {
    lease: Duration,
    state: Mutex<LeaseClockState>,
}

#[derive(Debug)]
struct LeaseClockState {
    base: Moment,
    /// The time since which the wall clock is ahead of the base.
    stepped: Option<std::time::Instant>,
}

/// The largest difference between the clocks that is not a step: clocks are adjusted in small
/// amounts.
const TOLERANCE: Duration = Duration::from_secs(2);

impl LeaseClock {
    pub(crate) fn new(lease: Duration) -> Self {
        Self { lease, state: Mutex::new(LeaseClockState { base: Moment::now(), stepped: None }) }
    }

    pub(crate) fn now(&self) -> LeaseTime {
        let now = Moment::now();
        LeaseTime { wall: now.wall, steady: self.steady_at(now) }
    }

    fn steady_at(&self, now: Moment) -> SystemTime {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = now.monotonic.saturating_duration_since(state.base.monotonic);
        let expected = state.base.wall.checked_add(elapsed).unwrap_or(now.wall);
        if now.wall.duration_since(expected).is_ok_and(|ahead| ahead > TOLERANCE) {
            let since = *state.stepped.get_or_insert(now.monotonic.into_std());
            if now.monotonic.into_std().saturating_duration_since(since) < self.lease {
                return expected;
            }
        }
        *state = LeaseClockState { base: now, stepped: None };
        now.wall
    }
}

#[cfg(test)]
pub(crate) mod test_clock {
    use std::cell::Cell;
    use std::time::{Duration, SystemTime};

    thread_local! {
        static AHEAD: Cell<i64> = const { Cell::new(0) };
    }

    /// Sets the wall clock of this thread ahead (or back) by so many seconds.
    pub(crate) fn set_ahead(seconds: i64) {
        AHEAD.set(seconds);
    }

    pub(super) fn wall_now() -> SystemTime {
        let ahead = AHEAD.get();
        let moved = Duration::from_secs(ahead.unsigned_abs());
        if ahead < 0 { SystemTime::now() - moved } else { SystemTime::now() + moved }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(start: Moment, monotonic: u64, wall: u64) -> Moment {
        Moment {
            monotonic: start.monotonic + Duration::from_secs(monotonic),
            wall: start.wall + Duration::from_secs(wall),
        }
    }

    #[test]
    fn a_deadline_passes_with_the_first_of_the_two_clocks() {
        let start = Moment::now();
        let deadline = Deadline::after(start, 60 * SECOND);
        assert!(!deadline.has_passed(at(start, 59, 59)));
        assert!(deadline.has_passed(at(start, 60, 0)), "the wall clock was set back");
        assert!(deadline.has_passed(at(start, 0, 60)), "the machine slept");
        assert_eq!(deadline.left(at(start, 10, 50)), 10 * SECOND);
        assert_eq!(deadline.left(at(start, 70, 0)), Duration::ZERO);
    }

    #[test]
    fn a_step_of_the_wall_clock_ends_no_lease_early() {
        let clock = LeaseClock::new(90 * SECOND);
        let start = Moment::now();
        clock.steady_at(start);
        assert_eq!(clock.steady_at(at(start, 10, 10)), start.wall + 10 * SECOND);
        // Set forward by an hour: it goes on slowly for one lease, then follows.
        assert_eq!(clock.steady_at(at(start, 20, 3620)), start.wall + 20 * SECOND);
        assert_eq!(clock.steady_at(at(start, 109, 3709)), start.wall + 109 * SECOND);
        assert_eq!(clock.steady_at(at(start, 110, 3710)), start.wall + 3710 * SECOND);
        // Set back: it follows at once, and leases that are dated in the future are cut by the
        // store's rules.
        assert_eq!(clock.steady_at(at(start, 120, 20)), start.wall + 20 * SECOND);
    }
}
