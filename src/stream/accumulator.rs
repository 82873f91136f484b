//! What a stream has accumulated: the task as its events built it up.

use std::collections::BTreeMap;

use crate::event::Event;
use crate::ids::{SessionId, TaskId};
use crate::wire::Metadata;
use crate::wire::task::{Artifact, Message, Task, TaskStatus, text_of};

/// Most open streams wait with no more than a status.
#[derive(Default)]
pub(super) struct TaskAccumulator {
    status: TaskStatus,
    rest: Option<Box<Rest>>,
}

/// All but the status.
#[derive(Default)]
struct Rest {
    session_id: Option<SessionId>,
    artifacts: Vec<Artifact>,
    history: Vec<Message>,
    metadata: Metadata,
    /// Where the artifact of an index stands: artifacts keep the order in which they first came.
    places: BTreeMap<i64, Place>,
    bytes: usize,
}

struct Place {
    at: usize,
    /// The size of the events that built it up, in bytes: what it can cost at most.
    bytes: usize,
}

impl TaskAccumulator {
    pub(super) fn status(&self) -> &TaskStatus {
        &self.status
    }

    pub(super) fn artifacts(&self) -> &[Artifact] {
        self.rest.as_ref().map_or(&[], |rest| &rest.artifacts)
    }

    pub(super) fn text(&self) -> String {
        text_of(self.artifacts(), &self.status)
    }

    pub(super) fn to_task(&self, id: TaskId) -> Task {
        let task = Task { status: self.status.clone(), ..Task::new(id) };
        let Some(rest) = &self.rest else {
            return task;
        };
        Task {
            session_id: rest.session_id.clone(),
            artifacts: rest.artifacts.clone(),
            history: rest.history.clone(),
            metadata: rest.metadata.clone(),
            ..task
        }
    }

    pub(super) fn into_task(self, id: TaskId) -> Task {
        let rest = self.rest.map(|rest| *rest).unwrap_or_default();
        Task {
            id,
            session_id: rest.session_id,
            status: self.status,
            artifacts: rest.artifacts,
            history: rest.history,
            metadata: rest.metadata,
        }
    }

    /// Takes an event in, which was `bytes` long. Gives the size of what is held, as far as it can grow.
    #[inline]
    pub(super) fn apply(&mut self, event: &Event, bytes: usize) -> usize {
        match event {
            Event::Status(update) => {
                self.status = update.status.clone();
                if !update.metadata.is_empty() {
                    self.rest().metadata.clone_from(&update.metadata);
                }
            }
            Event::Artifact(update) => self.rest().apply_artifact(&update.artifact, bytes),
            Event::Task(task) => self.apply_task(task, bytes),
            Event::Unknown(_) => {}
        }
        self.rest.as_ref().map_or(0, |rest| rest.bytes)
    }

    #[inline(never)] // a stream begins with a status: what is for later stays out of its way
    fn apply_task(&mut self, task: &Task, bytes: usize) {
        self.replace(task.clone());
        self.rest().bytes = bytes;
    }

    fn rest(&mut self) -> &mut Rest {
        self.rest.get_or_insert_default()
    }

    /// The whole task as of now: what was accumulated before is in it.
    pub(super) fn replace(&mut self, task: Task) {
        let mut places = BTreeMap::new();
        for (at, artifact) in task.artifacts.iter().enumerate() {
            places.entry(artifact.index).or_insert(Place { at, bytes: 0 });
        }
        self.status = task.status;
        *self.rest() = Rest {
            session_id: task.session_id,
            artifacts: task.artifacts,
            history: task.history,
            metadata: task.metadata,
            places,
            bytes: 0,
        };
    }
}

impl Rest {
    #[inline(never)] // see `apply_task`
    fn apply_artifact(&mut self, update: &Artifact, bytes: usize) {
        let known = self.places.get_mut(&update.index);
        let artifact = known.as_ref().and_then(|place| self.artifacts.get_mut(place.at));
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
        self.places.insert(update.index, Place { at: self.artifacts.len(), bytes });
        self.bytes += bytes;
        self.artifacts.push(Artifact { append: false, ..update.clone() });
    }
}
