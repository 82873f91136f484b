//! The spinner: where the task stands, and for how long it has been asked.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use payman_sdk::{Client, Event, TaskId};
use tokio::time::sleep;

use crate::output;

/// Shown on stderr while both stdout and stderr are terminals; gone when it is dropped.
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    pub(crate) fn start() -> Self {
        if !output::is_interactive() {
            return Self(None);
        }
        let bar = ProgressBar::new_spinner().with_message("waiting");
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(Some(bar))
    }

    pub(crate) fn say(&self, state: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(output::one_line(state));
        }
    }

    pub(crate) fn note(&self, event: &Event) {
        if let Some(state) = event.state() {
            self.say(state.as_str());
        }
    }

    pub(crate) fn end(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }

    /// Shows where the task stands, as the platform tells it while a whole reply is awaited. Never ends.
    pub(crate) async fn follow(&self, client: &Client, id: &TaskId) {
        const BETWEEN_LOOKS: Duration = Duration::from_secs(2);
        while self.0.is_some() {
            sleep(BETWEEN_LOOKS).await;
            match client.get_task(id).await {
                Ok(task) => self.say(task.state().as_str()),
                Err(error) if error.is_unsupported() => break,
                Err(_) => {}
            }
        }
        std::future::pending().await
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}
