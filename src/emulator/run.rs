//! One run of the agent: a log of events that any number of listeners read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::wire::task::Task;
use crate::wire::update::{ArtifactUpdate, StatusUpdate};

/// An event of a run.
#[derive(Clone, Debug)]
pub(super) enum RunEvent {
    Status(StatusUpdate),
    Artifact(ArtifactUpdate),
}

impl RunEvent {
    fn ends_the_run(&self) -> bool {
        matches!(self, Self::Status(update) if update.is_final)
    }
}

/// The agent's work on one message.
///
/// Listeners read the log independently, so that a slow one does not delay the others.
pub(super) struct AgentRun {
    log: Mutex<RunLog>,
    /// The number of events in the log. Written only while the log is locked.
    progress: watch::Sender<usize>,
}

#[derive(Default)]
struct RunLog {
    events: Vec<Arc<RunEvent>>,
    outcome: Option<Task>,
}

impl AgentRun {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { log: Mutex::default(), progress: watch::Sender::new(0) })
    }

    fn log(&self) -> MutexGuard<'_, RunLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an event.
    pub(super) fn publish(&self, event: RunEvent) {
        self.append(event, None);
    }

    /// Appends the last event, and keeps the task as it is now for the requests that wait for it.
    pub(super) fn finish(&self, last: StatusUpdate, outcome: Task) {
        self.append(RunEvent::Status(last), Some(outcome));
    }

    fn append(&self, event: RunEvent, outcome: Option<Task>) {
        let mut log = self.log();
        log.events.push(Arc::new(event));
        log.outcome = outcome;
        self.progress.send_replace(log.events.len());
    }

    /// Returns the task as the run left it; `None` while the run is in progress.
    pub(super) fn outcome(&self) -> Option<Task> {
        self.log().outcome.clone()
    }

    fn is_finished(&self) -> bool {
        self.log().outcome.is_some()
    }

    /// Waits until the run has finished.
    pub(super) async fn finished(&self) {
        let mut progress = self.progress.subscribe();
        while !self.is_finished() {
            if progress.changed().await.is_err() {
                return;
            }
        }
    }

    /// Returns a listener that begins at the start of the log, or at its present end.
    pub(super) fn listen(self: &Arc<Self>, from: ListenFrom) -> RunListener {
        let progress = self.progress.subscribe();
        let position = match from {
            ListenFrom::Start => 0,
            ListenFrom::Now => *progress.borrow(),
        };
        RunListener { run: Arc::clone(self), progress, position, is_over: false }
    }
}

/// The position in the log at which a listener begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ListenFrom {
    Start,
    Now,
}

/// Reads the events of a run.
pub(super) struct RunListener {
    run: Arc<AgentRun>,
    progress: watch::Receiver<usize>,
    position: usize,
    is_over: bool,
}

impl RunListener {
    /// Waits for the next event; `None` after the last one.
    pub(super) async fn next(&mut self) -> Option<Arc<RunEvent>> {
        while !self.is_over {
            self.progress.borrow_and_update();
            // One lock for both: the last event and the outcome are written together.
            let (event, is_finished) = {
                let log = self.run.log();
                (log.events.get(self.position).cloned(), log.outcome.is_some())
            };
            if let Some(event) = event {
                self.position += 1;
                self.is_over = event.ends_the_run();
                return Some(event);
            }
            self.is_over = is_finished || self.progress.changed().await.is_err();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TaskId;
    use crate::wire::Metadata;
    use crate::wire::state::TaskState;
    use crate::wire::task::TaskStatus;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn listeners_receive_the_last_event() {
        let id = TaskId::new();
        for _ in 0..2_000 {
            let run = AgentRun::new();
            let mut listener = run.listen(ListenFrom::Start);
            let listening = tokio::spawn(async move {
                let mut received = 0;
                while listener.next().await.is_some() {
                    received += 1;
                }
                received
            });
            for is_final in [false, true] {
                let status = TaskStatus::default();
                let update = StatusUpdate {
                    task_id: id.clone(),
                    status,
                    is_final,
                    metadata: Metadata::new(),
                };
                match is_final {
                    false => run.publish(RunEvent::Status(update)),
                    true => run.finish(update, Task::new(&id, TaskState::Unknown)),
                }
            }
            run.finished().await;
            assert_eq!(listening.await.unwrap(), 2);
        }
    }
}
