//! Assembles the task from a stream's events.

use std::collections::BTreeMap;

use crate::delivery::{ArtifactsField, TaskSnapshot};
use crate::event::Event;
use crate::ids::{SessionId, TaskId};
use crate::wire::Metadata;
use crate::wire::state::TaskState;
use crate::wire::task::{Artifact, Message, Task, TaskStatus, text_of};

/// The task assembled from the events so far.
///
/// The rest is boxed, since most open streams have received only a status.
pub(super) struct TaskAccumulator {
    status: TaskStatus,
    rest: Option<Box<TaskContent>>,
    keeps: Keeps,
}

/// The part of the events that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keeps {
    /// The whole task.
    Task,
    /// The status only, for raw streams, whose readers keep the events themselves.
    Status,
}

/// The task without its status.
#[derive(Default)]
struct TaskContent {
    session_id: Option<SessionId>,
    artifacts: Vec<Artifact>,
    history: Vec<Message>,
    metadata: Metadata,
    /// The positions of the artifacts by index. Artifacts keep the order of their first events.
    positions: BTreeMap<i64, Position>,
    /// The index that is assigned to an artifact's id, for the dialect that has ids instead of
    /// indexes.
    indexes: BTreeMap<String, i64>,
    streamed: Streamed,
    bytes: usize,
}

/// The artifacts received from the stream, even if they are not kept.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Streamed {
    #[default]
    Nothing,
    /// Some artifacts were received, and more may be missing.
    Partly,
    /// Some artifacts were received, and then the server ended the stream itself.
    Wholly,
}

struct Position {
    at: usize,
    /// The size of the artifact's events in bytes, an upper bound of its own size.
    bytes: usize,
}

impl TaskAccumulator {
    pub(super) fn new(keeps: Keeps) -> Self {
        Self { status: TaskStatus::default(), rest: None, keeps }
    }

    pub(super) fn state(&self) -> &TaskState {
        &self.status.state
    }

    pub(super) fn artifacts(&self) -> &[Artifact] {
        self.rest.as_ref().map_or(&[], |rest| &rest.artifacts)
    }

    pub(super) fn text(&self) -> String {
        text_of(self.artifacts(), &self.status)
    }

    pub(super) fn to_task(&self, id: TaskId) -> Task {
        let task = Task { status: self.status.clone(), ..Task::new(id, TaskState::Unknown) };
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

    /// Applies an event of `bytes` bytes. Returns an upper bound of the size of the artifacts that
    /// are kept.
    ///
    /// A task without artifacts gets those of earlier events: the server omitted them, but did not
    /// remove them.
    #[inline]
    pub(super) fn apply(
        &mut self,
        event: &mut Event,
        artifacts: ArtifactsField,
        bytes: usize,
    ) -> usize {
        match event {
            Event::Status(update) => {
                self.status = update.status.clone();
                if !update.metadata.is_empty() && self.keeps == Keeps::Task {
                    self.rest().metadata.clone_from(&update.metadata);
                }
            }
            Event::Artifact(update) => {
                if let Some(status) = &update.status {
                    self.status = status.clone();
                }
                let keeps = self.keeps;
                self.rest().apply_artifact(&mut update.artifact, bytes, keeps);
            }
            Event::Task(task) => self.apply_task(task, artifacts, bytes),
            Event::Unknown(_) => {}
        }
        self.rest.as_ref().map_or(0, |rest| rest.bytes)
    }

    /// Records that the server ended the stream itself, so that the artifacts received are whole.
    pub(super) fn end_artifacts(&mut self) {
        if let Some(rest) = &mut self.rest
            && rest.streamed == Streamed::Partly
        {
            rest.streamed = Streamed::Wholly;
        }
    }

    /// Applies a snapshot that a lookup returned. Returns false where the task has ended and has no
    /// artifacts although some were streamed: the text received may not be whole.
    ///
    /// The streamed artifacts are kept, even if the snapshot explicitly has none: the server may
    /// not have stored them.
    pub(super) fn apply_snapshot(&mut self, snapshot: &mut TaskSnapshot) -> bool {
        let artifacts = match snapshot.task.artifacts.is_empty() {
            true => ArtifactsField::LeftOut,
            false => ArtifactsField::Included,
        };
        let streamed = self.rest.as_ref().map_or(Streamed::Nothing, |rest| rest.streamed);
        self.apply_task(&mut snapshot.task, artifacts, 0);
        if !self.state().is_running() {
            return streamed != Streamed::Partly || artifacts == ArtifactsField::Included;
        }
        if streamed == Streamed::Wholly {
            self.rest().streamed = Streamed::Partly;
        }
        true
    }

    // Not inlined: a stream begins with a status, and this code is for later events.
    #[inline(never)]
    fn apply_task(&mut self, task: &mut Task, artifacts: ArtifactsField, bytes: usize) {
        self.status = task.status.clone();
        let keeps = self.keeps;
        let rest = self.rest();
        if !task.artifacts.is_empty() {
            rest.streamed = Streamed::Partly;
        }
        if keeps == Keeps::Status {
            return;
        }
        match artifacts {
            ArtifactsField::LeftOut => task.artifacts.clone_from(&rest.artifacts),
            ArtifactsField::Included => {
                rest.positions = number(&mut task.artifacts);
                rest.artifacts.clone_from(&task.artifacts);
                rest.indexes = indexes_of(&task.artifacts);
                rest.bytes = 0;
            }
        }
        rest.bytes += bytes;
        rest.session_id = task.session_id.clone().or_else(|| rest.session_id.take());
        if !task.history.is_empty() {
            rest.history.clone_from(&task.history);
        }
        if !task.metadata.is_empty() {
            rest.metadata.clone_from(&task.metadata);
        }
    }

    fn rest(&mut self) -> &mut TaskContent {
        self.rest.get_or_insert_default()
    }
}

impl TaskContent {
    /// Assigns an artifact with an id the index of the earlier events with that id, or a free one.
    fn assign_index(&mut self, update: &mut Artifact) {
        let Some(id) = &update.id else { return };
        if let Some(index) = self.indexes.get(id) {
            update.index = *index;
            return;
        }
        if self.positions.contains_key(&update.index) {
            let last = self.positions.keys().next_back().copied().unwrap_or_default();
            update.index = last.saturating_add(1);
        }
        self.indexes.insert(id.clone(), update.index);
    }

    #[inline(never)] // see `apply_task`
    fn apply_artifact(&mut self, update: &mut Artifact, bytes: usize, keeps: Keeps) {
        self.streamed = Streamed::Partly;
        if keeps == Keeps::Status {
            return;
        }
        self.assign_index(update);
        let known = self.positions.get_mut(&update.index);
        let artifact = known.as_ref().and_then(|position| self.artifacts.get_mut(position.at));
        if let (Some(position), Some(artifact)) = (known, artifact) {
            artifact.merge(update);
            if !update.append {
                self.bytes -= position.bytes;
                position.bytes = 0;
            }
            position.bytes += bytes;
            self.bytes += bytes;
            return;
        }
        self.positions.insert(update.index, Position { at: self.artifacts.len(), bytes });
        self.bytes += bytes;
        self.artifacts.push(Artifact { append: false, ..update.clone() });
    }
}

fn indexes_of(artifacts: &[Artifact]) -> BTreeMap<String, i64> {
    let with_id = |artifact: &Artifact| Some((artifact.id.clone()?, artifact.index));
    artifacts.iter().filter_map(with_id).collect()
}

/// Assigns indexes to the artifacts of a whole task. Artifacts with the same index, because the
/// server omits `index`, are numbered by their position.
fn number(artifacts: &mut [Artifact]) -> BTreeMap<i64, Position> {
    let mut positions = BTreeMap::new();
    let mut unnumbered = Vec::new();
    for (at, artifact) in artifacts.iter().enumerate() {
        match positions.get(&artifact.index) {
            None => {
                positions.insert(artifact.index, Position { at, bytes: 0 });
            }
            Some(_) => unnumbered.push(at),
        }
    }
    for at in unnumbered {
        let Ok(index) = i64::try_from(at) else { continue };
        if let Some(artifact) = artifacts.get_mut(at)
            && !positions.contains_key(&index)
        {
            artifact.index = index;
            positions.insert(index, Position { at, bytes: 0 });
        }
    }
    positions
}
