//! The emulator's tasks, and the agent runs that change them.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::agent::PendingQuestion;
use super::clock;
use super::run::{AgentRun, RunEvent};
use crate::ids::{SessionId, TaskId};
use crate::wire::Metadata;
use crate::wire::part::Part;
use crate::wire::state::TaskState;
use crate::wire::task::{Artifact, Message, Role, StatusMessage, Task, TaskStatus};
use crate::wire::update::{ArtifactUpdate, StatusUpdate};

/// A task with the state that is not sent to clients.
pub(super) struct TaskEntry {
    pub(super) task: Task,
    /// The question that the next message answers.
    pub(super) question: Option<PendingQuestion>,
    /// The unfinished runs, the oldest first. They execute one after the other.
    runs: Vec<Arc<AgentRun>>,
    sends: u64,
    requests: Vec<Metadata>,
}

/// All tasks, in the order of their first request.
#[derive(Default)]
pub(super) struct TaskTable {
    entries: HashMap<TaskId, TaskEntry>,
    order: Vec<TaskId>,
}

/// A run, and the one that it waits for.
pub(super) struct QueuedRun {
    pub(super) run: Arc<AgentRun>,
    pub(super) previous: Option<Arc<AgentRun>>,
}

/// A message for a task, as `send` and `sendSubscribe` carry it.
pub(super) struct IncomingMessage {
    pub(super) task_id: TaskId,
    pub(super) session_id: Option<SessionId>,
    pub(super) message: Message,
    /// The metadata of the request.
    pub(super) metadata: Metadata,
}

/// The reason why a message was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EnqueueError {
    /// The task belongs to another session.
    SessionMismatch,
    /// The task exists and waits for no answer, and the settings refuse a second send.
    Conflict,
}

impl TaskTable {
    pub(super) fn get(&self, id: &TaskId) -> Option<&TaskEntry> {
        self.entries.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &TaskId) -> Option<&mut TaskEntry> {
        self.entries.get_mut(id)
    }

    pub(super) fn in_order(&self) -> impl Iterator<Item = &TaskEntry> {
        self.order.iter().filter_map(|id| self.entries.get(id))
    }

    pub(super) fn sends(&self) -> BTreeMap<TaskId, u64> {
        self.entries.iter().map(|(id, entry)| (id.clone(), entry.sends)).collect()
    }

    pub(super) fn request_metadata(&self) -> BTreeMap<TaskId, Vec<Metadata>> {
        self.entries.iter().map(|(id, entry)| (id.clone(), entry.requests.clone())).collect()
    }

    /// Adds a message to its task, which is created unless it exists, and queues a run for it.
    ///
    /// `task_metadata` is called for a new task.
    pub(super) fn enqueue(
        &mut self,
        incoming: IncomingMessage,
        conflict_on_resend: bool,
        task_metadata: impl FnOnce() -> Metadata,
    ) -> Result<QueuedRun, EnqueueError> {
        let IncomingMessage { task_id, session_id, message, metadata } = incoming;
        let entry = match self.entries.entry(task_id) {
            Entry::Vacant(vacant) => {
                let mut task = Task::new(vacant.key(), TaskState::Unknown);
                task.session_id = Some(session_id.unwrap_or_default());
                task.metadata = task_metadata();
                self.order.push(task.id.clone());
                vacant.insert(TaskEntry {
                    task,
                    question: None,
                    runs: Vec::new(),
                    sends: 0,
                    requests: Vec::new(),
                })
            }
            Entry::Occupied(occupied) => {
                let entry = occupied.into_mut();
                if session_id.is_some() && session_id != entry.task.session_id {
                    return Err(EnqueueError::SessionMismatch);
                }
                if conflict_on_resend && entry.question.is_none() {
                    return Err(EnqueueError::Conflict);
                }
                entry
            }
        };
        entry.sends += 1;
        entry.requests.push(metadata);
        entry.task.history.push(message);
        let previous = entry.runs.last().cloned();
        if previous.is_none() {
            entry.task.artifacts.clear();
            entry.task.status = status(TaskState::Submitted, "");
        }
        let run = AgentRun::new();
        entry.runs.push(Arc::clone(&run));
        Ok(QueuedRun { run, previous })
    }
}

impl TaskEntry {
    /// Returns the run in progress.
    pub(super) fn current_run(&self) -> Option<&Arc<AgentRun>> {
        self.runs.first()
    }

    /// Returns whether this run may still change the task: it was not canceled.
    pub(super) fn has_run(&self, run: &Arc<AgentRun>) -> bool {
        self.runs.iter().any(|one| Arc::ptr_eq(one, run))
    }

    /// Starts a run: the task is working, without the artifacts of the run before.
    pub(super) fn begin(&mut self, run: &Arc<AgentRun>) {
        self.task.artifacts.clear();
        self.task.status = status(TaskState::Working, "Processing your request");
        run.publish(RunEvent::Status(self.status_update(false)));
    }

    /// Appends a chunk to the answer's artifact.
    pub(super) fn append_chunk(&mut self, run: &Arc<AgentRun>, chunk: AnswerChunk<'_>) {
        let artifact = Artifact {
            name: Some("response".to_owned()),
            description: Some("AI Assistant Response".to_owned()),
            parts: vec![Part::text(chunk.text)],
            append: !chunk.is_first,
            last_chunk: Some(chunk.is_last),
            ..Artifact::default()
        };
        match self.task.artifacts.first_mut() {
            Some(first) => first.merge(&artifact),
            None => self.task.artifacts.push(Artifact { append: false, ..artifact.clone() }),
        }
        if chunk.is_last
            && let Some(first) = self.task.artifacts.first_mut()
        {
            // The flag belongs to artifact events, not to whole tasks.
            first.last_chunk = None;
        }
        run.publish(RunEvent::Artifact(ArtifactUpdate {
            status: None,
            is_final: false,
            task_id: self.task.id.clone(),
            artifact,
            metadata: Metadata::new(),
        }));
    }

    /// Finishes a run: sets the task's status, and adds the answer to its history.
    pub(super) fn finish(
        &mut self,
        run: &Arc<AgentRun>,
        state: TaskState,
        message: &str,
        answer: Option<&str>,
    ) {
        self.task.status = status(state, message);
        self.task.history.extend(answer.map(|text| Message::new(Role::Agent, text)));
        self.runs.retain(|one| !Arc::ptr_eq(one, run));
        run.finish(self.status_update(true), self.task.clone());
    }

    /// Cancels all runs and the pending question; returns false if there is nothing to cancel.
    pub(super) fn cancel(&mut self) -> bool {
        let is_waiting = self.task.status.state.is_waiting_for_user();
        if self.runs.is_empty() && !is_waiting {
            return false;
        }
        self.question = None;
        self.task.status =
            status(TaskState::Canceled, "The task was canceled. What was done before stays done");
        for run in std::mem::take(&mut self.runs) {
            run.finish(self.status_update(true), self.task.clone());
        }
        true
    }

    pub(super) fn status_update(&self, is_final: bool) -> StatusUpdate {
        let status = self.task.status.clone();
        StatusUpdate { task_id: self.task.id.clone(), status, is_final, metadata: Metadata::new() }
    }
}

/// A piece of a streamed answer.
#[derive(Clone, Copy)]
pub(super) struct AnswerChunk<'a> {
    pub(super) text: &'a str,
    pub(super) is_first: bool,
    pub(super) is_last: bool,
}

/// Splits an answer into chunks of so many characters; 0 means a single chunk.
pub(super) fn chunks(text: &str, characters: usize) -> impl Iterator<Item = AnswerChunk<'_>> {
    let mut rest = Some(text);
    let mut is_first = true;
    std::iter::from_fn(move || {
        let whole = rest?;
        let end = match characters {
            0 => whole.len(),
            count => whole.char_indices().nth(count).map_or(whole.len(), |(place, _)| place),
        };
        let (text, left) = whole.split_at(end);
        rest = (!left.is_empty()).then_some(left);
        let chunk = AnswerChunk { text, is_first, is_last: rest.is_none() };
        is_first = false;
        Some(chunk)
    })
}

fn status(state: TaskState, message: &str) -> TaskStatus {
    let message = (!message.is_empty()).then(|| StatusMessage::Text(message.to_owned()));
    TaskStatus { state, message, timestamp: Some(clock::now()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_split_between_characters() {
        let pieces = |text, size| chunks(text, size).map(|chunk| chunk.text).collect::<Vec<_>>();
        assert_eq!(pieces("Zoë €5", 4), ["Zoë ", "€5"]);
        assert_eq!(pieces("abcd", 2), ["ab", "cd"]);
        assert_eq!(pieces("abcd", 0), ["abcd"]);
        assert_eq!(pieces("", 3), [""]);
        let flags: Vec<_> = chunks("abc", 1).map(|chunk| (chunk.is_first, chunk.is_last)).collect();
        assert_eq!(flags, [(true, false), (false, false), (false, true)]);
    }
}
