//! What all requests share: the settings, the world, and the agents at work.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use super::agent::{Answer, Desk, Exchange};
use super::clock;
use super::faults::Faults;
use super::ledger::Ledger;
use super::oauth::OAuth;
use super::run::Run;
use super::settings::{Operation, Settings};
use super::state::EmulatorState;
use super::tasks::{OtherSession, Tasks, Turn, chunks};
use crate::ids::{SessionId, TaskId};
use crate::wire::Metadata;
use crate::wire::state::TaskState;
use crate::wire::task::Message;

pub(super) struct Hub {
    pub(super) base_url: String,
    settings: Mutex<Settings>,
    faults: Mutex<Faults>,
    world: Mutex<World>,
    agents: Mutex<JoinSet<()>>,
    agent_id: String,
    org_id: String,
}

/// Everything that a reset brings back to its start.
pub(super) struct World {
    pub(super) ledger: Ledger,
    pub(super) tasks: Tasks,
    pub(super) oauth: OAuth,
    sessions: HashMap<SessionId, Vec<Exchange>>,
    requests: BTreeMap<Operation, u64>,
}

impl World {
    fn new(settings: &Settings) -> Self {
        Self {
            ledger: Ledger::new(settings.opening_balance),
            tasks: Tasks::default(),
            oauth: OAuth::default(),
            sessions: HashMap::new(),
            requests: BTreeMap::new(),
        }
    }
}

/// Nothing panics while it holds one of these locks; if something did, what it guards is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    pub(super) fn new(base_url: String, settings: Settings, faults: Faults) -> Arc<Self> {
        let mint = |prefix: &str| format!("{prefix}-{}", uuid::Uuid::new_v4().hyphenated());
        Arc::new(Self {
            base_url,
            world: Mutex::new(World::new(&settings)),
            settings: Mutex::new(settings),
            faults: Mutex::new(faults),
            agents: Mutex::default(),
            agent_id: mint("ai"),
            org_id: mint("org"),
        })
    }

    pub(super) fn settings(&self) -> MutexGuard<'_, Settings> {
        lock(&self.settings)
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }

    pub(super) fn count(&self, operation: Operation) {
        *self.world().requests.entry(operation).or_default() += 1;
    }

    pub(super) fn state(&self) -> EmulatorState {
        let world = self.world();
        EmulatorState {
            wallets: world.ledger.wallets().to_vec(),
            payees: world.ledger.payees().to_vec(),
            payments: world.ledger.payments().to_vec(),
            tasks: world.tasks.in_order().map(|entry| entry.task.clone()).collect(),
            sends: world.tasks.sends(),
            request_metadata: world.tasks.requests(),
            requests: world.requests.clone(),
            token_requests: world.requests.get(&Operation::Token).copied().unwrap_or_default(),
            refresh_reuses: world.oauth.refresh_reuses(),
        }
    }

    /// Back to the start: books, tasks, sessions, tokens, counters and faults. What is under way is dropped.
    pub(super) fn reset(&self) {
        self.faults().clear();
        lock(&self.agents).abort_all();
        let fresh = World::new(&self.settings());
        let mut world = self.world();
        let ids: Vec<TaskId> = world.tasks.in_order().map(|entry| entry.task.id.clone()).collect();
        for id in ids {
            // Whoever waits for an answer is told.
            world.tasks.get_mut(&id).map(super::tasks::Entry::cancel);
        }
        *world = fresh;
    }

    pub(super) fn stop_agents(&self) {
        lock(&self.agents).abort_all();
    }

    fn metadata(&self) -> Metadata {
        let metadata = json!({
            "agentId": self.agent_id,
            "orgId": self.org_id,
            "timestamp": clock::now_in_milliseconds(),
        });
        metadata.as_object().cloned().unwrap_or_default()
    }

    /// Takes a message in and sets the agent on it, in a task of its own that no disconnect stops.
    pub(super) fn start(
        self: &Arc<Self>,
        id: &TaskId,
        session_id: Option<SessionId>,
        message: Message,
        request: Metadata,
        scopes: Arc<BTreeSet<String>>,
    ) -> Result<Arc<Run>, OtherSession> {
        let text = message.text();
        let turn =
            self.world().tasks.take_in(id, session_id, message, request, || self.metadata())?;
        let run = Arc::clone(&turn.run);
        let job =
            Job { hub: Arc::clone(self), id: id.clone(), run: turn.run.clone(), text, scopes };
        let mut agents = lock(&self.agents);
        while agents.try_join_next().is_some() {}
        agents.spawn(job.run(turn));
        Ok(run)
    }
}

/// One message on the agent's desk.
struct Job {
    hub: Arc<Hub>,
    id: TaskId,
    run: Arc<Run>,
    text: String,
    scopes: Arc<BTreeSet<String>>,
}

/// The run was canceled.
struct Canceled;

impl Job {
    async fn run(self, turn: Turn) {
        if let Some(earlier) = turn.after {
            earlier.over().await;
        }
        // A cancellation has already said all there is to say.
        let _ = self.work().await;
    }

    async fn work(&self) -> Result<(), Canceled> {
        let delay = self.hub.settings().agent_delay;
        self.with_entry(|entry| entry.begin(&self.run))?;
        self.pause(delay).await?;
        let answer = self.act()?;
        self.speak(&answer).await?;
        let message = match answer.state {
            TaskState::Completed => "Processing completed successfully",
            _ => &answer.text,
        };
        self.with_entry(|entry| {
            entry.end(&self.run, answer.state.clone(), message, Some(&answer.text))
        })
    }

    /// Looks, decides and books, all under one lock: a cancellation comes before it or after it.
    fn act(&self) -> Result<Answer, Canceled> {
        let approval_limit = self.hub.settings().approval_limit;
        let mut world = self.hub.world();
        let World { ledger, tasks, sessions, .. } = &mut *world;
        let entry =
            tasks.get_mut(&self.id).filter(|entry| entry.runs(&self.run)).ok_or(Canceled)?;
        let session =
            sessions.entry(entry.task.session_id.clone().unwrap_or_default()).or_default();
        let desk = Desk {
            ledger,
            session,
            question: &mut entry.question,
            scopes: &self.scopes,
            approval_limit,
            task_id: &self.id,
        };
        let answer = desk.answer(&self.text);
        session.push(Exchange { asked: self.text.clone(), answered: answer.text.clone() });
        Ok(answer)
    }

    /// Says the answer in chunks. A question is no artifact: it is what the status says.
    async fn speak(&self, answer: &Answer) -> Result<(), Canceled> {
        if answer.state == TaskState::InputRequired {
            return Ok(());
        }
        let (characters, delay) = {
            let settings = self.hub.settings();
            (settings.chunk_chars, settings.chunk_delay)
        };
        for chunk in chunks(&answer.text, characters) {
            self.with_entry(|entry| entry.speak(&self.run, chunk))?;
            self.pause(delay).await?;
        }
        Ok(())
    }

    fn with_entry(&self, change: impl FnOnce(&mut super::tasks::Entry)) -> Result<(), Canceled> {
        let mut world = self.hub.world();
        let entry =
            world.tasks.get_mut(&self.id).filter(|entry| entry.runs(&self.run)).ok_or(Canceled)?;
        change(entry);
        Ok(())
    }

    async fn pause(&self, time: Duration) -> Result<(), Canceled> {
        if time.is_zero() {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            () = self.run.over() => Err(Canceled),
        }
    }
}
