//! The spinner: the task's state and the time since it was asked.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use payman_sdk::escape::escape_line;
use payman_sdk::{Client, TaskId, TaskState};
use tokio::time::sleep;

use crate::output;

/// A spinner on stderr, shown if stdout and stderr are terminals, and removed when it is dropped.
pub(crate) struct Spinner(Option<ProgressBar>);

impl Spinner {
    pub(crate) fn start() -> Self {
        if !output::is_interactive() || output::is_dumb_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::new_spinner().with_message("waiting");
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(Some(bar))
    }

    pub(crate) fn is_shown(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn show(&self, state: &TaskState) {
        if let Some(bar) = &self.0 {
            bar.set_message(escape_line(state.as_str()).into_owned());
        }
    }

    pub(crate) fn end(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }

    /// Polls and shows the task's state while a whole reply is awaited. Never returns.
    pub(crate) async fn follow(&self, client: &Client, id: &TaskId) {
        const POLL_INTERVAL: Duration = Duration::from_secs(2);
        while self.is_shown() {
            sleep(POLL_INTERVAL).await;
            match client.get_task(id).await {
                Ok(task) => self.show(task.state()),
                Err(error) if error.is_unsupported() => break,
                Err(_) => {}
            }
        }
        std::future::pending().await
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.end();
    }
}
