//! The state that all requests share: settings, faults, data, and the agent's jobs.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;
use tokio::task::JoinSet;

use super::agent::ConversationTurn;
use super::clock;
use super::faults::FaultQueue;
use super::ledger::Ledger;
use super::oauth::OAuth;
use super::settings::{Operation, Settings};
use super::state::EmulatorState;
use super::tasks::{EnqueueError, IncomingMessage, QueuedRun, TaskEntry, TaskTable};
use crate::ids::{SessionId, TaskId};
use crate::wire::Metadata;

/// The shared state.
pub(super) struct Backend {
    pub(super) base_url: String,
    settings: Mutex<Settings>,
    faults: Mutex<FaultQueue>,
    data: Mutex<EmulatorData>,
    jobs: Mutex<JoinSet<()>>,
    agent_id: String,
    org_id: String,
}

/// The data that a reset discards.
pub(super) struct EmulatorData {
    pub(super) ledger: Ledger,
    pub(super) tasks: TaskTable,
    pub(super) oauth: OAuth,
    pub(super) sessions: HashMap<SessionId, Vec<ConversationTurn>>,
    requests: BTreeMap<Operation, u64>,
}

impl EmulatorData {
    fn new(settings: &Settings) -> Self {
        Self {
            ledger: Ledger::new(settings.opening_balance),
            tasks: TaskTable::default(),
            oauth: OAuth::default(),
            sessions: HashMap::new(),
            requests: BTreeMap::new(),
        }
    }
}

/// Locks a mutex. Poisoning is ignored: no code panics half-way through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Backend {
    pub(super) fn new(base_url: String, settings: Settings, faults: FaultQueue) -> Arc<Self> {
        let new_id = |prefix: &str| format!("{prefix}-{}", uuid::Uuid::new_v4().hyphenated());
        Arc::new(Self {
            base_url,
            data: Mutex::new(EmulatorData::new(&settings)),
            settings: Mutex::new(settings),
            faults: Mutex::new(faults),
            jobs: Mutex::default(),
            agent_id: new_id("ai"),
            org_id: new_id("org"),
        })
    }

    pub(super) fn settings(&self) -> MutexGuard<'_, Settings> {
        lock(&self.settings)
    }

    pub(super) fn data(&self) -> MutexGuard<'_, EmulatorData> {
        lock(&self.data)
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, FaultQueue> {
        lock(&self.faults)
    }

    pub(super) fn count_request(&self, operation: Operation) {
        *self.data().requests.entry(operation).or_default() += 1;
    }

    pub(super) fn state(&self) -> EmulatorState {
        let data = self.data();
        EmulatorState {
            wallets: data.ledger.wallets().to_vec(),
            payees: data.ledger.payees().to_vec(),
            payments: data.ledger.payments().to_vec(),
            tasks: data.tasks.in_order().map(|entry| entry.task.clone()).collect(),
            sends: data.tasks.sends(),
            request_metadata: data.tasks.request_metadata(),
            requests: data.requests.clone(),
            token_requests: data.requests.get(&Operation::Token).copied().unwrap_or_default(),
            refresh_reuses: data.oauth.refresh_reuses(),
        }
    }

    /// Discards the data and the faults, and aborts the agent's jobs.
    pub(super) fn reset(&self) {
        self.faults().clear();
        self.stop_jobs();
        let fresh = EmulatorData::new(&self.settings());
        let mut data = self.data();
        let ids: Vec<TaskId> = data.tasks.in_order().map(|entry| entry.task.id.clone()).collect();
        for id in ids {
            // Requests that wait for an answer are answered.
            data.tasks.get_mut(&id).map(TaskEntry::cancel);
        }
        *data = fresh;
    }

    pub(super) fn stop_jobs(&self) {
        lock(&self.jobs).abort_all();
    }

    fn task_metadata(&self) -> Metadata {
        let metadata = json!({
            "agentId": self.agent_id,
            "orgId": self.org_id,
            "timestamp": clock::now_in_milliseconds(),
        });
        metadata.as_object().cloned().unwrap_or_default()
    }

    /// Adds a message to its task and queues a run for it.
    pub(super) fn enqueue(&self, incoming: IncomingMessage) -> Result<QueuedRun, EnqueueError> {
        let conflict_on_resend = self.settings().conflict_on_resend;
        self.data().tasks.enqueue(incoming, conflict_on_resend, || self.task_metadata())
    }

    /// Spawns a job of the agent. It ends with the emulator at the latest.
    pub(super) fn spawn_job(&self, job: impl Future<Output = ()> + Send + 'static) {
        let mut jobs = lock(&self.jobs);
        while jobs.try_join_next().is_some() {}
        jobs.spawn(job);
    }
}
