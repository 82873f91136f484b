//! One run of the agent: what it says, in order, for whoever listens.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::wire::task::Task;
use crate::wire::update::{ArtifactUpdate, StatusUpdate};

/// What a run says.
#[derive(Clone, Debug)]
pub(super) enum Said {
    Status(StatusUpdate),
    Artifact(ArtifactUpdate),
}

impl Said {
    fn ends_the_run(&self) -> bool {
        matches!(self, Self::Status(update) if update.is_final)
    }
}

/// Every listener reads the same record at a pace of its own, so that a slow one holds up nobody.
pub(super) struct Run {
    record: Mutex<Record>,
    /// How much has been said. Written only while the record is locked.
    progress: watch::Sender<usize>,
}

#[derive(Default)]
struct Record {
    said: Vec<Arc<Said>>,
    outcome: Option<Task>,
}

impl Run {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { record: Mutex::default(), progress: watch::Sender::new(0) })
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn say(&self, said: Said) {
        self.put(said, None);
    }

    /// Says the last thing, and keeps the task as it is now for those who wait for it.
    pub(super) fn end(&self, last: StatusUpdate, outcome: Task) {
        self.put(Said::Status(last), Some(outcome));
    }

    fn put(&self, said: Said, outcome: Option<Task>) {
        let mut record = self.record();
        record.said.push(Arc::new(said));
        record.outcome = outcome;
        self.progress.send_replace(record.said.len());
    }

    /// The task as the run left it; `None` while it goes on.
    pub(super) fn outcome(&self) -> Option<Task> {
        self.record().outcome.clone()
    }

    pub(super) fn is_over(&self) -> bool {
        self.record().outcome.is_some()
    }

    /// Waits for the end.
    pub(super) async fn over(&self) {
        let mut progress = self.progress.subscribe();
        while !self.is_over() {
            if progress.changed().await.is_err() {
                return;
            }
        }
    }

    /// Listens from the start, or from now on.
    pub(super) fn listen(self: &Arc<Self>, from: From) -> Listener {
        let progress = self.progress.subscribe();
        let heard = match from {
            From::Start => 0,
            From::Now => *progress.borrow(),
        };
        Listener { run: Arc::clone(self), progress, heard, over: false }
    }
}

/// Where a listener begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum From {
    Start,
    Now,
}

pub(super) struct Listener {
    run: Arc<Run>,
    progress: watch::Receiver<usize>,
    heard: usize,
    over: bool,
}

impl Listener {
    /// The next thing said; `None` after the last one.
    pub(super) async fn next(&mut self) -> Option<Arc<Said>> {
        while !self.over {
            self.progress.borrow_and_update();
            // Looked up under one lock: what is said last and that it is the last come together.
            let (said, is_over) = {
                let record = self.run.record();
                (record.said.get(self.heard).cloned(), record.outcome.is_some())
            };
            if let Some(said) = said {
                self.heard += 1;
                self.over = said.ends_the_run();
                return Some(said);
            }
            self.over = is_over || self.progress.changed().await.is_err();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TaskId;
    use crate::wire::Metadata;
    use crate::wire::task::TaskStatus;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nobody_misses_the_last_word() {
        let id = TaskId::new();
        for _ in 0..2_000 {
            let run = Run::new();
            let mut listener = run.listen(From::Start);
            let listening = tokio::spawn(async move {
                let mut heard = 0;
                while listener.next().await.is_some() {
                    heard += 1;
                }
                heard
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
                    false => run.say(Said::Status(update)),
                    true => run.end(update, Task::new(id.clone())),
                }
            }
            run.over().await;
            assert_eq!(listening.await.unwrap(), 2);
        }
    }
}
