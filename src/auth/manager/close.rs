//! Waiting for work in progress before the process ends.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout_at};

use super::TokenManager;

/// The time limit of closing: longer than one token request may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(35);
/// The interval between attempts on a store that fails.
const COMMIT_INTERVAL: Duration = Duration::from_millis(250);

impl TokenManager {
    /// Ends the background task, and waits for a refresh in progress and for tokens that are not
    /// stored yet.
    pub(crate) async fn close(&self) {
        if Handle::try_current().is_err() {
            return;
        }
        let manager = &self.0;
        manager.write().background.close();
        manager.wake.notify_one();
        let until = Instant::now() + CLOSE_LIMIT;
        while Instant::now() < until {
            let (running, pending) = {
                let state = manager.read();
                let running = state.refresh.running().map(|refresh| refresh.handle());
                (running, state.pending.clone())
            };
            match (running, pending) {
                // The result does not matter: the state is read again.
                (Some(handle), _) => drop(timeout_at(until, handle).await),
                (None, Some(pending)) => {
                    let committing = async {
                        manager.commit(pending).await;
                        if manager.read().pending.is_some() {
                            sleep(COMMIT_INTERVAL).await;
                        }
                    };
                    drop(timeout_at(until, committing).await);
                }
                (None, None) => return,
            }
        }
    }
}
