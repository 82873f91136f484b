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
        let mut record = self.record();
        record.said.push(Arc::new(said));
        self.progress.send_replace(record.said.len());
    }

    /// Says the last thing, and keeps the task as it is now for those who wait for it.
    pub(super) fn end(&self, last: StatusUpdate, outcome: Task) {
        self.record().outcome = Some(outcome);
        self.say(Said::Status(last));
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
            let said = self.run.record().said.get(self.heard).cloned();
            if let Some(said) = said {
                self.heard += 1;
                self.over = said.ends_the_run();
                return Some(said);
            }
            if self.run.is_over() {
                self.over = true;
            } else if self.progress.changed().await.is_err() {
                self.over = true;
            }
        }
        None
    }
}
