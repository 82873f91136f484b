//! One visitor's conversation: its exchanges, and the state of each answer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use payman_sdk::web::Problem;
use payman_sdk::{Ask, Error, Reply, SessionId, TaskId, TaskState, Timestamp};
use serde::Serialize;

/// The maximum number of exchanges that are kept. Older ones are removed here; the agent still
/// knows them.
const MAX_TURNS: usize = 50;
/// The maximum length of the text of all exchanges, in bytes.
const MAX_TEXT: usize = 256 * 1024;
/// The maximum length of one answer on the wire, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// One exchange: the visitor's message, and the answer.
#[derive(Clone, Serialize)]
pub struct Turn {
    id: u64,
    asked: String,
    text: String,
    /// The agent's message about the state.
    note: String,
    state: String,
    /// True once the visitor has answered the agent's question.
    answered: bool,
    /// The problem, if the answer failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
    #[serde(skip)]
    task_id: TaskId,
    /// The reply that this answers, if it continues a task.
    #[serde(skip)]
    continues: Option<Reply>,
    /// True until the end of the answer is known.
    #[serde(skip)]
    open: bool,
    /// True while the answer is being streamed to a page.
    #[serde(skip)]
    attached: bool,
}

impl Turn {
    fn is_running(&self) -> bool {
        self.attached || (self.open && (self.state == "submitted" || self.state == "working"))
    }

    fn update(&mut self, reply: &Reply) {
        self.text = if reply.artifacts().is_empty() { String::new() } else { reply.text() };
        self.note = reply.status_message().unwrap_or_default().to_owned();
        self.state = reply.state().as_str().to_owned();
        self.open = !(reply.state().is_terminal() || reply.state().is_waiting_for_user());
    }

    /// Records a lookup without a result. The turn stays open, the visitor can continue, and the
    /// page still warns that the ask may have been done.
    fn mark_unknown(&mut self) {
        self.state = TaskState::Unknown.as_str().to_owned();
        if !self.problem.as_ref().is_some_and(Problem::is_outcome_unknown) {
            self.problem = Some(Problem::outcome_unknown(&self.task_id));
        }
    }

    fn asks_back(&self) -> bool {
        self.state == "input-required"
    }

    fn since(&self) -> Option<&Timestamp> {
        self.continues.as_ref()?.timestamp()
    }
}

/// The state under the conversation's lock.
struct ConversationState {
    session: SessionId,
    turns: VecDeque<Turn>,
    next_id: u64,
    /// The reply that waits for the visitor's answer.
    waiting: Option<Reply>,
}

/// A visitor's conversation. Clones share it.
#[derive(Clone)]
pub struct Conversation(Arc<Mutex<ConversationState>>);

impl Conversation {
    pub fn new() -> Self {
        let state = ConversationState {
            session: SessionId::new(),
            turns: VecDeque::new(),
            next_id: 1,
            waiting: None,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    fn lock(&self) -> MutexGuard<'_, ConversationState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn turns(&self) -> Vec<Turn> {
        self.lock().turns.iter().cloned().collect()
    }

    pub fn is_empty(&self) -> bool {
        self.lock().turns.is_empty()
    }

    pub fn is_running(&self) -> bool {
        self.lock().turns.iter().any(Turn::is_running)
    }

    /// Returns the task in progress.
    pub fn running_task(&self) -> Option<TaskId> {
        self.lock()
            .turns
            .iter()
            .rev()
            .find(|turn| turn.is_running())
            .map(|turn| turn.task_id.clone())
    }

    /// Returns the tasks whose end is not known yet, the newest first.
    pub fn open_tasks(&self) -> Vec<TaskId> {
        self.lock()
            .turns
            .iter()
            .rev()
            .filter(|turn| turn.open)
            .map(|turn| turn.task_id.clone())
            .collect()
    }

    /// Removes all exchanges and starts a new session. Returns false while the agent is working.
    pub fn start_over(&self) -> bool {
        let mut state = self.lock();
        if state.turns.iter().any(Turn::is_running) {
            return false;
        }
        *state = ConversationState {
            session: SessionId::new(),
            turns: VecDeque::new(),
            next_id: state.next_id,
            waiting: None,
        };
        true
    }

    /// Records an ask **before it is sent**, so that its task can be looked up in every case.
    ///
    /// If the agent waits for an answer, the text is that answer. Returns `None` while the agent is
    /// working.
    pub fn begin(&self, text: &str) -> Option<(Ask, Ticket)> {
        let mut state = self.lock();
        if state.turns.iter().any(Turn::is_running) {
            return None;
        }
        let continues = state.waiting.take();
        let ask = match &continues {
            Some(reply) => reply.answer(text),
            None => Ask::new(text),
        };
        let ask = ask.session(state.session.clone()).max_reply_bytes(MAX_ANSWER);
        if continues.is_some() {
            state.set_answered(true);
        }
        let id = state.next_id;
        state.next_id += 1;
        state.turns.push_back(Turn {
            id,
            asked: text.to_owned(),
            text: String::new(),
            note: String::new(),
            state: TaskState::Submitted.as_str().to_owned(),
            answered: false,
            problem: None,
            task_id: ask.task_id().clone(),
            continues,
            open: true,
            attached: true,
        });
        state.forget_the_oldest();
        Some((ask, Ticket { conversation: self.clone(), id }))
    }

    /// Applies the result of a lookup.
    pub fn apply_lookup(&self, id: &TaskId, result: Result<Reply, Error>) {
        let mut state = self.lock();
        let Some(turn) = state.turns.iter_mut().rev().find(|turn| turn.open && turn.task_id == *id)
        else {
            return; // It has ended meanwhile.
        };
        match result {
            // A continued task in its earlier state: the platform has not read the message yet.
            Ok(reply) if turn.continues.is_some() && reply.timestamp() == turn.since() => {}
            Ok(reply) => {
                turn.update(&reply);
                turn.problem = None;
                state.note_waiting(&reply);
            }
            Err(_) if turn.attached => {}
            // It stays open, and is looked up again when the page is loaded again.
            Err(error) => {
                tracing::warn!(task_id = %id, ?error, "a lookup failed");
                turn.mark_unknown();
            }
        }
    }

    /// Records that a lookup took too long.
    pub fn lookup_timed_out(&self, id: &TaskId) {
        let mut state = self.lock();
        let lost = state
            .turns
            .iter_mut()
            .rev()
            .find(|turn| turn.open && !turn.attached && turn.task_id == *id);
        lost.into_iter().for_each(Turn::mark_unknown);
    }
}

impl ConversationState {
    fn forget_the_oldest(&mut self) {
        let mut text: usize =
            self.turns.iter().map(|turn| turn.asked.len() + turn.text.len()).sum();
        while self.turns.len() > MAX_TURNS || (text > MAX_TEXT && self.turns.len() > 1) {
            if let Some(turn) = self.turns.pop_front() {
                text -= turn.asked.len() + turn.text.len();
            }
        }
    }

    /// Marks the agent's last question as answered, or as open again.
    fn set_answered(&mut self, answered: bool) {
        if let Some(question) = self.turns.iter_mut().rev().find(|turn| turn.asks_back()) {
            question.answered = answered;
        }
    }

    fn note_waiting(&mut self, reply: &Reply) {
        if *reply.state() == TaskState::InputRequired {
            self.waiting = Some(reply.clone());
        }
    }
}

/// The right to record the progress of one turn. When it is dropped, the turn is left unchanged
/// and is looked up later.
pub struct Ticket {
    conversation: Conversation,
    id: u64,
}

impl Ticket {
    pub fn turn(&self) -> u64 {
        self.id
    }

    fn with_turn(&self, change: impl FnOnce(&mut Turn)) {
        let mut state = self.conversation.lock();
        if let Some(turn) = state.turns.iter_mut().find(|turn| turn.id == self.id) {
            change(turn);
        }
    }

    /// Records the answer so far, or the whole answer.
    pub fn note(&self, reply: &Reply) {
        // A lookup may have been faster.
        self.with_turn(|turn| {
            if turn.open {
                turn.update(reply);
            }
        });
        self.conversation.lock().note_waiting(reply);
    }

    /// Records that the answer failed. Where the outcome is unknown, the turn stays open.
    pub fn fail(&self, error: &Error) {
        let mut restored = None;
        self.with_turn(|turn| {
            if !turn.open {
                return;
            }
            turn.open = error.is_outcome_unknown();
            turn.state =
                if turn.open { TaskState::Unknown } else { TaskState::Failed }.as_str().to_owned();
            turn.problem = Some(Problem::from(error));
            if error.is_safe_to_ask_again() {
                restored = turn.continues.take();
            }
        });
        // The question was not answered.
        if let Some(reply) = restored {
            let mut state = self.conversation.lock();
            state.waiting.get_or_insert(reply);
            state.set_answered(false);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.with_turn(|turn| turn.attached = false);
    }
}
