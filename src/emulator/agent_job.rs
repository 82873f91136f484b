//! The agent's work on one message, as a task of the tokio runtime.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::agent::{AgentAnswer, AgentContext, ConversationTurn};
use super::backend::{Backend, EmulatorData};
use super::run::AgentRun;
use super::tasks::{EnqueueError, IncomingMessage, QueuedRun, TaskEntry, chunks};
use crate::ids::TaskId;
use crate::wire::state::TaskState;

/// One message for the agent.
struct AgentJob {
    backend: Arc<Backend>,
    task_id: TaskId,
    run: Arc<AgentRun>,
    text: String,
    scopes: Arc<BTreeSet<String>>,
}

/// Accepts a message, and spawns the agent's job: a client that disconnects does not stop it.
pub(super) fn start(
    backend: &Arc<Backend>,
    incoming: IncomingMessage,
    scopes: Arc<BTreeSet<String>>,
) -> Result<Arc<AgentRun>, EnqueueError> {
    let text = incoming.message.text();
    let task_id = incoming.task_id.clone();
    let QueuedRun { run, previous } = backend.enqueue(incoming)?;
    let job =
        AgentJob { backend: Arc::clone(backend), task_id, run: Arc::clone(&run), text, scopes };
    backend.spawn_job(job.execute_after(previous));
    Ok(run)
}

/// The error of a run that was canceled.
struct Canceled;

impl AgentJob {
    /// Waits for the previous run of the task, then does the work.
    async fn execute_after(self, previous: Option<Arc<AgentRun>>) {
        if let Some(previous) = previous {
            previous.finished().await;
        }
        // A cancellation has finished the run already.
        let _ = self.execute().await;
    }

    async fn execute(&self) -> Result<(), Canceled> {
        let delay = self.backend.settings().agent_delay;
        self.with_entry(|entry| entry.begin(&self.run))?;
        self.pause(delay).await?;
        let answer = self.act()?;
        self.stream_answer(&answer).await?;
        let message = match answer.state {
            TaskState::Completed => "Processing completed successfully",
            _ => &answer.text,
        };
        self.with_entry(|entry| {
            entry.finish(&self.run, answer.state.clone(), message, Some(&answer.text));
        })
    }

    /// Decides and changes the ledger under one lock: a cancellation comes before it or after it.
    fn act(&self) -> Result<AgentAnswer, Canceled> {
        let approval_limit = self.backend.settings().approval_limit;
        let mut data = self.backend.data();
        let EmulatorData { ledger, tasks, sessions, .. } = &mut *data;
        let entry = tasks
            .get_mut(&self.task_id)
            .filter(|entry| entry.has_run(&self.run))
            .ok_or(Canceled)?;
        let session =
            sessions.entry(entry.task.session_id.clone().unwrap_or_default()).or_default();
        let context = AgentContext {
            ledger,
            session,
            question: &mut entry.question,
            scopes: &self.scopes,
            approval_limit,
            task_id: &self.task_id,
        };
        let answer = context.answer(&self.text);
        session.push(ConversationTurn { asked: self.text.clone(), answered: answer.text.clone() });
        Ok(answer)
    }

    /// Publishes the answer in chunks. A question is in the status message and not an artifact.
    async fn stream_answer(&self, answer: &AgentAnswer) -> Result<(), Canceled> {
        if answer.state == TaskState::InputRequired {
            return Ok(());
        }
        let (characters, delay) = {
            let settings = self.backend.settings();
            (settings.chunk_chars, settings.chunk_delay)
        };
        for chunk in chunks(&answer.text, characters) {
            self.with_entry(|entry| entry.append_chunk(&self.run, chunk))?;
            self.pause(delay).await?;
        }
        Ok(())
    }

    fn with_entry(&self, change: impl FnOnce(&mut TaskEntry)) -> Result<(), Canceled> {
        let mut data = self.backend.data();
        let entry = data
            .tasks
            .get_mut(&self.task_id)
            .filter(|entry| entry.has_run(&self.run))
            .ok_or(Canceled)?;
        change(entry);
        Ok(())
    }

    async fn pause(&self, time: Duration) -> Result<(), Canceled> {
        if time.is_zero() {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            () = self.run.finished() => Err(Canceled),
        }
    }
}
