//! Hints of a resubscribed stream that a running task has changed.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Follower;
use crate::time::instant_after;

/// The shortest time between two lookups that hints trigger.
const HINT_FLOOR: Duration = Duration::from_secs(1);
/// The time between a hint and the lookup: events come in bursts.
const HINT_DELAY: Duration = Duration::from_millis(250);
/// The most hints that one lookup answers.
const MOST_HINTS: usize = 1000;

/// The state of the resubscribed stream whose events bring lookups forward.
pub(super) enum Hint {
    /// Not used: the caller wants no snapshots, or the server offers no such stream.
    Off,
    Unopened,
    Open {
        events: BoxStream<'static, ()>,
        activity: HintActivity,
    },
}

/// Tells a resubscribed stream that works from one that may never send an event.
#[derive(Clone, Copy)]
pub(super) enum HintActivity {
    Silent,
    Active,
}

impl Follower {
    /// Waits until `at`, or until shortly after an event of the resubscribed stream; never past
    /// `latest`.
    pub(super) async fn wait_for_hint(&mut self, at: Instant, latest: Instant) {
        if matches!(self.hint, Hint::Unopened) {
            self.hint = Hint::Open { events: self.resubscribe(), activity: HintActivity::Silent };
        }
        let earliest = self.last_lookup.map_or(at, |last| last + HINT_FLOOR).min(latest);
        let Hint::Open { events, activity } = &mut self.hint else {
            return sleep_until(at).await;
        };
        // Events of an active stream trigger the lookups, and the clock is only a fallback.
        let fallback = match activity {
            HintActivity::Active => at.max(earliest),
            HintActivity::Silent => at,
        };
        match timeout_at(fallback, events.next()).await {
            Ok(Some(())) => {
                *activity = HintActivity::Active;
                let soon = instant_after(HINT_DELAY).max(earliest).min(latest);
                sleep_until(soon).await;
                // The lookup covers the events that arrived in the meantime.
                for _ in 0..MOST_HINTS {
                    if events.next().now_or_never().flatten().is_none() {
                        break;
                    }
                }
            }
            Ok(None) => {
                self.hint = Hint::Off;
                sleep_until(at).await;
            }
            Err(_) => {}
        }
    }

    /// Opens a stream of the task's further events.
    ///
    /// Events between the broken stream and this one may be missing, so their content is not used:
    /// each chunk is only a hint that the task has changed.
    fn resubscribe(&self) -> BoxStream<'static, ()> {
        let (platform, ask) = (Arc::clone(&self.platform), self.ask.clone());
        let until = instant_after(ask.limits().reply_timeout).min(self.deadline);
        let opened = async move {
            let response = platform.resubscribe(&ask, until).await.ok()?;
            let chunks = response.bytes_stream();
            Some(chunks.take_while(|chunk| std::future::ready(chunk.is_ok())).map(drop))
        };
        stream::once(opened).filter_map(std::future::ready).flatten().boxed()
    }
}
