//! The background task: renews the token before it expires.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use super::Inner;
use super::single_flight::{RefreshHandle, STALL};

/// Clocks can be wrong for longer than a timer is: look up now and then.
const LONGEST_SLEEP: Duration = Duration::from_secs(60 * 60);

enum Step {
    End,
    /// Nothing to do until something changes.
    Rest,
    Sleep(Instant),
    Watch(RefreshHandle),
}

/// Says that the task is gone, also where its runtime dropped it.
struct Guard {
    manager: Weak<Inner>,
    number: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(inner) = self.manager.upgrade()
            && inner.state().background == self.number
        {
            inner.tended.store(false, Ordering::Relaxed);
        }
    }
}

impl Inner {
    /// Starts the background task on this runtime, in place of one that is gone or late.
    pub(super) fn start_background(self: &Arc<Self>) {
        let Ok(handle) = Handle::try_current() else {
            return;
        };
        let number = {
            let mut state = self.state();
            state.background += 1;
            state.tended_since = Some(Instant::now());
            self.tended.store(true, Ordering::Relaxed);
            state.background
        };
        let guard = Guard { manager: Arc::downgrade(self), number };
        // One that stands still ends as soon as it moves again.
        self.wake.notify_one();
        handle.spawn(keep_fresh(guard, Arc::clone(&self.wake)));
    }

    fn next_step(self: &Arc<Self>, number: u64) -> Step {
        let retry_at = {
            let state = self.state();
            if state.background != number {
                return Step::End;
            }
            if let Some(handle) = state.flying() {
                return Step::Watch(handle);
            }
            state.retry_at
        };
        self.ensure_saving();
        let Some(due) = self.due() else {
            return Step::Rest;
        };
        let due = retry_at.map_or(due, |retry| due.max(retry));
        if due > Instant::now() {
            return Step::Sleep(due);
        }
        match self.join_flight() {
            Ok(handle) => Step::Watch(handle),
            Err(_) => Step::Sleep(Instant::now() + Duration::from_secs(1)),
        }
    }

    /// When the token should be renewed; `None` where no one can, or none is needed before someone asks.
    fn due(&self) -> Option<Instant> {
        let token = self.token();
        token.access.as_ref().filter(|_| token.loaded)?.refresh_at()
    }
}

async fn keep_fresh(guard: Guard, wake: Arc<Notify>) {
    loop {
        let Some(step) = guard.manager.upgrade().map(|inner| inner.next_step(guard.number)) else {
            return;
        };
        match step {
            Step::End => {
                // The signal may have been meant for the successor.
                wake.notify_one();
                return;
            }
            Step::Rest => wake.notified().await,
            Step::Sleep(at) => {
                let at = at.min(Instant::now() + LONGEST_SLEEP);
                tokio::select! {
                    () = sleep_until(at) => {}
                    () = wake.notified() => {}
                }
            }
            Step::Watch(handle) => {
                // However it ends, the next step looks at what there is.
                let _ = timeout(STALL, handle).await;
            }
        }
    }
}
