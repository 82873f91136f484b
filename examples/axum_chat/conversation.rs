//! What was said with one visitor, and how each answer stands.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use payman_sdk::web::Problem;
use payman_sdk::{Ask, Error, Reply, SessionId, TaskId, TaskState, Timestamp};
use serde::Serialize;

/// How many exchanges the page keeps; older ones are forgotten here, though not by the agent.
const MAX_TURNS: usize = 50;
/// How many bytes of text they may have together.
const MAX_TEXT: usize = 256 * 1024;
/// How many bytes one answer may have on the wire.
const MAX_ANSWER: usize = 64 * 1024;

/// One exchange.
#[derive(Clone, Serialize)]
pub struct Turn {
    id: u64,
    asked: String,
    text: String,
    /// What the agent says of the state.
    note: String,
    state: String,
    /// What went wrong, if anything did.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
    #[serde(skip)]
    task_id: TaskId,
    /// Where the task stood before this was said, if it continues one.
    #[serde(skip)]
    continues: Option<Reply>,
    /// It is not known yet how this ends.
    #[serde(skip)]
    open: bool,
    /// The answer is on its way to a page.
    #[serde(skip)]
    attached: bool,
}

impl Turn {
    fn is_running(&self) -> bool {
        self.attached || (self.open && (self.state == "submitted" || self.state == "working"))
    }

    fn take_in(&mut self, reply: &Reply) {
        self.text = if reply.artifacts().is_empty() { String::new() } else { reply.text() };
        self.note = reply.status_message().unwrap_or_default().to_owned();
        self.state = reply.state().as_str().to_owned();
        self.open = !(reply.state().is_terminal() || reply.state().is_waiting_for_user());
    }

    /// Open, but no longer in the way of what is said next.
    fn lose_sight(&mut self) {
        self.state = TaskState::Unknown.as_str().to_owned();
    }

    fn since(&self) -> Option<&Timestamp> {
        self.continues.as_ref()?.timestamp()
    }
}

struct Said {
    session: SessionId,
    turns: VecDeque<Turn>,
    next_id: u64,
    /// The reply that waits for the visitor's answer.
    waiting: Option<Reply>,
}

/// A visitor's conversation; clones are the same.
#[derive(Clone)]
pub struct Conversation(Arc<Mutex<Said>>);

impl Conversation {
    pub fn new() -> Self {
        let said =
            Said { session: SessionId::new(), turns: VecDeque::new(), next_id: 1, waiting: None };
        Self(Arc::new(Mutex::new(said)))
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn turns(&self) -> Vec<Turn> {
        self.said().turns.iter().cloned().collect()
    }

    pub fn is_empty(&self) -> bool {
        self.said().turns.is_empty()
    }

    pub fn is_running(&self) -> bool {
        self.said().turns.iter().any(Turn::is_running)
    }

    /// The task under way.
    pub fn running_task(&self) -> Option<TaskId> {
        self.said()
            .turns
            .iter()
            .rev()
            .find(|turn| turn.is_running())
            .map(|turn| turn.task_id.clone())
    }

    /// The tasks of which it is not known how they end, the newest first.
    pub fn open_tasks(&self) -> Vec<TaskId> {
        self.said()
            .turns
            .iter()
            .rev()
            .filter(|turn| turn.open)
            .map(|turn| turn.task_id.clone())
            .collect()
    }

    /// Forgets all that was said, and starts a session of its own. `false` while the agent is at work.
    pub fn start_over(&self) -> bool {
        let mut said = self.said();
        if said.turns.iter().any(Turn::is_running) {
            return false;
        }
        *said = Said {
            session: SessionId::new(),
            turns: VecDeque::new(),
            next_id: said.next_id,
            waiting: None,
        };
        true
    }

    /// Writes down what is going to be asked, **before it is asked**: whatever happens, its task can be looked at.
    ///
    /// Where the agent waits for an answer, this is the answer. `None` while the agent is at work.
    pub fn begin(&self, text: &str) -> Option<(Ask, Ticket)> {
        let mut said = self.said();
        if said.turns.iter().any(Turn::is_running) {
            return None;
        }
        let continues = said.waiting.take();
        let ask = match &continues {
            Some(reply) => reply.answer(text),
            None => Ask::new(text),
        };
        let ask = ask.session(said.session.clone()).max_reply_bytes(MAX_ANSWER);
        let id = said.next_id;
        said.next_id += 1;
        said.turns.push_back(Turn {
            id,
            asked: text.to_owned(),
            text: String::new(),
            note: String::new(),
            state: TaskState::Submitted.as_str().to_owned(),
            problem: None,
            task_id: ask.task_id().clone(),
            continues,
            open: true,
            attached: true,
        });
        said.forget_the_oldest();
        Some((ask, Ticket { conversation: self.clone(), id }))
    }

    /// Takes in what a look at the platform showed.
    pub fn looked(&self, id: &TaskId, looked: Result<Reply, Error>) {
        let mut said = self.said();
        let Some(turn) = said.turns.iter_mut().rev().find(|turn| turn.open && turn.task_id == *id)
        else {
            return; // It has ended meanwhile.
        };
        match looked {
            // A continued task that stands where it stood: the platform has not begun with what was said.
            Ok(reply) if turn.continues.is_some() && reply.timestamp() == turn.since() => {}
            Ok(reply) => {
                turn.take_in(&reply);
                turn.problem = None;
                said.note_waiting(&reply);
            }
            Err(_) if turn.attached => {}
            // It stays open, and is looked at again when the page is loaded again.
            Err(error) => {
                turn.lose_sight();
                turn.problem = Some(error.into());
            }
        }
    }

    /// A look took too long: it showed nothing.
    pub fn lost_sight(&self, id: &TaskId) {
        let mut said = self.said();
        let lost = said
            .turns
            .iter_mut()
            .rev()
            .find(|turn| turn.open && !turn.attached && turn.task_id == *id);
        lost.into_iter().for_each(Turn::lose_sight);
    }
}

impl Said {
    fn forget_the_oldest(&mut self) {
        let mut text: usize =
            self.turns.iter().map(|turn| turn.asked.len() + turn.text.len()).sum();
        while self.turns.len() > MAX_TURNS || (text > MAX_TEXT && self.turns.len() > 1) {
            if let Some(turn) = self.turns.pop_front() {
                text -= turn.asked.len() + turn.text.len();
            }
        }
    }

    fn note_waiting(&mut self, reply: &Reply) {
        if *reply.state() == TaskState::InputRequired {
            self.waiting = Some(reply.clone());
        }
    }
}

/// The right to write down how one turn goes on. Dropped, it leaves the turn as it is: to be looked at.
pub struct Ticket {
    conversation: Conversation,
    id: u64,
}

impl Ticket {
    pub fn turn(&self) -> u64 {
        self.id
    }

    fn with_turn(&self, change: impl FnOnce(&mut Turn)) {
        let mut said = self.conversation.said();
        if let Some(turn) = said.turns.iter_mut().find(|turn| turn.id == self.id) {
            change(turn);
        }
    }

    /// What has come so far, or all.
    pub fn note(&self, reply: &Reply) {
        // A look may have been faster.
        self.with_turn(|turn| {
            if turn.open {
                turn.take_in(reply);
            }
        });
        self.conversation.said().note_waiting(reply);
    }

    /// No more comes. Where the outcome is unknown, the turn stays open.
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
            self.conversation.said().waiting.get_or_insert(reply);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.with_turn(|turn| turn.attached = false);
    }
}
