//! One timer for all who wait on a thread.
//!
//! Ten thousand streams that are silent, or as many asks that wait for a token, would need ten thousand timers of the
//! runtime: each more than a hundred bytes, and each put into its wheel and taken out again. Here each is an entry of
//! 24 bytes in a [`Clock`], which sleeps until the first is due. That takes a task; it lives while anyone waits.
//!
//! A clock belongs to a runtime and to the thread that it was wanted on, so that threads do not wait for each other. It
//! wakes whoever waits when its runtime ends, and they go on with the clock of the runtime that polls them then.

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::FutureExt;
use slab::Slab;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

thread_local! {
    static HERE: RefCell<Weak<Clock>> = const { RefCell::new(Weak::new()) };
}

/// Rings for one who waits. It is set by the first poll, on the runtime that polls; without one it never rings.
#[derive(Default)]
pub(crate) struct Alarm {
    clock: Option<Arc<Clock>>,
    /// Its entry there, where there is a clock.
    entry: u32,
    stale: bool,
}

impl Alarm {
    /// Ready at the given time, or later by at most the given slack: who has some shares a ring with others.
    ///
    /// They are asked for when it is set, and count until it has rung or is [set anew](Self::set_anew).
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, until: impl Fn() -> (Instant, Duration)) -> Poll<()> {
        if let Some(clock) = &self.clock {
            let anew = std::mem::take(&mut self.stale).then(|| clock.rounded(until()));
            match clock.look(self.entry, cx.waker(), anew) {
                Sight::Waiting => return Poll::Pending,
                Sight::Rung => {
                    self.silence();
                    return Poll::Ready(());
                }
                // Its runtime is gone, and someone polls all the same: on another.
                Sight::Gone => self.silence(),
            }
        }
        self.stale = false;
        let until = until();
        if Instant::now() >= until.0 {
            return Poll::Ready(());
        }
        let clock = Clock::here();
        if let Some((clock, entry)) = clock.and_then(|clock| clock.add(cx.waker(), until).map(|entry| (clock, entry))) {
            self.clock = Some(clock);
            self.entry = entry;
        }
        Poll::Pending
    }

    /// From here on it waits for what the next poll says.
    pub(crate) fn set_anew(&mut self) {
        self.stale = true;
    }

    fn silence(&mut self) {
        if let Some(clock) = self.clock.take() {
            clock.remove(self.entry);
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.silence();
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alarm").field("is_set", &self.clock.is_some()).finish_non_exhaustive()
    }
}

/// The time is up.
#[derive(Debug)]
pub(crate) struct Elapsed;

/// Waits for a future until then.
pub(crate) fn until<F: Future + Unpin>(until: Instant, future: F) -> Until<F> {
    Until { future, until, alarm: Alarm::default() }
}

/// See [`until`].
#[derive(Debug)]
pub(crate) struct Until<F> {
    future: F,
    until: Instant,
    alarm: Alarm,
}

impl<F: Future + Unpin> Future for Until<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        match this.future.poll_unpin(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => this.alarm.poll(cx, || (this.until, Duration::ZERO)).map(|()| Err(Elapsed)),
        }
    }
}

struct Clock {
    runtime: Handle,
    began: Instant,
    state: Mutex<State>,
    /// Tells the task that there is something new: an entry before all others, or none at all.
    changed: Notify,
}

#[derive(Default)]
struct State {
    entries: Slab<Entry>,
    /// When the task wakes up by itself; `None` where there is no task.
    rings_at: Option<Millis>,
    /// The runtime is gone.
    ended: bool,
}

/// Since the clock began: half the size of an [`Instant`], and as exact as the runtime's timers.
type Millis = u64;

struct Entry {
    until: Millis,
    waker: Waker,
}

impl Entry {
    const RUNG: Millis = Millis::MAX;

    fn ring(&mut self) -> Waker {
        self.until = Self::RUNG;
        std::mem::replace(&mut self.waker, Waker::noop().clone())
    }
}

/// How an entry stands.
enum Sight {
    Waiting,
    Rung,
    /// It will never ring.
    Gone,
}

impl Clock {
    /// Room for so many is kept when nobody waits.
    const ENTRIES_KEPT: usize = 16;

    /// The present thread's, for the present runtime.
    fn here() -> Option<Arc<Self>> {
        let runtime = Handle::try_current().ok()?;
        let known = HERE.try_with(|here| here.borrow().upgrade()).ok().flatten();
        if let Some(clock) = known.filter(|clock| clock.runtime.id() == runtime.id() && !clock.state().ended) {
            return Some(clock);
        }
        let clock = Arc::new(Self { runtime, began: Instant::now(), state: Mutex::default(), changed: Notify::new() });
        let _ = HERE.try_with(|here| here.replace(Arc::downgrade(&clock)));
        Some(clock)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` where it will never ring again.
    fn add(self: &Arc<Self>, waker: &Waker, until: (Instant, Duration)) -> Option<u32> {
        let until = self.rounded(until);
        let (entry, begins, is_first) = {
            let mut state = self.state();
            if state.ended {
                return None;
            }
            if state.entries.len() == state.entries.capacity() {
                // By an eighth: doubled, half of it would lie idle.
                let more = (state.entries.len() / 8).max(Self::ENTRIES_KEPT);
                state.entries.reserve_exact(more);
            }
            let entry = u32::try_from(state.entries.vacant_key()).ok()?;
            state.entries.insert(Entry { until, waker: waker.clone() });
            let begins = state.rings_at.is_none();
            let is_first = state.rings_at.is_none_or(|first| until < first);
            if is_first {
                state.rings_at = Some(until);
            }
            (entry, begins, is_first)
        };
        // Outside the lock: a runtime that shuts down drops the task at once, which takes the lock.
        if begins {
            self.runtime.spawn(tick(Ticking { clock: Arc::clone(self), ended_well: false }));
        } else if is_first {
            self.changed.notify_one();
        }
        Some(entry)
    }

    /// Rounded up: nobody is woken too early, and who has slack wakes with others.
    fn rounded(&self, (at, slack): (Instant, Duration)) -> Millis {
        let at = whole_millis(at.saturating_duration_since(self.began) + Duration::from_nanos(999_999));
        at.next_multiple_of(whole_millis(slack).max(1))
    }

    /// How an entry stands, after it was set anew where that is wanted. Who waits may be another task by now.
    fn look(&self, entry: u32, waker: &Waker, anew: Option<Millis>) -> Sight {
        let mut state = self.state();
        let State { entries, rings_at, ended } = &mut *state;
        let Some(entry) = entries.get_mut(entry as usize).filter(|_| !*ended) else {
            return Sight::Gone;
        };
        if let Some(until) = anew {
            let Some(first) = rings_at else {
                // The task has ended: it takes a new entry to start another.
                return Sight::Gone;
            };
            entry.until = until;
            if until < *first {
                *first = until;
                self.changed.notify_one();
            }
        }
        if entry.until == Entry::RUNG {
            return Sight::Rung;
        }
        let before = (!entry.waker.will_wake(waker)).then(|| std::mem::replace(&mut entry.waker, waker.clone()));
        // Outside the lock: it may be the last that holds a task, and so an alarm of this clock.
        drop(state);
        drop(before);
        Sight::Waiting
    }

    fn remove(&self, entry: u32) {
        let mut state = self.state();
        let removed = state.entries.try_remove(entry as usize);
        let was_last = state.entries.is_empty();
        if was_last && state.entries.capacity() > Self::ENTRIES_KEPT {
            state.entries = Slab::new();
        }
        drop(state);
        drop(removed);
        if was_last {
            self.changed.notify_one();
        }
    }

    /// Wakes whoever is due. When to come back; `None` where nobody waits any more.
    fn ring_for_due(&self) -> Option<Instant> {
        let now = whole_millis(self.began.elapsed());
        let mut due = Vec::new();
        let next = {
            let mut state = self.state();
            let mut next = None;
            for (_, entry) in &mut state.entries {
                if entry.until <= now {
                    due.push(entry.ring());
                } else if entry.until != Entry::RUNG {
                    next = Some(next.map_or(entry.until, |next: Millis| next.min(entry.until)));
                }
            }
            state.rings_at = next;
            next
        };
        due.into_iter().for_each(Waker::wake);
        next.map(|next| self.began + Duration::from_millis(next))
    }

    /// The runtime is gone: all are woken, to look for another clock.
    fn end(&self) {
        let waiting: Vec<Waker> = {
            let mut state = self.state();
            state.ended = true;
            state.rings_at = None;
            state.entries.iter_mut().map(|(_, entry)| entry.ring()).collect()
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}

fn whole_millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

/// Says that the runtime dropped the task.
struct Ticking {
    clock: Arc<Clock>,
    ended_well: bool,
}

impl Drop for Ticking {
    fn drop(&mut self) {
        if !self.ended_well {
            self.clock.end();
        }
    }
}

/// Ends when nobody waits any more.
async fn tick(mut ticking: Ticking) {
    while let Some(next) = ticking.clock.ring_for_due() {
        tokio::select! {
            () = sleep_until(next) => {}
            () = ticking.clock.changed.notified() => {}
        }
    }
    ticking.ended_well = true;
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};

    use futures::future::join_all;
    use futures::task::noop_waker_ref;
    use tokio::runtime::Builder;
    use tokio::task::yield_now;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn alive_tasks() -> usize {
        Handle::current().metrics().num_alive_tasks()
    }

    fn is_ready(alarm: &mut Alarm, until: Instant) -> bool {
        alarm.poll(&mut Context::from_waker(noop_waker_ref()), || (until, Duration::ZERO)).is_ready()
    }

    #[tokio::test(start_paused = true)]
    async fn each_of_many_rings_when_it_is_due_and_within_its_slack() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let began = Instant::now();
        let waits = (0..2_000).map(|_| {
            let until = began + Duration::from_micros(random.u64(0..100_000_000));
            let slack = Duration::from_millis(random.u64(0..2_000));
            let mut alarm = Alarm::default();
            async move {
                poll_fn(|cx| alarm.poll(cx, || (until, slack))).await;
                let late = Instant::now().checked_duration_since(until).expect("not before its time");
                // Timers are as fine as a millisecond.
                assert!(late <= slack.max(Duration::from_millis(2)), "seed {seed}: {late:?} late, with {slack:?}");
            }
        });
        join_all(waits).await;
    }

    #[tokio::test(start_paused = true)]
    async fn all_share_one_task_that_lives_while_anyone_waits() {
        let far = Instant::now() + 60 * SECOND;
        let mut alarms: Vec<Alarm> = (0..100).map(|_| Alarm::default()).collect();
        assert!(!alarms.iter_mut().any(|alarm| is_ready(alarm, far)));
        assert_eq!(alive_tasks(), 1);
        alarms.truncate(1);
        yield_now().await;
        assert_eq!(alive_tasks(), 1, "one still waits");
        drop(alarms);
        yield_now().await;
        assert_eq!(alive_tasks(), 0);
        assert!(until(Instant::now() + SECOND, pending::<()>().boxed()).await.is_err());
        yield_now().await;
        assert_eq!(alive_tasks(), 0, "none after it has rung");
    }

    #[tokio::test(start_paused = true)]
    async fn set_anew_it_rings_then_and_not_before() {
        let began = Instant::now();
        let mut alarm = Alarm::default();
        assert!(!is_ready(&mut alarm, began + SECOND));
        assert!(!is_ready(&mut alarm, began), "what it was set to counts");
        for (wanted, after) in [(10 * SECOND, 2 * SECOND), (5 * SECOND, 2 * SECOND)] {
            alarm.set_anew();
            assert!(!is_ready(&mut alarm, began + wanted));
            tokio::time::sleep(after).await;
            assert!(!is_ready(&mut alarm, began));
        }
        tokio::time::sleep(2 * SECOND).await;
        assert!(is_ready(&mut alarm, began + 100 * SECOND), "it has rung");
        assert!(!is_ready(&mut alarm, began + 100 * SECOND), "and is set again by the next poll");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_rung_is_set_anew_too() {
        let began = Instant::now();
        let mut alarm = Alarm::default();
        assert!(!is_ready(&mut alarm, began + SECOND));
        tokio::time::sleep(2 * SECOND).await;
        alarm.set_anew();
        assert!(!is_ready(&mut alarm, began + 4 * SECOND));
        tokio::time::sleep(SECOND).await;
        assert!(!is_ready(&mut alarm, began));
        tokio::time::sleep(2 * SECOND).await;
        assert!(is_ready(&mut alarm, began));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_polled_last_is_woken() {
        let until = Instant::now() + SECOND;
        let mut alarm = Alarm::default();
        assert!(!is_ready(&mut alarm, until));
        let elsewhere = tokio::spawn(async move { poll_fn(|cx| alarm.poll(cx, || (until, Duration::ZERO))).await });
        elsewhere.await.expect("it is woken");
        assert!(Instant::now() >= until);
    }

    #[test]
    fn when_the_runtime_ends_who_waits_goes_on_with_another() {
        let runtime = || Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
        let (first, second) = (runtime(), runtime());
        let mut alarm = Alarm::default();
        let far = first.block_on(async { Instant::now() + 3600 * SECOND });
        first.block_on(async { assert!(!is_ready(&mut alarm, far)) });
        let woken = second.spawn(poll_fn(move |cx| alarm.poll(cx, || (far, Duration::ZERO))));
        second.block_on(yield_now());
        drop(first);
        second.block_on(woken).expect("it rings on the second");
        second.block_on(async { assert!(Instant::now() >= far) });
    }

    #[test]
    fn without_a_runtime_it_never_rings_and_does_not_panic() {
        let far = {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async { Instant::now() + SECOND })
        };
        assert!(!is_ready(&mut Alarm::default(), far));
    }
}
