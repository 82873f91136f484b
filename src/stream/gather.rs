//! What a stream has gathered: the task as its events built it up, within a limit of size.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::ids::TaskId;
use crate::wire::task::{Artifact, Task};
use crate::wire::update::Update;

pub(super) struct Gathered {
    task: Task,
    /// Where the artifact of an index stands: artifacts keep the order in which they first came.
    places: BTreeMap<i64, Place>,
    bytes: usize,
    limit: usize,
}

struct Place {
    at: usize,
    /// The size of the events that built it up, in bytes: what it can cost at most.
    bytes: usize,
}

impl Gathered {
    pub(super) fn new(id: TaskId, limit: usize) -> Self {
        Self { task: Task::new(id), places: BTreeMap::new(), bytes: 0, limit }
    }

    pub(super) fn task(&self) -> &Task {
        &self.task
    }

    pub(super) fn into_task(self) -> Task {
        self.task
    }

    /// Takes an event in, which was `bytes` long.
    pub(super) fn take_in(&mut self, update: &Update, bytes: usize) -> Result<()> {
        match update {
            Update::Status(update) => {
                self.task.status = update.status.clone();
                if !update.metadata.is_empty() {
                    self.task.metadata.clone_from(&update.metadata);
                }
            }
            Update::Artifact(update) => self.take_in_artifact(&update.artifact, bytes),
            Update::Task(task) => {
                self.replace(task.clone());
                self.bytes = bytes;
            }
        }
        if self.bytes <= self.limit {
            return Ok(());
        }
        let message = format!("the answer is larger than the limit of {} bytes", self.limit);
        Err(Error::new(ErrorKind::TooLarge, Outcome::Unknown, message))
    }

    fn take_in_artifact(&mut self, update: &Artifact, bytes: usize) {
        let known = self.places.get_mut(&update.index);
        let artifact = known.as_ref().and_then(|place| self.task.artifacts.get_mut(place.at));
        if let (Some(place), Some(artifact)) = (known, artifact) {
            artifact.merge(update);
            if !update.append {
                self.bytes -= place.bytes;
                place.bytes = 0;
            }
            place.bytes += bytes;
            self.bytes += bytes;
            return;
        }
        self.places.insert(update.index, Place { at: self.task.artifacts.len(), bytes });
        self.bytes += bytes;
        self.task.artifacts.push(Artifact { append: false, ..update.clone() });
    }

    /// The whole task as of now: what was gathered before is in it.
    pub(super) fn replace(&mut self, task: Task) {
        self.task = task;
        self.places.clear();
        self.bytes = 0;
        for (at, artifact) in self.task.artifacts.iter().enumerate() {
            self.places.entry(artifact.index).or_insert(Place { at, bytes: 0 });
        }
    }
}
