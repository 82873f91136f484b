//! Progress notifications while the agent works.

use std::time::Duration;

use payman_sdk::{Event, TaskState};
use rmcp::RoleServer;
use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::service::{Peer, RequestContext};
use tokio::time::{Instant, timeout};

use super::visible;

/// The minimum time between two notifications about text that arrives.
const MIN_INTERVAL: Duration = Duration::from_millis(250);
/// The time limit of sending a notification to a host.
const NOTIFICATION_LIMIT: Duration = Duration::from_secs(2);
const MAX_MESSAGE: usize = 200;

/// Reports the progress of an ask, if the host requested that by a progress token.
pub(super) struct ProgressReporter {
    target: Option<(Peer<RoleServer>, ProgressToken)>,
    started: Instant,
    sent: f64,
    last_text: Option<Instant>,
    received_chars: usize,
}

impl ProgressReporter {
    /// The interval of reports on a silent task, so that a host's time limit restarts.
    pub(super) const HEARTBEAT: Duration = Duration::from_secs(5);

    pub(super) fn of(context: &RequestContext<RoleServer>) -> Self {
        let token = context.meta.get_progress_token();
        Self {
            target: token.map(|token| (context.peer.clone(), token)),
            started: Instant::now(),
            sent: 0.0,
            last_text: None,
            received_chars: 0,
        }
    }

    pub(super) async fn event(&mut self, event: &Event) {
        match event {
            Event::Status(update) => {
                let said = update.status.message.as_ref().map(|message| message.text());
                self.state(update.state(), said.as_deref()).await;
            }
            Event::Task(task) => {
                let said = task.status.message.as_ref().map(|message| message.text());
                self.state(task.state(), said.as_deref()).await;
            }
            Event::Artifact(update) => {
                self.received_chars =
                    self.received_chars.saturating_add(update.text().chars().count());
                if self.last_text.is_none_or(|last| last.elapsed() >= MIN_INTERVAL) {
                    self.last_text = Some(Instant::now());
                    self.send(format!("receiving the answer: {} characters", self.received_chars))
                        .await;
                }
            }
            _ => {}
        }
    }

    pub(super) async fn state(&mut self, state: &TaskState, said: Option<&str>) {
        let state = visible::one_line(state.as_str(), MAX_MESSAGE);
        let message = match said.map(|said| visible::one_line(said, MAX_MESSAGE)) {
            Some(said) if !said.is_empty() => format!("{state}; the agent says: {said}"),
            _ => state,
        };
        self.send(message).await;
    }

    pub(super) async fn heartbeat(&mut self) {
        self.send(format!("waiting for the agent: {} s", self.started.elapsed().as_secs())).await;
    }

    /// Sends a notification. A failure is ignored, because the result is delivered separately.
    async fn send(&mut self, message: String) {
        let Some((peer, token)) = &self.target else { return };
        self.sent += 1.0;
        let notification =
            ProgressNotificationParam::new(token.clone(), self.sent).with_message(message);
        let _ = timeout(NOTIFICATION_LIMIT, peer.notify_progress(notification)).await;
    }
}
