//! The state that all calls share.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use payman_sdk::{Ask, Reply, TaskId, TaskState};
use tokio::sync::Semaphore;

use super::bounded::BoundedMap;
use super::confirm::Confirm;
use super::connection::{LazyConnection, McpPlatform};
use super::dialog::OpenDialogs;
use super::order::AskOrder;
use super::repeats::RepeatGuard;
use super::result::is_small;

/// The deadline of an ask where no --timeout is given.
const DEADLINE: Duration = Duration::from_secs(6 * 60);

/// The maximum number of asks in progress, including those that wait for their user.
pub(super) const MAX_ASKS: u32 = 16;
/// The maximum number of the agent's questions that are remembered.
const MAX_QUESTIONS: usize = 64;

/// The state that all calls share.
pub(super) struct McpCore {
    pub(super) connection: LazyConnection,
    pub(super) confirm: Confirm,
    pub(super) cancel_tasks: bool,
    pub(super) timeout: Option<Duration>,
    pub(super) repeats: Arc<RepeatGuard>,
    pub(super) dialogs: OpenDialogs,
    pub(super) slots: Semaphore,
    questions: Mutex<BoundedMap<TaskId, Reply>>,
}

impl McpCore {
    pub(super) fn new(
        connection: LazyConnection,
        confirm: Confirm,
        cancel_tasks: bool,
        timeout: Option<Duration>,
        repeat_window: Duration,
    ) -> Self {
        Self {
            connection,
            confirm,
            cancel_tasks,
            timeout,
            repeats: RepeatGuard::new(repeat_window),
            dialogs: OpenDialogs::new(),
            slots: Semaphore::new(MAX_ASKS as usize),
            questions: Mutex::new(BoundedMap::new(MAX_QUESTIONS)),
        }
    }

    /// Returns the platform, or the reason why it is unavailable, which is also written to stderr.
    pub(super) async fn platform(&self) -> Result<Arc<McpPlatform>, String> {
        self.connection.platform().await.map_err(|failure| {
            let text = failure.to_line();
            crate::output::note(format_args!("payman mcp: {text}"));
            format!("Nothing was sent: {text}")
        })
    }

    /// Keeps the agent's question, to be shown with the answer to it.
    pub(super) fn remember_question(&self, reply: &Reply) {
        let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        if *reply.state() == TaskState::InputRequired && is_small(reply) {
            questions.insert(reply.task_id().clone(), reply.clone());
        } else {
            questions.remove(reply.task_id());
        }
    }

    pub(super) fn question_of(&self, task: &TaskId) -> Option<Reply> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).get(task).cloned()
    }

    /// Builds the ask as it is sent, or as it is looked up under its key.
    pub(super) fn ask_of(&self, order: &AskOrder, key: &str) -> Ask {
        let ask = match order.task() {
            None => Ask::new(order.text()),
            Some(task) => match self.question_of(task) {
                Some(reply) => reply.answer(order.text()),
                None => Ask::new(order.text()).continue_task(task.clone()),
            },
        };
        let ask = match order.session() {
            Some(session) => ask.session(session.clone()),
            None => ask,
        };
        ask.idempotency_key(key).deadline(self.timeout.unwrap_or(DEADLINE))
    }
}
