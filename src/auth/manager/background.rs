//! The background task: refreshes the token before it expires.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use super::single_flight::{RefreshHandle, STALL_TIMEOUT};
use super::{MAX_BACKGROUND_DELAY, ManagerInner};
use crate::policy::BackgroundRefresh;

/// The interval at which the wall clock is read: timers do not run while the machine sleeps.
const LONGEST_SLEEP: Duration = Duration::from_secs(5 * 60);

/// Identifies the present background task.
#[derive(Default)]
pub(super) struct BackgroundTask {
    number: u64,
    started: Option<Instant>,
    is_closed: bool,
}

impl BackgroundTask {
    /// Ends the present task; no other one is started.
    pub(super) fn close(&mut self) {
        self.number += 1;
        self.is_closed = true;
    }
}

enum Step {
    End,
    /// Wait for a change of the state.
    Wait,
    SleepUntil(Instant),
    Follow(RefreshHandle),
}

/// Marks the background task as ended, also when its runtime drops it.
struct BackgroundGuard {
    manager: Weak<ManagerInner>,
    number: u64,
}

impl Drop for BackgroundGuard {
    fn drop(&mut self) {
        if let Some(manager) = self.manager.upgrade()
            && manager.read().background.number == self.number
        {
            manager.has_background.store(false, Ordering::Relaxed);
        }
    }
}

impl ManagerInner {
    /// Starts the background task where there is none, or where it is late because its runtime
    /// is stalled.
    #[cold]
    pub(super) fn ensure_background(self: &Arc<Self>, is_late: bool) {
        let is_soon = is_late && {
            let (state, now) = (self.read(), Instant::now());
            let times = [state.schedule.retry_at, state.background.started];
            state.refresh.running().is_some()
                || times.iter().flatten().any(|at| now < *at + MAX_BACKGROUND_DELAY)
        };
        if !is_soon && self.options.background == BackgroundRefresh::Enabled {
            self.start_background();
        }
    }

    fn start_background(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let number = {
            let mut state = self.write();
            if state.background.is_closed {
                return;
            }
            state.background.number += 1;
            state.background.started = Some(Instant::now());
            self.has_background.store(true, Ordering::Relaxed);
            state.background.number
        };
        let guard = BackgroundGuard { manager: Arc::downgrade(self), number };
        // A stalled predecessor ends as soon as it runs again.
        self.wake.notify_one();
        runtime.spawn(keep_fresh(guard, Arc::clone(&self.wake)));
    }

    fn next_step(self: &Arc<Self>, number: u64) -> Step {
        let (due, retry_at) = {
            let state = self.read();
            if state.background.number != number {
                return Step::End;
            }
            if let Some(refresh) = state.refresh.running() {
                return Step::Follow(refresh.handle());
            }
            // Without a token, one is obtained on demand.
            let access = state.token.access.as_ref().filter(|_| state.token.loaded);
            (access.and_then(|access| access.refresh_at()), state.schedule.retry_at)
        };
        self.ensure_committing();
        let Some(due) = due else {
            return Step::Wait;
        };
        let due = retry_at.map_or(due, |retry| due.max(retry));
        if due > Instant::now() {
            return Step::SleepUntil(due);
        }
        match self.join_refresh() {
            Ok(joined) => Step::Follow(joined.handle),
            Err(_) => Step::SleepUntil(Instant::now() + Duration::from_secs(1)),
        }
    }
}

async fn keep_fresh(guard: BackgroundGuard, wake: Arc<Notify>) {
    loop {
        let Some(step) = guard.manager.upgrade().map(|manager| manager.next_step(guard.number))
        else {
            return;
        };
        match step {
            Step::End => {
                // The signal may have been meant for the successor.
                wake.notify_one();
                return;
            }
            Step::Wait => wake.notified().await,
            Step::SleepUntil(at) => {
                let at = at.min(Instant::now() + LONGEST_SLEEP);
                tokio::select! {
                    () = sleep_until(at) => {}
                    () = wake.notified() => {}
                }
            }
            Step::Follow(handle) => {
                // The result does not matter: the next step reads the state.
                let _ = timeout(STALL_TIMEOUT, handle).await;
            }
        }
    }
}
