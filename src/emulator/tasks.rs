//! The tasks: what became of every ask, and what is said while it goes on.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::agent::Question;
use super::clock;
use super::run::{Run, Said};
use crate::ids::{SessionId, TaskId};
use crate::wire::Metadata;
use crate::wire::part::Part;
use crate::wire::state::TaskState;
use crate::wire::task::{Artifact, Message, Role, StatusMessage, Task, TaskStatus};
use crate::wire::update::{ArtifactUpdate, StatusUpdate};

/// A task with what the wire does not show.
pub(super) struct Entry {
    pub(super) task: Task,
    /// What the agent waits to hear.
    pub(super) question: Option<Question>,
    /// The runs that are not over, the oldest first: they take turns.
    runs: Vec<Arc<Run>>,
    sends: u64,
    requests: Vec<Metadata>,
}

/// All tasks, in the order of their first request.
#[derive(Default)]
pub(super) struct Tasks {
    entries: HashMap<TaskId, Entry>,
    order: Vec<TaskId>,
}

/// What a message starts: a run, and the one that has to end first.
pub(super) struct Turn {
    pub(super) run: Arc<Run>,
    pub(super) after: Option<Arc<Run>>,
}

/// Why a message was not taken.
pub(super) struct OtherSession;

impl Tasks {
    pub(super) fn get(&self, id: &TaskId) -> Option<&Entry> {
        self.entries.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &TaskId) -> Option<&mut Entry> {
        self.entries.get_mut(id)
    }

    pub(super) fn in_order(&self) -> impl Iterator<Item = &Entry> {
        self.order.iter().filter_map(|id| self.entries.get(id))
    }

    pub(super) fn sends(&self) -> BTreeMap<TaskId, u64> {
        self.entries.iter().map(|(id, entry)| (id.clone(), entry.sends)).collect()
    }

    pub(super) fn requests(&self) -> BTreeMap<TaskId, Vec<Metadata>> {
        self.entries.iter().map(|(id, entry)| (id.clone(), entry.requests.clone())).collect()
    }

    /// Takes a message in: begins the task, or continues it.
    pub(super) fn take_in(
        &mut self,
        id: &TaskId,
        session_id: Option<SessionId>,
        message: Message,
        request: Metadata,
        metadata: impl FnOnce() -> Metadata,
    ) -> Result<Turn, OtherSession> {
        if !self.entries.contains_key(id) {
            let mut task = Task::new(id.clone());
            task.session_id = Some(session_id.clone().unwrap_or_default());
            task.metadata = metadata();
            self.order.push(id.clone());
            let entry =
                Entry { task, question: None, runs: Vec::new(), sends: 0, requests: Vec::new() };
            self.entries.insert(id.clone(), entry);
        }
        let Some(entry) = self.entries.get_mut(id) else { return Err(OtherSession) };
        if session_id.is_some() && session_id != entry.task.session_id {
            return Err(OtherSession);
        }
        entry.sends += 1;
        entry.requests.push(request);
        entry.task.history.push(message);
        let after = entry.runs.last().cloned();
        if after.is_none() {
            entry.task.artifacts.clear();
            entry.task.status = status(TaskState::Submitted, "");
        }
        let run = Run::new();
        entry.runs.push(Arc::clone(&run));
        Ok(Turn { run, after })
    }
}

impl Entry {
    /// The run that goes on now.
    pub(super) fn current(&self) -> Option<&Arc<Run>> {
        self.runs.first()
    }

    /// Whether this run may still change anything: it was neither canceled nor forgotten.
    pub(super) fn runs(&self, run: &Arc<Run>) -> bool {
        self.runs.iter().any(|one| Arc::ptr_eq(one, run))
    }

    pub(super) fn begin(&mut self, run: &Arc<Run>) {
        self.task.artifacts.clear();
        self.task.status = status(TaskState::Working, "Processing your request");
        run.say(Said::Status(self.status_update(false)));
    }

    /// Adds a chunk to the answer.
    pub(super) fn speak(&mut self, run: &Arc<Run>, chunk: Chunk<'_>) {
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
            // In a whole task there are no chunks to speak of.
            first.last_chunk = None;
        }
        run.say(Said::Artifact(ArtifactUpdate {
            task_id: self.task.id.clone(),
            artifact,
            metadata: Metadata::new(),
        }));
    }

    /// Ends a run: the task now stands here, and this was said.
    pub(super) fn end(
        &mut self,
        run: &Arc<Run>,
        state: TaskState,
        message: &str,
        answer: Option<&str>,
    ) {
        self.task.status = status(state, message);
        self.task.history.extend(answer.map(|text| Message::new(Role::Agent, text)));
        self.runs.retain(|one| !Arc::ptr_eq(one, run));
        run.end(self.status_update(true), self.task.clone());
    }

    /// Cancels what goes on and what waits; false where there is nothing to cancel.
    pub(super) fn cancel(&mut self) -> bool {
        let waits = self.task.status.state.is_waiting_for_user();
        if self.runs.is_empty() && !waits {
            return false;
        }
        self.question = None;
        self.task.status =
            status(TaskState::Canceled, "The task was canceled. What was done before stays done");
        for run in std::mem::take(&mut self.runs) {
            run.end(self.status_update(true), self.task.clone());
        }
        true
    }

    pub(super) fn status_update(&self, is_final: bool) -> StatusUpdate {
        let status = self.task.status.clone();
        StatusUpdate { task_id: self.task.id.clone(), status, is_final, metadata: Metadata::new() }
    }
}

/// A piece of an answer.
#[derive(Clone, Copy)]
pub(super) struct Chunk<'a> {
    pub(super) text: &'a str,
    pub(super) is_first: bool,
    pub(super) is_last: bool,
}

/// An answer in pieces of so many characters; in one where that is 0.
pub(super) fn chunks(text: &str, characters: usize) -> impl Iterator<Item = Chunk<'_>> {
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
        let chunk = Chunk { text, is_first, is_last: rest.is_none() };
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
